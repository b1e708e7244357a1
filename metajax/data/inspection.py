"""Summary of a data set, and the problems that evaluation on it would have."""

import numpy as np

from metajax.data.dataset import Dataset, Table

__all__ = ["FEWEST_ITEMS", "FEWEST_USERS", "problems", "summary"]

FEWEST_USERS = 10
"""Users of the smallest log of which some can be held out, to validate and to judge by."""
FEWEST_ITEMS = 2
"""Items of that log."""

_SHOWN = 5


def summary(dataset: Dataset, *, support: int = 10) -> dict[str, str]:
    """Summarises a data set: counts, density, scale, times, cold users and items, features.

    Args:
        dataset: The data set.
        support: A user or item of at most so many interactions counts as cold.

    Returns:
        One line a property, by its name.
    """
    log = dataset.interactions
    users, items = len(log.user_ids), len(log.item_ids)
    per_user, per_item = log.user_counts, log.item_counts
    times = "none"
    if log.timed:
        times = f"{log.time.min()} to {log.time.max()}"
    scale = "none"
    if dataset.scale is not None:
        low, high = dataset.scale
        scale = f"{low:g} to {high:g}, mean {log.rating.mean():.3f}"
    elif len(log.rating) and np.ptp(log.rating):
        ends = np.quantile(log.rating, [0, 0.5, 0.9, 1])
        scale = "none; strengths {:g} to {:g} (median {:g}, nine tenths up to {:g})".format(
            *ends[[0, 3, 1, 2]]
        )
    return {
        "interactions": f"{len(log.item):,}",
        "users": f"{users:,}, {_spread(per_user)}",
        "items": f"{items:,}, {_spread(per_item)}",
        "density": f"{100 * len(log.item) / max(users * items, 1):.2f} %",
        "ratings": scale,
        "relevant": _relevant(dataset),
        "times": times,
        "cold users": f"{np.sum(per_user <= support):,} with at most {support} interactions",
        "cold items": f"{np.sum(per_item <= support):,} with at most {support} interactions",
        "user features": _kinds(dataset.users),
        "item features": _kinds(dataset.items),
    }


def _relevant(dataset: Dataset) -> str:
    if dataset.implicit and dataset.relevant is None:
        return "every interaction"
    share = 100 * float(np.mean(dataset.relevant_rows))
    return f"{share:.1f} % of the interactions, from {dataset.threshold:g} on"


def _spread(counts: np.ndarray) -> str:
    if not len(counts):
        return "no interactions"
    return f"{counts.min()} to {counts.max()} interactions each (median {np.median(counts):g})"


def _kinds(table: Table) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in table.kinds.items()) or "none"


def problems(dataset: Dataset, support: int = 10) -> list[str]:
    """Lists properties of a data set that limit the evaluation of methods on it.

    Args:
        dataset: The data set.
        support: The largest support that methods are judged with; a user needs one interaction
            more to be judged by.

    Returns:
        One sentence a problem; empty if there is none.

    Raises:
        ValueError: If support is negative.
    """
    if support < 0:
        raise ValueError(f"support must be >= 0, got {support}.")
    log = dataset.interactions
    counts = log.user_counts
    rated = log.item_counts
    found = _some("users have no interactions", log.user_ids, counts == 0)
    found += _some(
        f"users have fewer than {support + 1} interactions (a support of {support} and one to "
        "judge by)",
        log.user_ids,
        (counts > 0) & (counts <= support),
    )
    found += _some("items have no interactions", log.item_ids, rated == 0)
    if len(log.users) < FEWEST_USERS or len(log.item_ids) < FEWEST_ITEMS:
        found.append(
            f"there are {len(log.users)} users and {len(log.item_ids)} items: to train and judge "
            f"takes {FEWEST_USERS} users and {FEWEST_ITEMS} items; metajax fit takes any number"
        )
    if dataset.scale is not None and np.ptp(log.rating) == 0:
        found.append(
            f"every rating is {log.rating[0]:g}: an interaction is a 1, as in a log without ratings"
        )
    if not dataset.relevant_rows.any():
        found.append(f"nothing is relevant: no label reaches {dataset.threshold:g} (--relevant)")
    if not log.timed:
        found.append("every interaction has the same time: there is no first in time")
    return found + _undescribed("users", dataset.users) + _undescribed("items", dataset.items)


def _undescribed(whom: str, table: Table) -> list[str]:
    features = {name: c for name, c in table.columns.items() if table.kinds[name] != "text"}
    if not features:
        return [f"{whom} have no features"]
    missing = {name: column == "" for name, column in features.items()}
    nothing = np.logical_and.reduce(list(missing.values()))
    found = _some(f"{whom} have no features", table.ids, nothing)
    for name, which in missing.items():
        found += _some(f"{whom} have other features and no {name}", table.ids, which & ~nothing)
    return found


def _some(what: str, ids: np.ndarray, which: np.ndarray) -> list[str]:
    chosen = ids[which]
    if not len(chosen):
        return []
    first = ", ".join(repr(str(name)) for name in chosen[:_SHOWN])
    more = ", ..." if len(chosen) > _SHOWN else ""
    return [f"{len(chosen)} of {len(ids)} {what}: {first}{more}"]

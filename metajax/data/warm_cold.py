"""Protocol P2: a draw of warm and cold users by warm and cold items, with checked tasks."""

from typing import Literal

import numpy as np

from metajax.data.dataset import Dataset
from metajax.data.leakage import check_cold_items, check_tasks, check_training
from metajax.data.schema import encoded
from metajax.data.splits import (
    ColdTasks,
    Fold,
    Quadrants,
    Split,
    standardised,
    warm_cold_quadrants,
)

__all__ = ["QUADRANTS", "warm_cold"]

QUADRANTS = Quadrants._fields[1:]
"""The names of the four pairings, as in `Quadrants`."""

# Of a warm user as many ratings are shown as a learner of few shots is trained on, and as good as
# all; not all, for the arrays of all draws shall have one shape.
_FEW, _MANY = 10, 1000

# The part of the training log that is held out again for validation.
_SHARE = 0.2


def warm_cold(
    dataset: Dataset,
    *,
    draw: int = 0,
    cold_items: Literal["random", "newest"] = "random",
    since: float = 1997,
) -> Split:
    """Prepares one draw of P2: 20 % of the users are cold, and some items.

    Vocabularies, scalers and everything fitted come from warm users' ratings of warm items. Of a
    cold user up to five ratings of warm items are seen, of a warm user ten or up to a thousand. In
    a log without ratings lists are judged: of cold items among the cold ones, of warm among warm.
    Settings are chosen as they are judged: within the training ratings, users and
    items are held out once more.

    Args:
        dataset: The data.
        draw: Another draw has other cold users, and other cold items where they are random.
        cold_items: `random`: 20 % of the items. `newest`: those whose `year` is `since` or
            later; a fifth of the others, the newest, is cold in validation.
        since: The first year of the newest.

    Returns:
        The draw, checked for leaks; the panels are those of `QUADRANTS`.

    Raises:
        ValueError: If an argument is out of range, the items have no year, or a quadrant
            is left without tasks.
        LeakageError: If a part has seen what it must not; a defect of this package.
    """
    if cold_items not in ("random", "newest"):
        raise ValueError(f"cold_items must be random or newest, got {cold_items!r}.")
    if dataset.parts is not None:
        raise ValueError(
            f"{dataset.name}: warm and cold users are drawn, and these data come with their own "
            "split, which P1 takes; splits='joined' (--splits joined) reads its files as one log."
        )
    log = dataset.interactions
    new = held_back = None
    if cold_items == "newest":
        year = _years(dataset)
        new = np.flatnonzero(year >= since)
        warm = np.setdiff1d(log.item, new)
        # Cold items of one year are drawn at random: a stable sort keeps the shuffled order.
        warm = np.random.default_rng(draw).permutation(warm)
        newest_first = warm[np.argsort(-np.nan_to_num(year[warm], nan=-np.inf), kind="stable")]
        held_back = newest_first[: round(_SHARE * len(warm))]
    # Of one seed both would draw the same users, and none would be left to hold out.
    outer = warm_cold_quadrants(log, share=_SHARE, cold_items=new, seed=2 * draw)
    inner = warm_cold_quadrants(
        outer.training, share=_SHARE, cold_items=held_back, seed=2 * draw + 1
    )
    seen = inner.training
    user_schema, item_schema, training = encoded(dataset, seen, seen.users)
    validation, test = _checked(inner, "validation"), _checked(outer, "test")
    warm = outer.training.users
    prepared = Split(
        Fold(seen.users, np.setdiff1d(warm, seen.users), np.setdiff1d(log.users, warm)),
        user_schema,
        item_schema,
        training,
        training._replace(interactions=outer.training),
        validation,
        test,
        ks={name: _ks(name, validation[name], test[name]) for name in QUADRANTS},
        unranked="" if dataset.implicit else "P2 judges ratings by their errors alone.",
    )
    return standardised(prepared, dataset)


def _ks(quadrant: str, *parts: ColdTasks) -> tuple[int, ...]:
    """Returns the support sizes that a quadrant is judged at."""
    widths = [tasks.support_mask.shape[1] for tasks in parts]
    if quadrant.startswith("warm_user"):
        return (min(_FEW, *widths), min(widths))
    return tuple(k for k in (0, 1, 3, 5) if k <= min(widths))


def _years(dataset: Dataset) -> np.ndarray:
    """Returns the year of every item, `[I]`; NaN where it is missing."""
    if dataset.items.kinds.get("year") != "numeric":
        raise ValueError(f"{dataset.name}: newest items need a numeric column year, got none.")
    return np.array([float(year or "nan") for year in dataset.items.columns["year"].tolist()])


def _checked(quadrants: Quadrants, part: str) -> dict[str, ColdTasks]:
    """Names the quadrants, gives warm users' supports one width, and checks for leaks."""
    items = len(quadrants.training.item_ids)
    named: dict[str, ColdTasks] = {}
    for name, tasks in zip(QUADRANTS, quadrants[1:], strict=True):
        if not len(tasks.user):
            raise ValueError(f"data must leave tasks in every quadrant, got none in {part} {name}.")
        warm_user, cold_item = name.startswith("warm_user"), name.endswith("cold_item")
        named[name] = _widened(tasks, min(_MANY, items)) if warm_user else tasks
        check_tasks(tasks)
        check_training(quadrants.training, tasks, warm_users=warm_user)
        if cold_item:
            check_cold_items(quadrants.training, tasks)
    return named


def _widened(tasks: ColdTasks, width: int) -> ColdTasks:
    """Cuts or pads the supports to a width."""

    def fit(table: np.ndarray) -> np.ndarray:
        return np.pad(table[:, :width], ((0, 0), (0, max(width - table.shape[1], 0))))

    return tasks._replace(
        support_item=fit(tasks.support_item),
        support_rating=fit(tasks.support_rating),
        support_mask=fit(tasks.support_mask),
        support_time=None if tasks.support_time is None else fit(tasks.support_time),
    )

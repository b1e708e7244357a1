"""Two domains as one data set: what a user did in one may tell what they like in the other."""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np

from metajax.cross_domain.overlap import joint_names
from metajax.data.dataset import Dataset, Table, TrainingSet
from metajax.data.interactions import Interactions, from_columns, select_rows

__all__ = [
    "Domains",
    "check_domains",
    "domain_logs",
    "join_domains",
    "random_domains",
    "split_domains",
]


class Domains(NamedTuple):
    """A source and a target domain that share a vocabulary of users and of attributes."""

    dataset: Dataset
    """The interactions of both; every item belongs to one of them."""
    item_domain: np.ndarray
    """`[I]` int32, 0 for an item of the source and 1 for one of the target."""


def split_domains(
    dataset: Dataset, column: str, source: Collection[str], target: Collection[str]
) -> Domains:
    """Splits a data set by what its items are: a film of source genres, a film of target genres.

    An item whose tokens fall on both sides, or on neither, is dropped with its interactions.

    Args:
        dataset: The data.
        column: A column of tokens of its items, such as `genres`.
        source: Tokens of the source domain.
        target: Tokens of the target domain.

    Returns:
        The domains, with the items that are left.

    Raises:
        ValueError: If there is no such column, the sides share a token, or one has no item.

    Example:
        >>> from metajax.data import load
        >>> pair = split_domains(load("synthetic"), "topics", {"action"}, {"drama", "romance"})
        >>> sorted(set(pair.item_domain.tolist()))
        [0, 1]
    """
    items = dataset.items
    if items.kinds.get(column) != "tokens":
        found = [name for name, kind in items.kinds.items() if kind == "tokens"]
        raise ValueError(f"column must be one of tokens, {found}, got {column!r}.")
    both = set(source) & set(target)
    if both:
        raise ValueError(f"source and target must share no token, got {sorted(both)} in both.")
    sides = [
        np.array(
            [bool(set(tokens.split()) & set(side)) for tokens in items.columns[column].tolist()]
        )
        for side in (source, target)
    ]
    for name, side, other in (("source", *sides), ("target", *sides[::-1])):
        if not (side & ~other).any():
            raise ValueError(f"{name} must have an item of its own, got none of {column}.")
    return _kept(dataset, sides[0] != sides[1], sides[1].astype(np.int32))


def random_domains(dataset: Dataset, *, seed: int = 0) -> Domains:
    """Splits a data set by a coin for each item: what is known of one side is known of the other.

    Args:
        dataset: The data.
        seed: Of the coins.

    Returns:
        The domains.
    """
    rng = np.random.default_rng(seed)
    domain = rng.permutation(np.arange(len(dataset.items.ids)) % 2).astype(np.int32)
    return _kept(dataset, np.ones(len(domain), bool), domain)


def join_domains(
    source: Dataset,
    target: Dataset,
    *,
    matched: bool = True,
    overlap_list: Sequence[Any] | np.ndarray | None = None,
    rescale: bool = False,
) -> Domains:
    """Joins two data sets.

    Args:
        source: Where there is plenty.
        target: Where there is little.
        matched: Whether anybody is in both. If not, attributes and the shape of tastes are all
            that can be carried over.
        overlap_list: `[n]` user ids that mean the same person in both, or `[n, 2]` pairs of a
            source and a target id; all others are different people. None: equal ids are one
            person.
        rescale: Whether to map the source's ratings to the target's scale.

    Returns:
        The domains. Items keep their names behind `source:` and `target:`, and so do users where
        equal ids are not one person. A column that both have is one column.

    Raises:
        ValueError: If users are to be matched and none is in both, `overlap_list` is not as it
            should be, nobody is in both and no column of attributes is either, the scales differ
            and `rescale` is False, one has ratings and the other none, or a column is of one
            kind here and of another there.
    """
    if (source.scale is None) != (target.scale is None):
        raise ValueError("source and target must both have ratings, or both have none.")
    factor, shift = 1.0, 0.0
    if source.scale != target.scale and source.scale and target.scale:
        if not rescale:
            raise ValueError(
                f"source and target must share a scale, got {source.scale} and {target.scale}: "
                "rescale maps the first to the second, or name the scale that both have."
            )
        (low, high), (new_low, new_high) = source.scale, target.scale
        factor = (new_high - new_low) / (high - low)
        shift = new_low - factor * low
    parts = (source, target)
    names = joint_names(
        source.users.ids, target.users.ids, matched=matched, overlap_list=overlap_list
    )
    if not len(np.intersect1d(*names)):
        _check_columns(parts)
    user_ids = np.union1d(names[0], names[1])
    at = [np.searchsorted(user_ids, ids) for ids in names]
    users = _joined([p.users for p in parts], user_ids, at, "user")
    item_names = [
        np.char.add(f"{side}:", p.items.ids.astype(str))
        for side, p in zip(("source", "target"), parts, strict=True)
    ]
    item_ids = np.concatenate(item_names)
    order = np.argsort(item_ids)
    item_ids, place = item_ids[order], np.argsort(order)
    places = np.split(place, [len(source.items.ids)])
    items = _joined([p.items for p in parts], item_ids, places, "item")
    domain = np.zeros(len(item_ids), np.int32)
    domain[places[1]] = 1

    logs = [p.interactions for p in parts]
    user = np.concatenate([a[log.user] for a, log in zip(at, logs, strict=True)])
    item = np.concatenate([b[log.item] for b, log in zip(places, logs, strict=True)])
    rating = np.concatenate([factor * logs[0].rating + shift, logs[1].rating])
    time = np.concatenate([log.time for log in logs])
    log = from_columns(user, item, rating, time, user_ids=user_ids, item_ids=item_ids)
    name = f"{source.name} to {target.name}"
    return Domains(Dataset(name, log, users, items, target.scale), domain)


def check_domains(training: TrainingSet) -> np.ndarray:
    """Refuses a training set of one domain alone.

    Args:
        training: What may be learned from.

    Returns:
        `[I]` 0 for an item of the source and 1 for one of the target.

    Raises:
        ValueError: If it does not tell two domains apart.
    """
    if training.item_domain is None:
        raise ValueError("training must tell two domains apart, got no item_domain.")
    return training.item_domain


def domain_logs(training: TrainingSet) -> tuple[Interactions, Interactions]:
    """Returns the rows of the source and those of the target, of the same users and items.

    Args:
        training: Both domains.

    Raises:
        ValueError: As `check_domains`.
    """
    log = training.interactions
    in_target = check_domains(training)[log.item] == 1
    return select_rows(log, ~in_target), select_rows(log, in_target)


def _check_columns(parts: tuple[Dataset, Dataset]) -> None:
    """Refuses domains between which nothing can be carried over."""
    columns = [
        [
            {name for name, kind in table.kinds.items() if kind != "text"}
            for table in (p.users, p.items)
        ]
        for p in parts
    ]
    if any(a & b for a, b in zip(*columns, strict=True)):
        return
    told = [", ".join(sorted(a | b)) or "none" for a, b in columns]
    raise ValueError(
        f"source and target must share users or a column of attributes, got the columns {told[0]} "
        f"and {told[1]}."
    )


def _joined(tables: list[Table], ids: np.ndarray, places: list[np.ndarray], what: str) -> Table:
    """Lays tables into one; where both describe a row, the second one's words count."""
    columns: dict[str, np.ndarray] = {}
    kinds = {}
    for table, place in zip(tables, places, strict=True):
        for name, column in table.columns.items():
            kind = table.kinds[name]
            if kinds.setdefault(name, kind) != kind:
                raise ValueError(
                    f"{what} column {name!r} must be of one kind in both domains, got "
                    f"{kinds[name]} and {kind}."
                )
            width = np.result_type(columns.get(name, np.array([""])), column)
            whole = columns.get(name, np.full(len(ids), "")).astype(width)
            told = column != ""
            whole[place[told]] = column[told]
            columns[name] = whole
    return Table(ids, columns, kinds)


def _kept(dataset: Dataset, keep: np.ndarray, domain: np.ndarray) -> Domains:
    """Keeps some of the items; users stay, be it without interactions."""
    log, items = dataset.interactions, dataset.items
    rows = keep[log.item]
    place = np.cumsum(keep) - 1
    ids = log.item_ids[keep]
    kept = from_columns(
        log.user[rows],
        place[log.item[rows]],
        log.rating[rows],
        log.time[rows],
        user_ids=log.user_ids,
        item_ids=ids,
    )
    columns = {name: column[keep] for name, column in items.columns.items()}
    table = Table(ids, columns, items.kinds)
    return Domains(dataset._replace(interactions=kept, items=table), domain[keep])

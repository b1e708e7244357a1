"""A source and a target domain as one data set: from two data sets, or by splitting one."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metajax.cross_domain.overlap import joint_names, read_overlap_list
from metajax.data import datasets
from metajax.data.dataset import Dataset, Table, TrainingSet, with_relevant
from metajax.data.interactions import Interactions, from_columns, select_rows
from metajax.data.reading import Reading
from metajax.fields import check_fields, check_keys, names_of
from metajax.files import DataError, Option

__all__ = [
    "DomainPair",
    "Domains",
    "check_domains",
    "domain_fields",
    "domain_logs",
    "join_domains",
    "load_domains",
    "random_domains",
    "split_domains",
    "with_absolute_paths",
]

SOURCE, TARGET = 0, 1
"""Values of `Domains.item_domain`."""

domain_fields = tuple(name for name in names_of(Reading) if name not in ("relevant", "transform"))
"""Options of reading that each domain may have of its own; the others are about ratings of both."""

_FILES = {"users", "items"}


class Domains(NamedTuple):
    """A source and a target domain with one vocabulary of users, items and attributes."""

    dataset: Dataset
    """The interactions of both; every item belongs to one of them."""
    item_domain: np.ndarray
    """`[I]` int32, 0 for items of the source, 1 for items of the target."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DomainPair:
    """Names of a source and a target domain: two data sets, or one that is split by a column."""

    source: str
    """Data set (a name or a path) with much data; with a column, the tokens of the source,
    separated by commas."""
    target: str
    """The same of the domain to recommend in."""
    column: str | None = None
    """Item column of tokens by which one data set is split."""
    data: str = "ml-100k"
    """Data set to split; unused without a column."""
    matched: bool = True
    """True if the data sets have users in common."""
    overlap_list: str | None = None
    """File of user ids, or of pairs of ids, that mean one user; by default equal ids do."""
    rescale: bool = False
    """True to map the source's ratings linearly to the target's scale."""
    source_reading: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Options of reading the source alone, of `domain_fields` by name; they come before those of
    both."""
    target_reading: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The same of the target."""

    def __post_init__(self):
        """Refuses missing names and options of two data sets where one is split."""
        check_fields(self)
        for name in ("source_reading", "target_reading"):
            options = getattr(self, name)
            if not isinstance(options, Mapping):
                raise ValueError(f"{name} must be options by name, got {options!r}.")
            check_keys(options, domain_fields, name)
            # As read from JSON; and a copy, since the mapping may be changed.
            object.__setattr__(
                self, name, {n: getattr(Reading(**{n: v}), n) for n, v in options.items()}
            )
        if not self.source or not self.target:
            raise ValueError(
                "source and target must both be given, as data sets or, with a column, as tokens "
                f"of it, got {self.source!r} and {self.target!r}."
            )
        if self.column is not None and (
            not self.matched or self.rescale or self.overlap_list is not None
        ):
            raise ValueError(
                "matched, rescale and overlap_list are about two data sets, got column "
                f"{self.column!r}, which splits one."
            )
        if self.column is not None and (self.source_reading or self.target_reading):
            raise ValueError(
                "options of reading one domain are about two data sets, got column "
                f"{self.column!r}, which splits one."
            )

    @property
    def main(self) -> str:
        """The data set whose items are recommended."""
        return self.target if self.column is None else self.data


def load_domains(
    pair: DomainPair,
    reading: Mapping[str, Any],
    *,
    progress: Callable[[int, int | None], None] | None = None,
) -> Domains:
    """Loads the domains that a pair names.

    Args:
        pair: The names.
        reading: Options of `data.read` for paths, of both logs alike unless the pair has others for
            one; named data sets ignore them but for `relevant` and `transform`.
        progress: Called as bytes arrive, if any have to be fetched.

    Returns:
        The domains.

    Raises:
        ValueError: If a data set is missing or malformed, or the two do not fit together.
        OSError: If the overlap list cannot be read.
    """
    relevant = Reading(relevant=reading.get("relevant")).relevant

    def load(name: str, own: Mapping[str, Any]) -> Any:
        known = name in datasets.names()
        options = {
            k: v
            for k, v in reading.items()
            if k != "relevant" and not (known and k in domain_fields)
        }
        found = datasets.load(name, progress=progress, **{**options, **own})
        if found.parts is not None:
            raise DataError(
                "a transfer splits users itself, and here are files train and test; ",
                Option("splits", "joined"),
                " reads them as one log.",
                file=name,
            )
        # Checked on both domains together.
        return found if relevant is None else found._replace(relevant=relevant)

    if pair.column is not None:
        source, target = (
            {token.strip() for token in tokens.split(",") if token.strip()}
            for tokens in (pair.source, pair.target)
        )
        found = split_domains(load(pair.data, {}), pair.column, source, target)
    else:
        listed = pair.overlap_list
        found = join_domains(
            load(pair.source, pair.source_reading),
            load(pair.target, pair.target_reading),
            matched=pair.matched,
            overlap_list=None if listed is None else read_overlap_list(listed),
            rescale=pair.rescale,
        )
    return found._replace(dataset=with_relevant(found.dataset, found.dataset.relevant))


def with_absolute_paths(pair: DomainPair) -> DomainPair:
    """Makes the paths of files absolute, so that they are valid in any working directory."""

    def place(name: str) -> str:
        return name if name in datasets.names() else str(Path(name).resolve())

    if pair.column is not None:
        return dataclasses.replace(pair, data=place(pair.data))

    def tables(options: Mapping[str, Any]) -> dict[str, Any]:
        files = {name: str(Path(options[name]).resolve()) for name in _FILES & options.keys()}
        return {**options, **files}

    listed = pair.overlap_list
    return dataclasses.replace(
        pair,
        source=place(pair.source),
        target=place(pair.target),
        overlap_list=None if listed is None else str(Path(listed).resolve()),
        source_reading=tables(pair.source_reading),
        target_reading=tables(pair.target_reading),
    )


def split_domains(
    dataset: Dataset, column: str, source: Collection[str], target: Collection[str]
) -> Domains:
    """Splits a data set by tokens of its items, for instance genres of films.

    Items with tokens of both domains, or of neither, are dropped with their interactions.

    Args:
        dataset: The data.
        column: An item column of tokens, such as `genres`.
        source: Tokens of the source domain.
        target: Tokens of the target domain.

    Returns:
        The domains, with the remaining items.

    Raises:
        ValueError: If there is no such column, the domains share a token, or one has no item.

    Example:
        >>> from metajax.data import load
        >>> pair = split_domains(load("synthetic"), "topics", {"action"}, {"drama", "romance"})
        >>> sorted(set(pair.item_domain.tolist()))
        [0, 1]
    """
    items = dataset.items
    if items.kinds.get(column) != "tokens":
        found = [name for name, kind in items.kinds.items() if kind == "tokens"]
        raise ValueError(f"column must be a column of tokens, one of {found}, got {column!r}.")
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
    """Splits the items of a data set into random halves: domains with the same distribution.

    Args:
        dataset: The data.
        seed: Of the split.

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
        source: Data set of the source.
        target: Data set of the target.
        matched: True if they have users in common. If not, only attributes and the distribution
            of tastes can be transferred.
        overlap_list: As in `joint_names`.
        rescale: True to map the source's ratings linearly to the target's scale.

    Returns:
        The domains. Item ids get the prefix `source:` or `target:`; user ids too where equal ids do
        not mean one user. Columns of the same name are merged. Where only one of two logs without
        ratings has counts or weights, every interaction counts as one, and a note says so.

    Raises:
        ValueError: If the data sets share neither users nor a column of attributes, users are to
            be matched and none is in both, `overlap_list` is malformed, the scales differ and
            `rescale` is False, one has ratings and the other none (or all the same), `relevant` is
            a count or weight that nothing in one of them reaches, or a column has different kinds.
    """
    if None in (source.scale, target.scale) and source.implicit != target.implicit:
        bare, own, other = (source, "source", "target")
        if target.implicit:
            bare, own, other = (target, "target", "source")
        raise ValueError(
            f"source and target must both have ratings, or neither, and {bare.name} has none: give "
            f"--{own}.rating-column, or read the {other} without: --{other}.ignore rating, and to "
            f"leave out what was not liked --{other}.drop 'rating<4'."
        )
    if source.implicit and target.implicit:
        source, target = map(_without_constant_ratings, (source, target))
        source, target = _of_common_strength(source, target)
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
    notes = tuple(f"{part.name}: {note}" for part in parts for note in part.notes)
    joined = target._replace(
        name=name, interactions=log, users=users, items=items, notes=notes, parts=None
    )
    return Domains(joined, domain)


def check_domains(training: TrainingSet) -> np.ndarray:
    """Returns the domain of each item, and refuses a training set of a single domain.

    Args:
        training: The training set.

    Returns:
        `[I]` 0 for items of the source, 1 for items of the target.

    Raises:
        ValueError: If it has no `item_domain`.
    """
    if training.item_domain is None:
        raise ValueError("training must have two domains, got no item_domain.")
    return training.item_domain


def domain_logs(training: TrainingSet) -> tuple[Interactions, Interactions]:
    """Returns the logs of source and target, with the users and items of both.

    Args:
        training: Both domains.

    Raises:
        ValueError: As `check_domains`.
    """
    log = training.interactions
    in_target = check_domains(training)[log.item] == TARGET
    return select_rows(log, ~in_target), select_rows(log, in_target)


def _without_constant_ratings(dataset: Dataset) -> Dataset:
    """Returns ratings that are all the same as interactions without any."""
    return dataset if dataset.scale is None else _unweighted(dataset)


def _unweighted(dataset: Dataset) -> Dataset:
    log = dataset.interactions
    log = log._replace(rating=np.ones_like(log.rating))
    return dataset._replace(interactions=log, scale=None, relevant=None)


def _of_common_strength(source: Dataset, target: Dataset) -> tuple[Dataset, Dataset]:
    """Drops counts or weights that only one of two logs without ratings has.

    Raises:
        ValueError: If no interaction of one of them is as strong as `relevant` asks.
    """
    parts, least = {"source": source, "target": target}, target.relevant
    ratings = {side: part.interactions.rating for side, part in parts.items()}
    for (side, part), other in zip(parts.items(), ("target", "source"), strict=True):
        if least is not None and least > ratings[side].max():
            hint = ""
            if least <= ratings[other].max():
                hint = (
                    f"; --{other}.drop 'rating<{least:g}' leaves out the weaker ones of the other"
                )
            raise ValueError(
                "relevant (--relevant) must be a strength that interactions of both logs reach, "
                f"and the strongest of {part.name} is {ratings[side].max():g}, got {least:g}: "
                f"leave it out, and every interaction counts as one{hint}."
            )
        if least is None and np.ptp(ratings[other]) == 0 < np.ptp(ratings[side]):
            note = (
                f"its counts or weights are not used, because {parts[other].name} has none: every "
                "interaction counts as one"
            )
            parts[side] = _unweighted(part)._replace(notes=(*part.notes, note))
    return parts["source"], parts["target"]


def _check_columns(parts: tuple[Dataset, Dataset]) -> None:
    """Refuses domains without shared attributes, where nothing can be transferred."""
    columns = [
        [
            {name for name, kind in table.kinds.items() if kind != "text"}
            for table in (p.users, p.items)
        ]
        for p in parts
    ]
    if any(a & b for a, b in zip(*columns, strict=True)):
        return
    source, target = (", ".join(sorted(a | b)) or "none" for a, b in columns)
    raise ValueError(
        f"source and target must share users or a column of attributes, got the columns {source} "
        f"and {target}."
    )


def _joined(tables: list[Table], ids: np.ndarray, places: list[np.ndarray], what: str) -> Table:
    """Merges two tables; where both have a value for a row, the second table's is kept."""
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
            stated = column != ""
            whole[place[stated]] = column[stated]
            columns[name] = whole
    return Table(ids, columns, kinds)


def _kept(dataset: Dataset, keep: np.ndarray, domain: np.ndarray) -> Domains:
    """Keeps some of the items, and all users."""
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

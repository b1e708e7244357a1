"""Shards of a store: ranges of users, each merged from a slice of every run."""

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from metajax import steps
from metajax.data.dataset import Table
from metajax.data.ingestion.arrays import HEADER, finish_header, header_of, save_array
from metajax.data.ingestion.runs import (
    Layout,
    Run,
    batches,
    parsed_batch,
    run_column,
    run_facts,
    run_ids,
)
from metajax.data.ingestion.work import Work, check_disk
from metajax.data.readers import assembly
from metajax.data.readers.assembly import Log, Roles, checked_scale, distinct
from metajax.data.readers.contents import Content
from metajax.data.readers.frames import json_endings, polars_module
from metajax.data.readers.table import Tally, described, notes_of
from metajax.data.readers.text import Place
from metajax.data.reading import Duplicates, weights_of
from metajax.files import read_json
from metajax.storage import append, cut, sync, write_file, write_pieces

if TYPE_CHECKING:
    import polars

__all__ = [
    "Joined",
    "Shard",
    "finish_arrays",
    "joined_runs",
    "ranges_of_users",
    "write_shards",
]

SHARD_ROWS = 2**22
"""Rows of a shard, about."""

_IDS_AT_ONCE = 2**17


class Joined(NamedTuple):
    """The log in runs, with the ids of all of them sorted."""

    layout: Layout
    """Of its files."""
    runs: list[Run]
    """Facts of the runs, in the order of the log."""
    roles: Roles
    """Of the parsed log."""
    tally: Tally
    """Counts of all rows."""
    how: Duplicates
    """Treatment of repeated pairs."""
    ranks: dict[str, np.ndarray]
    """`[n]` int32 place of each user, and item, among the sorted ids, by code."""
    ids: dict[str, np.ndarray]
    """The sorted ids."""
    tables: dict[str, Table]
    """Their attributes."""
    notes: tuple[str, ...]
    """On what was left out or is read otherwise than written."""


class Shard(NamedTuple):
    """Facts of a shard, in JSON."""

    rows: int
    """Rows of the store up to its end."""
    merged: list[int]
    """A `Merged`."""
    low: float
    """The lowest rating; 0 where there is none."""
    high: float
    """The highest."""
    exact: bool
    """True if float32 holds every rating."""


def joined_runs(work: Work, layout: Layout) -> Joined:
    """Joins the facts of the runs, and sorts the ids.

    Args:
        work: The work, whose runs are all there.
        layout: From `read_runs`.

    Raises:
        ValueError: If `duplicates` or `scale` does not suit the log.
        DataError: If no row is left, or attributes are not as they should be.
    """
    count = len(list(work.runs.glob("*.json")))
    runs = [run_facts(work, number) for number in range(count)]
    tally = Tally()
    for run in runs:
        tally = tally.plus(_tally(run))
    reading, names = layout.reading, layout.names
    roles = layout.roles
    if roles.event is not None and reading.weights is not None:
        _, roles, reading = assembly.weights_column(
            names, roles, reading, weights_of(reading.weights)
        )
    notes = [*layout.notes, *notes_of(layout.file, names, layout.roles, tally, layout.reading)]
    rated = [run for run in runs if run.rows]
    equal = roles.rating is None or min(r.low for r in rated) == max(r.high for r in rated)
    how = assembly.rule_of_pairs(roles, reading, equal=equal)
    if how in ("mean", "sum", "max") and roles.rating is None:
        raise ValueError(f"duplicates must not be {how!r} where a log has no ratings.")
    if (roles.rating is None or roles.counted) and reading.scale is not None:
        raise ValueError(f"scale must be None where a log has no ratings, got {reading.scale}.")
    ranks, ids, tables = {}, {}, {}
    for whom, found, given, column in (
        ("users", work.chosen.users, reading.users, roles.user),
        ("items", work.chosen.items, reading.items, roles.item),
    ):
        ranks[whom], ids[whom], tables[whom], more = _sorted_ids(
            work, count, whom, found, given, column
        )
        notes += more
    return Joined(layout, runs, roles, tally, how, ranks, ids, tables, tuple(notes))


def _tally(run: Run) -> Tally:
    rows, dropped, missing, first, events, rules = run.tally
    return Tally(rows, tuple(dropped), missing, first, Counter(events), tuple(rules))


def _sorted_ids(
    work: Work, runs: int, whom: str, found: Content | None, given: str | None, column: str
) -> tuple[np.ndarray, np.ndarray, Table, tuple[str, ...]]:
    """Sorts all ids, and brings the attributes into their order.

    Returns:
        The place of each code, the sorted ids, the attributes, and notes on them.
    """
    pl, path = polars_module(), work.folder / f"{whom[:-1]}_ids.npy"
    names = pl.concat([run_ids(work, number, whom) for number in range(runs)])
    table, notes = None, ()
    if found is not None:
        _save_ids(path, names.sort())
        ids = np.load(path, mmap_mode="r").view(np.ndarray)
        table, notes = described(found, given, ids, column, whom[:-1], work.reading)
    if table is not None:
        others = pl.Series("id", table.ids.tolist(), dtype=pl.String)
        names = pl.concat([names, others.filter(~others.is_in(names.implode()))])
    order = names.arg_sort()
    rank = np.empty(len(names), np.int32)
    rank[order.to_numpy()] = np.arange(len(names), dtype=np.int32)
    _save_ids(path, names.gather(order))
    ids = np.load(path, mmap_mode="r").view(np.ndarray)
    return rank, ids, assembly.aligned(table, ids), notes


def _save_ids(path: Path, names: "polars.Series") -> None:
    """Writes ids as fixed-width strings, some at a time."""
    lengths: Any = names.str.len_chars().max()
    dtype = np.dtype(f"<U{lengths}")

    def pieces() -> Iterator[memoryview | bytes]:
        yield header_of(dtype, len(names))
        for start in range(0, len(names), _IDS_AT_ONCE):
            some = np.array(names.slice(start, _IDS_AT_ONCE).to_list(), dtype)
            yield some.tobytes()

    write_pieces(path, pieces())


def ranges_of_users(log: Joined, work: Work) -> list[tuple[int, int]]:
    """Cuts the users into ranges `[first, last)` of about `SHARD_ROWS` rows each."""
    rows = np.zeros(len(log.ids["users"]), np.int64)
    for number, run in enumerate(log.runs):
        if run.rows:
            at = log.ranks["users"][run_column(work, number, "user")]
            rows[at] += run_column(work, number, "count")
    shard = (np.cumsum(rows) - rows) // SHARD_ROWS
    starts = [0, *(np.flatnonzero(np.diff(shard)) + 1).tolist()]
    return list(itertools.pairwise([*starts, len(rows)]))


class _Slices(NamedTuple):
    """Where in the runs the shards lie."""

    users: np.ndarray
    """`[runs, shards + 1]` the first user of each."""
    rows: np.ndarray
    """`[runs, shards + 1]` the first row of each."""


def _slices(log: Joined, work: Work, ranges: Sequence[tuple[int, int]]) -> _Slices:
    ends = [0, *(last for _, last in ranges)]
    users = np.zeros((len(log.runs), len(ends)), np.int64)
    rows = np.zeros_like(users)
    for number, run in enumerate(log.runs):
        if run.rows:
            ranks = log.ranks["users"][run_column(work, number, "user")]
            users[number] = np.searchsorted(ranks, ends)
            total = np.append(0, np.cumsum(run_column(work, number, "count"), dtype=np.int64))
            rows[number] = total[users[number]]
    return _Slices(users, rows)


def write_shards(log: Joined, work: Work, ranges: Sequence[tuple[int, int]]) -> list[Shard]:
    """Appends the shards to the arrays of the store, behind those that are there.

    Args:
        log: The runs.
        work: The work.
        ranges: Users of each shard, from `ranges_of_users`.

    Returns:
        The facts of all shards.

    Raises:
        DataError: If a pair of user and item is repeated and must not be, or a rating is off the
            scale.
        OSError: If the disk has no room for them.
    """
    slices, done, kinds = _slices(log, work, ranges), [], _kinds(log)
    while (work.shards / f"{len(done)}.json").is_file():
        done.append(Shard(*read_json(work.shards / f"{len(done)}.json")))
    left = sum(run.rows for run in log.runs) - int(slices.rows[:, len(done)].sum())
    # Ratings are written once more when their type is known.
    width = sum(kind.itemsize * (2 if name == "rating" else 1) for name, kind in kinds.items())
    check_disk(work, left * width)
    for name, kind in kinds.items():
        path, rows = _growing(work, name), done[-1].rows if done else 0
        if path.is_file():
            cut(path, HEADER + rows * kind.itemsize)
        else:
            write_pieces(path, [bytes(HEADER)])
    tell = steps.teller("sorting shards", len(ranges))
    for number in range(len(done), len(ranges)):
        tell(number)
        rows = done[-1].rows if done else 0
        done.append(_write_shard(log, work, slices, ranges[number], number, rows))
    tell(len(ranges))
    return done


def finish_arrays(log: Joined, work: Work, done: Sequence[Shard]) -> list[str]:
    """Finishes the files that shards were appended to; returns their names."""
    kinds = _kinds(log)
    for name, kind in kinds.items():
        if name == "rating":
            _move_ratings(work, kind, done)
        else:
            finish_header(_growing(work, name), kind, done[-1].rows)
    return [f"{name}.npy" for name in kinds]


def _kinds(log: Joined) -> dict[str, Any]:
    """Types of the arrays that shards are appended to."""
    exact = all(run.exact for run in log.runs) and log.how not in ("mean", "sum")
    kinds: dict[str, Any] = {"item": np.dtype(np.int32)}
    if log.roles.rating is not None or log.how == "count":
        kinds["rating"] = np.dtype(np.float32 if exact else np.float64)
    if log.roles.time is not None:
        kinds["time"] = np.dtype(np.int64)
    return kinds


def _growing(work: Work, name: str) -> Path:
    """Returns the file of an array; ratings move when it is known whether float32 holds them."""
    return work.shards / "rating.npy" if name == "rating" else work.folder / f"{name}.npy"


def _write_shard(
    log: Joined, work: Work, slices: _Slices, users: tuple[int, int], number: int, before: int
) -> Shard:
    """Merges the rows of some users and appends them, facts last."""
    first, last = users
    joined = _rows_of_shard(log, work, slices, number)
    items = len(log.ids["items"])
    rows, rating, time, merged = distinct(
        joined, (joined.user - first) * items + joined.item, log.how, whole="among its neighbours"
    )
    columns = {"item": joined.item[rows].astype(np.int32), "time": time}
    counts = np.bincount(joined.user[rows] - first, minlength=last - first)
    facts = Shard(before + len(rows), list(merged), 0.0, 0.0, True)
    if rating is not None and len(rating):
        given = log.layout.reading.scale
        counted = log.how == "count" or log.roles.counted
        if given is not None and not counted:
            checked_scale(joined, rows, rating, given)
        exact = np.array_equal(rating.astype(np.float32), rating)
        facts = facts._replace(low=float(rating.min()), high=float(rating.max()), exact=exact)
        columns["rating"] = rating
    for name, kind in _kinds(log).items():
        column = columns.get(name)
        if column is not None and len(column):
            append(_growing(work, name), column.astype(kind).tobytes())
            sync(_growing(work, name))
    save_array(work.shards / f"{number}.count", counts)
    write_file(work.shards / f"{number}.json", json.dumps(facts))
    return facts


def _rows_of_shard(log: Joined, work: Work, slices: _Slices, number: int) -> Log:
    """Joins the slices of the runs, in the order of the log; users and items by their places."""
    found: dict[str, list[np.ndarray]] = {"user": [], "item": [], "rating": [], "time": []}
    for run in range(len(log.runs)):
        users = slices.users[run, number : number + 2]
        rows = slices.rows[run, number : number + 2]
        if rows[0] == rows[1]:
            continue
        who = log.ranks["users"][run_column(work, run, "user", *users)].astype(np.int64)
        found["user"].append(np.repeat(who, run_column(work, run, "count", *users)))
        item = run_column(work, run, "item", *rows)
        found["item"].append(log.ranks["items"][item].astype(np.int64))
        for name, kind in (("rating", np.float64), ("time", np.int64)):
            column = run_column(work, run, name, *rows)
            if column is not None:
                found[name].append(column.astype(kind))
    joined = {name: np.concatenate(columns) if columns else None for name, columns in found.items()}
    nobody = np.zeros(0, np.int64)
    user = nobody if joined["user"] is None else joined["user"]
    item = nobody if joined["item"] is None else joined["item"]
    return Log(
        roles=log.roles,
        user=user,
        item=item,
        rating=joined["rating"],
        time=joined["time"],
        user_ids=log.ids["users"],
        item_ids=log.ids["items"],
        place=lambda row: _place_of(log, work, user[: row + 1], item[: row + 1]),
    )


def _place_of(log: Joined, work: Work, user: np.ndarray, item: np.ndarray) -> Place:
    """Finds the last of some rows of a shard in the log, whose batch it reads again."""
    who, what = int(user[-1]), int(item[-1])
    before = int(np.sum((user[:-1] == who) & (item[:-1] == what)))
    names = str(log.ids["users"][who]), str(log.ids["items"][what])
    for number, (file, batch) in enumerate(batches(work)):
        if not log.runs[number].rows:
            continue
        at = np.flatnonzero(log.ranks["users"][run_column(work, number, "user")] == who)
        if not len(at):
            continue
        start = int(np.sum(run_column(work, number, "count", 0, int(at[0])), dtype=np.int64))
        stop = start + int(run_column(work, number, "count")[at[0]])
        here = int(
            np.sum(log.ranks["items"][run_column(work, number, "item", start, stop)] == what)
        )
        if before >= here:
            before -= here
            continue
        loose = work.chosen.logs[file].kind in json_endings
        found = parsed_batch(batch.frame(), log.layout, loose=loose)
        codes = [int(found.user_names.index_of(names[0]) or 0)]
        codes.append(int(found.item_names.index_of(names[1]) or 0))
        rows = np.flatnonzero((found.user == codes[0]) & (found.item == codes[1]))
        return found.place(int(rows[before]))
    raise AssertionError("a row of a shard is in no run.")


def _move_ratings(work: Work, kind: np.dtype, done: Sequence[Shard]) -> None:
    """Writes the ratings in float32, where that holds them."""
    exact = all(shard.exact for shard in done)
    target = np.dtype(np.float32) if exact else kind
    rows = done[-1].rows
    source = np.memmap(_growing(work, "rating"), kind, "r", HEADER, (rows,))

    def pieces() -> Iterator[bytes]:
        yield header_of(target, rows)
        for start in range(0, rows, SHARD_ROWS):
            yield source[start : start + SHARD_ROWS].astype(target).tobytes()

    write_pieces(work.folder / "rating.npy", pieces())

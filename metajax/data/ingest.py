"""Ingestion of logs of any size into a store, in memory that their number of rows does not change.

The log is read in batches. Each becomes a run on the disk: its rows sorted by user, with codes for
ids in the order of their first appearance. Once all ids are known and sorted, a shard of the store,
which is a range of users, is a slice of every run; the slices are joined, sorted and appended.

A run and a shard are committed by a small file of facts, written last. So work that was killed goes
on behind the last of them, and comes to the same bytes.
"""

import dataclasses
import errno
import io
import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from metajax import steps
from metajax.data.dataset import Table
from metajax.data.readers import assembly
from metajax.data.readers.assembly import Log, Merged, Roles, checked_scale, distinct
from metajax.data.readers.atomic import is_atomic
from metajax.data.readers.attributes import beside
from metajax.data.readers.batches import Batch, batches_of
from metajax.data.readers.contents import Content, content_of
from metajax.data.readers.frames import Frame, json_endings, polars_module, table_endings
from metajax.data.readers.movielens import is_movielens
from metajax.data.readers.table import (
    Parsed,
    Tally,
    described,
    notes_of,
    parsed,
    parts_of,
    roles_of,
)
from metajax.data.readers.text import DataError, Place
from metajax.data.readers.trial import check_parquet
from metajax.data.reading import Duplicates, Reading, Scale, weights_of
from metajax.data.store import BEGUN, FORMAT, MANIFEST, Manifest, manifest_text, read_manifest
from metajax.fields import check_keys, names_of
from metajax.files import Option, read_json
from metajax.locks import locked
from metajax.storage import append, cut, digest_of_file, make_folder, sync, write_file, write_pieces

if TYPE_CHECKING:
    import polars

__all__ = ["ingest"]

SHARD_ROWS = 2**22
"""Rows of a shard, about."""

# Options of what is done with the rows once they are read.
_LATE = ("duplicates", "scale", "relevant", "transform")

_WHOM = ("users", "items")
_MOST_IDS = 2**31
_IDS_AT_ONCE = 2**17
_HEADER = 128
_MB = 10**6


def ingest(paths: str | Path | Sequence[str | Path], output: str | Path, **options: Any) -> Path:
    """Ingests a log into a store, which `load` opens as a data set.

    Memory is taken by one batch of 32 MiB of text, one shard of four million rows, and the ids: not
    by the number of rows. The disk needs about 24 bytes a row besides the store while it is made.
    The work can be stopped or killed: the same call goes on, and comes to the same bytes.

    Args:
        paths: Files or folders of delimited text, JSON lines or Parquet, all of one format and with
            the same columns, as in `read_table`; below a folder its files, in order of their names.
            Files train, valid and test are the parts of a split. Files users and items beside them
            describe these.
        output: Folder of the store.
        **options: Fields of `Reading`.

    Returns:
        The folder.

    Raises:
        ValueError: If an option is not legal, or the folder holds something else.
        ImportError: If polars is not installed.
        DataError: If a file is not as it should be; it names file, line and column.
        LockedError: If another process writes to the folder.
        OSError: If the disk is full, or too small for what is to come by an estimate from the first
            batch; what is written is gone on with.
    """
    check_keys(options, names_of(Reading), "options of reading")
    reading, folder = Reading(**options), Path(output)
    listed = [paths] if isinstance(paths, str | Path) else list(paths)
    chosen = _chosen(listed, reading)
    plan = _plan(chosen, reading)
    if _is_done(folder, plan):
        _tidy(folder)
        return folder
    make_folder(folder)
    with locked(folder):
        work = _Work(folder, chosen, reading)
        if not (folder / BEGUN).is_file() or read_json(folder / BEGUN) != plan:
            if work.shards.exists():  # Of other options.
                shutil.rmtree(work.shards)
            write_file(folder / BEGUN, json.dumps(plan, indent=1) + "\n")
        make_folder(work.runs)
        make_folder(work.shards)
        _write_store(work, plan)
    _tidy(folder)
    return folder


class _Chosen(NamedTuple):
    """Files of a log."""

    logs: list[Content]
    parts: list[int] | None
    """Part of the split of each; None: there is no split."""
    users: Content | None
    items: Content | None


class _Work(NamedTuple):
    """A store that is being made."""

    folder: Path
    chosen: _Chosen
    reading: Reading

    @property
    def runs(self) -> Path:
        """Folder of the sorted batches."""
        return self.folder / "work" / "runs"

    @property
    def shards(self) -> Path:
        """Folder of the facts of the shards."""
        return self.folder / "work" / "shards"


# Files


def _chosen(paths: Sequence[str | Path], reading: Reading) -> _Chosen:
    found: list[Content] = []
    described: dict[str, Content | None] = {"users": None, "items": None}
    if not paths:
        raise ValueError("paths must name a file or folder, got none.")
    for path in paths:
        place = Path(path)
        if not place.exists():
            raise DataError("no such file or folder.", file=path)
        if is_atomic(place) or (place.is_dir() and is_movielens(place)):
            raise DataError(
                "files of MovieLens or RecBole are here: give the one of ratings, and others with ",
                Option("users"),
                " and ",
                Option("items"),
                ".",
                file=path,
            )
        contents = _below(place) if place.is_dir() else [content_of(place)]
        tables = [content for content in contents if content.kind in table_endings]
        logs = [content for content in tables if content.stem not in described]
        if not logs:
            raise DataError(f"no table ({', '.join(table_endings)}) is here.", file=path)
        for whom in described:
            if place.is_dir():
                beside_it = [content for content in tables if content.stem == whom]
                described[whom] = described[whom] or next(iter(beside_it), None)
            else:
                described[whom] = described[whom] or beside(place, whom)
        found += logs
    first = found[0]
    for other in found[1:]:
        if other.kind != first.kind:
            raise DataError(
                f"must be of the format of {first.name} ({first.kind}), got {other.kind}: give "
                "files of one format.",
                file=other.name,
            )
    places = Counter(str(Path(content.name).resolve()) for content in found)
    for place, count in places.items():
        if count > 1:
            raise ValueError(f"paths must name each file once, got {place} twice.")
    found, parts = parts_of(found)
    users = described["users"] if reading.users is None else content_of(reading.users)
    items = described["items"] if reading.items is None else content_of(reading.items)
    return _Chosen(found, parts, users, items)


def _below(folder: Path) -> list[Content]:
    """Files below a folder, sorted by name; hidden ones, and those that begin with _, left out."""
    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
        if not hidden and not path.is_dir():
            found.append(content_of(path))
    return found


def _plan(chosen: _Chosen, reading: Reading) -> dict[str, Any]:
    """Says what is ingested, and how; equal for the same command."""
    described = [one for one in (chosen.users, chosen.items) if one is not None]
    files = [(one.name, os.stat(one.name)) for one in (*chosen.logs, *described)]
    plan = {
        "format": FORMAT,
        "files": [[name, facts.st_size, facts.st_mtime_ns] for name, facts in files],
        "options": reading.reading(),
    }
    return json.loads(json.dumps(plan))


def _is_done(folder: Path, plan: dict[str, Any]) -> bool:
    """True if the folder is the finished store of a plan.

    Raises:
        ValueError: If the folder is the store of another plan, or something else.
    """
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise ValueError(f"{folder}: a file is here; output must be a new folder.")
    done = (folder / MANIFEST).is_file()
    if done:
        found = read_manifest(folder).plan
    elif (folder / BEGUN).is_file():
        found = read_json(folder / BEGUN)
    elif all(path.name == "lock" or path.suffix == ".tmp" for path in folder.iterdir()):
        return False
    else:
        raise ValueError(f"{folder}: other files are here; output must be a new folder.")
    if not done and _without_late(found) == _without_late(plan):
        return False
    if found != plan:
        other = isinstance(found, dict) and found.get("format") == plan["format"]
        what = [name for name in ("files", "options") if other and found.get(name) != plan[name]]
        raise ValueError(
            f"{folder}: a store of other {' and '.join(what) or 'format'} is here; give another "
            "folder as output, or delete this one."
        )
    return done


def _without_late(plan: Any) -> Any:
    """Leaves out of a plan the options that do not change how the log is read into runs."""
    if not isinstance(plan, dict) or not isinstance(plan.get("options"), dict):
        return plan
    options = {name: value for name, value in plan["options"].items() if name not in _LATE}
    return {**plan, "options": options}


def _tidy(folder: Path) -> None:
    """Removes what a finished store does not need."""
    if (folder / "work").exists():
        shutil.rmtree(folder / "work")
    (folder / BEGUN).unlink(missing_ok=True)
    sync(folder)


# Runs


class _Layout(NamedTuple):
    """Columns of the log, and how numbers in it are written."""

    file: str
    names: list[str]
    roles: Roles
    reading: Reading
    notes: tuple[str, ...]
    """On numbers that are read otherwise than written."""


class _Run(NamedTuple):
    """Facts of a run, in JSON."""

    rows: int
    """Rows that are left."""
    file: int
    """Number of its file."""
    tally: list[Any]
    """A `Tally`."""
    low: float
    """The lowest rating; 0 where there is none."""
    high: float
    exact: bool
    """True if float32 holds every rating."""


class _Dictionary:
    """Codes of ids in the order of their first appearance.

    Of an id two hashes of 64 bits are kept, and no text: 20 bytes.
    """

    def __init__(self):
        self.size = 0
        # Another process hashes otherwise, so that two ids that hash alike do so once.
        seeds = np.random.default_rng().integers(0, 2**63, 2)
        self._seeds = [int(seed) for seed in seeds]
        self._keys = np.zeros(0, np.uint64)
        self._codes = np.zeros(0, np.int32)
        self._checks = np.zeros(0, np.uint64)

    def codes(self, names: "polars.Series") -> tuple[np.ndarray, np.ndarray]:
        """Returns `[n]` int32 codes of distinct ids, and `[n]` bool, which of them are new."""
        keys, checks = (names.hash(seed).to_numpy() for seed in self._seeds)
        order = np.argsort(keys)
        keys = keys[order]
        at = np.searchsorted(self._keys, keys)
        known = at < len(self._keys)
        known[known] = self._keys[at[known]] == keys[known]
        codes = np.empty(len(keys), np.int32)
        codes[order[known]] = self._codes[at[known]]
        alike = (keys[1:] == keys[:-1]).any() or not np.array_equal(
            self._checks[at[known]], checks[order[known]]
        )
        if alike:
            raise RuntimeError("two ids have one hash: begin again, with other hashes.")
        new = np.ones(len(keys), bool)
        new[order[known]] = False
        # In the order of the names, not of their hashes.
        codes[new] = self.size + np.arange(new.sum(), dtype=np.int32)
        self.size += int(new.sum())
        if self.size >= _MOST_IDS:
            raise ValueError(f"a store holds fewer than {_MOST_IDS:,} users or items.")
        at, added = at[~known], order[~known]
        self._keys = np.insert(self._keys, at, keys[~known])
        self._codes = np.insert(self._codes, at, codes[added])
        self._checks = np.insert(self._checks, at, checks[added])
        return codes, new


def _batches(work: _Work) -> Iterator[tuple[int, Batch]]:
    """Yields every batch of the log with the number of its file."""
    reading = work.reading
    given = [getattr(reading, f"{role}_column") for role in assembly.role_names]
    for number, content in enumerate(work.chosen.logs):
        for batch in batches_of(
            content, reading, known=assembly.known_names, given=given, numbers=given[2:]
        ):
            yield number, batch


def _layout(frame: Frame, reading: Reading) -> _Layout:
    roles = roles_of(frame, reading)
    notes = parsed(frame, roles, reading).of_commas
    if notes and reading.decimal is None:
        reading = dataclasses.replace(reading, decimal=",")
    return _Layout(frame.file, frame.frame.columns, roles, reading, notes)


def _aligned(frame: Frame, layout: _Layout, *, loose: bool) -> Frame:
    """Brings the columns of a batch into the order of the first."""
    names, first = frame.frame.columns, layout.names
    if names == first:
        return frame
    pl = polars_module()
    lacking = [name for name in first if name not in names]
    more = [name for name in names if name not in first]
    if loose:  # An object of JSON may leave a key out.
        later = assembly.find_roles(frame.file, [*first, *more], layout.reading)
        if later == layout.roles:
            empty = [pl.lit(None).alias(name) for name in lacking]
            return frame._replace(frame=frame.frame.with_columns(empty).select(first))
    if not lacking and not more:
        return frame._replace(frame=frame.frame.select(first))
    raise DataError(
        f"must have the columns of {layout.file} ({', '.join(first)}), got {', '.join(names)}.",
        file=frame.file,
        column=(lacking or more)[0],
    )


def _parsed(frame: Frame, layout: _Layout, *, loose: bool) -> Parsed:
    frame = _aligned(frame, layout, loose=loose)
    found = parsed(frame, layout.roles, layout.reading)
    if found.of_commas and layout.reading.decimal is None:
        raise DataError(
            f"{found.of_commas[0]}, after rows that have none; if so, give ",
            Option("decimal", ","),
            ".",
            file=frame.file,
        )
    return found


def _read_runs(work: _Work) -> _Layout:
    """Reads the log into runs, behind those that are there; returns its layout."""
    check_parquet(work.chosen.logs)
    dictionaries = {whom: _Dictionary() for whom in _WHOM}
    ready = 0
    while (work.runs / f"{ready}.json").is_file():
        for whom, dictionary in dictionaries.items():
            dictionary.codes(_names(work, ready, whom))
        ready += 1
    sizes = [os.stat(content.name).st_size for content in work.chosen.logs]
    tell = steps.teller("MB read", sum(sizes) // _MB)
    layout: _Layout | None = None
    for read in _ahead(_read_batches(work, ready)):
        layout = read.layout
        if read.number >= ready:
            _write_run(work, read.number, read.file, read.found, dictionaries)
            passed = sum(sizes[: read.file]) + read.done
            if read.number == ready:
                written = sum(file.stat().st_size for file in work.runs.iterdir())
                _check_disk(work, written * (sum(sizes) - passed) // max(passed, 1))
            tell(passed // _MB)
    assert layout is not None  # Else there was an error.
    return layout


class _Read(NamedTuple):
    """A batch that was read."""

    number: int
    file: int
    """Number of its file."""
    done: int
    """Bytes of the file that are read."""
    layout: _Layout | None
    """None until a batch has rows."""
    found: Parsed | None


def _check_disk(work: _Work, needed: int) -> None:
    """Refuses what the disk has no room for.

    Raises:
        OSError: If fewer bytes are free than needed.
    """
    free = shutil.disk_usage(work.folder).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"about {needed / 1e9:.1f} GB more are needed on this disk, {free / 1e9:.1f} GB are "
            "free: make room, and the same command goes on",
            str(work.folder),
        )


def _read_batches(work: _Work, ready: int) -> Iterator[_Read]:
    """Reads the batches behind those that are ready, and the first for the layout."""
    layout = None
    for number, (file, batch) in enumerate(_batches(work)):
        if number < ready and (layout is not None or not _run(work, number).tally[0]):
            continue
        frame, loose = batch.frame(), work.chosen.logs[file].kind in json_endings
        if layout is None and frame.frame.height:
            layout = _layout(frame, work.reading)
        found = None if layout is None else _parsed(frame, layout, loose=loose)
        yield _Read(number, file, batch.done, layout, found)
    if layout is None:
        raise DataError("there is a header and no interactions.", file=work.chosen.logs[0].name)


def _ahead(batches: Iterator[_Read]) -> Iterator[_Read]:
    """Reads a batch by a thread while the one before is sorted and written."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, batches, None)
        while (found := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield found


def _write_run(
    work: _Work,
    number: int,
    file: int,
    found: Parsed | None,
    dictionaries: Mapping[str, _Dictionary],
) -> None:
    """Sorts a batch by user and writes it, its facts last."""
    columns: dict[str, np.ndarray] = {}
    facts = _Run(0, file, list(Tally()), 0.0, 0.0, True)
    if found is not None:
        order = np.argsort(found.user, kind="stable")
        ids = {"users": found.user_names, "items": found.item_names}
        codes = {}
        for whom, names in ids.items():
            codes[whom], new = dictionaries[whom].codes(names)
            data = io.BytesIO()
            names.filter(new).alias("id").to_frame().write_ipc(data)
            write_pieces(work.runs / f"{number}.{whom}", [data.getbuffer()])
        columns["user"] = codes["users"]
        columns["count"] = np.bincount(found.user, minlength=len(codes["users"])).astype(np.int32)
        columns["item"] = codes["items"][found.item[order]]
        facts = facts._replace(rows=len(order), tally=list(found.tally))
        if found.rating is not None and len(order):
            rating = found.rating[order]
            single = rating.astype(np.float32)
            exact = np.array_equal(single, rating)
            columns["rating"] = single if exact else rating
            facts = facts._replace(low=float(rating.min()), high=float(rating.max()), exact=exact)
        if found.time is not None:
            columns["time"] = found.time[order]
    for name, column in columns.items():
        _save(work.runs / f"{number}.{name}", column)
    write_file(work.runs / f"{number}.json", json.dumps(facts))


def _run(work: _Work, number: int) -> _Run:
    return _Run(*read_json(work.runs / f"{number}.json"))


def _names(work: _Work, number: int, whom: str) -> "polars.Series":
    """Ids that a run has brought, in the order of their codes."""
    pl, path = polars_module(), work.runs / f"{number}.{whom}"
    if not path.is_file():
        return pl.Series("id", [], dtype=pl.String)
    return pl.read_ipc(path)["id"]


def _column(work: _Work, number: int, name: str, start: int = 0, stop: int | None = None) -> Any:
    """Rows of a column of a run; None where the log has none."""
    path = work.runs / f"{number}.{name}"
    return np.load(path, mmap_mode="r")[start:stop] if path.is_file() else None


# Shards


class _Log(NamedTuple):
    """The log in runs."""

    layout: _Layout
    runs: list[_Run]
    roles: Roles
    """Of the parsed log."""
    tally: Tally
    how: Duplicates
    """Treatment of repeated pairs."""
    ranks: dict[str, np.ndarray]
    """`[n]` int32 place of each user, and item, among the sorted ids, by code."""
    ids: dict[str, np.ndarray]
    """The sorted ids."""
    tables: dict[str, Table]
    """Their attributes."""
    notes: tuple[str, ...]


class _Shard(NamedTuple):
    """Facts of a shard, in JSON."""

    rows: int
    """Rows of the store up to its end."""
    merged: list[int]
    """A `Merged`."""
    low: float
    high: float
    exact: bool


def _joined(work: _Work, layout: _Layout) -> _Log:
    """Joins what the runs say, and sorts the ids."""
    count = len(list(work.runs.glob("*.json")))
    runs = [_run(work, number) for number in range(count)]
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
    return _Log(layout, runs, roles, tally, how, ranks, ids, tables, tuple(notes))


def _tally(run: _Run) -> Tally:
    rows, dropped, missing, first, events, rules = run.tally
    return Tally(rows, tuple(dropped), missing, first, Counter(events), tuple(rules))


def _sorted_ids(
    work: _Work, runs: int, whom: str, found: Content | None, given: str | None, column: str
) -> tuple[np.ndarray, np.ndarray, Table, tuple[str, ...]]:
    """Sorts all ids, and brings the attributes into their order.

    Returns:
        The place of each code, the sorted ids, the attributes, and notes on them.
    """
    pl, path = polars_module(), work.folder / f"{whom[:-1]}_ids.npy"
    names = pl.concat([_names(work, number, whom) for number in range(runs)])
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
        yield _header(dtype, len(names))
        for start in range(0, len(names), _IDS_AT_ONCE):
            some = np.array(names.slice(start, _IDS_AT_ONCE).to_list(), dtype)
            yield some.tobytes()

    write_pieces(path, pieces())


def _shards(log: _Log, work: _Work) -> list[tuple[int, int]]:
    """Cuts the users into ranges of about as many rows."""
    rows = np.zeros(len(log.ids["users"]), np.int64)
    for number, run in enumerate(log.runs):
        if run.rows:
            at = log.ranks["users"][_column(work, number, "user")]
            rows[at] += _column(work, number, "count")
    shard = (np.cumsum(rows) - rows) // SHARD_ROWS
    starts = [0, *(np.flatnonzero(np.diff(shard)) + 1).tolist()]
    return list(itertools.pairwise([*starts, len(rows)]))


class _Slices(NamedTuple):
    """Where in the runs the shards lie."""

    users: np.ndarray
    """`[runs, shards + 1]` the first user of each."""
    rows: np.ndarray
    """`[runs, shards + 1]` the first row of each."""


def _slices(log: _Log, work: _Work, ranges: Sequence[tuple[int, int]]) -> _Slices:
    ends = [0, *(last for _, last in ranges)]
    users = np.zeros((len(log.runs), len(ends)), np.int64)
    rows = np.zeros_like(users)
    for number, run in enumerate(log.runs):
        if run.rows:
            ranks = log.ranks["users"][_column(work, number, "user")]
            users[number] = np.searchsorted(ranks, ends)
            total = np.append(0, np.cumsum(_column(work, number, "count"), dtype=np.int64))
            rows[number] = total[users[number]]
    return _Slices(users, rows)


def _write_shards(log: _Log, work: _Work, ranges: Sequence[tuple[int, int]]) -> list[_Shard]:
    """Appends the shards to the arrays of the store, behind those that are there."""
    slices, done, kinds = _slices(log, work, ranges), [], _kinds(log)
    while (work.shards / f"{len(done)}.json").is_file():
        done.append(_Shard(*read_json(work.shards / f"{len(done)}.json")))
    left = sum(run.rows for run in log.runs) - int(slices.rows[:, len(done)].sum())
    # Ratings are written once more when their type is known.
    width = sum(kind.itemsize * (2 if name == "rating" else 1) for name, kind in kinds.items())
    _check_disk(work, left * width)
    for name, kind in kinds.items():
        path, rows = _growing(work, name), done[-1].rows if done else 0
        if path.is_file():
            cut(path, _HEADER + rows * kind.itemsize)
        else:
            write_pieces(path, [bytes(_HEADER)])
    tell = steps.teller("sorting shards", len(ranges))
    for number in range(len(done), len(ranges)):
        tell(number)
        rows = done[-1].rows if done else 0
        done.append(_write_shard(log, work, slices, ranges[number], number, rows))
    tell(len(ranges))
    return done


def _kinds(log: _Log) -> dict[str, Any]:
    """Types of the arrays that shards are appended to."""
    exact = all(run.exact for run in log.runs) and log.how not in ("mean", "sum")
    kinds: dict[str, Any] = {"item": np.dtype(np.int32)}
    if log.roles.rating is not None or log.how == "count":
        kinds["rating"] = np.dtype(np.float32 if exact else np.float64)
    if log.roles.time is not None:
        kinds["time"] = np.dtype(np.int64)
    return kinds


def _growing(work: _Work, name: str) -> Path:
    """Returns the file of an array; ratings move when it is known whether float32 holds them."""
    return work.shards / "rating.npy" if name == "rating" else work.folder / f"{name}.npy"


def _write_shard(
    log: _Log, work: _Work, slices: _Slices, users: tuple[int, int], number: int, before: int
) -> _Shard:
    """Merges the rows of some users and appends them, facts last."""
    first, last = users
    joined = _rows_of_shard(log, work, slices, number)
    items = len(log.ids["items"])
    rows, rating, time, merged = distinct(
        joined, (joined.user - first) * items + joined.item, log.how, whole="among its neighbours"
    )
    columns = {"item": joined.item[rows].astype(np.int32), "time": time}
    counts = np.bincount(joined.user[rows] - first, minlength=last - first)
    facts = _Shard(before + len(rows), list(merged), 0.0, 0.0, True)
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
    _save(work.shards / f"{number}.count", counts)
    write_file(work.shards / f"{number}.json", json.dumps(facts))
    return facts


def _rows_of_shard(log: _Log, work: _Work, slices: _Slices, number: int) -> Log:
    """Joins the slices of the runs, in the order of the log; users and items by their places."""
    found: dict[str, list[np.ndarray]] = {"user": [], "item": [], "rating": [], "time": []}
    for run in range(len(log.runs)):
        users = slices.users[run, number : number + 2]
        rows = slices.rows[run, number : number + 2]
        if rows[0] == rows[1]:
            continue
        who = log.ranks["users"][_column(work, run, "user", *users)].astype(np.int64)
        found["user"].append(np.repeat(who, _column(work, run, "count", *users)))
        item = _column(work, run, "item", *rows)
        found["item"].append(log.ranks["items"][item].astype(np.int64))
        for name, kind in (("rating", np.float64), ("time", np.int64)):
            column = _column(work, run, name, *rows)
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


def _place_of(log: _Log, work: _Work, user: np.ndarray, item: np.ndarray) -> Place:
    """Finds the last of some rows of a shard in the log, whose batch it reads again."""
    who, what = int(user[-1]), int(item[-1])
    before = int(np.sum((user[:-1] == who) & (item[:-1] == what)))
    names = str(log.ids["users"][who]), str(log.ids["items"][what])
    for number, (file, batch) in enumerate(_batches(work)):
        if not log.runs[number].rows:
            continue
        at = np.flatnonzero(log.ranks["users"][_column(work, number, "user")] == who)
        if not len(at):
            continue
        start = int(np.sum(_column(work, number, "count", 0, int(at[0])), dtype=np.int64))
        stop = start + int(_column(work, number, "count")[at[0]])
        here = int(np.sum(log.ranks["items"][_column(work, number, "item", start, stop)] == what))
        if before >= here:
            before -= here
            continue
        loose = work.chosen.logs[file].kind in json_endings
        found = _parsed(batch.frame(), log.layout, loose=loose)
        codes = [int(found.user_names.index_of(names[0]) or 0)]
        codes.append(int(found.item_names.index_of(names[1]) or 0))
        rows = np.flatnonzero((found.user == codes[0]) & (found.item == codes[1]))
        return found.place(int(rows[before]))
    raise AssertionError("a row of a shard is in no run.")


# The store


def _write_store(work: _Work, plan: dict[str, Any]) -> None:
    """Makes the store of the runs."""
    log = _joined(work, _read_runs(work))
    parts = _parts(log, work)
    ranges = _shards(log, work)
    done = _write_shards(log, work, ranges)
    merged = Merged()
    for shard in done:
        merged = merged.plus(Merged(*shard.merged))
    if not done[-1].rows:
        # The first row of the log may have any user.
        raise DataError("no count is above 0.", column=log.roles.rating, file=log.layout.file)
    counts = [np.load(work.shards / f"{number}.count") for number in range(len(ranges))]
    offsets = np.append(0, np.cumsum(np.concatenate(counts))).astype(np.int64)
    _save(work.folder / "offsets.npy", offsets)
    names = ["offsets.npy", "user_ids.npy", "item_ids.npy"]
    for name, kind in _kinds(log).items():
        if name == "rating":
            _move_ratings(work, kind, done)
        else:
            _finish_header(_growing(work, name), kind, done[-1].rows)
        names.append(f"{name}.npy")
    tables: dict[str, list[list[str]]] = {}
    for whom, table in log.tables.items():
        make_folder(work.folder / whom)
        tables[whom] = [[name, kind] for name, kind in table.kinds.items()]
        for number, (name, _) in enumerate(tables[whom]):
            names.append(f"{whom}/{number}.npy")
            _save(work.folder / names[-1], table.columns[name])
    if parts is not None:
        names.append("parts.npy")
        _save(work.folder / "parts.npy", parts)
    scale, given = _scale(log, done)
    rows = offsets[[bound for bounds in ranges for bound in bounds]].reshape(-1, 2)
    manifest = Manifest(
        rows=done[-1].rows,
        users=len(log.ids["users"]),
        items=len(log.ids["items"]),
        shards=[
            {"users": list(users), "rows": span}
            for users, span in zip(ranges, rows.tolist(), strict=True)
        ],
        scale=None if scale is None else list(scale),
        scale_given=given,
        notes=[*log.notes, *merged.notes(log.how)],
        tables=tables,
        plan=plan,
        files={name: list(digest_of_file(work.folder / name)) for name in names},
    )
    write_file(work.folder / MANIFEST, manifest_text(manifest))


def _scale(log: _Log, done: Sequence[_Shard]) -> tuple[Scale | None, bool]:
    """Returns the scale of the ratings, and whether it was given."""
    counted = log.how == "count" or log.roles.counted
    given = log.layout.reading.scale
    if counted or log.roles.rating is None:
        return None, False
    if given is not None:
        return given, True
    filled = [shard for shard in done if sum(shard.merged)]
    return (min(shard.low for shard in filled), max(shard.high for shard in filled)), False


def _parts(log: _Log, work: _Work) -> np.ndarray | None:
    """Part of each user in the split that the files are, -1 for a user without rows."""
    which = work.chosen.parts
    if which is None or work.reading.splits == "joined":
        return None
    parts = np.full(len(log.ids["users"]), -1)
    strange = []
    for number, run in enumerate(log.runs):
        if run.rows:
            users = log.ranks["users"][_column(work, number, "user")]
            strange.append(users[(parts[users] >= 0) & (parts[users] != which[run.file])])
            parts[users] = which[run.file]
    whose = np.unique(np.concatenate(strange))
    if len(whose):
        raise DataError(
            f"user {str(log.ids['users'][whose[0]])!r} is in another of the files train, valid and "
            f"test too ({len(whose)} such users), and new users must be in one; ",
            Option("splits", "joined"),
            " reads the files as one log.",
            file=work.chosen.logs[-1].name,
        )
    return parts


def _move_ratings(work: _Work, kind: np.dtype, done: Sequence[_Shard]) -> None:
    """Writes the ratings in float32, where that holds them."""
    exact = all(shard.exact for shard in done)
    target = np.dtype(np.float32) if exact else kind
    rows = done[-1].rows
    source = np.memmap(_growing(work, "rating"), kind, "r", _HEADER, (rows,))

    def pieces() -> Iterator[bytes]:
        yield _header(target, rows)
        for start in range(0, rows, SHARD_ROWS):
            yield source[start : start + SHARD_ROWS].astype(target).tobytes()

    write_pieces(work.folder / "rating.npy", pieces())


def _header(kind: np.dtype, rows: int) -> bytes:
    """Header of a .npy file of one dimension, of 128 bytes whatever the length."""
    data = io.BytesIO()
    facts = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (rows,)}
    np.lib.format.write_array_header_1_0(data, facts)
    header = data.getvalue()
    assert len(header) == _HEADER
    return header


def _finish_header(path: Path, kind: np.dtype, rows: int) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, _header(kind, rows), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _save(path: Path, column: np.ndarray) -> None:
    content = np.ascontiguousarray(column)
    write_pieces(path, [_header(content.dtype, len(content)), content.tobytes()])

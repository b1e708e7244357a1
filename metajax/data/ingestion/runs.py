"""Sorted runs of a log: each a batch on the disk, sorted by user, with ids as codes."""

import dataclasses
import io
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from metajax import steps
from metajax.data.ingestion.arrays import save_array
from metajax.data.ingestion.work import Work, check_disk
from metajax.data.readers import assembly
from metajax.data.readers.assembly import Roles
from metajax.data.readers.batches import Batch, batches_of
from metajax.data.readers.frames import Frame, json_endings, polars_module
from metajax.data.readers.table import Parsed, Tally, parsed, roles_of
from metajax.data.readers.text import DataError
from metajax.data.readers.trial import check_parquet
from metajax.data.reading import Reading
from metajax.files import Option, read_json
from metajax.storage import write_file, write_pieces

if TYPE_CHECKING:
    import polars

__all__ = [
    "Layout",
    "Run",
    "batches",
    "parsed_batch",
    "read_runs",
    "run_column",
    "run_facts",
    "run_ids",
]

_WHOM = ("users", "items")
_MOST_IDS = 2**31
_MB = 10**6


class Layout(NamedTuple):
    """Columns of the log, and how numbers in it are written."""

    file: str
    """The file of the first batch."""
    names: list[str]
    """All columns, in its order."""
    roles: Roles
    """Columns of the log."""
    reading: Reading
    """Options, with the decimal mark that was recognised."""
    notes: tuple[str, ...]
    """On numbers that are read otherwise than written."""


class Run(NamedTuple):
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
    """The highest."""
    exact: bool
    """True if float32 holds every rating."""


def read_runs(work: Work) -> Layout:
    """Reads the log into runs, behind those that are there.

    Returns:
        The layout of the log.

    Raises:
        DataError: If a file is not as it should be.
        OSError: If the disk has no room for the runs, by an estimate from the first.
    """
    check_parquet(work.chosen.logs)
    dictionaries = {whom: _Dictionary() for whom in _WHOM}
    ready = 0
    while (work.runs / f"{ready}.json").is_file():
        for whom, dictionary in dictionaries.items():
            dictionary.codes(run_ids(work, ready, whom))
        ready += 1
    sizes = [os.stat(content.name).st_size for content in work.chosen.logs]
    tell = steps.teller("MB read", sum(sizes) // _MB)
    layout: Layout | None = None
    for read in _ahead(_read_batches(work, ready)):
        layout = read.layout
        if read.number >= ready:
            _write_run(work, read.number, read.file, read.found, dictionaries)
            passed = sum(sizes[: read.file]) + read.done
            if read.number == ready:
                written = sum(file.stat().st_size for file in work.runs.iterdir())
                check_disk(work, written * (sum(sizes) - passed) // max(passed, 1))
            tell(passed // _MB)
    assert layout is not None  # Else there was an error.
    return layout


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


def batches(work: Work) -> Iterator[tuple[int, Batch]]:
    """Yields every batch of the log with the number of its file."""
    reading = work.reading
    given = [getattr(reading, f"{role}_column") for role in assembly.role_names]
    for number, content in enumerate(work.chosen.logs):
        for batch in batches_of(
            content, reading, known=assembly.known_names, given=given, numbers=given[2:]
        ):
            yield number, batch


def _layout(frame: Frame, reading: Reading) -> Layout:
    roles = roles_of(frame, reading)
    notes = parsed(frame, roles, reading).of_commas
    if notes and reading.decimal is None:
        reading = dataclasses.replace(reading, decimal=",")
    return Layout(frame.file, frame.frame.columns, roles, reading, notes)


def _aligned(frame: Frame, layout: Layout, *, loose: bool) -> Frame:
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


def parsed_batch(frame: Frame, layout: Layout, *, loose: bool) -> Parsed:
    """Parses a batch by the layout of the log.

    Args:
        frame: The batch.
        layout: Of the first batch.
        loose: True if the batch may leave out columns that the layout does not need.

    Raises:
        DataError: If the columns are others, or a field is not as it should be.
    """
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


class _Read(NamedTuple):
    """A batch that was read."""

    number: int
    file: int
    """Number of its file."""
    done: int
    """Bytes of the file that are read."""
    layout: Layout | None
    """None until a batch has rows."""
    found: Parsed | None


def _read_batches(work: Work, ready: int) -> Iterator[_Read]:
    """Reads the batches behind those that are ready, and the first for the layout."""
    layout = None
    for number, (file, batch) in enumerate(batches(work)):
        if number < ready and (layout is not None or not run_facts(work, number).tally[0]):
            continue
        frame, loose = batch.frame(), work.chosen.logs[file].kind in json_endings
        if layout is None and frame.frame.height:
            layout = _layout(frame, work.reading)
        found = None if layout is None else parsed_batch(frame, layout, loose=loose)
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
    work: Work,
    number: int,
    file: int,
    found: Parsed | None,
    dictionaries: Mapping[str, _Dictionary],
) -> None:
    """Sorts a batch by user and writes it, its facts last."""
    columns: dict[str, np.ndarray] = {}
    facts = Run(0, file, list(Tally()), 0.0, 0.0, True)
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
        save_array(work.runs / f"{number}.{name}", column)
    write_file(work.runs / f"{number}.json", json.dumps(facts))


def run_facts(work: Work, number: int) -> Run:
    """Reads the facts of a run."""
    return Run(*read_json(work.runs / f"{number}.json"))


def run_ids(work: Work, number: int, whom: str) -> "polars.Series":
    """Ids that a run has brought, in the order of their codes."""
    pl, path = polars_module(), work.runs / f"{number}.{whom}"
    if not path.is_file():
        return pl.Series("id", [], dtype=pl.String)
    return pl.read_ipc(path)["id"]


def run_column(work: Work, number: int, name: str, start: int = 0, stop: int | None = None) -> Any:
    """Rows of a column of a run; None where the log has none."""
    path = work.runs / f"{number}.{name}"
    return np.load(path, mmap_mode="r")[start:stop] if path.is_file() else None

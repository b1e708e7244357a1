"""A store made of a log: runs, then shards, then the arrays and the manifest."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metajax.data.ingestion.arrays import save_array
from metajax.data.ingestion.runs import read_runs, run_column
from metajax.data.ingestion.shards import (
    Joined,
    Shard,
    finish_arrays,
    joined_runs,
    ranges_of_users,
    write_shards,
)
from metajax.data.ingestion.work import Work, chosen_files, is_done, plan_of, tidy
from metajax.data.readers.assembly import Merged
from metajax.data.readers.text import DataError
from metajax.data.reading import Reading, Scale
from metajax.data.store import BEGUN, MANIFEST, Manifest, manifest_text
from metajax.fields import check_keys, names_of
from metajax.files import Option, read_json
from metajax.locks import locked
from metajax.storage import digest_of_file, make_folder, write_file

__all__ = [
    "ingest",
]


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
    chosen = chosen_files(listed, reading)
    plan = plan_of(chosen, reading)
    if is_done(folder, plan):
        tidy(folder)
        return folder
    make_folder(folder)
    with locked(folder):
        work = Work(folder, chosen, reading)
        if not (folder / BEGUN).is_file() or read_json(folder / BEGUN) != plan:
            if work.shards.exists():  # Of other options.
                shutil.rmtree(work.shards)
            write_file(folder / BEGUN, json.dumps(plan, indent=1) + "\n")
        make_folder(work.runs)
        make_folder(work.shards)
        _write_store(work, plan)
    tidy(folder)
    return folder


def _write_store(work: Work, plan: dict[str, Any]) -> None:
    """Makes the store of the runs."""
    log = joined_runs(work, read_runs(work))
    parts = _parts(log, work)
    ranges = ranges_of_users(log, work)
    done = write_shards(log, work, ranges)
    merged = Merged()
    for shard in done:
        merged = merged.plus(Merged(*shard.merged))
    if not done[-1].rows:
        # The first row of the log may have any user.
        raise DataError("no count is above 0.", column=log.roles.rating, file=log.layout.file)
    counts = [np.load(work.shards / f"{number}.count") for number in range(len(ranges))]
    offsets = np.append(0, np.cumsum(np.concatenate(counts))).astype(np.int64)
    save_array(work.folder / "offsets.npy", offsets)
    names = ["offsets.npy", "user_ids.npy", "item_ids.npy", *finish_arrays(log, work, done)]
    tables: dict[str, list[list[str]]] = {}
    for whom, table in log.tables.items():
        make_folder(work.folder / whom)
        tables[whom] = [[name, kind] for name, kind in table.kinds.items()]
        for number, (name, _) in enumerate(tables[whom]):
            names.append(f"{whom}/{number}.npy")
            save_array(work.folder / names[-1], table.columns[name])
    if parts is not None:
        names.append("parts.npy")
        save_array(work.folder / "parts.npy", parts)
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


def _scale(log: Joined, done: Sequence[Shard]) -> tuple[Scale | None, bool]:
    """Returns the scale of the ratings, and whether it was given."""
    counted = log.how == "count" or log.roles.counted
    given = log.layout.reading.scale
    if counted or log.roles.rating is None:
        return None, False
    if given is not None:
        return given, True
    filled = [shard for shard in done if sum(shard.merged)]
    return (min(shard.low for shard in filled), max(shard.high for shard in filled)), False


def _parts(log: Joined, work: Work) -> np.ndarray | None:
    """Part of each user in the split that the files are, -1 for a user without rows."""
    which = work.chosen.parts
    if which is None or work.reading.splits == "joined":
        return None
    parts = np.full(len(log.ids["users"]), -1)
    strange = []
    for number, run in enumerate(log.runs):
        if run.rows:
            users = log.ranks["users"][run_column(work, number, "user")]
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

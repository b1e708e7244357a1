"""The work of an ingestion: its files, its options, and the folder that it is done in."""

import errno
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metajax.data.readers.atomic import is_atomic
from metajax.data.readers.attributes import beside
from metajax.data.readers.contents import Content, content_of
from metajax.data.readers.frames import table_endings
from metajax.data.readers.movielens import is_movielens
from metajax.data.readers.table import parts_of
from metajax.data.readers.text import DataError
from metajax.data.reading import Reading
from metajax.data.store import BEGUN, FORMAT, MANIFEST, read_manifest
from metajax.files import Option, read_json
from metajax.storage import sync

__all__ = [
    "Chosen",
    "Work",
    "check_disk",
    "chosen_files",
    "is_done",
    "plan_of",
    "tidy",
]

# Options of what is done with the rows once they are read.
_LATE = ("duplicates", "scale", "relevant", "transform")


class Chosen(NamedTuple):
    """Files of a log."""

    logs: list[Content]
    """Files of interactions, in order."""
    parts: list[int] | None
    """Part of the split of each; None: there is no split."""
    users: Content | None
    """File of the users' attributes; None: there is none."""
    items: Content | None
    """The same of the items."""


class Work(NamedTuple):
    """A store that is being made."""

    folder: Path
    """Folder of the store."""
    chosen: Chosen
    """Files of the log."""
    reading: Reading
    """Options of reading them."""

    @property
    def runs(self) -> Path:
        """Folder of the sorted batches."""
        return self.folder / "work" / "runs"

    @property
    def shards(self) -> Path:
        """Folder of the facts of the shards."""
        return self.folder / "work" / "shards"


def chosen_files(paths: Sequence[str | Path], reading: Reading) -> Chosen:
    """Finds the files of a log, and those that describe its users and items.

    Args:
        paths: As in `ingest`.
        reading: May name files of users and items.

    Raises:
        ValueError: If there is no path, or a file is named twice.
        DataError: If a path does not exist, holds no table, or is of another format.
    """
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
    return Chosen(found, parts, users, items)


def _below(folder: Path) -> list[Content]:
    """Files below a folder, sorted by name; hidden ones, and those that begin with _, left out."""
    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
        if not hidden and not path.is_dir():
            found.append(content_of(path))
    return found


def plan_of(chosen: Chosen, reading: Reading) -> dict[str, Any]:
    """Says what is ingested, and how; equal for the same command."""
    described = [one for one in (chosen.users, chosen.items) if one is not None]
    files = [(one.name, os.stat(one.name)) for one in (*chosen.logs, *described)]
    plan = {
        "format": FORMAT,
        "files": [[name, facts.st_size, facts.st_mtime_ns] for name, facts in files],
        "options": reading.reading(),
    }
    return json.loads(json.dumps(plan))


def is_done(folder: Path, plan: dict[str, Any]) -> bool:
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


def check_disk(work: Work, needed: int) -> None:
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


def tidy(folder: Path) -> None:
    """Removes what a finished store does not need."""
    if (folder / "work").exists():
        shutil.rmtree(folder / "work")
    (folder / BEGUN).unlink(missing_ok=True)
    sync(folder)

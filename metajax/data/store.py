"""Interaction logs on disk as memory-mapped arrays, opened without being read.

    STORE/manifest.json     format, sizes and sha256 of the files, what was left out, and the ranges
                            of users and rows of the shards; written last
    STORE/offsets.npy       `[U + 1]` int64, as in `Interactions`
    STORE/item.npy          `[R]` int32
    STORE/rating.npy        `[R]` float32, or float64 where that would lose digits; if there are any
    STORE/time.npy          `[R]` int64; if there are any
    STORE/user_ids.npy      `[U]` strings, sorted
    STORE/item_ids.npy      `[I]` strings, sorted
    STORE/users/N.npy       `[U]` strings, a column of the users' attributes
    STORE/items/N.npy       `[I]` strings, a column of the items' attributes
    STORE/parts.npy         `[U]` int64, where the data come with a split

Rows are sorted by user, then item, so that the arrays are those of `Interactions`. What is read of
them is paged in by the operating system, and let go when memory is needed.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metajax.data.dataset import Dataset, Kind, Table
from metajax.data.interactions import Interactions
from metajax.data.reading import Reading
from metajax.files import DataError, read_json
from metajax.storage import Digest, check

__all__ = [
    "BEGUN",
    "FORMAT",
    "MANIFEST",
    "Manifest",
    "is_store",
    "manifest_text",
    "open_store",
    "read_manifest",
]

FORMAT = 1
"""Version of the layout."""
MANIFEST = "manifest.json"
"""Name of the manifest."""
BEGUN = "plan.json"
"""Name of the file that an unfinished store has in its place: what is ingested, and how."""

_OWN = ("relevant", "transform")


class Manifest(NamedTuple):
    """Description of a store: sizes, scale, notes, columns, origin and digests."""

    rows: int
    """R."""
    users: int
    """U."""
    items: int
    """I."""
    shards: list[dict[str, list[int]]]
    """Ranges `[first, last)` of users and of rows that were sorted at a time."""
    scale: list[float] | None
    """As in `Dataset`."""
    scale_given: bool
    """As in `Dataset`."""
    notes: list[str]
    """As in `Dataset`."""
    tables: dict[str, list[list[str]]]
    """Name and kind of each column of `users` and `items`; its place is the name of its file."""
    plan: dict[str, Any]
    """What was ingested, and how."""
    files: dict[str, list[Any]]
    """Size and sha256 of each file."""


def is_store(path: str | Path) -> bool:
    """True of the folder of a store, finished or not."""
    return any((Path(path) / name).is_file() for name in (MANIFEST, BEGUN))


def read_manifest(path: str | Path) -> Manifest:
    """Reads the manifest of a store.

    Args:
        path: Its folder.

    Raises:
        DataError: If the store is not finished, of another version, or damaged.
    """
    place = Path(path) / MANIFEST
    if not place.is_file():
        raise DataError(
            "a store that is not finished; the same metajax ingest goes on with it.", file=path
        )
    content = read_json(place)
    if not isinstance(content, dict) or content.pop("metajax_store", None) != FORMAT:
        raise DataError(f"must be the manifest of a store, of version {FORMAT}.", file=place)
    if set(content) != set(Manifest._fields):
        raise DataError(f"must hold {', '.join(Manifest._fields)}.", file=place)
    return Manifest(**content)


def manifest_text(manifest: Manifest) -> str:
    """Writes a manifest as `read_manifest` reads it."""
    return json.dumps({"metajax_store": FORMAT, **manifest._asdict()}, indent=1) + "\n"


def open_store(
    path: str | Path,
    reading: Reading = Reading(),  # noqa: B008
    *,
    verify: bool = False,
) -> Dataset:
    """Opens a store as a data set whose arrays are memory maps.

    Args:
        path: Its folder.
        reading: May give `relevant` and `transform`; all else was chosen by `ingest`.
        verify: True to read every file and compare its sha256, not its size alone.

    Returns:
        The data set, as the same options read it from the log.

    Raises:
        ValueError: If another option is given.
        DataError: If the store is not finished, of another version, or damaged; names the file.
    """
    folder, given = Path(path), reading.reading()
    others = [name for name in given if name not in _OWN]
    if others:
        listed = ", ".join(f"{name}=" for name in others)
        raise ValueError(
            f"{listed} is chosen when a store is made (metajax ingest), and {path} is one."
        )
    found = read_manifest(folder)
    for name, (size, sha256) in found.files.items():
        _check(folder / name, Digest(size, sha256), whole=verify)

    def opened(name: str) -> np.ndarray:
        try:
            # Not as a memmap, whose every slice costs a few microseconds.
            return np.load(folder / name, mmap_mode="r", allow_pickle=False).view(np.ndarray)
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read: {error}.", file=folder / name) from None

    def column(name: str, value: np.generic) -> np.ndarray:
        return opened(name) if name in found.files else np.broadcast_to(value, found.rows)

    user_ids, item_ids = opened("user_ids.npy"), opened("item_ids.npy")
    ingested = Reading(**found.plan["options"])
    return Dataset(
        name=str(path),
        interactions=Interactions(
            offsets=opened("offsets.npy"),
            item=opened("item.npy"),
            rating=column("rating.npy", np.float32(1)),
            time=column("time.npy", np.int64(0)),
            user_ids=user_ids,
            item_ids=item_ids,
        ),
        users=_table(opened, "users", user_ids, found.tables["users"]),
        items=_table(opened, "items", item_ids, found.tables["items"]),
        scale=None if found.scale is None else (found.scale[0], found.scale[1]),
        relevant=given.get("relevant", ingested.relevant),
        notes=tuple(found.notes),
        parts=opened("parts.npy") if "parts.npy" in found.files else None,
        scale_given=found.scale_given,
        transform=given.get("transform", ingested.transform),
        options=given,
    )


def _check(path: Path, expected: Digest, *, whole: bool) -> None:
    if whole:
        try:
            check(path, expected)
        except ValueError as error:
            raise DataError(str(error).removeprefix(f"{path}: "), file=path) from None
    if not path.is_file():
        raise DataError("is missing from the store.", file=path)
    size = path.stat().st_size
    if size != expected.size:
        raise DataError(f"is damaged: it has {size:,} bytes of {expected.size:,}.", file=path)


def _table(opened: Any, whom: str, ids: np.ndarray, columns: Sequence[Sequence[str]]) -> Table:
    kinds: dict[str, Kind] = {}
    fields: dict[str, np.ndarray] = {}
    for number, (name, kind) in enumerate(columns):
        kinds[name] = kind  # pyrefly: ignore
        fields[name] = opened(f"{whom}/{number}.npy")
    return Table(ids, fields, kinds)

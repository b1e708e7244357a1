"""Readers of interaction logs: MovieLens, RecBole atomic files, tables in files and in memory.

A reader refuses what it does not understand, in one line with the file, the line and the column:
a rating that is silently missing costs more than an error. What it leaves out, `Dataset.notes` say.
"""

from pathlib import Path
from typing import Any

from metajax.data.dataset import Dataset, with_relevant
from metajax.data.readers.atomic import is_atomic, read_atomic
from metajax.data.readers.contents import COMPRESSED
from metajax.data.readers.frames import table_endings
from metajax.data.readers.movielens import is_movielens, read_movielens
from metajax.data.readers.table import read_memory, read_table
from metajax.data.readers.text import DataError
from metajax.data.reading import Reading
from metajax.data.store import is_store, open_store
from metajax.fields import check_keys, names_of

__all__ = ["DataError", "read", "read_atomic", "read_memory", "read_movielens", "read_table"]

# What the layouts of MovieLens fix.
_FIXED = (
    "user_column",
    "item_column",
    "rating_column",
    "time_column",
    "count_column",
    "event_column",
    "weights",
    "ignore",
    "header",
    "separator",
    "encoding",
    "decimal",
    "users",
    "items",
)


def read(data: Any, **options: Any) -> Dataset:
    """Reads a log, whose format is recognised.

    A folder or zip archive is MovieLens if it holds u.data, ratings.dat, or ratings.csv with
    movies.csv; RecBole atomic files if it holds a `.inter` file; a store that `ingest` has made;
    else a table, as in `read_table`.

    Args:
        data: A path of a file, a folder or an archive; or a frame, a mapping of columns or an
            array, as in `read_memory`.
        **options: Fields of `Reading`.

    Returns:
        The data set, named by its path, or `memory`.

    Raises:
        ValueError: If an option is not legal, or given for a format that fixes it.
        ImportError: If a table is to be read without polars.
        DataError: If no format fits, or the file is not as it should be.
    """
    check_keys(options, names_of(Reading), "options of reading")
    reading = Reading(**options)
    if isinstance(data, str | Path) and is_store(data):
        found = open_store(data, reading)
        return with_relevant(found, found.relevant)
    found = _read(data, reading)
    found = found._replace(transform=reading.transform, options=reading.reading())
    return with_relevant(found, reading.relevant)


def _read(data: Any, reading: Reading) -> Dataset:
    if not isinstance(data, str | Path):
        return read_memory(data, reading)
    place = Path(data)
    if not place.exists():
        raise DataError("no such file or folder.", file=data)
    if is_atomic(place):
        return read_atomic(data, reading)
    named = [name for name in _FIXED if name in reading.reading()]
    if is_movielens(place) and (place.is_dir() or not named):
        if named:
            listed = ", ".join(f"{name}=" for name in named)
            raise ValueError(f"{listed} may be given for a table, and {data} is MovieLens.")
        return read_movielens(data, reading)
    if (
        place.is_file()
        and place.suffix.lower() not in (*table_endings, ".zip")
        and not _packed(place)
    ):
        raise DataError(
            f"the name must end in .inter, .zip or one of {', '.join(table_endings)}.", file=data
        )
    return read_table(data, reading)


def _packed(place: Path) -> bool:
    return any(
        place.name.lower().endswith(kind + ending)
        for kind in table_endings
        for ending in COMPRESSED
    )

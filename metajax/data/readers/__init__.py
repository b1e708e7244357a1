"""Readers of interaction logs: MovieLens, RecBole atomic files, CSV, TSV and Parquet.

A reader refuses what it does not understand, in one line with the file, the line and the column:
a rating that is silently missing costs more than an error.
"""

from pathlib import Path

from metajax.data.dataset import Dataset
from metajax.data.readers.assembly import Duplicates, Scale
from metajax.data.readers.atomic import read_atomic
from metajax.data.readers.movielens import read_movielens
from metajax.data.readers.table import SEPARATORS, read_table
from metajax.data.readers.text import DataError

__all__ = ["DataError", "read", "read_atomic", "read_movielens", "read_table"]

_TABLES = (*SEPARATORS, ".parquet")


def read(
    path: str | Path,
    *,
    user: str | None = None,
    item: str | None = None,
    rating: str | None = None,
    time: str | None = None,
    duplicates: Duplicates = "error",
    scale: Scale | None = None,
) -> Dataset:
    """Reads a log, whose format is recognised from its files.

    A folder is MovieLens if it holds u.data, ratings.dat, or ratings.csv with movies.csv; RecBole
    atomic files if it holds a `.inter` file; else it must hold one CSV, TSV or Parquet file.

    Args:
        path: A file or folder.
        user: The column of user ids, for a table; as in `read_table`. `item`, `rating` and `time`
            alike.
        item: The column of item ids.
        rating: The column of ratings.
        time: The column of times.
        duplicates: Treatment of repeated pairs of user and item: an error, or "last" to keep its
            last line.
        scale: Lowest and highest legal rating; None takes the format's, or the log's own.

    Returns:
        The data set, named by its path.

    Raises:
        ValueError: If columns are named for a format that fixes them, or another option is not
            legal.
        ImportError: If a table is to be read without polars.
        DataError: If no format fits, or the file is not as it should be.
    """
    place = Path(path)
    if not place.exists():
        raise DataError("no such file or folder.", file=path)
    if place.is_dir() and not (_is_atomic(place) or _is_movielens(place)):
        tables = sorted(f for f in place.iterdir() if f.suffix.lower() in _TABLES)
        if len(tables) != 1:
            names = ", ".join(table.name for table in tables) or "none"
            raise DataError(
                "looked for u.data, ratings.dat, ratings.csv with movies.csv, a .inter file, or "
                f"one of {', '.join(_TABLES)}; found {names}.",
                file=path,
            )
        place = tables[0]
    if place.suffix.lower() in _TABLES:
        return read_table(
            place,
            user=user,
            item=item,
            rating=rating,
            time=time,
            duplicates=duplicates,
            scale=scale,
        )._replace(name=str(path))
    named = {"user": user, "item": item, "rating": rating, "time": time}
    named = [f"{role}=" for role, column in named.items() if column is not None]
    if named:
        raise ValueError(f"{', '.join(named)} may be given for a CSV, TSV or Parquet file only.")
    if _is_movielens(place):
        return read_movielens(path, duplicates=duplicates, scale=scale)
    if _is_atomic(place):
        return read_atomic(path, duplicates=duplicates, scale=scale)
    raise DataError(
        f"a file must end in .inter, .zip (MovieLens) or one of {', '.join(_TABLES)}.", file=path
    )


def _is_movielens(path: Path) -> bool:
    if path.is_file():
        return path.suffix.lower() == ".zip"
    return any(
        all((path / name).is_file() for name in names)
        for names in (["u.data"], ["ratings.dat"], ["ratings.csv", "movies.csv"])
    )


def _is_atomic(path: Path) -> bool:
    return path.suffix == ".inter" if path.is_file() else any(path.glob("*.inter"))

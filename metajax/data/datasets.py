"""Data sets by name, each one entry of a table, fetched and cached on first use."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from metajax.data.dataset import Dataset, Table, with_relevant
from metajax.data.fetch import Progress, Source, read_cached
from metajax.data.labels import hint_of_counts
from metajax.data.readers import DataError, read, read_atomic, read_movielens
from metajax.data.readers.movielens import ITEM_KINDS, USER_KINDS, title_and_year
from metajax.data.reading import Reading
from metajax.data.schema import wide_columns
from metajax.fields import suggestion

__all__ = ["RECBOLE", "RECBOLE_SHA256", "load", "names"]

# RecBole's package carries MovieLens-100K too. Neither source may be redistributed.
RECBOLE = "recbole==1.2.1"
"""Package whose wheel holds MovieLens-100K as atomic files."""
RECBOLE_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
"""Digest of that wheel."""


def names() -> tuple[str, ...]:
    """Returns the names that `load` accepts."""
    return tuple(_DATASETS)


def load(data: Any, *, progress: Progress | None = None, **options: Any) -> Dataset:
    """Loads a data set by name, or reads one from a path or from memory.

    Args:
        data: One of `names()`; or what `read` takes, such as a path, a frame or an array. A folder
            that has a known name is reached as "./ml-100k".
        progress: Called as bytes arrive, if any have to be fetched.
        **options: Fields of `Reading`; for a name `relevant` and `transform` alone.

    Returns:
        The data set.

    Raises:
        DataError: If it is neither a known name nor a path, or the file is not as it should be.
        ValueError: If there are options for a name, or nothing can be `relevant`.
        DataUnavailable: If it must be fetched and cannot be.
    """
    if isinstance(data, str) and data in _DATASETS:
        reading = Reading(**{n: options[n] for n in options.keys() & {"relevant", "transform"}})
        others = [name for name in options if name not in ("relevant", "transform")]
        if others:
            raise ValueError(
                f"{data} is read one way; options are for paths, got {', '.join(others)}."
            )
        entry = _DATASETS[data]
        found = entry() if callable(entry) else read_cached(data, entry, progress)
        found = found._replace(name=data, transform=reading.transform, options=reading.reading())
        return with_relevant(found, reading.relevant)
    if isinstance(data, str | Path) and not (str(data) and Path(data).exists()):
        end = suggestion(data, names())
        raise DataError(
            f"no such path, nor one of the names {', '.join(names())}{end}",
            file=data if str(data) else "''",
        )
    found = read(data, **options)
    hint = ""
    if found.scale is not None and found.transform == "none":
        hint = hint_of_counts(found.interactions.rating)
    return found._replace(notes=(*found.notes, *wide_columns(found), *filter(None, [hint])))


def _read_recbole_movielens(folder: Path) -> Dataset:
    """Reads the atomic files of MovieLens-100K with the names and kinds of `read_movielens`.

    The atomic files carry the years in a column of their own, save for one film whose title kept
    it, and spell the nameless film "unkonwn".
    """
    dataset = read_atomic(folder, Reading(scale=(1.0, 5.0)))
    columns = dataset.items.columns
    titles, years = [], []
    for title, year in zip(columns["movie_title"], columns["release_year"], strict=True):
        title, year_of_title = title_and_year("unknown" if title == "unkonwn" else str(title))
        titles.append(title)
        years.append(str(year) if str(year).isdigit() else year_of_title)
    items = {"title": np.array(titles), "year": np.array(years), "genres": columns["class"]}
    return dataset._replace(
        users=Table(dataset.users.ids, dataset.users.columns, USER_KINDS),
        items=Table(dataset.items.ids, items, ITEM_KINDS),
    )


def _synthetic() -> Dataset:
    from metajax.data.synthetic import world

    return world().dataset


_GROUPLENS = "https://files.grouplens.org/datasets/movielens"


def _grouplens(name: str, digest: str | None) -> tuple[Source, ...]:
    return (Source(f"{_GROUPLENS}/{name}.zip", digest, f"{name}.zip", read_movielens),)


# A new data set is one entry: its sources in order of preference, or a function that generates it.
# GroupLens publishes an md5 beside each archive; that of ml-latest-small, which it may replace, is
# read with the archive.
_DATASETS: dict[str, tuple[Source, ...] | Callable[[], Dataset]] = {
    "ml-100k": (
        Source(
            f"{_GROUPLENS}/ml-100k.zip",
            "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
            "ml-100k.zip",
            read_movielens,
        ),
        Source(
            RECBOLE,
            RECBOLE_SHA256,
            "ml-100k",
            _read_recbole_movielens,
            members={
                "recbole/dataset_example/ml-100k/ml-100k.inter": (
                    "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"
                ),
                "recbole/dataset_example/ml-100k/ml-100k.item": (
                    "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532"
                ),
                "recbole/dataset_example/ml-100k/ml-100k.user": (
                    "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972"
                ),
            },
        ),
    ),
    "ml-latest-small": _grouplens("ml-latest-small", None),
    "ml-1m": _grouplens("ml-1m", "c4d9eecfca2ab87c1945afe126590906"),
    "ml-10m": _grouplens("ml-10m", "ce571fd55effeba0271552578f2648bd"),
    "ml-20m": _grouplens("ml-20m", "cd245b17a1ae2cc31bb14903e1204af3"),
    "ml-25m": _grouplens("ml-25m", "6b51fb2759a8657d3bfcbfc42b592ada"),
    "ml-32m": _grouplens("ml-32m", "d472be332d4daa821edc399621853b57"),
    "synthetic": _synthetic,
}

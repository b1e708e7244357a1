"""Recommendations to all users of a log, in batches, and their table in a file."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from metajax import storage
from metajax.data.dataset import Dataset
from metajax.data.readers.frames import polars_module
from metajax.runs.recommendation import Recommendations, recommend_batch
from metajax.runs.recommender import Recommender
from metajax.runs.scores import scored_at_once

if TYPE_CHECKING:
    import polars

__all__ = ["ListOfUser", "check_output", "recommend_log", "write_lists"]

_ENDINGS = (".csv", ".parquet")


class ListOfUser(NamedTuple):
    """The recommendations to one user."""

    user: str
    """Id of the user in the log."""
    items: Recommendations
    """The items, best first."""


def recommend_log(
    recommender: Recommender,
    log: Dataset,
    *,
    top: int = 10,
    source: bool = False,
    among: np.ndarray | None = None,
    begin: Callable[[str], None] = lambda batch: None,
) -> Iterator[ListOfUser]:
    """Recommends to each user of a log the items that they have not rated in it.

    Ratings are shown to the method in the order of their times.

    Args:
        recommender: A trained method.
        log: The users' ratings of items, which are named by ids of the recommender's catalogue, or
            else, where one of the names is no id, by titles or ids. Items of a log without ratings
            are liked (`liked_rating`); where the recommender has learned without ratings, they have
            been met, and the log may have strengths. Columns of its table of users that are no
            attributes of the recommender are left out.
        top: Number of items, >= 1.
        source: As in `recommend`.
        among: As in `recommend`.
        begin: Called with a text about each batch when it begins.

    Yields:
        For each user with an interaction, in the order of their ids, the list.

    Raises:
        KeyError: If a title or an attribute is unknown; names user and title.
        ValueError: As `recommend`, or if the log has no interactions.
    """
    rows = log.interactions
    users = rows.users
    if not len(users):
        raise ValueError(f"{log.name}: there are no users to recommend to.")
    known = {field.name for field in recommender.user_schema.fields}
    columns = {name: column for name, column in log.users.columns.items() if name in known}
    # A log without ratings and counts has ones, which are no strengths.
    met = log.scale is None and bool((rows.rating == 1).all())
    if recommender.scale is not None and log.scale is None and not met:
        raise ValueError(
            f"{log.name}: counts are no ratings, and the method has learned from ratings: give "
            "ratings, or leave the counts out, and the items count as liked."
        )
    by_id = set(rows.item_ids.tolist()) <= set(recommender.catalogue.ids.tolist())
    size = scored_at_once(len(recommender.catalogue.ids))
    for start in range(0, len(users), size):
        batch = users[start : start + size]
        begin(f"users {start + 1:,} to {start + len(batch):,} of {len(users):,}")
        ratings: list[Any] = []
        for user in batch:
            at = np.arange(rows.offsets[user], rows.offsets[user + 1])
            at = at[np.argsort(rows.time[at], kind="stable")]
            names = rows.item_ids[rows.item[at]].tolist()
            pairs = zip(names, rows.rating[at].tolist(), strict=True)
            ratings.append(names if met else dict(pairs))
        features = [{name: str(column[user]) for name, column in columns.items()} for user in batch]
        names = [str(rows.user_ids[user]) for user in batch]
        try:
            found = recommend_batch(
                recommender,
                ratings,
                features,
                top=top,
                source=source,
                among=among,
                names=names,
                by_id=by_id,
            )
        except (KeyError, ValueError) as error:
            raise type(error)(f"{log.name}: {error.args[0]}") from None
        yield from map(ListOfUser, names, found)


def check_output(path: Path) -> None:
    """Refuses a path that `write_lists` cannot write, before any work is done.

    Raises:
        ValueError: If its ending is another one, it exists, or its folder does not.
    """
    if path.suffix.lower() not in _ENDINGS:
        raise ValueError(f"--output must end in {' or '.join(_ENDINGS)}, got {path}.")
    if path.exists():
        raise ValueError(f"--output must not exist, got {path}.")
    if not path.parent.is_dir():
        raise ValueError(f"--output must be in a folder that exists, got {path}.")


def write_lists(path: Path, lists: list[ListOfUser]) -> None:
    """Writes a table of recommendations, a row each: user, rank, id, title, score, deviation.

    Args:
        path: A file that ends in `.csv` or `.parquet`; appears whole or not at all.
        lists: As from `recommend_log`. The deviation is left out where the method has none.

    Raises:
        ImportError: If polars is not installed.
        ValueError: As `check_output`.
        OSError: If the file cannot be written.
    """
    check_output(path)
    frame = _frame(lists)
    if path.suffix.lower() == ".csv":
        content = frame.write_csv().encode()
    else:
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        content = buffer.getvalue()
    storage.write_file(path, content)


def _frame(lists: list[ListOfUser]) -> "polars.DataFrame":
    pl = polars_module()
    rows = [(one.user, n, item) for one in lists for n, item in enumerate(one.items, 1)]
    columns: dict[str, Any] = {
        "user": pl.Series([user for user, _, _ in rows], dtype=pl.String),
        "rank": pl.Series([rank for _, rank, _ in rows], dtype=pl.Int32),
        "id": pl.Series([item.item_id for _, _, item in rows], dtype=pl.String),
        "title": pl.Series([item.title for _, _, item in rows], dtype=pl.String),
        "score": pl.Series([item.score for _, _, item in rows], dtype=pl.Float64),
    }
    if any(item.deviation is not None for _, _, item in rows):
        columns["deviation"] = [item.deviation for _, _, item in rows]
    return pl.DataFrame(columns)

"""Training data of a refit: the original data, and the log of events since.

    metajax fit --data ml-100k --events sqlite:///events.db --output next

The log is read beside the service. Users who were deleted are left out of the older data as well.
"""

import json
from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np

from metajax import engine
from metajax.data.dataset import Dataset, Table
from metajax.data.interactions import from_columns, select_rows
from metajax.serving.databases import Connection
from metajax.serving.events import Event, labels_of
from metajax.serving.store import EVENT_COLUMNS, digest_of_user

__all__ = ["with_log"]


def with_log(dataset: Dataset, db: Connection) -> Dataset:
    """Adds a log of events to the data that a service began with.

    Events become labels as they do when the service adapts (`events.labels_of`); of a pair of user
    and item in both, that of the log counts. Items and attributes that clients have given are
    added, or take the place of older ones. Ratings off the scale are left out.

    Args:
        dataset: The data.
        db: A connection, as of `store.reading`.

    Returns:
        The larger data set.

    Raises:
        ValueError: If the log holds nothing to learn from.
    """
    gone = {row[0] for row in db.execute("select digest from tombstones")}
    dataset = _without(dataset, gone) if gone else dataset
    low, high = sorted(dataset.scale or (-np.inf, np.inf))
    liked = worst = None
    if dataset.scale is not None:
        liked = float(np.median(dataset.interactions.rating[dataset.relevant_rows]))
        worst = dataset.scale[0]
    rows: list[tuple[str, str, float, int]] = []
    off = 0
    for user, events in groupby(_events(db), key=attrgetter("user")):
        kept, times = [], {}
        for event in events:
            if event.kind == "rating" and not low <= (event.value or 0.0) <= high:
                off += 1
                continue
            kept.append(event)
            times.setdefault(event.item, int(event.time))
        labels = labels_of(kept, liked=liked, worst=worst)
        rows += [(user, item, label, times[item]) for item, label in labels.items()]
    if not rows:
        raise ValueError("the log of events holds nothing that can be learned from.")
    given = {
        name: json.loads(content)
        for name, content in db.execute("select id, content from items order by id")
    }
    users = {
        name: json.loads(content)
        for name, content in db.execute("select id, attributes from users")
    }
    who, what, labels, times = zip(*rows, strict=True)
    user_ids, item_ids = np.unique(who), np.unique([*what, *given])
    log = from_columns(
        np.searchsorted(user_ids, who),
        np.searchsorted(item_ids, what),
        np.array(labels),
        np.array(times, np.int64),
        user_ids=user_ids,
        item_ids=item_ids,
    )
    # Of a known item or user the newer attributes count.
    dataset = dataset._replace(
        items=_changed(dataset.items, given, titled=True),
        users=_changed(dataset.users, users, titled=False),
    )
    added = dataset._replace(
        interactions=log,
        users=_table(dataset.users, user_ids, users, titled=False),
        items=_table(dataset.items, item_ids, given, titled=True),
        parts=None,
    )
    notes = dataset.notes
    if off:
        notes = (*notes, f"{off:,} ratings of the log of events are off the scale and left out")
    return engine.with_events(dataset, added)._replace(notes=notes)


def _events(db: Connection) -> Iterable[Event]:
    """Events by user, the newest of each first."""
    rows = db.execute(f"select {EVENT_COLUMNS} from events order by user_id, sequence desc")
    return (Event(*row) for row in rows)


def _without(dataset: Dataset, digests: set[str]) -> Dataset:
    """Leaves out the interactions and the attributes of users."""
    log = dataset.interactions
    gone = np.array([digest_of_user(name) in digests for name in log.user_ids.tolist()], bool)
    if not gone.any():
        return dataset
    users = dataset.users
    columns = {name: np.where(gone, "", column) for name, column in users.columns.items()}
    return dataset._replace(
        interactions=select_rows(log, ~gone[log.user]),
        users=users._replace(columns=columns),
    )


def _cells(table: Table, content: Mapping[str, Any], *, titled: bool) -> dict[str, str]:
    """Texts by column of the table; a title is that of the first column of text."""
    texts = [name for name, kind in table.kinds.items() if kind == "text"]
    if titled and texts and "title" in content and "title" not in table.columns:
        content = {**content, texts[0]: content["title"]}
    return {
        name: " ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in content.items()
        if name in table.columns and value is not None
    }


def _table(
    like: Table, ids: np.ndarray, given: Mapping[str, Mapping[str, Any]], *, titled: bool
) -> Table:
    rows = [_cells(like, given.get(name, {}), titled=titled) for name in ids.tolist()]
    columns = {name: np.array([row.get(name, "") for row in rows], str) for name in like.columns}
    return Table(ids, columns, like.kinds)


def _changed(table: Table, given: Mapping[str, Mapping[str, Any]], *, titled: bool) -> Table:
    place = {name: n for n, name in enumerate(table.ids.tolist()) if name in given}
    if not place:
        return table
    columns = {name: column.astype(object) for name, column in table.columns.items()}
    for name, n in place.items():
        for column, cell in _cells(table, given[name], titled=titled).items():
            columns[column][n] = cell
    return table._replace(columns={name: column.astype(str) for name, column in columns.items()})

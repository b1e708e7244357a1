"""Extension of a log by later events and by new items."""

from typing import Any

import numpy as np

from metajax.data.dataset import Dataset, Table
from metajax.data.interactions import Interactions, from_columns
from metajax.data.readers.frames import frame_in_memory
from metajax.data.schema import Schema
from metajax.fields import check_keys

__all__ = ["items_in_memory", "with_columns", "with_events", "with_items", "with_known_items"]


def with_events(dataset: Dataset, events: Dataset) -> Dataset:
    """Adds the interactions of a later log to a data set, with its new users and items.

    Args:
        dataset: The data.
        events: A log in the same unit. Of a pair of user and item in both, its interaction stays.
            Attributes of new users and items are taken from its tables, where columns have the same
            names; those of known ones stay as they are.

    Returns:
        The larger data set; new users are training users of a split that the data come with.

    Raises:
        ValueError: If one has ratings and the other none, or a rating is off the scale.
    """
    if (dataset.scale is None) != (events.scale is None):
        has, lacks = ("data", "events") if dataset.scale is not None else ("events", "data")
        raise ValueError(
            f"events must be as the data are: the {has} have ratings, the {lacks} none."
        )
    low, high = sorted(dataset.scale or (-np.inf, np.inf))
    added = events.interactions
    wrong = added.rating[(added.rating < low) | (added.rating > high)]
    if len(wrong):
        raise ValueError(
            f"ratings must be in [{low:g}, {high:g}], as in the data, got {wrong[0]:g}."
        )
    log = dataset.interactions
    user_ids = np.union1d(log.user_ids, added.user_ids)
    item_ids = np.union1d(log.item_ids, added.item_ids)
    columns = [_over(one, user_ids, item_ids) for one in (log, added)]
    pairs = [user * len(item_ids) + item for user, item, _, _ in columns]
    kept = ~np.isin(pairs[0], pairs[1])
    old = [column[kept] for column in columns[0]]
    joined = [np.concatenate(pair) for pair in zip(old, columns[1], strict=True)]
    parts = dataset.parts
    if parts is not None:
        parts = np.zeros(len(user_ids), parts.dtype)
        parts[np.searchsorted(user_ids, log.user_ids)] = dataset.parts
    return dataset._replace(
        interactions=from_columns(*joined, user_ids=user_ids, item_ids=item_ids),
        users=_joined(dataset.users, events.users, user_ids),
        items=_joined(dataset.items, events.items, item_ids),
        parts=parts,
    )


def with_items(dataset: Dataset, items: Table) -> Dataset:
    """Adds items without interactions to a data set.

    Args:
        dataset: The data.
        items: Their ids and attributes, from `items_in_memory`.

    Returns:
        The larger data set.

    Raises:
        ValueError: If an item is in the data, or a column is no attribute of its items.
    """
    log = dataset.interactions
    known = items.ids[np.isin(items.ids, log.item_ids)]
    if len(known):
        raise ValueError(f"items must be new, got {str(known[0])!r}, which is in the data.")
    check_keys(items.columns, dataset.items.columns, "attributes of items")
    item_ids = np.union1d(log.item_ids, items.ids)
    joined = from_columns(
        *_over(log, log.user_ids, item_ids), user_ids=log.user_ids, item_ids=item_ids
    )
    return dataset._replace(interactions=joined, items=_joined(dataset.items, items, item_ids))


def with_known_items(dataset: Dataset, known: Table) -> Dataset:
    """Adds the items of an earlier catalogue to a data set.

    Args:
        dataset: The data.
        known: Ids and raw attributes of the earlier items. They fill what is empty or missing of
            items in both; kinds of columns are theirs.

    Returns:
        The data set over the items of both, by their ids.
    """
    log = dataset.interactions
    item_ids = np.union1d(log.item_ids, known.ids)
    joined = from_columns(
        *_over(log, log.user_ids, item_ids), user_ids=log.user_ids, item_ids=item_ids
    )
    columns = {}
    for name in {**known.columns, **dataset.items.columns}:
        cells = np.full(len(item_ids), "", dtype=object)
        for table in (known, dataset.items):
            column = table.columns.get(name, np.full(len(table.ids), ""))
            told = column != ""
            cells[np.searchsorted(item_ids, table.ids[told])] = column[told]
        columns[name] = cells.astype(str)
    # The first text is the title: columns keep the order of the earlier ones.
    kinds = {**known.kinds, **dataset.items.kinds, **known.kinds}
    items = Table(item_ids, columns, kinds)
    return dataset._replace(interactions=joined, items=items)


def with_columns(table: Table, schema: Schema) -> tuple[Table, list[str]]:
    """Adds the columns of a schema that a table lacks, as missing.

    Args:
        table: Raw attributes.
        schema: The encoding.

    Returns:
        The table with every column, and the names of those that it lacked and that are encoded.
    """
    lacking = [field for field in schema.fields if field.name not in table.columns]
    nothing = np.full(len(table.ids), "")
    columns = {**table.columns, **{field.name: nothing for field in lacking}}
    return table._replace(columns=columns), [field.name for field in lacking if field.width]


def items_in_memory(table: Any) -> Table:
    """Reads a table of items: a column `item`, `item_id` or `id`, and attributes.

    Args:
        table: A frame of polars, pandas or Arrow, or a mapping of columns. Lists are tokens.

    Returns:
        The table; its kinds are left open.

    Raises:
        ImportError: If polars is not installed.
        TypeError: If `table` is something else.
        ValueError: If there is no column of ids, or more than one, or an id is missing or repeated.
    """
    frame = frame_in_memory(table).frame
    named = [name for name in frame.columns if name.lower() in ("item", "item_id", "id")]
    if len(named) != 1:
        raise ValueError(
            f"a table of items must have one column item, item_id or id, got "
            f"{', '.join(frame.columns) or 'none'}."
        )
    cells = {name: [_text(cell) for cell in frame[name].to_list()] for name in frame.columns}
    ids = cells.pop(named[0])
    seen: set[str] = set()
    for row, name in enumerate(ids, 1):
        if not name or name in seen:
            rule = "stand once" if name else "not be empty"
            raise ValueError(f"ids of items must {rule}, got {name!r} in row {row}.")
        seen.add(name)
    columns = {name: np.array(column, dtype=str) for name, column in cells.items()}
    return Table(np.array(ids, dtype=str), columns, {})


def _text(cell: Any) -> str:
    if cell is None or cell != cell:
        return ""
    return " ".join(map(str, cell)) if isinstance(cell, list | tuple) else str(cell)


def _over(
    log: Interactions, user_ids: np.ndarray, item_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns user, item, rating and time, `[R]`, with indices into larger lists of ids."""
    users = np.searchsorted(user_ids, log.user_ids)
    items = np.searchsorted(item_ids, log.item_ids)
    return users[log.user], items[log.item], log.rating, log.time


def _joined(table: Table, other: Table, ids: np.ndarray) -> Table:
    """Returns the rows of a table, and those of another that it does not have, by their ids."""
    own, new = np.searchsorted(ids, table.ids), ~np.isin(other.ids, table.ids)
    columns = {}
    for name, column in table.columns.items():
        cells = np.full(len(ids), "", dtype=object)
        cells[own] = column
        if name in other.columns:
            cells[np.searchsorted(ids, other.ids[new])] = other.columns[name][new]
        columns[name] = cells.astype(str)
    return Table(ids, columns, table.kinds)

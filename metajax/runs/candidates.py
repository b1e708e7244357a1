"""Selection of the items that may be recommended: by name, and by their raw attributes."""

from collections.abc import Mapping, Sequence

import numpy as np

from metajax.fields import check_name, suggestion
from metajax.runs.catalogue import Catalogue, find_item
from metajax.runs.item_index import folded

__all__ = ["candidates"]


def candidates(
    catalogue: Catalogue,
    *,
    exclude: Sequence[str | int] = (),
    only: Sequence[str | int] | None = None,
    category: Mapping[str, str | float] | None = None,
) -> np.ndarray:
    """Selects items of a catalogue.

    Args:
        catalogue: The items.
        exclude: Titles or ids of items that may not be recommended.
        only: Titles or ids of the only ones that may; None: all.
        category: Value by column of the items' attributes; an item must have all of them. Of a
            column of tokens, such as genres, the value is one of an item's tokens; numbers are
            compared as numbers, texts whatever the case.

    Returns:
        `[I]` bool, the `among` of `recommend`.

    Raises:
        KeyError: If no item has a title; names the nearest.
        TypeError: If `exclude` or `only` is one text, or names an item by something else.
        ValueError: If a title means several items, there is no such column, no item has the value,
            or no item is left.

    Example:
        >>> from metajax.data import load
        >>> from metajax.runs.catalogue import catalogue_of
        >>> films = catalogue_of(load("synthetic").items, np.zeros((1, 0)))
        >>> int(candidates(films, only=films.ids[:5].tolist(), exclude=[films.ids[0]]).sum())
        4
    """
    items = len(catalogue.ids)
    kept = np.ones(items, bool)
    for column, value in (category or {}).items():
        kept &= _having(catalogue, column, value)
    for name, names in (("exclude", exclude), ("only", only)):
        if isinstance(names, str):
            raise TypeError(f"{name} must be a sequence of titles or ids, got {names!r}.")
    if only is not None:
        kept &= np.isin(np.arange(items), [find_item(catalogue, item) for item in only])
    kept &= ~np.isin(np.arange(items), [find_item(catalogue, item) for item in exclude])
    if not kept.any():
        raise ValueError("exclude, only and category leave no item to recommend.")
    return kept


def _having(catalogue: Catalogue, column: str, value: str | float) -> np.ndarray:
    """Returns `[I]` bool, the items whose attribute has the value.

    Raises:
        ValueError: If there is no such column, or no item has the value.
    """
    attributes = catalogue.attributes
    if attributes is None or not attributes.columns:
        raise ValueError(f"category must be an attribute of the items, which have none: {column}.")
    check_name(column, attributes.columns, "category")
    cells, kind = attributes.columns[column].tolist(), attributes.kinds[column]
    wanted = folded(str(value))
    if kind == "numeric":
        try:
            number = float(value)
        except ValueError:
            raise ValueError(f"category {column} must be a number, got {value!r}.") from None
        found = np.array([cell.strip() != "" and float(cell) == number for cell in cells], bool)
    elif kind == "tokens":
        found = np.array([wanted in map(folded, cell.split()) for cell in cells], bool)
    else:
        found = np.array([folded(cell) == wanted for cell in cells], bool)
    if not found.any():
        known = {
            folded(token): token
            for cell in cells
            for token in (cell.split() if kind == "tokens" else [cell])
            if token
        }
        end = suggestion(wanted, known)
        if end == "." and len(known) <= 25:
            end = f"; known are {', '.join(sorted(known.values()))}."
        raise ValueError(f"category: no item has {column} {value!r}{end}")
    return found

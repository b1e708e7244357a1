"""Catalogue of a recommender: its items by index, by id and by title."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from metajax.data.dataset import Table
from metajax.fields import suggestion
from metajax.knowledge import SharedFacts
from metajax.runs.item_index import ItemIndex, find, index_of_items, split_names

__all__ = [
    "Catalogue",
    "allowed_items",
    "catalogue_of",
    "find_item",
    "finder",
    "finder_by_id",
    "parse_names",
    "titles_of",
]


class Catalogue(NamedTuple):
    """The items that can be recommended."""

    ids: np.ndarray
    """`[I]` ids in the data set."""
    titles: np.ndarray
    """`[I]` titles; the id where there is no title."""
    item_features: np.ndarray
    """`[I, Di]` float32 encoded attributes."""
    item_domain: np.ndarray | None = None
    """`[I]` int32, 0 for an item of the source domain and 1 for the target; None: there is one."""
    index: ItemIndex | None = None
    """The items by id and title; None builds it at every call."""
    attributes: Table | None = None
    """Raw attributes of the items, by which `candidates` selects; None: there are none."""
    facts: SharedFacts | None = None
    """Facts of a graph that several items have, by which `recommend` explains; None: there are
    none."""


def catalogue_of(
    items: Table, item_features: np.ndarray, item_domain: np.ndarray | None = None
) -> Catalogue:
    """Builds the catalogue of a data set.

    Args:
        items: The items' table; its first column of text, if any, holds the titles.
        item_features: `[I, Di]` their encoded attributes.
        item_domain: `[I]` 0 for an item of the source domain and 1 for the target; None: there is
            one.

    Returns:
        The catalogue.
    """
    titles = titles_of(items, item_domain)
    index = index_of_items(items.ids.tolist(), titles.tolist())
    return Catalogue(items.ids, titles, item_features, item_domain, index, items)


def titles_of(items: Table, item_domain: np.ndarray | None = None) -> np.ndarray:
    """Titles of items, `[I]`; the id where the table has no title.

    Args:
        items: The table.
        item_domain: As in `catalogue_of`; such an id is that of the item's own log, without the
            domain in front.
    """
    names = items.ids
    if item_domain is not None:
        sides = np.where(np.asarray(item_domain) == 0, "source:", "target:").tolist()
        ids = names.astype(str).tolist()
        names = np.array([name.removeprefix(s) for name, s in zip(ids, sides, strict=True)])
    texts = [name for name, kind in items.kinds.items() if kind == "text"]
    if not texts:
        return names
    return np.where(items.columns[texts[0]] == "", names, items.columns[texts[0]])


def find_item(catalogue: Catalogue, title: str | int) -> int:
    """Finds an item by title or id, exact before whatever the case; see `item_index.find`.

    Args:
        catalogue: The items.
        title: A title or an id, a whole number an id; where there are two domains `source:` or
            `target:` in front of it names its domain.

    Returns:
        Its index in the catalogue.

    Raises:
        TypeError: If it is neither a text nor a whole number.
        KeyError: If no item has it; names the nearest.
        ValueError: If several items have it.
    """
    return finder(catalogue)(title)


def finder(catalogue: Catalogue) -> Callable[[str | int], int]:
    """Returns a function that finds an item as `find_item` does, by an index built once."""
    index = catalogue.index
    if index is None:
        index = index_of_items(catalogue.ids.tolist(), catalogue.titles.tolist())
    return functools.partial(_found, index, catalogue.item_domain)


def finder_by_id(catalogue: Catalogue) -> Callable[[str | int], int]:
    """Returns a function that finds an item by its id alone; it raises a KeyError for another."""
    place = {str(name): n for n, name in enumerate(catalogue.ids)}

    def find(name: str | int) -> int:
        if str(name) not in place:
            raise KeyError(f"no item has the id {name!r}{suggestion(name, place, most=3)}")
        return place[str(name)]

    return find


def parse_names(catalogue: Catalogue, text: str) -> list[str]:
    """Reads titles or ids that are separated by commas; known titles may hold commas.

    Args:
        catalogue: The items.
        text: Such as "p1, p2".

    Returns:
        The names; unknown ones too.
    """
    index = catalogue.index or index_of_items(catalogue.ids.tolist(), catalogue.titles.tolist())
    return split_names(index, text)


def allowed_items(catalogue: Catalogue, among: np.ndarray | None) -> np.ndarray:
    """Returns a new `[I]` bool mask of the items that may be recommended.

    Args:
        catalogue: The items.
        among: `[I]` bool; None: all.

    Raises:
        ValueError: If `among` has another shape or type.
    """
    items = len(catalogue.ids)
    if among is None:
        return np.ones(items, bool)
    if np.shape(among) != (items,) or np.asarray(among).dtype != bool:
        raise ValueError(
            f"among must be a bool for each of the {items} items, got shape {np.shape(among)} of "
            f"{np.asarray(among).dtype}."
        )
    return np.array(among)


def _found(index: ItemIndex, domain: np.ndarray | None, title: str | int) -> int:
    if domain is None or not isinstance(title, str):
        return find(index, title)
    side, _, rest = title.strip().partition(":")
    if side not in ("source", "target"):
        return find(index, title)
    meant = int(side == "target")
    if title.strip() in index.ids:
        return index.ids[title.strip()]
    try:
        return find(index, rest, among=lambda item: int(domain[item]) == meant)
    except KeyError as error:
        end = error.args[0].partition("; ")[2]
        raise KeyError(
            f"no item has the title or id {title!r}{'; ' + end if end else '.'}"
        ) from None

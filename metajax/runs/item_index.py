"""Index of the items of a catalogue by id and by title, exact or whatever the case."""

import numbers
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from metajax.fields import suggestion

__all__ = ["ItemIndex", "find", "folded", "index_of_items", "is_known", "split_names"]


class ItemIndex(NamedTuple):
    """Items by name, in dictionaries that are built once."""

    ids: dict[str, int]
    """Id to item."""
    titles: dict[str, list[int]]
    """Title to the items that have it."""
    folded_ids: dict[str, list[int]]
    """Folded id to items."""
    folded_titles: dict[str, list[int]]
    """Folded title to items."""


def index_of_items(ids: Iterable[str], titles: Iterable[str]) -> ItemIndex:
    """Builds the index.

    Args:
        ids: `[I]` distinct ids.
        titles: `[I]` titles; the id where there is none.

    Example:
        >>> index = index_of_items(["7", "8", "A7"], ["Emma", "EMMA", "Fargo"])
        >>> find(index, "Emma"), find(index, "fargo "), find(index, 8), find(index, "a7")
        (0, 2, 1, 2)
    """
    names, called = [str(name) for name in ids], [str(title) for title in titles]
    return ItemIndex(
        {name: item for item, name in enumerate(names)},
        _places(called),
        _places(map(folded, names)),
        _places(map(folded, called)),
    )


def find(
    index: ItemIndex, name: str | int, *, among: Callable[[int], bool] = lambda item: True
) -> int:
    """Finds an item: by its exact title, its exact id, its title whatever the case, its id alike.

    Case is folded, and composition, so that accents of one code point or two are the same.

    Args:
        index: The index.
        name: A title or an id; a whole number is an id.
        among: True of the items that may be meant.

    Returns:
        The item.

    Raises:
        TypeError: If `name` is neither a text nor a whole number.
        KeyError: If no item has it; names the nearest.
        ValueError: If several have it.
    """
    if not isinstance(name, str):
        if not isinstance(name, numbers.Integral) or isinstance(name, bool):
            raise TypeError(f"items are named by titles or ids, got {name!r}.")
        item = index.ids.get(str(name))
        if item is None or not among(item):
            raise KeyError(f"no item has the id {name}.")
        return item
    bare, wanted = name.strip(), folded(name)
    by_id = [index.ids[key] for key in dict.fromkeys((name, bare)) if key in index.ids]
    several: Sequence[int] = ()
    for found in (
        index.titles.get(name, ()),
        index.titles.get(bare, ()),
        by_id,
        index.folded_titles.get(wanted, ()),
        index.folded_ids.get(wanted, ()),
    ):
        meant = [item for item in found if among(item)]
        if len(meant) == 1:
            return meant[0]
        several = several or meant
    if several:
        named = {item: key for key, item in index.ids.items() if item in several}
        ids = ", ".join(named[item] for item in several)
        raise ValueError(f"title must mean one item, got {name!r} for the ids {ids}: give an id.")
    known = {
        key: title
        for title, items in index.titles.items()
        for key in [folded(title)]
        if any(map(among, items))
    }
    raise KeyError(f"no item has the title or id {name!r}{suggestion(wanted, known, most=3)}")


def is_known(index: ItemIndex, name: str) -> bool:
    """True if an item, or several, have the title or id."""
    wanted = folded(name)
    # What is equal is equal when it is folded.
    return wanted in index.folded_titles or wanted in index.folded_ids


def split_names(index: ItemIndex, text: str) -> list[str]:
    """Splits names at commas, but for commas in a known title or id.

    Example:
        >>> index = index_of_items(["1", "2"], ["The Good, The Bad and The Ugly", "Fargo"])
        >>> split_names(index, "Fargo, the good, the bad and the ugly, Fagro")
        ['Fargo', 'the good, the bad and the ugly', 'Fagro']
    """
    parts = [part for part in text.split(",") if part.strip()]
    found, start = [], 0
    while start < len(parts):
        ends = range(len(parts), start, -1)
        joined = ((end, ",".join(parts[start:end]).strip()) for end in ends)
        known = ((end, name) for end, name in joined if is_known(index, name))
        start, name = next(known, (start + 1, parts[start].strip()))
        found.append(name)
    return found


def folded(title: str) -> str:
    """Normalises case, and accents of one code point or two."""
    title = title.strip()
    # The same for ASCII, and ten times as fast.
    return title.lower() if title.isascii() else unicodedata.normalize("NFKC", title).casefold()


def _places(names: Iterable[str]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    return places

"""Items with their texts, from any table."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metajax.data.readers import assembly
from metajax.data.readers.contents import content_of
from metajax.data.readers.frames import frame_of, polars_module, table_endings
from metajax.data.readers.trial import check_parquet
from metajax.data.reading import Reading
from metajax.fields import suggestion
from metajax.files import DataError
from metajax.knowledge.extraction.schema import is_plain

__all__ = ["MOST_CHARACTERS", "Text", "Texts", "read_texts"]

MOST_CHARACTERS = 20_000
"""Characters of a text that are read; the rest is left out, and counted."""

# Names of columns, as people write them, the likeliest first.
_TEXTS = "text description overview plot synopsis summary abstract about content"
_TITLES = "title movietitle name"


class Text(NamedTuple):
    """The text about one item."""

    item: str
    """The item's id."""
    text: str
    """In Unicode's composed form (NFC); spans count its characters."""
    title: str = ""
    """The item's title, for model and people."""


class Texts(NamedTuple):
    """The texts of a file."""

    texts: tuple[Text, ...]
    """In the order of the file, those that are empty left out."""
    notes: tuple[str, ...]
    """What was left out, one sentence each."""


def read_texts(
    path: str | Path,
    *,
    item_column: str | None = None,
    text_columns: Sequence[str] = (),
    title_column: str | None = None,
) -> Texts:
    """Reads items with texts from CSV, TSV, JSON lines or Parquet.

    Args:
        path: The file, perhaps compressed.
        item_column: Column of the item's id; by default one with a usual name, such as item_id.
        text_columns: Columns of text, joined by line ends; by default one with a usual name, such
            as description.
        title_column: Column of the title; by default one with a usual name, if there is one.

    Returns:
        The texts, and notes on what is left out.

    Raises:
        ImportError: If polars is not installed.
        DataError: If the file is missing or malformed, a column is missing, an id is empty or
            there twice, or no text is left; names file and line.
    """
    pl = polars_module()
    content = content_of(path)
    if content.kind not in table_endings:
        raise DataError(f"the name must end in one of {', '.join(table_endings)}.", file=path)
    check_parquet([content])
    given = [name for name in (item_column, *text_columns, title_column) if name]
    usual = {*_TEXTS.split(), *_TITLES.split()}

    def known(names: Sequence[str]) -> int:
        own = sum(name in given or _plain(name) in usual for name in names)
        return own + assembly.known_names(names)

    table = frame_of(content, Reading(header=True), known=known)
    names = table.frame.columns
    for name in given:
        if name not in names:
            end = suggestion(name, names, listed=True)
            raise DataError(f"no column {name!r}{end}", file=path)
    item = item_column or assembly.id_column(path, names, "item", None)
    texts = list(text_columns) or _usual(names, _TEXTS)[:1]
    if not texts:
        raise DataError(
            f"no column of texts: none is called {_TEXTS.replace(' ', ', ')}; found "
            f"{', '.join(map(repr, names))}.",
            file=path,
        )
    title = title_column or next(iter(_usual(names, _TITLES)), None)

    def column(name: str) -> list[str]:
        cast = table.frame[name].cast(pl.String, strict=False).fill_null("")
        return [unicodedata.normalize("NFC", field) for field in cast.to_list()]

    def wrong(row: int, name: str, message: str) -> DataError:
        place: Any = table.place(row)
        return DataError(message, column=name, **place)

    titles = column(title) if title is not None else [""] * table.frame.height
    bodies = ["\n".join(filter(None, parts)) for parts in zip(*map(column, texts), strict=True)]
    found, empty, cut = {}, 0, 0
    for row, (one, body, called) in enumerate(zip(column(item), bodies, titles, strict=True)):
        if not is_plain(one):
            raise wrong(row, item, "an id must be 1 to 200 characters without control characters.")
        if one in found:
            raise wrong(row, item, f"{one!r} is there twice; join its texts into one row.")
        empty += not body.strip()
        cut += len(body) > MOST_CHARACTERS
        found[one] = Text(one, body[:MOST_CHARACTERS], " ".join(called.split())[:200])
    left = tuple(text for text in found.values() if text.text.strip())
    if not left:
        raise DataError("no item has a text.", file=path)
    notes = [f"{empty} of {len(found)} items have no text"] if empty else []
    notes += [f"{cut} texts are cut to {MOST_CHARACTERS:,} characters"] if cut else []
    return Texts(left, tuple(notes))


def _usual(names: Sequence[str], words: str) -> list[str]:
    by_name = {_plain(name): name for name in reversed(names)}
    return [by_name[word] for word in words.split() if word in by_name]


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())

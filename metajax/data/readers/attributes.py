"""Attributes of users and of items from any table."""

import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from metajax.data.dataset import Kind, Table
from metajax.data.readers import assembly
from metajax.data.readers.contents import COMPRESSED, Content, content_of
from metajax.data.readers.decimals import pointed
from metajax.data.readers.frames import frame_of, polars_module, table_endings
from metajax.data.readers.text import DataError, is_missing
from metajax.data.readers.trial import check_parquet
from metajax.data.reading import Reading
from metajax.files import Option

if TYPE_CHECKING:
    import polars

__all__ = ["attributes_of", "beside"]

# Words in the name of a column that is for people to read.
_TEXTS = ("title", "name", "description", "url", "image", "plot", "summary", "author")
_CODES = ("id", "code", "zip", "zipcode", "postcode")

# A column with more distinct values than this share of its rows tells little about the next row.
_DISTINCT, _FEW = 0.5, 5


def beside(path: Path, stem: str) -> Content | None:
    """Finds a table of a name beside a file, such as items.csv; None where there is none."""
    for kind in table_endings:
        for packing in ("", *COMPRESSED):
            file = path.with_name(f"{stem}{kind}{packing}")
            # A pipe of that name is refused, and not passed over.
            if file.exists() and not file.is_dir() and file != path:
                return content_of(file)
    return None


def attributes_of(
    content: Content, role: str, column: str, ids: np.ndarray, reading: Reading
) -> tuple[Table, tuple[str, ...]]:
    """Reads the attributes of users or items, and tells their kinds from names and values.

    Numbers are numeric; lists, and texts with `|` between their words, tokens; texts that repeat
    categorical; others, and what is called a title or a name, text, which no method sees.

    Args:
        content: The file.
        role: user or item.
        column: The column of their ids in the log.
        ids: `[n]` their ids in the log, sorted.
        reading: Gives the encoding and the decimal mark.

    Returns:
        The table, of those in the file, and notes on columns that are not used.

    Raises:
        ImportError: If polars is not installed.
        DataError: If the file has no column of ids, describes one twice, or none of the log's, or
            numbers have commas that may be for decimals or not.
    """
    pl = polars_module()
    if content.kind not in table_endings:
        raise DataError(
            f"the name must end in one of {', '.join(table_endings)}.", file=content.name
        )

    check_parquet([content])

    def known(names: Sequence[str]) -> int:
        return sum(name == column for name in names) + assembly.known_names(names)

    table = frame_of(content, Reading(encoding=reading.encoding, header=True), known=known)
    frame = table.frame
    key = assembly.id_column(content.name, frame.columns, role, column)
    names = frame[key].cast(pl.String)
    bad = names.is_null() | (names.str.strip_chars() == "")
    if bad.any():
        row = int(np.argmax(bad.to_numpy()))
        raise DataError("an id must not be empty.", column=key, **table.place(row))  # pyrefly: ignore
    again = ~names.is_first_distinct()
    if again.any():
        row = int(np.argmax(again.to_numpy()))
        raise DataError(
            f"{names[row]!r} is described twice.",
            column=key,
            **table.place(row),  # pyrefly: ignore
        )
    if frame.height and not _any_in(np.array(names.to_list(), str), ids):
        raise DataError(
            f"no {role} of it is in the log: {names[0]!r} here, {str(ids[0])!r} there; is column "
            f"{key!r} the right one, and the file one for ",
            Option(f"{role}s"),
            "?",
            file=content.name,
        )
    others = [
        name for name in frame.columns if name != key and not (_is_text(name) or _is_code(name))
    ]
    table, of_marks = pointed(table, others, reading.decimal, among_words=False)
    columns: dict[str, np.ndarray] = {}
    kinds: dict[str, Kind] = {}
    for name in frame.columns:
        if name != key:
            kind, fields = _kind_of(table.frame[name], pl)
            columns[name], kinds[name] = np.array(fields, dtype=str), kind
    listed = ", ".join(f"{name} ({kind})" for name, kind in kinds.items()) or "none"
    file = Path(content.name).name
    notes = (f"{role} attributes from {file}: {listed}", *(f"{file}: {n}" for n in of_marks))
    return Table(np.array(names.to_list(), dtype=str), columns, kinds), notes


def _any_in(names: np.ndarray, ids: np.ndarray) -> bool:
    """True if one of some names is among sorted ids."""
    at = np.minimum(np.searchsorted(ids, names), len(ids) - 1)
    return bool((ids[at] == names).any())


def _kind_of(column: "polars.Series", pl: ModuleType) -> tuple[Kind, list[str]]:
    if column.dtype in (pl.List, pl.Array):
        rows = [one if one is not None else [] for one in column.to_list()]
        return "tokens", [
            " ".join(_token(word) for word in row if word is not None) for row in rows
        ]
    if column.dtype == pl.Boolean:
        return "categorical", _texts(column, pl)
    fields = _texts(column, pl)
    if _is_text(column.name):
        return "text", fields
    stated = [field for field in fields if not is_missing(field)]
    if stated and all(map(_is_finite, stated)) and not _is_code(column.name):
        return "numeric", ["" if is_missing(field) else field for field in fields]
    if column.dtype == pl.Struct:
        return "text", fields
    if any("|" in field for field in stated):
        return "tokens", [" ".join(map(_token, filter(None, f.split("|")))) for f in fields]
    if len(set(stated)) > max(_FEW, _DISTINCT * len(stated)):
        return "text", fields
    return "categorical", fields


def _is_text(name: str) -> bool:
    return any(word in _TEXTS for word in _words(name)) or name.lower().endswith(("title", "name"))


def _is_code(name: str) -> bool:
    return any(word in _CODES for word in _words(name))


def _words(name: str) -> list[str]:
    return re.split(r"[^a-z0-9]+", name.lower())


def _texts(column: "polars.Series", pl: ModuleType) -> list[str]:
    if column.dtype.is_nested():
        return ["" if one is None else str(one) for one in column.to_list()]
    texts = column.cast(pl.String, strict=False).fill_null("").to_list()
    # Not every word that may mean nothing: NA is Namibia.
    return ["" if text.strip().lower() in ("", "nan", "null") else text for text in texts]


def _token(word: object) -> str:
    # A genre of two words stays one token.
    return "_".join(str(word).split())


def _is_finite(field: str) -> bool:
    try:
        return "_" not in field and abs(float(field)) <= float(np.finfo(np.float32).max)
    except ValueError:
        return False

"""Slow readers in plain Python, which say what a file holds, or that it must be refused."""

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

__all__ = [
    "Refused",
    "Row",
    "Unsure",
    "delimited_log",
    "json_log",
    "n_triples",
    "pairs",
    "quoted_log",
    "triples",
]

_MISSING = ("", "nan", "na", "n/a", "<na>", "null", "none", "\\n")
_MOST = 3.4028234663852886e38


class Refused(Exception):  # noqa: N818
    """A file that no reader may accept."""


class Unsure(Refused):
    """A file that may be refused or not."""


class Row(NamedTuple):
    """An interaction."""

    user: str
    """Id of the user."""
    item: str
    """Id of the item."""
    rating: float
    """Its rating; 1 where there is none."""
    time: int
    """Its time; 0 where there is none."""


def quoted_log(
    data: bytes, separator: str, columns: Mapping[str, str], *, plain: bool = False
) -> list[Row]:
    """Reads delimited text with a header, in which quotes may hold separators and line ends.

    Args:
        data: The file.
        separator: One character.
        columns: Role to the column's name.
        plain: Of names count letters and digits only.

    Raises:
        Refused: If it is not such a text.
    """
    text = _text(data).rstrip("\r\n")
    if "\n" not in text:
        # In a file of lines that end so, a line break within quotes is one too.
        text = text.replace("\r", "\n")
    csv.field_size_limit(2**31 - 1)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        if "end of data" in str(error):
            raise Refused(error) from None
        # Letters behind a closing quote: a reader may refuse them, or take them for the field's.
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    if not rows:
        raise Refused("empty")
    header = rows[0]
    if plain:
        header = [re.sub("[^a-z0-9]", "", name.lower()) for name in header]
        columns = {role: name.lower() for role, name in columns.items()}
        if any(n not in header and n.removesuffix("id") in header for n in columns.values()):
            raise Unsure("another name of the column, which may be recognised")
        # A rating or time of another name is not used, and said to be so.
        columns = {
            role: name
            for role, name in columns.items()
            if role in ("user", "item") or name in header
        }
    return _log(header, rows[1:], columns)


def delimited_log(
    data: bytes,
    separator: str,
    columns: Mapping[str, str],
    *,
    header: Sequence[str] | None = None,
    encoding: str | None = "utf-8-sig",
    typed: bool = False,
) -> list[Row]:
    """Reads lines that a separator splits; a quote is a character.

    Args:
        data: The file.
        separator: One or more characters.
        columns: Role to the column's name.
        header: The names where the first line is none.
        encoding: Of the text; None: UTF-8, or UTF-16 with its mark.
        typed: Names are followed by a colon and a type.

    Raises:
        Refused: If it is not such a text.
    """
    rows = [line.removesuffix("\r").split(separator) for line in _lines(data, encoding)]
    if header is None:
        header, rows = rows[0], rows[1:]
    if typed:
        header = [name.rpartition(":")[0] for name in header]
    return _log(header, rows, columns)


def json_log(data: bytes, columns: Mapping[str, str]) -> list[Row]:
    """Reads JSON lines, or one array of objects."""
    text = _text(data)
    try:
        if text.lstrip().startswith("["):
            values = json.loads(text, object_pairs_hook=_object)
        else:
            lines = re.split(r"\n" if "\n" in text else r"\r", text)
            values = [json.loads(line, object_pairs_hook=_object) for line in lines if line.strip()]
    except (ValueError, RecursionError) as error:
        raise Refused(error) from None
    if not all(isinstance(value, dict) for value in values):
        raise Refused("not objects")
    names = list(dict.fromkeys(name for value in values for name in value))
    return _log(names, [[value.get(name) for name in names] for value in values], columns)


def triples(data: bytes, *, header: Sequence[str] | None) -> list[tuple[str, ...]]:
    """Reads triples of tab-separated names, without spaces around them and with plain ones inside.

    Args:
        data: The file.
        header: Names of the columns where the first line must have them; None: it is a triple.
    """
    lines = _lines(data, None if header is None else "utf-8-sig")
    rows = [tuple(line.rstrip("\r").split("\t")) for line in lines]
    if header is not None:
        named = [name.partition(":")[0] for name in rows[0]]
        places = [named.index(name) if name in named else -1 for name in header]
        if -1 in places or any(len(row) != len(named) for row in rows):
            raise Refused("no such columns")
        rows = [tuple(row[place] for place in places) for row in rows[1:]]
    elif len(rows[0]) == 1 and len(lines[0].split()) == 3:
        raise Unsure("blanks may separate the names")
    if any(len(row) != 3 or not all(name.strip() for name in row) for row in rows):
        raise Refused("no triple")
    return [tuple(" ".join(name.split()) for name in row) for row in rows]


def pairs(data: bytes, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Reads the two columns of a link file."""
    rows = [line.removesuffix("\r").split("\t") for line in _lines(data, "utf-8-sig")]
    named = [name.partition(":")[0] for name in rows[0]]
    if any(name not in named for name in columns) or any(len(r) != len(named) for r in rows):
        raise Refused("no such columns")
    return [tuple(row[named.index(name)] for name in columns) for row in rows[1:]]


_IRI = r"<((?:[^\x00-\x20<>\"{}|^`\\]|\\u[0-9A-Fa-f]{4}|\\U[0-9A-Fa-f]{8})*)>"
_BLANK = r"_:([A-Za-z0-9_\u00b7-\U000effff:](?:[A-Za-z0-9_.\-\u00b7-\U000effff:]*[^.\s<>\"])?)"
_LITERAL = rf'"((?:[^"\\\n\r]|\\.)*)"(?:\^\^{_IRI}|@([a-zA-Z]+(?:-[a-zA-Z0-9]+)*))?'
_STATEMENT = re.compile(
    rf"[ \t]*(?:{_IRI}|{_BLANK})[ \t]*{_IRI}[ \t]*(?:{_IRI}|{_BLANK}|{_LITERAL})"
    r"[ \t]*\.[ \t]*(?:#.*)?"
)


def n_triples(data: bytes) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """Reads N-Triples: triples of names, and entity, name and value of each literal.

    Raises:
        Refused: If a line is no statement of the grammar, RDF-star included.
    """
    found, attributes = [], []
    blanks: dict[str, str] = {}
    for content in re.split(rb"[\r\n]", data.removeprefix(b"\xef\xbb\xbf")):
        # Whatever a comment is made of.
        if not content.strip(b" \t") or content.lstrip(b" \t").startswith(b"#"):
            continue
        line = _decoded(content, "utf-8")
        match = _STATEMENT.fullmatch(line)
        if not match:
            raise Refused(line)
        subject, blank, relation, tail, tail_blank, literal, *_ = match.groups()
        names = []
        for iri, node in ((subject, blank), (tail, tail_blank)):
            if iri is not None:
                names.append(_name(_unescaped(iri)))
            elif node is not None:
                names.append(blanks.setdefault(node, f"_:b{len(blanks)}"))
        if literal is None:
            found.append((names[0], _name(_unescaped(relation)), names[1]))
        else:
            attributes.append((names[0], _name(_unescaped(relation)), _unescaped(literal)))
    return found, attributes


def _name(iri: str) -> str:
    from urllib.parse import unquote

    return unquote(iri[len("urn:metajax:") :]) if iri.startswith("urn:metajax:") else iri


_ESCAPES = {"t": "\t", "b": "\b", "n": "\n", "r": "\r", "f": "\f", '"': '"', "'": "'", "\\": "\\"}


def _unescaped(text: str) -> str:
    def written(match: re.Match[str]) -> str:
        code = match[1] or match[2]
        if code:
            number = int(code, 16)
            if 0xD800 <= number < 0xE000 or number > 0x10FFFF:
                raise Refused(text)
            return chr(number)
        if match[3] not in _ESCAPES:
            raise Refused(text)
        return _ESCAPES[match[3]]

    return re.sub(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.?))", written, text)


def _text(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = _decoded(data, "utf-16")
    else:
        text = _decoded(data, "utf-8-sig")
    if "\0" in text:
        raise Refused("NUL")
    return text


def _decoded(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeError as error:
        raise Refused(error) from None


def _lines(data: bytes, encoding: str | None) -> list[str]:
    text = _text(data) if encoding is None else _decoded(data, encoding)
    if encoding is None and "\n" not in text:
        text = text.replace("\r", "\n")
    if "\0" in text:
        raise Refused("NUL")
    text = text.rstrip("\r\n")
    if not text:
        raise Refused("empty")
    return text.split("\n")


def _log(header: Sequence[str], rows: Sequence[Sequence[Any]], columns: Mapping[str, str]):
    if len(set(header)) < len(header):
        raise Refused("a name twice")
    if any(name not in header for name in columns.values()):
        raise Refused("no such column")
    if any(len(row) != len(header) for row in rows):
        raise Refused("fields")
    at = {role: header.index(name) for role, name in columns.items()}
    rows = [row for row in rows if "rating" not in at or not _is_missing(row[at["rating"]])]
    if not rows:
        raise Refused("no row")
    found = []
    if "rating" in at:
        rows = _with_points(rows, at["rating"])
    times = _times([row[at["time"]] for row in rows]) if "time" in at else [0] * len(rows)
    for row, time in zip(rows, times, strict=True):
        rating = _number(row[at["rating"]]) if "rating" in at else 1.0
        found.append(Row(_id(row[at["user"]]), _id(row[at["item"]]), rating, time))
    newest: dict[tuple[str, str], Row] = {}
    for row in found:
        before = newest.get(row[:2])
        if before is None or row.time >= before.time:
            newest[row[:2]] = row
    # Only where all ratings are equal, and so say no more than who met what.
    if len(newest) < len(found) and len({row.rating for row in found}) > 1:
        raise Refused("a pair twice")
    return sorted(newest.values())


def _with_points(rows: Sequence[Sequence[Any]], at: int) -> Sequence[Sequence[Any]]:
    """Writes decimal commas of a column as points, where they can be nothing else."""
    fields = [row[at] for row in rows]
    if not all(isinstance(field, str) and "." not in field for field in fields):
        return rows
    if all(re.fullmatch(r"\s*[+-]?\d+(,\d{3})?\s*", f) for f in fields if "," in f):
        return rows
    return [[*row[:at], row[at].replace(",", "."), *row[at + 1 :]] for row in rows]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise Unsure("of two values of a name either may be taken")
    return dict(pairs)


def _is_missing(field: Any) -> bool:
    if isinstance(field, float) and math.isnan(field):
        return True
    return field is None or (isinstance(field, str) and field.strip().lower() in _MISSING)


def _id(field: Any) -> str:
    if isinstance(field, bool | dict | list | float):
        raise Unsure("where other ids are texts, it is one too, of a form that nobody fixed")
    if not isinstance(field, str | int) or not str(field).strip():
        raise Refused("no id")
    if "\0" in str(field):
        raise Refused("NUL")
    return str(field)


def _number(field: Any) -> float:
    if isinstance(field, bool):
        raise Unsure("true may be 1")
    if not isinstance(field, str | int | float):
        raise Refused(field)
    try:
        value = float(field)
    except (ValueError, OverflowError):
        raise Refused(field) from None
    if "_" in str(field) or not abs(value) <= _MOST:
        raise Refused(field)
    return value


def _times(fields: Sequence[Any]) -> list[int]:
    if all(isinstance(f, int) or (isinstance(f, str) and _is_whole(f)) for f in fields):
        numbers = [int(field) for field in fields]
    elif isinstance(fields[0], str) and not _is_number(fields[0]):
        numbers = [_seconds(field) for field in fields]
    else:
        numbers = [round(_number(field)) for field in fields]
    if any(not -(2**63) <= number < 2**63 for number in numbers):
        raise Refused("64 bits")
    return numbers


def _is_whole(field: str) -> bool:
    return bool(re.fullmatch(r"\s*[+-]?[0-9]+\s*", field)) and len(field) < 100


def _is_number(field: str) -> bool:
    try:
        return "_" not in field and not math.isnan(float(field))
    except ValueError:
        return False


def _seconds(field: Any) -> int:
    try:
        # Leading zeros may be blank or left out.
        field = re.sub(r"(?<=[-:T ]) ?([0-9])(?![0-9])", r"0\1", field.strip())
        date = datetime.fromisoformat(field)
    except (AttributeError, ValueError):
        raise Refused(field) from None
    return math.floor((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp())

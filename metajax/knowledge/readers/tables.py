"""Triples and links as delimited text: RecBole's `.kg` and `.link`, and plain TSV.

Reference: Zhao et al., "RecBole: Towards a unified, comprehensive and efficient framework for
recommendation algorithms", CIKM 2021, arXiv:2011.01731, section 3.2.
"""

from collections.abc import Sequence
from pathlib import Path

from metajax.data.readers import DataError
from metajax.data.readers.text import TextTable, delimited
from metajax.knowledge.readers.statements import Statements, file_bytes

__all__ = ["read_kg", "read_link", "read_tsv"]

_KG = ("head_id", "relation_id", "tail_id")
_LINK = ("item_id", "entity_id")
_TSV = ("head", "relation", "tail")


def read_kg(path: str | Path) -> Statements:
    """Reads the triples of a RecBole `.kg` file.

    Args:
        path: Tab separated, quoting off, with columns head_id, relation_id and tail_id.

    Returns:
        Its statements.

    Raises:
        DataError: If the file is missing or not as described; it names file, line and column.
    """
    return _statements(_atomic(path, _KG), _KG)


def read_link(path: str | Path) -> list[tuple[str, str]]:
    """Reads which entity each item is from a RecBole `.link` file.

    Args:
        path: Tab separated, quoting off, with columns item_id and entity_id.

    Returns:
        Item ids and names of entities.

    Raises:
        DataError: If the file is missing or not as described, or an item is linked twice.
    """
    table = _atomic(path, _LINK)
    _no_empty(table, _LINK)
    pairs = list(zip(*(table.columns[name] for name in _LINK), strict=True))
    seen: dict[str, int] = {}
    for (item, _), line in zip(pairs, table.lines, strict=True):
        if item in seen:
            raise DataError(
                f"{item!r} is linked twice, first in line {seen[item]}.",
                file=path,
                line=line,
                column="item_id",
            )
        seen[item] = line
    return pairs


def read_tsv(path: str | Path) -> Statements:
    """Reads triples from a file of three columns: head, relation, tail.

    Args:
        path: Tab separated, quoting off, UTF-8; a first line of just these three names is a
            header.

    Returns:
        Its statements.

    Raises:
        DataError: If the file is missing or not as described; it names file, line and column.
    """
    table = delimited(file_bytes(path), str(path), "\t", header=_TSV)
    statements = _statements(table, _TSV)
    if tuple(name.lower() for name in statements.triples[0]) != _TSV:
        return statements
    return statements._replace(triples=statements.triples[1:], lines=table.lines[1:])


def _atomic(path: str | Path, names: Sequence[str]) -> TextTable:
    table = delimited(file_bytes(path), str(path), "\t")
    columns = {header.partition(":")[0]: fields for header, fields in table.columns.items()}
    missing = [name for name in names if name not in columns]
    if missing:
        raise DataError(f"no column {missing[0]!r}; found {', '.join(columns)}.", file=path, line=1)
    return table._replace(columns=columns)


def _statements(table: TextTable, names: Sequence[str]) -> Statements:
    _no_empty(table, names)
    columns = [table.columns[name] for name in names]
    return Statements(table.file, list(zip(*columns, strict=True)), table.lines)


def _no_empty(table: TextTable, names: Sequence[str]) -> None:
    for name in names:
        for field, line in zip(table.columns[name], table.lines, strict=True):
            if not field.strip():
                raise DataError(
                    "a name must not be empty.", file=table.file, line=line, column=name
                )

"""What a file says, before it is a graph."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from metajax.data.readers import DataError

__all__ = ["Statements", "file_bytes", "repeated"]


class Statements(NamedTuple):
    """The statements of a file, in its order."""

    file: str
    """Where they came from, for errors."""
    triples: Sequence[tuple[str, str, str]]
    """Names of head, relation and tail."""
    lines: Sequence[int] | None
    """The line of each triple, from 1; None where the format does not tell."""
    attributes: Sequence[tuple[str, str, str, str]] = ()
    """Entity, name, value and kind of each literal."""


def file_bytes(path: str | Path) -> bytes:
    """Reads a file.

    Raises:
        DataError: If there is none.
    """
    if not Path(path).is_file():
        raise DataError("no such file.", file=path)
    return Path(path).read_bytes()


def repeated(statements: Sequence[tuple[str, str, str]]) -> list[int]:
    """Finds what is said again: places of all triples that stand further up as well.

    Example:
        >>> repeated([("a", "r", "b"), ("b", "r", "a"), ("a", "r", "b")])
        [2]
    """
    seen: Counter[tuple[str, str, str]] = Counter()
    found = []
    for n, triple in enumerate(statements):
        if seen[triple]:
            found.append(n)
        seen[triple] += 1
    return found

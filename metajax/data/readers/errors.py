"""What a reader says when a file is not what it should be."""

from pathlib import Path
from typing import TypedDict

__all__ = ["DataError", "Place"]


class Place(TypedDict, total=False):
    """Where a row lies: a line of a text file, or a row of a binary one, both from 1."""

    line: int
    row: int


class DataError(ValueError):
    """Names the file, the place and the rule that was broken, in one line.

    Lines are counted as an editor counts them: from 1, the header included.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | Path,
        line: int | None = None,
        column: str | int | None = None,
        row: int | None = None,
    ):
        place = [str(file)]
        if line is not None:
            place.append(f"line {line}")
        if row is not None:
            place.append(f"row {row}")
        if column is not None:
            place.append(f"column {column!r}")
        super().__init__(f"{', '.join(place)}: {message}")
        self.file, self.line, self.column, self.row = str(file), line, column, row

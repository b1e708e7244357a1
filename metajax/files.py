"""Reading files that people name: regular files only, bounded where a bound is known, strict UTF-8.

Opening a FIFO waits for a writer that may never come, and a device may never end. So whatever reads
a file that somebody names goes through one of these functions, or calls `check_file` before another
library opens it.
"""

import json
import os
import shlex
import stat
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

__all__ = [
    "DataError",
    "Option",
    "check_file",
    "decoded",
    "read_bytes",
    "read_json",
    "read_text",
    "read_toml",
]

# A settings file has a few dozen short lines; tomllib takes a time that is quadratic in the number
# of parts of a dotted key, which is on one line.
_TOML_BYTES, _TOML_LINE = 2**16, 2**12
_JSON_BYTES = 2**30
# No file of the package comes near; deeper ones exhaust the stack of whatever walks them.
_DEPTH = 32

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class Option(NamedTuple):
    """An option that a message recommends.

    Example:
        >>> option = Option("user_column", "who")
        >>> str(option), option.flag, Option("header", False).flag
        ("user_column='who'", '--user-column who', '--no-header')
    """

    name: str
    """Its name as an argument."""
    value: Any = None
    """The recommended value; None leaves it open."""

    def __str__(self):
        """Returns the option as an argument."""
        return f"{self.name}={'' if self.value is None else repr(self.value)}"

    @property
    def flag(self) -> str:
        """The option as on the command line."""
        flag = f"--{self.name.replace('_', '-')}"
        if isinstance(self.value, bool):
            return flag if self.value else f"--no-{flag[2:]}"
        values = self.value if isinstance(self.value, tuple) else [self.value]
        return flag + "".join(f" {shlex.quote(str(v))}" for v in values if v is not None)


class DataError(ValueError):
    """An invalid file: its name, the place and the broken rule, in one line.

    Lines are counted as an editor counts them: from 1, the header included. An option in the
    message is spelled as Python spells it; `on_command_line` spells it as a flag.
    """

    def __init__(
        self,
        *message: str | Option,
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
        self.place, self.message = ", ".join(place), message
        super().__init__(f"{self.place}: {''.join(map(str, message))}")
        self.file, self.line, self.column, self.row = str(file), line, column, row

    def on_command_line(self) -> str:
        """Returns the line with the flags of the command line in the place of arguments."""
        words = (part.flag if isinstance(part, Option) else part for part in self.message)
        return f"{self.place}: {''.join(words)}"


def check_file(path: str | Path, *, most: int | None = None) -> Path:
    """Refuses what is not a regular file; opens nothing.

    Args:
        path: The file; a symbolic link to one is accepted.
        most: Largest size, in bytes; None for any.

    Returns:
        The path.

    Raises:
        DataError: If there is no such file, it is a folder, a named pipe, a socket or a device, or
            it is larger.
        OSError: If the path cannot be looked up.
    """
    if not str(path) or "\0" in str(path):
        raise DataError("the name of a file must not be empty or hold NUL.", file=repr(str(path)))
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError("no such file.", file=path) from None
    _check(found, path, most)
    return Path(path)


def read_bytes(path: str | Path, *, most: int | None = None) -> bytes:
    """Reads a regular file whole.

    Args:
        path: As in `check_file`.
        most: As in `check_file`.

    Raises:
        DataError: As `check_file`.
        OSError: If the file cannot be read; it names the file.
    """
    check_file(path, most=most)
    # Without waiting, and checked once more: the file may have been replaced by a pipe meanwhile.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        _check(os.fstat(descriptor), path, most)
        try:
            content = file.read() if most is None else file.read(most + 1)
        except OSError as error:
            # What fails on an open file does not name it.
            raise OSError(error.errno, error.strerror, str(path)) from None
    if most is not None and len(content) > most:
        raise _too_large(path, most)
    return content


def read_text(path: str | Path, *, most: int | None = None) -> str:
    """Reads a regular file as UTF-8; a byte order mark is left out.

    Args:
        path: As in `check_file`.
        most: As in `check_file`.

    Raises:
        DataError: As `check_file`, or if a byte cannot be decoded; it names the line.
        OSError: If the file cannot be read.
    """
    return decoded(read_bytes(path, most=most), path)


def decoded(data: bytes, file: str | Path, encoding: str = "utf-8-sig") -> str:
    """Decodes the bytes of a file.

    Args:
        data: The bytes.
        file: The file's name, for the error.
        encoding: The encoding; "utf-8-sig" leaves a byte order mark out.

    Raises:
        DataError: If a byte cannot be decoded; it names the line.
    """
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        # Positions count from behind a byte order mark, as error.object does.
        read = error.object
        raise DataError(
            f"byte 0x{read[error.start]:02x} is not {encoding.removesuffix('-sig')} text.",
            file=file,
            line=read[: error.start].count(b"\n") + 1,
        ) from None


def read_json(path: str | Path) -> Any:
    """Reads a JSON file.

    Raises:
        DataError: As `read_text`, or if it is no JSON; it names the line.
        OSError: If the file cannot be read.
    """
    text = read_text(path, most=_JSON_BYTES)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"not JSON: {error.msg}.", file=path, line=error.lineno) from None
    except RecursionError:
        raise _too_deep(path) from None
    except ValueError as error:  # A whole number of thousands of digits.
        raise DataError(f"not JSON: {error}.", file=path) from None
    _check_depth(content, path)
    return content


def read_toml(path: str | Path) -> dict[str, Any]:
    """Reads a TOML file of settings, of 64 KiB and lines of 4,096 characters at most.

    Raises:
        DataError: As `read_text`, or if it is no TOML; it names line and column.
        OSError: If the file cannot be read.
    """
    text = read_text(path, most=_TOML_BYTES)
    long = [n for n, line in enumerate(text.split("\n"), 1) if len(line) > _TOML_LINE]
    if long:
        raise DataError(
            f"a line must have at most {_TOML_LINE:,} characters.", file=path, line=long[0]
        )
    try:
        content = tomllib.loads(text)
    except RecursionError:
        raise _too_deep(path) from None
    except ValueError as error:
        raise DataError(f"not TOML: {error}.", file=path) from None
    _check_depth(content, path)
    return content


def _check(found: os.stat_result, path: str | Path, most: int | None) -> None:
    for fits, kind in _KINDS:
        if fits(found.st_mode):
            raise DataError(f"{kind} is here; it must be a file.", file=path)
    if most is not None and found.st_size > most:
        raise _too_large(path, most)


def _too_large(path: str | Path, most: int) -> DataError:
    return DataError(f"must have at most {most:,} bytes.", file=path)


def _check_depth(content: Any, path: str | Path) -> None:
    level = [content]
    for _ in range(_DEPTH):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
    if level:
        raise _too_deep(path)


def _too_deep(path: str | Path) -> DataError:
    return DataError(f"must be nested at most {_DEPTH} deep.", file=path)

"""Files and folders that survive a crash: written whole, forced to the disk, and verified.

A file that is only renamed may be empty after a power failure, and one whose folder was not synced
may be gone. So a file is synced under another name, renamed, and its folder synced.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "Digest",
    "append",
    "check",
    "cut",
    "digest_of",
    "digest_of_file",
    "make_folder",
    "remove_leftovers",
    "sync",
    "write_file",
    "write_pieces",
]

_BLOCK = 2**20


class Digest(NamedTuple):
    """Size and hash of a file, or of its beginning."""

    size: int
    """Bytes."""
    sha256: str
    """Hash of these bytes, hexadecimal."""


def digest_of(content: str | bytes) -> Digest:
    """Returns size and hash of a file's content; text counts as UTF-8.

    Example:
        >>> digest_of("abc").sha256[:8]
        'ba7816bf'
    """
    held = content.encode() if isinstance(content, str) else content
    return Digest(len(held), hashlib.sha256(held).hexdigest())


def digest_of_file(path: Path) -> Digest:
    """Returns size and hash of a file, which it reads in blocks.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return Digest(file.tell(), digest.hexdigest())


def check(path: Path, expected: Digest, *, beginning: bool = False) -> None:
    """Compares a file with the digest of its content when it was written.

    Args:
        path: The file.
        expected: Its digest.
        beginning: True if lines may have been appended since.

    Raises:
        ValueError: If the file is missing or damaged; names it.
    """
    if not path.is_file():  # Opening a named pipe would wait.
        raise ValueError(f"{path}: is missing.")
    try:
        with path.open("rb") as file:
            size, digest = 0, hashlib.sha256()
            while piece := file.read(min(_BLOCK, expected.size - size)):
                digest.update(piece)
                size += len(piece)
            longer = not beginning and bool(file.read(1))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}.") from None
    if size < expected.size or longer:
        than = "longer" if longer else "shorter"
        raise ValueError(f"{path}: is damaged: it is {than} than what was written.")
    if digest.hexdigest() != expected.sha256:
        raise ValueError(f"{path}: is damaged: it is not what was written (sha256 differs).")


def write_file(path: Path, content: str | bytes) -> None:
    """Replaces a file in one step, so that neither a reader nor a power failure sees half of it.

    Args:
        path: The file; its folder exists.
        content: Text, written as UTF-8, or bytes.

    Raises:
        OSError: If it cannot be written; what was there before stays.
    """
    # Of this process alone: another one may be writing the same file.
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        write_pieces(unfinished, [content.encode() if isinstance(content, str) else content])
        os.replace(unfinished, path)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None
        raise
    sync(path.parent)


def write_pieces(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Writes a new file and forces it to the disk; its folder is left to the caller.

    Args:
        path: The file.
        pieces: Its bytes in order.

    Raises:
        OSError: If it cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    with _named(path, descriptor):
        waiting = bytearray()
        for piece in pieces:
            if len(waiting) + len(piece) <= _BLOCK:
                waiting += piece
                continue
            _write(descriptor, waiting)
            waiting.clear()
            _write(descriptor, piece)
        _write(descriptor, waiting)
        os.fsync(descriptor)


def append(path: Path, content: str | bytes | memoryview) -> None:
    """Appends text, or bytes, to a file, which `sync` forces to the disk.

    Raises:
        OSError: If it cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    with _named(path, descriptor):
        _write(descriptor, content.encode() if isinstance(content, str) else content)


def cut(path: Path, size: int) -> None:
    """Cuts a file off after some bytes.

    Raises:
        OSError: If it cannot be written.
    """
    if path.stat().st_size != size:
        os.truncate(path, size)
        sync(path)


def make_folder(path: Path) -> None:
    """Makes a folder and its parents, and forces their names to the disk.

    Args:
        path: The folder, which may exist.

    Raises:
        OSError: If it cannot be made.
    """
    missing, parent = [], path
    while not parent.is_dir():
        missing.append(parent)
        parent = parent.parent
    for folder in reversed(missing):
        try:
            os.mkdir(folder)
        except FileExistsError:
            # Made by another process meanwhile, or a file.
            if not folder.is_dir():
                raise
        sync(folder.parent)


def remove_leftovers(folder: Path) -> None:
    """Removes what killed processes left half written in a folder: its `*.tmp`.

    Raises:
        OSError: If they cannot be removed.
    """
    for path in folder.glob("*.tmp"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Forces a file, or the names in a folder, to the disk.

    Raises:
        OSError: If the disk refuses.
    """
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folders.
    descriptor = os.open(path, os.O_RDONLY)
    with _named(path, descriptor):
        os.fsync(descriptor)


@contextlib.contextmanager
def _named(path: Path, descriptor: int) -> Iterator[None]:
    """Closes a file in the end; errors get its name, which those of a descriptor lack."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(descriptor)


def _write(descriptor: int, content: bytes | bytearray | memoryview) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]

"""Contents of files, compressed files, folders and zip archives, by name."""

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from metajax.files import DataError, check_file, read_bytes

__all__ = [
    "COMPRESSED",
    "Content",
    "blocks_of",
    "content_of",
    "contents_of",
    "decompressed",
    "members_of",
]

COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
"""Endings of compressed files."""

# What a small archive may unpack to: more is an attack, or no file for memory.
_MOST_BYTES = 2**33

_BROKEN = (
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
    lzma.LZMAError,
    zipfile.BadZipFile,
    zlib.error,
)


# Lines of a zst file at a time.
_LINES = 1 << 18


class Content(NamedTuple):
    """A file, or a member of an archive."""

    name: str
    """Path, for errors."""
    kind: str
    """Ending of its name without that of compression, in lower case, such as `.csv`."""
    stem: str
    """Name without endings, in lower case."""
    read: Callable[[], bytes]
    """Returns its bytes, decompressed."""
    path: Path | None
    """The file, where it is one and not compressed."""


def content_of(path: str | Path) -> Content:
    """Returns the content of a file; nothing is read yet.

    Raises:
        DataError: If there is no such file, or it is no regular one.
    """
    file = check_file(path)
    kind, stem, packing = _endings(file.name)
    if not packing:
        return Content(str(path), kind, stem, lambda: read_bytes(file), file)
    return Content(str(path), kind, stem, lambda: decompressed(read_bytes(file), str(path)), None)


def contents_of(path: str | Path) -> list[Content]:
    """Returns the contents of a folder or a zip archive, sorted by name; nothing is read yet.

    Hidden files and folders inside a folder are left out.

    Raises:
        DataError: If the archive cannot be read, or a pipe or a device is in the folder.
    """
    place = Path(path)
    if place.is_dir():
        files = sorted(f for f in place.iterdir() if not f.name.startswith((".", "_")))
        return [content_of(file) for file in files if file.exists() and not file.is_dir()]
    return [
        Content(f"{path}/{name}", kind, stem, lambda name=name: _member(place, name), None)
        for name in members_of(place)
        for kind, stem, _ in [_endings(name.rpartition("/")[2])]
    ]


def members_of(path: Path) -> list[str]:
    """Returns the names of the files in a zip archive, sorted.

    Raises:
        DataError: If it is none.
    """
    check_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except _BROKEN as error:
        raise DataError(f"not a zip archive: {_line(error)}", file=path) from None
    return sorted(
        name
        for name in names
        if not name.endswith("/") and not name.rpartition("/")[2].startswith(".")
    )


def decompressed(data: bytes, name: str) -> bytes:
    """Decompresses what the ending of a name says is compressed.

    Args:
        data: The bytes.
        name: Name of the file.

    Raises:
        ImportError: If it is a zst file and polars is not installed.
        DataError: If it cannot be decompressed.
    """
    packing = _endings(Path(name).name)[2]
    try:
        if packing == ".gz":
            data = gzip.decompress(data)
        elif packing == ".bz2":
            data = bz2.decompress(data)
        elif packing == ".xz":
            data = lzma.decompress(data)
        elif packing == ".zst":
            data = _from_zstandard(data, name)
    except _BROKEN as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"cannot be decompressed: {_line(error)}", file=name) from None
    return data


def blocks_of(path: Path, size: int) -> Iterator[tuple[bytes, int]]:
    """Reads a file in blocks, decompressed if the ending of its name says that it is compressed.

    Args:
        path: The file.
        size: Bytes of a block; a compressed one may be larger.

    Yields:
        A block, and how many bytes of the file have been read.

    Raises:
        ImportError: If it is a zst file and polars is not installed.
        DataError: If it cannot be decompressed.
    """
    packing, whole = _endings(path.name)[2], check_file(path).stat().st_size
    if packing == ".zst":
        for block in _lines_of_zstandard(path):
            yield block, 0
        yield b"", whole
        return
    with open(path, "rb") as file:
        try:
            unpacked: Any = file
            if packing == ".gz":
                unpacked = gzip.GzipFile(fileobj=file)
            elif packing:
                unpacked = {".bz2": bz2.BZ2File, ".xz": lzma.LZMAFile}[packing](file)
            while block := unpacked.read(size):
                yield block, file.tell()
        except _BROKEN as error:
            if not packing:
                raise
            raise DataError(f"cannot be decompressed: {_line(error)}", file=path) from None


def _lines_of_zstandard(path: Path) -> Iterator[bytes]:
    import polars as pl

    with open(path, "rb") as file:
        if file.read(4) != b"\x28\xb5\x2f\xfd":
            raise DataError("cannot be decompressed: not a zst file.", file=path)
    lines = pl.scan_csv(
        path, has_header=False, separator="\0", quote_char=None, infer_schema=False, glob=False
    )
    try:
        for batch in lines.collect_batches(chunk_size=_LINES, maintain_order=True):
            if batch.width > 1:
                raise DataError("a NUL character is here; it must be text.", file=path)
            if batch.height:
                yield "\n".join(batch.to_series().fill_null("").to_list()).encode() + b"\n"
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"cannot be decompressed, or is not UTF-8 text: {_line(error)}", file=path
        ) from None


def _from_zstandard(data: bytes, name: str) -> bytes:
    # The standard library has it from Python 3.14 on; polars reads compressed lines.
    try:
        import polars as pl
    except ImportError:
        raise ImportError("reading .zst needs polars: pip install 'metajax[cli]'.") from None
    if not data.startswith(b"\x28\xb5\x2f\xfd"):
        raise DataError("cannot be decompressed: not a zst file.", file=name)
    try:
        lines = pl.read_csv(
            data, has_header=False, separator="\0", quote_char=None, infer_schema=False
        )
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"cannot be decompressed, or is not UTF-8 text: {_line(error)}", file=name
        ) from None
    if lines.width > 1:
        raise DataError("a NUL character is here; it must be text.", file=name)
    return "\n".join(lines.to_series().fill_null("").to_list()).encode() + b"\n"


def _member(path: Path, name: str) -> bytes:
    whole = f"{path}/{name}"
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(name).file_size > _MOST_BYTES:
                raise DataError(f"must unpack to at most {_MOST_BYTES:,} bytes.", file=whole)
            data = archive.read(name)
    except _BROKEN as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"cannot be unpacked: {_line(error)}", file=whole) from None
    return decompressed(data, whole)


def _endings(name: str) -> tuple[str, str, str]:
    """Returns kind, stem and ending of compression."""
    lower = name.lower()
    packing = next((ending for ending in COMPRESSED if lower.endswith(ending)), "")
    stem, dot, kind = lower.removesuffix(packing).rpartition(".")
    return (dot + kind, stem, packing) if stem else ("", kind, packing)


def _line(error: Exception) -> str:
    text = str(error.args[0] if isinstance(error, KeyError) else error)
    return (text.strip() or type(error).__name__).splitlines()[0].rstrip(".") + "."

"""Tables of any size in batches of bounded size: text and JSON by lines, Parquet by rows."""

import bisect
import codecs
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from metajax.data.readers.contents import Content, blocks_of
from metajax.data.readers.dialect import BLANKS, Dialect, dialect_of, utf8_of
from metajax.data.readers.frames import (
    Frame,
    frame_of_json,
    frame_of_text,
    json_endings,
    polars_module,
)
from metajax.data.readers.text import DataError, Place
from metajax.data.reading import Reading
from metajax.files import check_file

if TYPE_CHECKING:
    import polars

__all__ = ["BATCH_BYTES", "BATCH_ROWS", "Batch", "batches_of"]

BATCH_BYTES = 2**25
"""Bytes of text in a batch."""
BATCH_ROWS = 10**6
"""Rows of Parquet in a batch."""

# A row, or a quoted field with line breaks, that fills so many batches is no row.
_LONGEST = 4

# What the layout is told from.
_HEAD = 2**20

_WIDE = re.compile(r"utf[-_]?(16|32)", re.IGNORECASE)


class Batch(NamedTuple):
    """Some rows of a file."""

    frame: Callable[[], Frame]
    """Reads them; errors and places are those in the file."""
    done: int
    """Bytes of the file that lie behind them, or before them where it is not known."""


def batches_of(
    content: Content,
    reading: Reading,
    *,
    known: Callable[[Sequence[str]], int],
    given: Sequence[str | int | None] = (),
    numbers: Sequence[str | int | None] = (),
) -> Iterator[Batch]:
    """Reads a file in batches, as `frame_of` reads it whole.

    Args:
        content: A file, compressed or not, of one of `table_endings`.
        reading: Gives encoding, separator and header of text.
        known: As in `dialect_of`.
        given: As in `dialect_of`.
        numbers: As in `dialect_of`.

    Yields:
        The batches, in order; at least one.

    Raises:
        ImportError: If polars is not installed.
        DataError: If the file is not as its name says.
    """
    if content.kind == ".parquet":
        yield from _of_parquet(content)
        return
    blocks = _blocks(content, reading)
    first, read = next(blocks, (b"", 0))
    dialect: Dialect | None = None
    if content.kind in json_endings and len(first) >= BATCH_BYTES and first.lstrip()[:1] == b"[":
        raise DataError(
            f"a list of more than {BATCH_BYTES:,} bytes would be read whole; write an object a "
            "line.",
            file=content.name,
        )
    if content.kind not in json_endings:
        head = first[:_HEAD]
        dialect = dialect_of(
            utf8_of(head[: head.rfind(b"\n") + 1] or first, content.name, _encoding(reading)),
            content.name,
            content.kind,
            separator=reading.separator,
            header=reading.header,
            known=known,
            given=given,
            numbers=numbers,
        )
    before = 0
    for data, done in _pieces(content, itertools.chain([(first, read)], blocks), dialect):
        if data.strip() or not before:
            yield Batch(_frame_of(content, data, dialect, reading, before), done)
        before += data.count(b"\n")
        if dialect is not None:
            dialect = dialect._replace(has_header=False)


def _frame_of(
    content: Content, data: bytes, dialect: Dialect | None, reading: Reading, before: int
) -> Callable[[], Frame]:
    def read() -> Frame:
        try:
            text = utf8_of(data, content.name, _encoding(reading))
            if dialect is None:
                frame = frame_of_json(content.name, text)
            else:
                frame = frame_of_text(content.name, text, dialect)
        except DataError as error:
            raise DataError(
                *error.message,
                file=error.file,
                line=None if error.line is None else error.line + before,
                column=error.column,
                row=error.row,
            ) from None
        return frame._replace(place=_moved(frame.place, before))

    return read


def _moved(place: Callable[[int], Place], before: int) -> Callable[[int], Place]:
    def moved(row: int) -> Place:
        found = place(row)
        return {**found, "line": found["line"] + before} if "line" in found else found

    return moved


def _encoding(reading: Reading) -> str | None:
    """Returns the encoding of pieces: those of UTF-16 and UTF-32 are UTF-8 already."""
    wide = reading.encoding is not None and _WIDE.match(reading.encoding)
    return None if wide else reading.encoding


def _of_parquet(content: Content) -> Iterator[Batch]:
    pl = polars_module()
    if content.path is None:
        raise DataError("Parquet compresses by itself: unpack the file.", file=content.name)
    size, before = check_file(content.path).stat().st_size, 0
    try:
        rows = pl.scan_parquet(content.path, glob=False)
        total = rows.select(pl.len()).collect().item()
        for frame in rows.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
            if frame.height:
                yield Batch(_rows(content.name, frame, before), size * before // max(total, 1))
            before += frame.height
        if not before:
            yield Batch(_rows(content.name, rows.head(0).collect(), 0), size)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"not a Parquet file: {line}", file=content.name) from None


def _rows(file: str, frame: "polars.DataFrame", before: int) -> Callable[[], Frame]:
    return lambda: Frame(file, frame, lambda row: {"file": file, "row": before + row + 1})


def _blocks(content: Content, reading: Reading) -> Iterator[tuple[bytes, int]]:
    """Yields blocks of a file whose lines end with a line feed, in UTF-8 if they were in UTF-16."""
    decoder, returns, first = None, False, True
    # The path, for a compressed file has none of its own.
    for block, done in blocks_of(Path(content.name), BATCH_BYTES):
        if first:
            decoder = _decoder(block, reading)
        if decoder is not None:
            block = _decoded(decoder, block, content.name)
        if first:
            returns, first = b"\n" not in block and b"\r" in block, False
        yield block.replace(b"\r", b"\n") if returns else block, done
    if decoder is not None:
        _decoded(decoder, b"", content.name, final=True)


def _decoder(block: bytes, reading: Reading) -> codecs.IncrementalDecoder | None:
    encoding = reading.encoding
    if encoding is None and block.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    if encoding is None or not _WIDE.match(encoding):
        return None
    return codecs.getincrementaldecoder(encoding)()


def _decoded(
    decoder: codecs.IncrementalDecoder, block: bytes, file: str, *, final: bool = False
) -> bytes:
    try:
        return decoder.decode(block, final).encode()
    except UnicodeError as error:
        raise DataError(f"cannot be decoded: {error}.", file=file) from None


def _pieces(
    content: Content, blocks: Iterator[tuple[bytes, int]], dialect: Dialect | None
) -> Iterator[tuple[bytes, int]]:
    """Yields whole rows, and how many bytes of the file were read."""
    rest, done = bytearray(), 0
    for block, done in blocks:
        rest += block
        if len(rest) < BATCH_BYTES:
            continue
        end = _end(rest, dialect)
        if end:
            yield bytes(rest[:end]), done
            del rest[:end]
        elif len(rest) > _LONGEST * BATCH_BYTES:
            raise DataError(
                f"a row of more than {_LONGEST * BATCH_BYTES:,} bytes is here; is a quote not "
                "closed?",
                file=content.name,
            )
    yield bytes(rest), done


def _end(data: bytearray, dialect: Dialect | None) -> int:
    """Returns where the last whole row ends; 0 if there is none."""
    end = data.rfind(b"\n") + 1
    if dialect is None or len(dialect.separator) > 1 or dialect.separator == BLANKS:
        return end
    if b'"' not in data:
        return end
    # A quote is one only where a field begins, for it may be an inch; most are of short fields,
    # many of which are passed at once.
    ends = b"\\n\\r" + re.escape(dialect.separator.encode())
    short = b'"[^"\\n]*+"(?=[%b]|\\Z)' % ends
    field = re.compile(
        b'(?:^|(?<=[%b]))(?:%b(?:[%b]++%b)*+|(?P<long>"(?:[^"]|"")*+(?:"|\\Z)))'
        % (ends, short, ends, short)
    )
    spans = [found.span() for found in field.finditer(data) if found["long"] is not None]
    starts = [start for start, _ in spans]
    while end:
        at = bisect.bisect_right(starts, end - 1) - 1
        if at < 0 or spans[at][1] < end:
            return end
        end = data.rfind(b"\n", 0, spans[at][0]) + 1
    return 0

"""Damage to bytes and to texts, drawn from a generator."""

import random
from collections.abc import Callable

__all__ = ["damaged", "strange_text"]

# What parsers stumble over: marks, quotes, ends of lines, numbers, missing values.
_PIECES = (
    b"\0", b'"', b'""', b"'", b"\r", b"\n", b"\r\n", b"\t", b",", b";", b"|", b"::", b"\\", b"\\n",
    b"\xef\xbb\xbf", b"\xff\xfe", b"\xff", b"\xc3", b"\xc3\xa9", b"e\xcc\x81", b"\xe2\x80\xa8",
    b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x1a", b"\x1b[2J", b"\x85", b"\xc2\x85", b"\xc2\xa0",
    b" ", b"  ", b"nan", b"NaN", b"inf", b"-inf", b"1e999", b"1e-999", b"-0", b"1_0", b"0x10",
    b"1,5", b"\xd9\xa3", b"9" * 30, b"9" * 400, b"null", b"None", b"NA", b"true", b"[", b"{", b"}",
    b"]", b"[" * 2000, b"{" * 2000, b"#", b"<", b">", b"<<", b"@", b"^^", b"_:", b".", b"://",
    b"%00", b"\\u0000", b"\\ud800", b"=", b"==", b"$", b"user", b"rating", b"2020-01-01",
    b"01/02/2020", b"1970-01-01T00:00:00+99:99", b"0" * 70000,
)  # fmt: skip

_TEXTS = (
    "", " ", "a b", " a", "a ", "a,b", 'a"b', '"', '""', "a\nb", "a\r\nb", "a\rb", "a\tb", "a;b",
    "a|b", "a::b", "é", "e\u0301", "A", "a", "001", "1", "1.0", "-1", "NULL", "nan", "None", "\\N",
    "\u2028", "\u00a0", "\x85", "\ufeff", "日本語", "\U0001f600", "a" * 300, "x:y", "#a", "'", "\\",
    "true", "\x1b[31m", "\u202e", "0x1", "1e5", "=1+1", "a\u0000",
)  # fmt: skip


def strange_text(rng: random.Random) -> str:
    """Draws a text that some parser reads as something else."""
    return rng.choice(_TEXTS)


def damaged(rng: random.Random, data: bytes, *, most: int = 3) -> bytes:
    """Applies up to `most` kinds of damage to bytes, at least one."""
    for _ in range(rng.randint(1, most)):
        data = rng.choice(_DAMAGES)(rng, data)
    return data


def _at(rng: random.Random, data: bytes) -> int:
    return rng.randrange(len(data)) if data else 0


def _flip(rng: random.Random, data: bytes) -> bytes:
    if not data:
        return b"\x01"
    at = _at(rng, data)
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _insert(rng: random.Random, data: bytes) -> bytes:
    at = rng.choice((0, len(data), _at(rng, data)))
    return data[:at] + rng.choice(_PIECES) + data[at:]


def _replace(rng: random.Random, data: bytes) -> bytes:
    at, piece = _at(rng, data), rng.choice(_PIECES)
    return data[:at] + piece + data[at + len(piece) :]


def _cut(rng: random.Random, data: bytes) -> bytes:
    return data[: _at(rng, data)]


def _remove(rng: random.Random, data: bytes) -> bytes:
    start = _at(rng, data)
    return data[:start] + data[start + rng.randint(1, 40) :]


def _repeat(rng: random.Random, data: bytes) -> bytes:
    start = _at(rng, data)
    end = start + rng.randint(1, 80)
    return data[:end] + data[start:end] * rng.randint(1, 5) + data[end:]


def _swap_lines(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    one, other = _at(rng, data) % len(lines), _at(rng, data) % len(lines)
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def _repeat_line(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    return b"\n".join([*lines[:at], lines[at], *lines[at:]])


def _drop_line(rng: random.Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    del lines[rng.randrange(len(lines))]
    return b"\n".join(lines)


def _other_ends(rng: random.Random, data: bytes) -> bytes:
    return data.replace(b"\n", rng.choice((b"\r", b"\r\n", b"\n\n", b"\n\r")))


def _other_code(rng: random.Random, data: bytes) -> bytes:
    text = data.decode(errors="replace")
    code = rng.choice(("utf-16", "utf-16-le", "utf-8-sig", "cp1252", "utf-32"))
    return text.encode(code, errors="replace")


def _nothing(rng: random.Random, data: bytes) -> bytes:
    return rng.choice((b"", b"\n", b"\0", data[:1], b"\xef\xbb\xbf"))


_COMMON: list[Callable[[random.Random, bytes], bytes]] = [
    _flip, _insert, _replace, _remove, _repeat, _swap_lines, _repeat_line, _drop_line,
]  # fmt: skip
_DAMAGES = [*_COMMON, *_COMMON, *_COMMON, _cut, _other_ends, _other_code, _nothing]

"""Cases of interaction logs in every format, and of tables of users and items beside them."""

import bz2
import csv
import functools
import gzip
import io
import json
import lzma
import random
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from metajax import data
from metajax.cross_domain.overlap import read_overlap_list
from tests.fuzz import reference
from tests.fuzz.case import Case
from tests.fuzz.mutations import damaged, strange_text
from tests.fuzz.reference import Row

__all__ = ["log_case", "overlap_case"]

_COLUMNS = {"user": "user", "item": "item", "rating": "rating", "time": "time"}
_NAMED = {f"{role}_column": name for role, name in _COLUMNS.items()}
_PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": functools.partial(gzip.compress, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def log_case(rng: random.Random) -> Case:
    """Draws a log, a format, perhaps damage, and options."""
    # Parquet is read by another process first.
    kind = "parquet" if rng.random() < 0.015 else rng.choice(
        ("csv", "csv", "csv", "dat", "json", "json", "inter", "u.data", "ratings.dat", "movies",
         "options", "zip")
    )  # fmt: skip
    return _KINDS[kind](rng)


def overlap_case(rng: random.Random) -> Case:
    """Draws a list of the same users in two data sets."""
    ids = rng.sample(range(50), rng.randint(1, 8))
    separator = rng.choice(",\t")
    lines = [f"s{n}{separator}t{n}" if rng.random() < 0.9 else f"s{n}" for n in ids]
    content = "\n".join([*(["source,target"] if rng.random() < 0.3 else []), *lines]).encode()
    if rng.random() < 0.8:
        content = damaged(rng, content)
    return Case("overlap", {"list.csv": content}, lambda f: read_overlap_list(f / "list.csv"))


def _rows(rng: random.Random, *, plain: bool = False) -> list[tuple[Any, ...]]:
    users = [f"u{n}" for n in range(rng.randint(1, 4))] + ["001", "1"]
    items = [f"i{n}" for n in range(rng.randint(1, 4))] + ["7", "07"]
    if not plain and rng.random() < 0.5:
        users.append(strange_text(rng))
        items += [strange_text(rng), strange_text(rng)]
    pairs = sorted({(u, i) for u in users for i in items})
    pairs = rng.sample(pairs, rng.randint(1, min(12, len(pairs))))
    rating = rng.choice(
        (
            lambda: rng.randint(1, 5),
            lambda: rng.randint(1, 10) / 2,
            lambda: rng.choice((0.1, 1e10, -3, 16777217, 1e-8)),
        )
    )
    time = rng.choice(
        (
            lambda: rng.randint(0, 10**9),
            lambda: f"20{rng.randint(10, 30)}-01-0{rng.randint(1, 9)}T0{rng.randint(0, 9)}:00:00",
            lambda: rng.randint(0, 10**4) + 0.5,
        )
    )
    rows: list[tuple[Any, ...]] = [(user, item, rating(), time()) for user, item in pairs]
    if not plain and rng.random() < 0.15:
        row = list(rng.choice(rows))
        row[rng.randrange(4)] = strange_text(rng)
        rows[rng.randrange(len(rows))] = tuple(row)
    return rows


def _quoted(rows: Sequence[Sequence[Any]], separator: str, end: str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator, lineterminator=end)
    writer.writerows([list(_COLUMNS), *rows])
    return text.getvalue().encode(errors="surrogatepass")


def _read(folder: Path, name: str, **options: Any) -> list[Row]:
    log = data.load(folder / name if name else folder, **options).interactions
    users = log.user_ids[log.user].tolist()
    items = log.item_ids[log.item].tolist()
    rows = zip(users, items, log.rating.tolist(), log.time.tolist(), strict=True)
    return sorted(Row(*row) for row in rows)


def _rounded(rows: list[Row], digits: int = 6) -> list[Row]:
    """Ratings may be kept as float32."""
    return [row._replace(rating=float(f"{row.rating:.{digits}g}")) for row in rows]


def _case(
    target: str,
    name: str,
    content: bytes,
    expected: Callable[[], list[Row]] | None,
    options: dict[str, Any],
    files: dict[str, bytes | None] | None = None,
    *,
    folder: bool = False,
) -> Case:
    return Case(
        target,
        {name: content, **(files or {})},
        lambda place: _rounded(_read(place, "" if folder else name, **options)),
        None if expected is None else lambda: _rounded(expected()),
    )


def _csv(rng: random.Random) -> Case:
    separator = rng.choice((",", ",", "\t", ";", "|"))
    content = _quoted(_rows(rng), separator, rng.choice(("\n", "\n", "\r\n")))
    if rng.random() < 0.7:
        content = damaged(rng, content)
    name = "log" + rng.choice((".csv", ".tsv", ".txt", ".dat", ".data"))
    packing = rng.choice(("", "", "", *_PACKINGS))
    packed = _PACKINGS[packing](content) if packing else content
    if packing and rng.random() < 0.3:
        packed = damaged(rng, packed, most=1)
    expected = functools.partial(_unpacked, packing, packed, separator)
    given = {**_NAMED, "separator": separator, "header": True}
    return _case("csv", name + packing, packed, expected, given, _beside(rng))


def _unpacked(packing: str, packed: bytes, separator: str) -> list[Row]:
    unpack = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}.get(packing)
    try:
        content = unpack(packed) if unpack else packed
    except Exception as error:
        raise reference.Refused(error) from None
    return reference.quoted_log(content, separator, _COLUMNS)


def _beside(rng: random.Random) -> dict[str, bytes | None]:
    """Draws tables of users and items, or pipes in their places."""
    if rng.random() < 0.7:
        return {}
    if rng.random() < 0.1:
        return {rng.choice(("users.csv", "items.csv")): None}
    users = "user,age,town\nu0,30,é\nu1,,x\n001,4,y\n".encode()
    items = b'item,title,genres\ni0,A film,a|b\n7,"B, film",\n'
    return {"users.csv": damaged(rng, users), "items.csv": damaged(rng, items)}


def _dat(rng: random.Random) -> Case:
    rows = [[str(field) for field in row] for row in _rows(rng, plain=True)]
    content = "\n".join("::".join(row) for row in [list(_COLUMNS), *rows]).encode()
    if rng.random() < 0.8:
        content = damaged(rng, content)
    expected = functools.partial(reference.delimited_log, content, "::", _COLUMNS, encoding=None)
    given = {**_NAMED, "separator": "::", "header": True}
    return _case("dat", "log.dat", content, expected, given)


def _json(rng: random.Random) -> Case:
    rows = [dict(zip(_COLUMNS, row, strict=True)) for row in _rows(rng)]
    for row in rows:
        if rng.random() < 0.1:
            row[rng.choice(list(_COLUMNS))] = rng.choice(
                (None, 1, 2**53 + 1, 2**70, 1.5, True, [1], {"a": 1}, "a", "1", float("nan"))
            )
        if rng.random() < 0.05:
            del row[rng.choice(list(_COLUMNS))]
    if rng.random() < 0.3:
        content = json.dumps(rows).encode()
        name = "log.json"
    else:
        ascii_only = rng.random() < 0.5
        lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
        content = "\n".join(lines).encode(errors="surrogatepass")
        name = rng.choice(("log.jsonl", "log.ndjson"))
    if rng.random() < 0.5:
        content = damaged(rng, content)
    expected = functools.partial(reference.json_log, content, _COLUMNS)
    return _case("json", name, content, expected, _NAMED)


def _parquet(rng: random.Random) -> Case:
    rows = _rows(rng, plain=True)
    columns = dict(zip(_COLUMNS, zip(*rows, strict=True), strict=True))
    file = io.BytesIO()
    compression: Any = rng.choice(("uncompressed", "snappy", "zstd", "gzip"))
    pl.DataFrame(columns, strict=False).write_parquet(file, compression=compression)
    content = file.getvalue()
    if rng.random() < 0.8:
        content = damaged(rng, content, most=2)
        return _case("parquet", "log.parquet", content, None, _NAMED)
    text = [[str(field) for field in row] for row in rows]
    expected = functools.partial(reference.quoted_log, _quoted(text, ",", "\n"), ",", _COLUMNS)
    return _case("parquet", "log.parquet", content, expected, _NAMED)


_TYPED = {"user": "user_id", "item": "item_id", "rating": "rating", "time": "timestamp"}


def _inter(rng: random.Random) -> Case:
    rows = [[str(field) for field in row] for row in _rows(rng, plain=True)]
    rows = [[*row[:3], str(n)] for n, row in enumerate(rows)]
    head = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    content = "\n".join("\t".join(row) for row in [head, *rows]).encode()
    if rng.random() < 0.8:
        content = damaged(rng, content)
    more: dict[str, bytes | None] = {}
    if rng.random() < 0.3:
        user = b"user_id:token\tage:float\tjob:token\nu0\t30\tx\nu1\t\ty\n"
        item = "item_id:token\ttitle:token_seq\ttags:token_seq\ni0\tÀ b\tx y\n".encode()
        more = {"log.user": damaged(rng, user), "log.item": damaged(rng, item)}
        if rng.random() < 0.1:
            more["log.user"] = None
    expected = functools.partial(reference.delimited_log, content, "\t", _TYPED, typed=True)
    named = {"user_column": "user_id", "item_column": "item_id", "rating_column": "rating",
             "time_column": "timestamp"}  # fmt: skip
    return _case("inter", "log.inter", content, expected, named, more, folder=rng.random() < 0.5)


def _movielens(rng: random.Random, name: str, separator: str, files: dict[str, bytes]) -> Case:
    pairs = sorted({(rng.randint(1, 5), rng.randint(1, 5)) for _ in range(rng.randint(1, 12))})
    rows = [f"{u}{separator}{i}{separator}{rng.randint(1, 5)}{separator}{u * i}" for u, i in pairs]
    content = "\n".join(rows).encode()
    if rng.random() < 0.7:
        content = damaged(rng, content)
    more = {file: damaged(rng, text) for file, text in files.items() if rng.random() < 0.3}
    expected = functools.partial(
        reference.delimited_log, content, separator, _TYPED,
        header=list(_TYPED.values()), encoding="latin-1",
    )  # fmt: skip
    return _case("movielens", name, content, expected, {}, dict(more), folder=True)


_FLAGS = "|0" * 18
_U_FILES = {
    "u.user": b"1|24|M|technician|85711\n2|53|F|other|94043\n",
    "u.item": f"1|Toy Story (1995)|01-Jan-1995||http://x|0{_FLAGS}\n".encode(),
}
_DAT_FILES = {
    "users.dat": b"1::F::1::10::48067\n",
    "movies.dat": "1::Misérables, Les (1995)::Drama|War\n".encode("latin-1"),
}
_CSV_FILES = {"movies.csv": b'movieId,title,genres\n1,"Postino, Il (1994)",Drama|Romance\n'}


def _u_data(rng: random.Random) -> Case:
    return _movielens(rng, "u.data", "\t", _U_FILES)


def _ratings_dat(rng: random.Random) -> Case:
    return _movielens(rng, "ratings.dat", "::", _DAT_FILES)


def _movies(rng: random.Random) -> Case:
    names = {"user": "userId", "item": "movieId", "rating": "rating", "time": "timestamp"}
    rows = [f"{n % 3},{n},{rng.randint(1, 10) / 2},{n}" for n in range(rng.randint(1, 9))]
    content = "\n".join([",".join(names.values()), *rows]).encode()
    if rng.random() < 0.7:
        content = damaged(rng, content)
    movies = _CSV_FILES["movies.csv"]
    more: dict[str, bytes | None] = {"movies.csv": damaged(rng, movies)}
    if rng.random() < 0.5:
        more["movies.csv"] = movies
    expected = functools.partial(reference.quoted_log, content, ",", names, plain=True)
    return _case("movielens", "ratings.csv", content, expected, {}, more, folder=True)


def _zip(rng: random.Random) -> Case:
    """An archive of any content, damaged as a whole; its content must be whole or refused."""
    method = rng.choice(
        (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    )
    rows = [f"{n % 7}\t{n}\t{1 + n % 5}\t{n}" for n in range(rng.randint(1, 40))]
    content = "\n".join(rows).encode()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(rng.choice(("u.data", "ml/u.data")), content)
        if rng.random() < 0.3:
            archive.writestr("ml/u.user", _U_FILES["u.user"])
    packed = file.getvalue()
    if rng.random() < 0.85:
        packed = damaged(rng, packed, most=2)
    expected = functools.partial(
        reference.delimited_log, content, "\t", _TYPED, header=list(_TYPED.values())
    )
    return _case("zip", "log.zip", packed, expected, {})


def _options(rng: random.Random) -> Case:
    """Any options on any text: nothing is known of the result."""
    content = _quoted(_rows(rng), rng.choice(",;\t| :"), "\n")
    if rng.random() < 0.3:
        content = damaged(rng, content)
    choices: dict[str, tuple[Any, ...]] = {
        "user_column": ("user", 1, "1", 0, 99, "", "no", True, 2.5, "\0"),
        "item_column": ("item", 2, "2", "user"),
        "rating_column": ("rating", 3, "3", "time", -1),
        "time_column": ("time", 4, "4"),
        "ignore": (("rating",), ("no",), "rating", (1,)),
        "header": (True, False, None, "yes"),
        "separator": (",", ";", "tab", "\\t", "space", "", "ab", '"', "\n", "\0", "é", "\ud800", 3),
        "encoding": ("latin-1", "cp1252", "utf-16", "utf-7", "idna", "rot13", "hex", "undefined",
                     "unicode_escape", "punycode", "", "no", "utf-32", "\0", 3, "utf-8-sig"),
        "decimal": (",", ".", ";", "", 3),
        "duplicates": ("error", "newest", "mean", "sum", "max", "count", "last", 3),
        "drop": (("rating=0",), ("rating<3", "user=1"), ("no=1",), "rating=0", ("",), ("=",),
                 ("rating<x",), ("item!=7",), ("rating=nan",)),
        "scale": ((1.0, 5.0), (5.0, 1.0), (1.0, 1.0), (0.0, 1e300), (float("nan"), 1.0), "ab", 3,
                  (1.0,), (True, 2.0)),
        "relevant": (3, 4.0, float("nan"), float("inf"), -1e300, "x", True),
        "transform": ("none", "log1p", "exp", 3),
        "users": ("no.csv", "", 3, "/dev/null", "/"),
        "splits": ("own", "joined", "x"),
    }  # fmt: skip
    given = {
        name: rng.choice(choices[name]) for name in rng.sample(list(choices), rng.randint(1, 4))
    }
    name = "log" + rng.choice((".csv", ".tsv", ".txt", ".dat"))
    case = _case("options", name, content, None, given)
    return case._replace(
        named=lambda folder, text: any(
            name in text for name in (str(folder), *given, *map(str, given.values()))
        )
    )


_KINDS = {
    "csv": _csv,
    "dat": _dat,
    "json": _json,
    "parquet": _parquet,
    "inter": _inter,
    "u.data": _u_data,
    "ratings.dat": _ratings_dat,
    "movies": _movies,
    "options": _options,
    "zip": _zip,
}

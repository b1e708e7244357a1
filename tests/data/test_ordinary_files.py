"""Ordinary files, each a small copy of a kind that is in use: the rows expected, or the message."""

import bz2
import gzip
import json
import lzma
import zipfile
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from metajax.cross_domain import DomainPair, load_domains
from metajax.data import Reading, load
from metajax.data.cold_users import cold_users
from metajax.data.dataset import Dataset, fingerprint
from metajax.data.readers import DataError, read, read_memory
from metajax.data.warm_cold import warm_cold

# 001 rated b 4 at 20 and a 5 at 10; 1 rated a 1 at 30.
ROWS = [("001", "a", 5.0, 10), ("001", "b", 4.0, 20), ("1", "a", 1.0, 30)]
TIMELESS = [(user, item, rating, 0) for user, item, rating, _ in ROWS]
CSV = "user,item,rating,time\n001,b,4,20\n1,a,1,30\n001,a,5,10\n"
PLAIN = "001,b,4,20\n1,a,1,30\n001,a,5,10\n"
BY_PLACE = {"user_column": 1, "item_column": 2, "rating_column": 3, "time_column": 4}


def rows(dataset: Dataset) -> list[tuple[str, str, float, int]]:
    log = dataset.interactions
    columns = log.user_ids[log.user], log.item_ids[log.item], log.rating, log.time
    return list(zip(*(column.tolist() for column in columns), strict=True))


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def zst(text: str) -> bytes:
    """A zst file of one raw block, as RFC 8878 has it."""
    data = text.encode()
    frame = b"\x28\xb5\x2f\xfd" + bytes([0xA0]) + len(data).to_bytes(4, "little")
    return frame + (len(data) << 3 | 1).to_bytes(3, "little") + data


def as_json(*objects: dict) -> str:
    return "\n".join(map(json.dumps, objects)) + "\n"


FORMATS = {
    "semicolons": ("log.csv", CSV.replace(",", ";"), {}),
    "quoted semicolons": (
        "BX.csv",
        "".join('"' + line.replace(",", '";"') + '"\n' for line in CSV.splitlines()),
        {},
    ),
    "tabs in .csv": ("log.csv", CSV.replace(",", "\t"), {}),
    "tabs in .dat": ("user_artists.dat", CSV.replace(",", "\t"), {}),
    "pipes": ("log.txt", CSV.replace(",", "|"), {}),
    "double colons": ("log.dat", CSV.replace(",", "::"), {}),
    "double colons without header": ("x.dat", PLAIN.replace(",", "::"), BY_PLACE),
    "blanks": ("ratings.txt", PLAIN.replace(",", " "), BY_PLACE),
    "runs of blanks": ("ratings.txt", " " + PLAIN.replace(",", "   "), BY_PLACE),
    "a separator that is given": ("log.txt", CSV.replace(",", "^"), {"separator": "^"}),
    "a tab that is given": ("log.txt", CSV.replace(",", "\t"), {"separator": "tab"}),
    "places as text": ("log.csv", PLAIN, {name: str(n) for name, n in BY_PLACE.items()}),
    "places in another order": (
        "log.csv",
        "b,001,20,4\na,1,30,1\na,001,10,5\n",
        {"user_column": 2, "item_column": 1, "rating_column": 4, "time_column": 3},
    ),
    "places under a header": ("log.csv", "who,what,good,then\n" + PLAIN, BY_PLACE),
    "a header that is denied": ("log.csv", PLAIN, BY_PLACE | {"header": False}),
    "ids without numbers": (
        "log.csv",
        PLAIN.replace("001", "u1").replace("\n1,a", "\nu,a"),
        BY_PLACE,
    ),
    "UTF-16": ("log.csv", CSV.encode("utf-16"), {}),
    "UTF-16 without its mark": ("log.csv", CSV.encode("utf-16-le"), {"encoding": "utf-16-le"}),
    "a byte order mark": ("log.csv", b"\xef\xbb\xbf" + CSV.encode(), {"user_column": "user"}),
    "carriage returns alone": ("log.csv", CSV.replace("\n", "\r"), {}),
    "carriage returns and double colons": (
        "log.dat",
        CSV.replace("\n", "\r").replace(",", "::"),
        {},
    ),
    "one comma in every line, between semicolons": (
        "log.csv",
        CSV.replace(",", ";").replace("\n", ";well, good\n"),
        {},
    ),
    "gz": ("log.csv.gz", gzip.compress(CSV.encode(), mtime=0), {}),
    "bz2": ("log.tsv.bz2", bz2.compress(CSV.replace(",", "\t").encode()), {}),
    "xz": ("log.csv.xz", lzma.compress(CSV.encode()), {}),
    "zst": ("log.csv.zst", zst(CSV), {}),
    "JSON lines": (
        "reviews.jsonl",
        as_json(
            {"reviewerID": "001", "asin": "b", "overall": 4.0, "unixReviewTime": 20},
            {"reviewerID": "1", "asin": "a", "overall": 1.0, "unixReviewTime": 30},
            {"reviewerID": "001", "asin": "a", "overall": 5.0, "unixReviewTime": 10},
        ),
        {},
    ),
    "packed JSON lines": (
        "reviews.json.gz",
        gzip.compress(
            as_json(
                {"user_id": "001", "business_id": "b", "stars": 4, "date": "1970-01-01 00:00:20"},
                {"user_id": "1", "business_id": "a", "stars": 1, "date": "1970-01-01 00:00:30"},
                {"user_id": "001", "business_id": "a", "stars": 5, "date": "1970-01-01 00:00:10"},
            ).encode()
        ),
        {},
    ),
    "a JSON list": (
        "log.json",
        json.dumps(
            [
                {"user": "001", "item": "b", "rating": 4, "time": 20},
                {"user": "1", "item": "a", "rating": 1, "time": 30},
                {"user": "001", "item": "a", "rating": 5, "time": 10},
            ]
        ),
        {},
    ),
    "atomic files with other names": (
        "log.inter",
        "uid:token\tanime_id:token\tscore:float\tts:float\n001\tb\t4\t20\n1\ta\t1\t30\n001\ta\t5\t10\n",
        {},
    ),
    "atomic files with names that are given": (
        "log.inter",
        "who:token\twhat:token\tgood:float\tts:float\n001\tb\t4\t20\n1\ta\t1\t30\n001\ta\t5\t10\n",
        {"user_column": "who", "item_column": "what", "rating_column": "good"},
    ),
    "quotes in the middle of a field": (
        "log.csv",
        'user,item,rating,time,title\n001,b,4,20,the "b"\n1,a,1,30,"a"x\n001,a,5,10,a\n',
        {},
    ),
    "quotes behind backslashes": (
        "BX-Books.csv",
        CSV.replace(",", ";")
        .replace("\n", ';"\\"Pie-powder\\"; dust"\n')
        .replace("a;5", '"a";"5"'),
        {},
    ),
    "rows without a rating": ("log.csv", CSV + "2,a,,40\n2,b,NaN,40\n2,c,NULL,40\n", {}),
    "decimal commas": (
        "log.csv",
        CSV.replace(",", ";").replace(";5;", ";5,0;").replace(";1;", ";1,00;") + "2;a;0,5;40\n",
        {"drop": ("rating<1",)},
    ),
    "decimal commas in quotes": (
        "log.csv",
        CSV.replace(",5,", ',"5,0",') + "2,a,,40\n",
        {"scale": (1, 5)},
    ),
    "decimal commas under a header of other names": (
        "log.csv",
        "who;what;good;when\n001;b;4,0;20\n1;a;1,0;30\n001;a;5,0;10\n",
        BY_PLACE,
    ),
    "decimal commas without a header": (
        "log.csv",
        CSV.partition("\n")[2].replace(",", ";").replace(";4;", ";4,0;"),
        {"user_column": 1, "item_column": 2, "rating_column": 3, "time_column": 4},
    ),
    "rows that a rule drops": (
        "log.csv",
        CSV + "2,a,-1,40\n2,b,-1.0,4\n",
        {"drop": ("rating=-1",)},
    ),
    "rows that a rule of text drops": (
        "log.csv",
        CSV.replace("\n", ",NL\n").replace("time,NL", "time,land") + "2,a,x,4,DE\n",
        {"drop": ("land!=NL",)},
    ),
}


@pytest.mark.parametrize(("name", "content", "options"), FORMATS.values(), ids=list(FORMATS))
def test_an_ordinary_file_is_read(tmp_path, name, content, options):
    dataset = read(write(tmp_path / name, content), **options)
    expected = ROWS
    if "u1" in str(content):
        expected = [("u", "a", 1.0, 30), ("u1", "a", 5.0, 10), ("u1", "b", 4.0, 20)]
    assert rows(dataset) == expected
    assert dataset.scale == (1.0, 5.0)


REFUSED = {
    "bytes that are not UTF-8": (
        "log.csv",
        "user,item\n1,a\n1,é\n".encode("cp1252"),
        {},
        "line 3: byte 0xe9 is not utf-8 text; name the encoding, as in encoding='cp1252' or lat",
    ),
    "bytes that the encoding lacks": (
        "log.csv",
        b"user,item\n1,\x81\n",
        {"encoding": "cp1252"},
        "line 2: byte 0x81 is not cp1252 text.",
    ),
    "UTF-16 without its mark": (
        "log.csv",
        CSV.encode("utf-16-le"),
        {},
        "line 1: a NUL character is here; if it is text in UTF-16, give encoding='utf-16-le' or",
    ),
    "no header": (
        "ratings.csv",
        PLAIN,
        {},
        "line 1: no header is recognised ('001', 'b', '4', '20'); if there is none, give the "
        "columns by place, such as user_column=1 item_column=2 rating_column=3.",
    ),
    "perhaps a header": (
        "log.csv",
        "anna,beta\nbob,gamma\n",
        {"user_column": 1, "item_column": 2},
        "line 1: the first line may be a header or not ('anna', 'beta'); give header=True or "
        "header=False.",
    ),
    "a place beyond the last": (
        "log.csv",
        CSV,
        {"rating_column": 5},
        "no column 5; there are 4, 'u",
    ),
    "a column that looks like a rating": (
        "log.csv",
        "user_id,anime_id,feedback\n1,2,3\n",
        {},
        "log.csv: column 'feedback' looks like the rating, which is not recognised; use it with "
        "rating_column='feedback' or leave it out with ignore=('feedback',).",
    ),
    "a column that looks like a time": (
        "log.csv",
        "user,item,rating,when\n1,2,3,2020-01-01\n",
        {},
        "column 'when' looks like the time, which is not recognised; use it with time_column='wh",
    ),
    "a column to ignore that is not there": (
        "log.csv",
        CSV,
        {"ignore": ("weigth",)},
        "no column 'weigth' to ignore.",
    ),
    "a rule of no column": (
        "log.csv",
        CSV,
        {"drop": ("ratng=0",)},
        "no column 'ratng', of which drop= has a rule; did you mean 'rating'?",
    ),
    "a rule that drops all": (
        "log.csv",
        CSV,
        {"drop": ("rating>0",)},
        "log.csv: no row is left: 3 of 3 rows are dropped by rating>0.",
    ),
    "a pair twice": (
        "log.csv",
        CSV + "1,a,2,3\n",
        {},
        "line 5: user '1' and item 'a' are already in line 3 (1 repeated in all); "
        "duplicates='newest' keeps the newest, or take their mean, sum, max or count.",
    ),
    "a line of JSON that is none": (
        "log.jsonl",
        '{"user": 1, "item": 2}\n{"user": 1 "item": 3}\n',
        {},
        "log.jsonl, line 2: not JSON: Expecting ',' delimiter.",
    ),
    "a line of JSON without braces": (
        "log.jsonl",
        '{"user": 1}\n[1]\n',
        {},
        "line 2: must be an obj",
    ),
    "a gz that is none": (
        "log.csv.gz",
        CSV,
        {},
        "log.csv.gz: cannot be decompressed: Not a gzipped",
    ),
    "a gz that is cut": (
        "log.csv.gz",
        gzip.compress(CSV.encode(), mtime=0)[:-9],
        {},
        "log.csv.gz: cannot be decompressed: ",
    ),
    "a zst that is none": (
        "log.csv.zst",
        CSV,
        {},
        "log.csv.zst: cannot be decompressed: not a zst",
    ),
    "a short line behind a packed header": (
        "log.csv.gz",
        gzip.compress(b"user,item,x\n1,a,3\n1,b\n", mtime=0),
        {},
        "log.csv.gz, line 3: must have 3 fields (user, item, x), got 2.",
    ),
    "separators of thousands": (
        "log.csv",
        "user;item;rating\n1;a;500\n1;b;1,000\n",
        {},
        "line 3, column 'rating': commas, as in '1,000', may be for decimals or between thousands; "
        "if so, give decimal=',' or decimal='.'.",
    ),
    "millions": (
        "log.csv",
        "user;item;rating\n1;a;500\n1;b;1,000,000\n",
        {},
        "'1,000,000', may be between thousands; if so, give decimal='.'.",
    ),
    "decimal commas beside points": (
        "log.csv",
        "user;item;rating\n1;a;1.000\n1;b;2,5\n",
        {},
        "line 3, column 'rating': commas, as in '2,5', may be for decimals, and points between "
        "thousands; if so, give decimal=','.",
    ),
    "two decimal marks": (
        "log.csv",
        "user;item;rating\n1;a;1.5\n1;b;2,5\n",
        {},
        "line 3, column 'rating': '2,5' and '1.5' are not of one notation: write decimals with a",
    ),
    "a decimal comma where points are given": (
        "log.csv",
        "user;item;rating\n1;a;4\n1;b;2,5\n",
        {"decimal": "."},
        "line 3, column 'rating': must be a number with decimal='.', got '2,5'.",
    ),
    "a word among decimal commas": (
        "log.csv",
        "user;item;rating\n1;a;2,5\n1;b;good\n",
        {},
        "line 3, column 'rating': must be a finite number, got 'good'.",
    ),
    "a decimal mark of an atomic file": (
        "log.inter",
        "user_id:token\titem_id:token\trating:float\n1\ta\t2,5\n",
        {"decimal": ","},
        "decimal may be given for a table",
    ),
    "another decimal mark": ("log.csv", CSV, {"decimal": ";"}, "decimal must be"),
    "a decimal comma in an atomic file": (
        "log.inter",
        "user_id:token\titem_id:token\trating:float\n1\ta\t2,5\n",
        {},
        "line 2, column 'rating': must be a finite number, got '2,5': write decimals with a point",
    ),
    "decimal commas in a column that is not recognised": (
        "log.csv",
        "user;item;rate\n1;a;1,5\n1;b;2,5\n",
        {},
        "column 'rate' looks like the rating",
    ),
    "a line of too few double colons": (
        "x.dat",
        "1::a::3\n1::b\n",
        BY_PLACE | {"time_column": None, "separator": "::"},
        "x.dat, line 2: must have 3 fields, got 2.",
    ),
    "an unknown encoding": (
        "log.csv",
        CSV,
        {"encoding": "latin-one"},
        "encoding must be one that ",
    ),
    "an unknown option": (
        "log.csv",
        CSV,
        {"user": "user"},
        "unknown setting 'user'; did you mean 'use",
    ),
    "a rule that is none": ("log.csv", CSV, {"drop": ("rating",)}, "drop must read 'column=value'"),
    "a rule as a text": ("log.csv", CSV, {"drop": "rating=0"}, "drop must be a sequence of texts"),
    "a NUL as id": ("log.csv", "user,item\n1,\0\n", {}, "line 2: a NUL character is here"),
    "a mean where there are no ratings": (
        "log.csv",
        "user,item\n1,a\n1,a\n",
        {"duplicates": "mean"},
        "duplicates must not be 'mean' where a log has no ratings.",
    ),
}


@pytest.mark.parametrize(
    ("name", "content", "options", "words"), REFUSED.values(), ids=list(REFUSED)
)
def test_what_cannot_be_told_is_asked_in_one_line(tmp_path, name, content, options, words):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        read(write(tmp_path / name, content), **options)
    assert words in str(caught.value)


def test_decimal_commas_are_named(tmp_path):
    log = write(tmp_path / "log.csv", "user;item;rating\n1;a;4\n1;b;2,5\n")
    dataset = read(log)
    assert dataset.interactions.rating.tolist() == [4, 2.5]
    assert dataset.notes == ("column 'rating' has decimal commas: 2,5 is read as 2.5",)


@pytest.mark.parametrize(
    ("decimal", "fields", "numbers"),
    [
        (",", "1,000 20 3.000,5", [1, 20, 3000.5]),
        (".", "1,000 20 3,000.5", [1000, 20, 3000.5]),
        # Nothing else than decimal points.
        (",", "0.125 1.5", [0.125, 1.5]),
        (",", "0.125 2", [0.125, 2]),
        (".", "0.125 1.5", [0.125, 1.5]),
        (",", "1.234 1,5", [1234, 1.5]),
    ],
)
@pytest.mark.parametrize("table", ["ratings", "attributes"])
def test_a_decimal_mark_that_is_given_decides(tmp_path, table, decimal, fields, numbers):
    ids = "abc"[: len(numbers)]
    rows = zip(ids, fields.split(), strict=True)
    text = "user;item;rating\n" + "".join(f"1;{item};{field}\n" for item, field in rows)
    log = write(tmp_path / "log.csv", text)
    if table == "ratings":
        dataset = read(log, decimal=decimal)
        assert dataset.interactions.rating.tolist() == numbers
    else:
        write(tmp_path / "items.csv", text.replace("user;item;rating", "n;item;price"))
        write(log, "user;item\n" + "".join(f"1;{item}\n" for item in ids))
        dataset = read(log, decimal=decimal)
        assert dataset.items.kinds["price"] == "numeric"
        assert [float(price) for price in dataset.items.columns["price"]] == numbers
    said = [note for note in dataset.notes if "is read as" in note]
    assert bool(said) == ("," in fields)


def test_attributes_have_decimal_commas_as_ratings_have(tmp_path):
    log = write(tmp_path / "log.csv", "user;item;rating;time\n1;a;4;1,5\n1;b;2,5;2\n2;c;3;3\n")
    rows = ["item;price;list;place;code;title", "a;3,5;1,2;52.1,13.4;1,5;1,5", "b;NA;1,2,3;1;2;2"]
    items = write(tmp_path / "items.csv", "\n".join([*rows, "c;4;3;;2;3"]) + "\n")
    dataset = read(log)
    assert dataset.items.columns["price"].tolist() == ["3.5", "", "4"]
    # Lists, pairs, codes and titles are no numbers.
    columns = {name: dataset.items.columns[name].tolist()[0] for name in dataset.items.columns}
    assert columns == {"price": "3.5", "list": "1,2", "place": "52.1,13.4", "code": "1,5",
                       "title": "1,5"}  # fmt: skip
    assert {n for n, kind in dataset.items.kinds.items() if kind == "numeric"} == {"price"}
    assert "items.csv: column 'price' has decimal commas: 3,5 is read as 3.5" in dataset.notes
    assert dataset.interactions.time.tolist() == [2, 2, 3]
    write(items, "item;price\na;1,250\nb;7\n")
    with pytest.raises(
        DataError, match=r"items\.csv, line 2, column 'price': commas, as in '1,250'"
    ):
        read(log, items=str(items))
    assert read(log, decimal=",").items.columns["price"].tolist() == ["1.250", "7", ""]
    write(items, "item;price\na;7\nb;1.5\nc;2,5\n")
    with pytest.raises(DataError, match=r"items\.csv, line 4, column 'price': '2,5' and '1\.5'"):
        read(log, items=str(items))


def test_what_is_left_out_is_named(tmp_path):
    log = write(
        tmp_path / "log.csv",
        "user,item,rating,weight,age\n1,a,3,9,30\n1,b,,9,30\n1,b,0,9,30\n1,a,5,9,30\n2,a,,9,\n",
    )
    dataset = read(log, drop=["rating=0", "age>90"], duplicates="mean")
    assert rows(dataset) == [("1", "a", 4.0, 0)]
    assert dataset.notes == (
        "columns not used: 'weight', 'age'",
        "1 of 5 rows are dropped by rating=0",
        "0 of 5 rows are dropped by age>90",
        "2 of 5 rows have no rating and are skipped, from line 3 on",
        "1 of 2 rows repeat a pair of user and item: mean is taken",
    )
    # An error in a row behind those left out has the line that it has in the file.
    write(log, "user,item,rating\n1,a,\n1,b,0\n1,c,x\n")
    with pytest.raises(DataError, match="line 4, column 'rating'"):
        read(log, drop=["rating=0"])


@pytest.mark.parametrize(
    ("duplicates", "rating", "time"),
    [
        ("newest", 4.0, 9),
        ("mean", 2.0, 9),
        ("sum", 6.0, 9),
        ("max", 4.0, 9),
        ("count", 3.0, 9),
    ],
)
@pytest.mark.parametrize("kind", [".csv", ".inter"])
def test_repeated_pairs_become_one(tmp_path, duplicates, rating, time, kind):
    text = "user,item,rating,time\n1,a,1,5\n1,a,4,9\n2,b,1,1\n1,a,1,7\n"
    if kind == ".inter":
        text = text.replace("time\n", "time:float\n").replace("rating", "rating:float")
        text = text.replace("user,item", "user:token,item:token").replace(",", "\t")
    dataset = read(write(tmp_path / f"log{kind}", text), duplicates=duplicates)
    assert rows(dataset) == [("1", "a", rating, time), ("2", "b", 1.0, 1)]


def test_without_a_time_the_newest_is_the_last_line(tmp_path):
    log = write(tmp_path / "log.csv", "user,item,rating\n1,a,1\n1,a,4\n2,b,1\n1,a,3\n")
    assert rows(read(log, duplicates="newest")) == [("1", "a", 3.0, 0), ("2", "b", 1.0, 0)]
    # Of equal times too.
    log = write(tmp_path / "log.csv", "user,item,rating,time\n1,a,1,5\n1,a,4,5\n")
    assert rows(read(log, duplicates="newest")) == [("1", "a", 4.0, 5)]


def test_a_count_of_rows_is_a_strength(tmp_path):
    log = write(tmp_path / "log.csv", "user,item\n1,a\n1,a\n2,b\n")
    dataset = read(log, duplicates="count")
    assert rows(dataset) == [("1", "a", 2.0, 0), ("2", "b", 1.0, 0)]
    assert dataset.scale is None


@pytest.mark.parametrize("form", ["folder", "zip", "folder in a zip"])
def test_a_log_comes_with_tables_of_users_and_items(tmp_path, form):
    files = {
        "ratings.csv": CSV,
        "users.csv": "user;age;job\n1;30;cook\n001;;\n7;40;maid\n",
        "items.csv": 'item,title,genres,year\nb,"Rock, The",Sci-Fi|Film Noir,1996\na,A,,\n',
    }
    folder = tmp_path / "data"
    folder.mkdir()
    if form == "folder":
        for name, text in files.items():
            write(folder / name, text)
        path = folder
    else:
        path = folder / "data.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in files.items():
                archive.writestr(name if form == "zip" else f"data/{name}", text)
            archive.writestr("__MACOSX/._ratings.csv", b"\0")
    dataset = read(path)
    assert rows(dataset) == ROWS
    assert dataset.users.kinds == {"age": "numeric", "job": "categorical"}
    assert dict(zip(dataset.users.ids, dataset.users.columns["age"], strict=True)) == {
        "001": "",
        "1": "30",
        "7": "40",
    }
    assert dataset.items.kinds == {"title": "text", "genres": "tokens", "year": "numeric"}
    assert dataset.items.columns["genres"].tolist() == ["", "Sci-Fi Film_Noir"]
    assert dataset.items.columns["title"].tolist() == ["A", "Rock, The"]
    assert "user attributes from users.csv: age (numeric), job (categorical)" in dataset.notes


def test_tables_can_be_named_and_found_beside_a_file(tmp_path):
    log = write(tmp_path / "log.csv", CSV)
    pl.DataFrame({"item": ["a", "b"], "tags": [["x", "y z"], []], "n": [1, None]}).write_parquet(
        tmp_path / "items.parquet"
    )
    people = write(tmp_path / "people.jsonl", as_json({"id": "001", "sex": "f"}, {"id": "1"}))
    dataset = read(log, users=str(people))
    assert dataset.items.columns["tags"].tolist() == ["x y_z", ""]
    assert dataset.items.columns["n"].tolist() == ["1", ""]
    assert dataset.users.columns["sex"].tolist() == ["f", ""]
    # Texts that hardly repeat tell nothing of the next item, whatever their column is called.
    lines = [f"{item},Film {item},{'AB'[n % 2]},{n:05}" for n, item in enumerate("abcdefgh")]
    write(tmp_path / "films.csv", "\n".join(["item,Titel,maker,zip code", *lines]) + "\n")
    kinds = read(log, items=str(tmp_path / "films.csv")).items.kinds
    assert kinds == {"Titel": "text", "maker": "categorical", "zip code": "text"}
    # One that is found and does not fit is named; one that is given must fit.
    write(tmp_path / "users.csv", "name,age\nx,3\n")
    assert any("users.csv beside the log is not used" in note for note in read(log).notes)
    with pytest.raises(DataError, match="no column of user ids"):
        read(log, users=str(tmp_path / "users.csv"))
    write(tmp_path / "users.csv", "user,age\nx,3\n")
    with pytest.raises(DataError, match="no user of it is in the log: 'x' here, '001' there"):
        read(log, users=str(tmp_path / "users.csv"))
    write(tmp_path / "users.csv", "user,age\n1,3\n1,4\n")
    with pytest.raises(
        DataError, match=r"users\.csv, line 3, column 'user': '1' is described twice"
    ):
        read(log, users=str(tmp_path / "users.csv"))


def test_parquet_parts_are_one_table(tmp_path):
    folder = tmp_path / "log.parquet"
    (folder / "year=1970").mkdir(parents=True)
    columns = {"user": ["001", "1"], "item": ["b", "a"], "rating": [4, 1], "time": [20, 30]}
    pl.DataFrame(columns).write_parquet(folder / "part-0.parquet")
    rest = {"user": ["001"], "item": ["a"], "rating": [5], "time": [10]}
    pl.DataFrame(rest).write_parquet(folder / "year=1970" / "part-1.parquet")
    write(folder / "_SUCCESS", "")
    assert rows(read(folder)) == ROWS
    pl.DataFrame(rest | {"rating": [None]}).write_parquet(folder / "year=1970" / "part-1.parquet")
    assert "1 of 3 rows have no rating and are skipped, from row 1 on" in read(folder).notes
    pl.DataFrame({"user": ["1"]}).write_parquet(folder / "year=1970" / "part-1.parquet")
    with pytest.raises(DataError, match=r"part-1\.parquet: must have the columns of"):
        read(folder)


def test_the_parts_of_a_split_are_kept(tmp_path):
    for name, user in (("train", "u"), ("valid", "v"), ("test", "w")):
        write(tmp_path / f"{name}.csv", f"user,item,rating\n{user}1,a,3\n{user}2,b,4\n")
    dataset = read(tmp_path)
    assert dataset.parts is not None
    assert dict(zip(dataset.users.ids, dataset.parts.tolist(), strict=True)) == {
        "u1": 0, "u2": 0, "v1": 1, "v2": 1, "w1": 2, "w2": 2,
    }  # fmt: skip
    # A row that is left out takes its part along.
    write(tmp_path / "train.csv", "user,item,rating\nu1,a,\nu1,c,3\nu2,b,4\n")
    assert read(tmp_path).parts.tolist() == [0, 0, 1, 1, 2, 2]  # pyrefly: ignore
    write(tmp_path / "train.csv", "user,item,rating\nu1,a,3\nu2,b,4\n")
    write(tmp_path / "test.csv", "user,item,rating\nu2,a,3\nw2,b,4\n")
    with pytest.raises(DataError, match=r"train\.csv, line 3: user 'u2' is in another .*joined"):
        read(tmp_path)
    joined = read(tmp_path, splits="joined")
    assert (len(joined.interactions.item), joined.parts) == (6, None)


def test_new_users_are_those_of_the_test_file(tmp_path):
    for name, users in (("train", range(8)), ("test", range(8, 10))):
        lines = [f"u{u},i{i},{1 + (u + i) % 5}" for u in users for i in range(4)]
        write(tmp_path / f"{name}.csv", "\n".join(["user,item,rating", *lines]) + "\n")
    dataset = read(tmp_path)
    split = cold_users(dataset)
    assert split.fold.test.tolist() == [8, 9]
    assert sorted([*split.fold.train, *split.fold.validation]) == list(range(8))
    assert len(split.fold.validation) == 1
    with pytest.raises(ValueError, match="fold must be 0 where the data come with their own split"):
        cold_users(dataset, fold=1)
    with pytest.raises(ValueError, match=r"warm and cold users are drawn, .*\(--splits joined\)"):
        warm_cold(dataset)
    with pytest.raises(DataError, match=r"a transfer splits users itself, .* splits='joined'"):
        load_domains(DomainPair(source=str(tmp_path), target=str(tmp_path)), {})
    joined = read(tmp_path, splits="joined")
    assert fingerprint(joined)["sha256"] != fingerprint(dataset)["sha256"]


def test_the_parts_of_atomic_files_are_kept(tmp_path):
    header = "user_id:token\titem_id:token\trating:float\n"
    for name, user in (("train", "u"), ("valid", "v"), ("test", "w")):
        write(tmp_path / f"x.{name}.inter", header + f"{user}\ta\t3\n")
    write(tmp_path / "x.user", "user_id:token\tage:float\nu\t3\n")
    dataset = read(tmp_path)
    assert dataset.parts is not None
    assert dataset.parts.tolist() == [0, 1, 2]
    assert dataset.users.columns["age"].tolist() == ["3", "", ""]


class Pandas:
    """The part of a pandas frame that is used: columns of NumPy arrays."""

    class Column:
        def __init__(self, values):
            self.to_numpy = lambda: np.asarray(values, dtype=object)

    def __init__(self, columns):
        self.columns = list(columns)
        self.iloc = self
        self.values = list(columns.values())

    def __getitem__(self, key):
        return self.Column(self.values[key[1]])


TIMES = [datetime(1970, 1, 1, 0, 0, second) for second in (20, 30, 10)]
COLUMNS = {
    "user": ["001", "1", "001"],
    "item": ["b", "a", "a"],
    "rating": [4.0, 1.0, 5.0],
    "time": [20, 30, 10],
}


@pytest.mark.parametrize(
    "table",
    [
        COLUMNS,
        pl.DataFrame(COLUMNS),
        pl.DataFrame(COLUMNS).lazy(),
        Pandas(COLUMNS),
        Pandas(COLUMNS | {"time": TIMES}),
        {name: np.array(column) for name, column in COLUMNS.items()},
        np.array([("001", "b", 4, 20), ("1", "a", 1, 30), ("001", "a", 5, 10)]),
        np.array(
            [("001", "b", 4, 20), ("1", "a", 1, 30), ("001", "a", 5, 10)],
            dtype=[("user", "U3"), ("item", "U1"), ("rating", "f4"), ("time", "i8")],
        ),
    ],
    ids=["mapping", "polars", "lazy", "pandas", "dates", "arrays", "array", "records"],
)
def test_a_table_in_memory_is_read(table):
    dataset = load(table)
    assert rows(dataset) == ROWS
    assert dataset.name == "memory"


def test_numbers_in_memory_become_ids():
    columns = {"user": [7.0, 8.0], "item": [10, 10], "rating": [3, 4]}
    assert rows(load(columns)) == [("7", "10", 3.0, 0), ("8", "10", 4.0, 0)]
    dataset = read_memory(np.array([[7, 10, 3], [8, 10, 4]]))
    assert rows(dataset) == [("7", "10", 3.0, 0), ("8", "10", 4.0, 0)]
    with pytest.raises(DataError, match="row 2, column 'item': ids must be strings or whole numb"):
        load({"user": [1, 2], "item": [1, np.nan]})
    with pytest.raises(DataError, match="the dict, row 2, column 'item': an id must not be empty"):
        load({"user": [1, 2], "item": ["a", None]})
    with pytest.raises(TypeError, match=r"data must be a name, a path, a frame, .* got int"):
        load(3)
    with pytest.raises(
        ValueError, match=r"columns must be of one length, got \{'user': 1, 'item': 2"
    ):
        load({"user": [1], "item": [1, 2]})


def test_options_are_those_of_every_reader():
    assert Reading().reading() == {}
    assert Reading(drop=("rating=0",), header=False).reading() == {
        "header": False,
        "drop": ("rating=0",),
    }

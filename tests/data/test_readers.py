import zipfile
from pathlib import Path

import numpy as np
import pytest

from metajax.data.dataset import Dataset, Table
from metajax.data.inspection import problems
from metajax.data.readers import DataError, read, read_atomic, read_movielens, read_table

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"


def _write(folder: Path, **files: str | bytes) -> Path:
    """Writes files whose names have `__` for a dot."""
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        (folder / name.replace("__", ".")).write_bytes(data)
    return folder


def _rows(dataset: Dataset) -> list[tuple[str, str, float, int]]:
    log = dataset.interactions
    users = np.repeat(log.user_ids, log.user_counts).tolist()
    items = log.item_ids[log.item].tolist()
    return list(zip(users, items, log.rating.tolist(), log.time.tolist(), strict=True))


def _column(table: Table, name: str) -> dict[str, str]:
    return dict(zip(table.ids.tolist(), table.columns[name].tolist(), strict=True))


# One log in every format: 001 rated b 4 at 20 and a 5 at 10; 1 rated a 1 at 30.
ROWS = [("001", "a", 5.0, 10), ("001", "b", 4.0, 20), ("1", "a", 1.0, 30)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.inter", INTER + "001\tb\t4\t20.2\n1\ta\t1\t30\n001\ta\t5\t10\n"),
        ("log.csv", "userId,movieId,rating,timestamp\n001,b,4,20\n1,a,1,30.4\n001,a,5.0,9.6\n"),
        ("log.csv", 'user,item,stars,time\r\n"001",b, 4 ,20\r\n1,a,1,30\r\n001,a,5,10\r\n\r\n'),
        ("log.csv", "\ufeffextra,item_id,user_id,rating,ts\n,b,001,4,20\n,a,1,1,30\n,a,001,5,10"),
        (
            "log.tsv",
            "User ID\tProduct\tScore\tDate\n001\tb\t4\t1970-01-01 00:00:20\n"
            "1\ta\t1\t1970-01-01 00:00:30\n001\ta\t5\t1970-01-01 00:00:10.9\n",
        ),
        ("u.data", "001\tb\t4\t20\n1\ta\t1\t30\n001\ta\t5\t10\n"),
        ("ratings.dat", "001::b::4::20\n1::a::1::30\n001::a::5::10\n"),
    ],
)
def test_one_log_reads_the_same_in_every_format(tmp_path, name, content):
    (tmp_path / name).write_bytes(content.encode())
    path = tmp_path if name in ("u.data", "ratings.dat") else tmp_path / name
    dataset = read(path)
    assert _rows(dataset) == ROWS
    assert dataset.scale == (1.0, 5.0)
    assert dataset.name == str(path)


def test_parquet_keeps_ids_and_turns_dates_into_seconds(tmp_path):
    polars = pytest.importorskip("polars")
    from datetime import datetime

    path = tmp_path / "log.parquet"
    polars.DataFrame(
        {
            "user": [2, 1],
            "item": ["a", "007"],
            "rating": [1.0, 2.0],
            "time": [datetime(1970, 1, 1, 0, 1), datetime(1970, 1, 2)],
        }
    ).write_parquet(path)
    assert _rows(read(path)) == [("1", "007", 2.0, 86400), ("2", "a", 1.0, 60)]


def test_dates_with_an_offset_are_read_as_utc(tmp_path):
    _write(tmp_path, log__csv="user,item,time\n1,a,1970-01-01T02:00:00+02:00\n")
    assert _rows(read(tmp_path))[0][3] == 0


def test_a_log_without_ratings_is_implicit(tmp_path):
    _write(tmp_path, log__csv="user,item\n1,b\n1,a\n")
    dataset = read(tmp_path)
    assert _rows(dataset) == [("1", "a", 1.0, 0), ("1", "b", 1.0, 0)]
    assert dataset.scale is None
    with pytest.raises(ValueError, match="no ratings"):
        read(tmp_path, scale=(1, 5))


def test_columns_can_be_named(tmp_path):
    _write(tmp_path, log__csv="who,what,liked,at\n1,a,3,7\n")
    dataset = read(
        tmp_path, user_column="who", item_column="what", rating_column="liked", time_column="at"
    )
    assert _rows(dataset) == [("1", "a", 3.0, 7)]


def test_the_newest_of_repeated_lines_can_be_kept(tmp_path):
    _write(tmp_path, log__inter=INTER + "1\ta\t1\t5\n1\tb\t2\t6\n1\ta\t3\t4\n")
    assert _rows(read(tmp_path, duplicates="newest")) == [("1", "a", 1.0, 5), ("1", "b", 2.0, 6)]


def test_atomic_kinds_follow_the_header(tmp_path):
    _write(
        tmp_path,
        log__inter=INTER + "1\ta\t1\t5\n",
        log__user="user_id:token\tage:float\tjob:token\n2\t30\tcook\n1\tnan\t\n",
        log__item='item_id:token\ttags:token_seq\tmovie_title:token_seq\n"\tx y\tThe "One"\n',
    )
    dataset = read(tmp_path)
    assert dataset.users.kinds == {"age": "numeric", "job": "categorical"}
    assert dataset.items.kinds == {"tags": "tokens", "movie_title": "text"}
    # Whoever is described belongs to the data set; quotes are characters.
    assert _column(dataset.users, "age") == {"1": "", "2": "30"}
    assert _column(dataset.items, "movie_title") == {"a": "", '"': 'The "One"'}
    assert dataset.interactions.item_ids.tolist() == ['"', "a"]
    np.testing.assert_array_equal(dataset.interactions.offsets, [0, 1, 1])
    np.testing.assert_array_equal(dataset.interactions.item, [1])


FLAGS = "0|1|0|0|1" + "|0" * 14
ML_100K = {
    "u__data": "1\t2\t3\t4\n",
    "u__user": "1|24|M|technician|85711\n",
    "u__item": f"2|Misérables, Les (1995)|||http://x|{FLAGS}\n3|unknown||||1{'|0' * 18}\n".encode(
        "latin-1"
    ),
}


def test_the_first_movielens_layout_reads_from_a_folder_and_a_zip(tmp_path):
    _write(tmp_path, **ML_100K)
    archive = tmp_path / "ml.zip"
    with zipfile.ZipFile(archive, "w") as content:
        for name, data in ML_100K.items():
            content.writestr(f"ml-100k/{name.replace('__', '.')}", data)
    for path in (tmp_path, archive):
        dataset = read(path)
        assert _rows(dataset) == [("1", "2", 3.0, 4)]
        assert {k: v.tolist() for k, v in dataset.users.columns.items()} == {
            "age": ["24"],
            "gender": ["M"],
            "occupation": ["technician"],
            "zip_code": ["85711"],
        }
        assert {k: v.tolist() for k, v in dataset.items.columns.items()} == {
            "title": ["Les Misérables", "unknown"],
            "year": ["1995", ""],
            "genres": ["Action Children's", "unknown"],
        }
        assert dataset.items.kinds == {"title": "text", "year": "numeric", "genres": "tokens"}


def test_the_second_movielens_layout_has_users_and_movies(tmp_path):
    _write(
        tmp_path,
        ratings__dat="1::2::3::4\n",
        users__dat="1::F::25::10::48067\n",
        movies__dat="2::Léon (1994)::Crime|Sci-Fi\n".encode("latin-1"),
    )
    dataset = read_movielens(tmp_path)
    assert _column(dataset.users, "age") == {"1": "25"}
    assert _column(dataset.users, "gender") == {"1": "F"}
    assert _column(dataset.items, "title") == {"2": "Léon"}
    assert _column(dataset.items, "genres") == {"2": "Crime Sci-Fi"}


def test_the_third_movielens_layout_has_quotes_and_half_stars(tmp_path):
    _write(
        tmp_path,
        ratings__csv="userId,movieId,rating,timestamp\n1,2,3.5,4\n",
        movies__csv='movieId,title,genres\n2,"Rock, The (1996)",Action\n3,"A\n""B""",'
        "(no genres listed)\n",
    )
    dataset = read(tmp_path)
    assert dataset.scale == (0.5, 5.0)
    assert _column(dataset.items, "title") == {"2": "The Rock", "3": 'A\n"B"'}
    assert _column(dataset.items, "genres") == {"2": "Action", "3": ""}


ERRORS = {
    "a missing column": (
        "log.csv",
        "u,item\n1,a\n",
        None,
        "no user column .* 'u', 'item'; .*user_column=",
    ),
    "two columns for a role": (
        "log.csv",
        "user,user_id,item\n1,1,a\n",
        None,
        "name one with user_column='user'",
    ),
    "a word as rating": ("log.csv", "user,item,rating\n1,a,3\n1,b,x\n", 3, "'rating'.*got 'x'"),
    "no rating": ("log.csv", "user,item,rating\n1,a,\n", None, "no row is left: 1 of 1 rows have"),
    "an infinity": ("log.csv", "user,item,rating\n1,a,1e99\n", 2, "must be a finite number"),
    "no time": ("log.csv", "user,item,time\n1,a,3\n1,b,\n", 3, "'time'.*got nothing"),
    "a word as date": ("log.csv", "user,item,time\n1,a,2020-01-01\n1,b,x\n", 3, "'time'.*got 'x'"),
    "a date short of a digit": (
        "log.csv",
        "user,item,time\n1,a,2027-01-03T06:00:00\n1,b,27-01-03T06:00:00\n",
        3,
        "'time'.*got '27-01-03T06:00:00'",
    ),
    "a word as first date": ("log.csv", "user,item,time\n1,a,soon\n", 2, "'time'.*got 'soon'"),
    "a date in a local form": ("log.csv", "user,item,time\n1,a,01/02/2020\n", 2, "ISO date-time"),
    "a huge time": ("log.csv", "user,item,time\n1,a,1e19\n", 2, "at most 64 bits"),
    "an empty file": ("log.csv", "", 1, "the file is empty"),
    "a header only": ("log.csv", "user,item\n", None, "a header and no interactions"),
    "a short line": ("log.csv", "user,item,x\n1,a,3\n1,b\n", 3, r"3 fields \(user, .* got 2"),
    "a long line": ("log.csv", "user,item\n1,a\n1,b,3\n", 3, "2 fields .* got 3"),
    "a blank line": ("log.csv", "user,item\n1,a\n\n1,b\n", 3, "2 fields .* got 0"),
    "a repeated pair": (
        "log.csv",
        "user,item,rating\n1,a,2\n2,a,3\n1,a,4\n",
        4,
        "'1' and .*'a' .*in line 2 ",
    ),
    "an empty user": ("log.csv", "user,item\n1,a\n ,b\n", 3, "'user'.*must not be empty"),
    "no item": ("log.csv", "item,user\n,1\n", 2, "'item'.*must not be empty"),
    "bytes of another code": ("log.csv", b"user,item\n1,a\n1,\xe9\n", 3, "byte 0xe9 is not utf-8"),
    "a column named twice": ("log.csv", "user,item,x,x\n1,a,2,3\n", 1, "names 'x' twice"),
    "a line break in quotes before": (
        "log.csv",
        'user,item,rating\n1,"a\nb",3\n1,c,x\n',
        4,
        "got 'x'",
    ),
    "a rating out of scale": (
        "log.inter",
        INTER + "1\ta\t9\t1\n",
        2,
        r"in the scale \[1, 5\], got 9",
    ),
    "a token as rating": ("log.inter", INTER + "1\ta\t1_0\t1\n", 2, "'rating'.*got '1_0'"),
    "an infinite rating": ("log.inter", INTER + "1\ta\tinf\t1\n", 2, "'rating'.*got 'inf'"),
    "no number as time": ("log.inter", INTER + "1\ta\t1\tnow\n", 2, "'timestamp'.*got 'now'"),
    "no atomic user": ("log.inter", INTER + "1\ta\t1\t1\n\ta\t1\t1\n", 3, "'user_id'.*empty"),
    "a short atomic line": ("log.inter", INTER + "1\ta\t1\n", 2, "4 fields .* got 3"),
    "a blank atomic line": ("log.inter", INTER + "1\ta\t1\t1\n\n1\tb\t1\t1\n", 3, "4 fields"),
    "a repeated atomic pair": ("log.inter", INTER + "1\ta\t1\t1\n1\ta\t2\t1\n", 3, "in line 2 "),
    "an unknown type": ("log.inter", "user_id:token\titem_id:int\n1\ta\n", 1, "got 'item_id:int'"),
    "an empty atomic file": ("log.inter", "", None, "the file is empty"),
    "an atomic header only": ("log.inter", INTER, None, "a header and no interactions"),
    "atomic bytes": ("log.inter", INTER.encode() + b"\xff\ta\t1\t1\n", 2, "byte 0xff"),
    "an unknown ending": ("log.xls", "{}", None, "must end in .inter, .zip"),
    "a zip that is none": ("log.zip", "{}", None, "not a zip archive"),
    "a Parquet file that is none": ("log.parquet", "{}", None, "not a Parquet file"),
}


@pytest.mark.parametrize(("name", "content", "line", "message"), ERRORS.values(), ids=list(ERRORS))
def test_an_error_names_file_and_line(tmp_path, name, content, line, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as caught:
        read(path, scale=(1, 5) if name.endswith(".inter") else None)
    assert caught.value.line == line
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_parquet_error_names_the_row(tmp_path):
    polars = pytest.importorskip("polars")
    path = tmp_path / "log.parquet"
    polars.DataFrame({"user": [1, 1], "item": [1, None]}).write_parquet(path)
    with pytest.raises(DataError, match=r"log\.parquet, row 2, column 'item': an id"):
        read(path)
    polars.DataFrame({"user": [1.5], "item": [1]}).write_parquet(path)
    with pytest.raises(DataError, match="must be strings or whole numbers, got Float64"):
        read(path)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("item_id:token\tn:float\na\tx\n", "log.item, line 2, column 'n': .* got 'x'"),
        (
            "item_id:token\tn:float\na\t1\na\t2\n",
            "log.item, line 3.*'a' is described twice.*line 2",
        ),
        ("key:token\na\n", "log.item: no column of item ids: none is 'item_id'"),
    ],
)
def test_a_description_that_does_not_fit_is_named(tmp_path, item, message):
    _write(tmp_path, log__inter=INTER + "1\ta\t1\t5\n", log__item=item)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_a_folder_must_hold_one_log(tmp_path):
    with pytest.raises(DataError, match=r"looked for u\.data, .* found none"):
        read(tmp_path)
    _write(tmp_path, a__csv="", b__csv="")
    with pytest.raises(DataError, match=r"found a\.csv, b\.csv"):
        read(tmp_path)
    _write(tmp_path, a__inter="", b__inter="")
    with pytest.raises(DataError, match=r"one \.inter file, found a\.inter, b\.inter"):
        read(tmp_path)


def test_missing_files_and_columns_are_named(tmp_path):
    for reader in (read, read_atomic, read_movielens, read_table):
        with pytest.raises(DataError, match="no such file"):
            reader(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"looked for u\.data"):
        read_movielens(tmp_path)


def test_options_are_checked(tmp_path):
    _write(tmp_path, log__inter=INTER + "1\ta\t1\t5\n")
    with pytest.raises(ValueError, match="duplicates must be a known name, got 'first'"):
        read(tmp_path, duplicates="first")
    with pytest.raises(ValueError, match=r"scale must be the worst and the best .* got \(5, 5\)"):
        read(tmp_path, scale=(5, 5))
    with pytest.raises(ValueError, match=r"separator may be given for a table, and .* is atomic"):
        read(tmp_path, separator=";")
    _write(tmp_path, log__csv="user,item\n1,a\n")
    with pytest.raises(DataError, match=r"no column 'itm'; .* did you mean 'item'"):
        read(tmp_path / "log.csv", item_column="itm")
    with pytest.raises(DataError, match="cannot be both user and item"):
        read(tmp_path / "log.csv", item_column="user")


def test_a_table_without_polars_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    _write(tmp_path, log__csv="user,item\n1,a\n")
    with pytest.raises(ImportError, match=r"pip install 'metajax\[cli\]'"):
        read(tmp_path)


def test_problems_are_listed_with_names(tmp_path):
    _write(
        tmp_path,
        log__inter=INTER + "1\ta\t3\t5\n1\tb\t3\t5\n2\ta\t3\t5\n",
        log__user="user_id:token\tage:float\tjob:token\n1\t\tcook\n3\t\t\n",
    )
    dataset = read(tmp_path)
    assert problems(dataset, support=1) == [
        "1 of 3 users have no interactions: '3'",
        "1 of 3 users have fewer than 2 interactions (a support of 1 and one to judge by): '2'",
        "there are 2 users and 2 items: to train and judge takes 10 users and 2 items; metajax fit "
        "takes any number",
        "every rating is 3: an interaction is a 1, as in a log without ratings",
        "every interaction has the same time: there is no first in time",
        "2 of 3 users have no features: '2', '3'",
        "1 of 3 users have other features and no age: '1'",
        "items have no features",
    ]

"""Ingestion comes to what the readers read whole, however small batches and shards are."""

import gzip
import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from metajax.data import datasets, ingest
from metajax.data.dataset import fingerprint
from metajax.data.ingestion import runs, shards
from metajax.data.readers import DataError, batches
from metajax.data.store import open_store
from tests.kill.dying import Killed, dying


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """A batch of about ten rows, a shard of about fifty."""
    monkeypatch.setattr(batches, "BATCH_BYTES", 200)
    monkeypatch.setattr(batches, "BATCH_ROWS", 10)
    monkeypatch.setattr(shards, "SHARD_ROWS", 50)
    monkeypatch.setattr(shards, "_IDS_AT_ONCE", 7)


def frame(rows=200, *, repeats=0, seed=0):
    rng = np.random.default_rng(seed)
    pairs = rng.choice(40 * 30, rows, replace=False)
    pairs = rng.permutation(np.concatenate([pairs, pairs[:repeats]]))
    return pl.DataFrame(
        {
            "user_id": [f"u{pair // 30}" for pair in pairs],
            "item_id": [f"i{pair % 30}é" for pair in pairs],
            "rating": rng.integers(1, 11, len(pairs)) / 2,
            "timestamp": rng.integers(1_500_000_000, 1_500_000_500, len(pairs)),
            "colour": ["red", "blue"] * (len(pairs) // 2),
        }
    )


def describe(folder):
    """Attributes of users, one of whom is in no log, and of items."""
    users = {"user_id": [f"u{n}" for n in range(45)], "age": list(range(20, 65))}
    pl.DataFrame(users).write_csv(folder / "users.csv")
    items = {"item_id": [f"i{n}é" for n in range(30)], "kind": ["a|b", "c", "a"] * 10}
    pl.DataFrame(items).write_csv(folder / "items.csv")


def same(store, whole):
    """Asserts that two data sets are equal in everything but their names and options."""
    for one, other in (*zip(store.interactions, whole.interactions, strict=True),):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    for one, other in ((store.users, whole.users), (store.items, whole.items)):
        np.testing.assert_array_equal(one.ids, other.ids)
        assert one.kinds == other.kinds
        for name, column in one.columns.items():
            np.testing.assert_array_equal(column, other.columns[name])
    np.testing.assert_array_equal(store.parts, whole.parts)
    fields = ("scale", "relevant", "scale_given", "transform", "notes")
    assert [getattr(store, f) for f in fields] == [getattr(whole, f) for f in fields]
    assert fingerprint(store) == fingerprint(whole)


def both(path, output, **options):
    return datasets.load(ingest(path, output, **options)), datasets.load(path, **options)


WRITERS = {
    "log.csv": lambda table, path: table.write_csv(path),
    "log.tsv": lambda table, path: table.write_csv(path, separator="\t"),
    "log.csv.gz": lambda table, path: path.write_bytes(gzip.compress(table.write_csv().encode())),
    "log.csv.zst": lambda table, path: table.write_csv(path, compression="zstd"),
    "log.jsonl": lambda table, path: table.write_ndjson(path),
    "log.parquet": lambda table, path: table.write_parquet(path, row_group_size=64),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_store_is_what_the_log_is_read_as(tmp_path, name):
    describe(tmp_path)
    WRITERS[name](frame(), tmp_path / name)
    store, whole = both(tmp_path / name, tmp_path / "store", ignore=("colour",))
    same(store, whole)
    assert len(whole.users.ids) == 45
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text())
    assert len(manifest["shards"]) > 2
    assert not (tmp_path / "store" / "work").exists()
    # Nothing is read before it is needed.
    for array in (
        store.interactions.item,
        store.interactions.user_ids,
        *store.users.columns.values(),
    ):
        assert isinstance(array.base, np.memmap)


@pytest.mark.parametrize(
    "options",
    [
        {"duplicates": "newest"},
        {"duplicates": "mean"},
        {"duplicates": "sum"},
        {"duplicates": "max"},
        {"duplicates": "count"},
        {"duplicates": "newest", "scale": (0.0, 6.0), "relevant": 4.0},
        {"duplicates": "newest", "drop": ("rating<2", "colour=red"), "transform": "log1p"},
        {"event_column": "colour", "weights": "red=1,blue=3"},
        {"event_column": "colour", "weights": "red=0,blue=3"},
        {"event_column": "colour"},
        {"count_column": "rating"},
    ],
    ids=str,
)
def test_rows_are_merged_dropped_and_weighed_as_by_the_readers(tmp_path, options):
    frame(repeats=40).write_csv(tmp_path / "log.csv")
    same(*both(tmp_path / "log.csv", tmp_path / "store", **options))


def test_ratings_that_float32_does_not_hold_stay_as_they_are(tmp_path):
    table = frame(repeats=40).with_columns(pl.col("rating") + 0.1)
    table.write_csv(tmp_path / "log.csv")
    store, whole = both(tmp_path / "log.csv", tmp_path / "store", duplicates="mean")
    same(store, whole)
    assert store.interactions.rating.dtype == np.float64


def test_a_log_of_pairs_alone_has_ones_and_no_times_on_the_disk(tmp_path):
    frame(repeats=40).select("user_id", "item_id").write_csv(tmp_path / "log.csv")
    same(*both(tmp_path / "log.csv", tmp_path / "store"))
    assert not (tmp_path / "store" / "rating.npy").exists()
    assert not (tmp_path / "store" / "time.npy").exists()


def test_many_files_are_one_log_and_those_of_a_split_its_parts(tmp_path):
    table = frame()
    folder = tmp_path / "day=1"
    folder.mkdir()
    table[:90].write_csv(folder / "a.csv")
    (folder / "b.csv.gz").write_bytes(
        gzip.compress(table[90:].select(sorted(table.columns)).write_csv().encode())
    )
    (folder / "_SUCCESS").write_text("")
    table.write_csv(tmp_path / "whole.csv")
    same(datasets.load(ingest(folder, tmp_path / "store")), datasets.load(tmp_path / "whole.csv"))

    split = tmp_path / "split"
    split.mkdir()
    who = table["user_id"].str.slice(1).cast(pl.Int32)
    for name, low, high in (("train", 0, 20), ("valid", 20, 30), ("test", 30, 40)):
        table.filter((who >= low) & (who < high)).write_csv(split / f"{name}.csv")
    same(*both(split, tmp_path / "parts"))
    table[:5].write_csv(split / "test.csv")
    with pytest.raises(DataError, match=r"test\.csv: user .* is in another of the files"):
        ingest(split, tmp_path / "wrong")


def test_text_is_cut_between_rows_whatever_its_quotes_ends_and_encoding(tmp_path):
    words = ["plain", '"two\nlines"', '"a ""quoted"", one"', '5" inch', '"\n\n"']
    lines = [f"u{n % 7},i{n},{words[n % 5]},{n % 5 + 1}" for n in range(80)]
    text = "\n".join(["user,item,note,rating", *lines, ""])
    for name, data in {
        "plain": text.encode(),
        "returns": text.replace("\n", "\r\n").encode(),
        "wide": text.encode("utf-16"),
        "latin": text.replace("plain", "é").encode("latin-1"),
        "mark": text.encode("utf-8-sig"),
    }.items():
        path = tmp_path / f"{name}.csv"
        path.write_bytes(data)
        options = {"encoding": "latin-1"} if name == "latin" else {}
        same(*both(path, tmp_path / name, **options))


def test_errors_name_the_line_of_the_file(tmp_path):
    path = tmp_path / "log.csv"

    def refused(text, match, **options):
        path.write_text(text)
        shutil.rmtree(tmp_path / "store", ignore_errors=True)
        with pytest.raises(DataError, match=match) as caught:
            ingest(path, tmp_path / "store", **options)
        return caught.value

    rows = [f"u{n},i{n},{n % 5 + 1}" for n in range(100)]
    head = "user,item,rating"
    bad = [*rows[:60], "u60,i60,x", *rows[61:]]
    refused("\n".join([head, *bad]), r"log.csv, line 62, column 'rating': must be a finite number")
    bad = [*rows[:70], "u70,i70", *rows[71:]]
    refused("\n".join([head, *bad]), r"line 72: must have 3 fields, got 2")
    bad = [*rows, "u7,i7,2"]
    text = r"line 102: user 'u7' and item 'i7' are already in line 9 \(1 repeated among"
    refused("\n".join([head, *bad]), text)
    bad = [*rows[:50], "u50,i50,9", *rows[51:]]
    refused(
        "\n".join([head, *bad]), r"line 52, column 'rating': must lie in the scale", scale=(1, 5)
    )
    refused(f"{head}\n", "there is a header and no interactions")
    refused("", "line 1: the file is empty")
    refused("\n".join([head, *rows]), "no row is left: 100 of 100", drop=("rating>0",))
    commas = [*rows[:90], *(f'u{n},i{n},"2,5"' for n in range(90, 99))]
    refused(
        "\n".join([head, *commas]), r"column 'rating' has decimal commas.*; if so, give decimal"
    )
    events = "\n".join(["user,item,event", *(f"u{n},i{n},view" for n in range(50))])
    refused(events, "there is no event 'buy', which has a weight", weights="view=1,buy=2")


def test_files_that_do_not_fit_together_are_refused_by_name(tmp_path):
    table = frame()
    folder = tmp_path / "folder"
    folder.mkdir()
    table.write_csv(folder / "a.csv")
    table.write_ndjson(folder / "b.jsonl")
    with pytest.raises(
        DataError, match=r"b\.jsonl: must be of the format of .*a\.csv \(\.csv\), got"
    ):
        ingest(folder, tmp_path / "store")
    (folder / "b.jsonl").unlink()
    table.drop("rating").write_csv(folder / "c.csv")
    with pytest.raises(
        DataError, match=r"c\.csv, column 'rating': must have the columns of .*a\.csv"
    ):
        ingest(folder, tmp_path / "store")
    with pytest.raises(DataError, match="no such file or folder"):
        ingest(tmp_path / "nothing", tmp_path / "other")
    with pytest.raises(ValueError, match=r"each file once, got .*a\.csv twice"):
        ingest([folder, folder / "a.csv"], tmp_path / "other")
    with pytest.raises(ValueError, match="must name a file or folder"):
        ingest([], tmp_path / "other")
    (folder / "u.data").write_text("1\t1\t1\t1\n")
    with pytest.raises(DataError, match="files of MovieLens or RecBole are here"):
        ingest(folder, tmp_path / "other")


def test_a_key_that_json_lines_leave_out_is_missing(tmp_path):
    rows = [{"user": f"u{n}", "item": f"i{n}", "rating": n % 5} for n in range(60)]
    del rows[40]["rating"]
    rows += [{"user": "v", "item": f"i{n}", "rating": 2.5, "note": "x"} for n in range(30)]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    store, whole = both(path, tmp_path / "store")
    same(store._replace(notes=()), whole._replace(notes=()))
    assert any("1 of 90 rows have no rating" in note for note in store.notes)
    path.write_text(json.dumps(rows))
    with pytest.raises(
        DataError, match="a list of more than 200 bytes would be read whole; write an object a line"
    ):
        ingest(path, tmp_path / "list")


@pytest.fixture
def log(tmp_path):
    describe(tmp_path)
    frame(60, repeats=10).write_csv(tmp_path / "log.csv")
    return tmp_path / "log.csv"


def bits(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.slow
def test_work_that_is_killed_goes_on_to_the_same_bytes(tmp_path, log):
    def go(store):
        return ingest(log, store, duplicates="mean")

    whole = tmp_path / "whole" / "store"
    whole.parent.mkdir()
    with dying(whole.parent, None) as watched:
        go(whole)
    wanted, calls = bits(whole), len(watched.calls)
    assert calls > 100
    for at in range(1, calls + 1, 9):
        place = tmp_path / str(at) / "store"
        place.parent.mkdir()
        with pytest.raises(Killed), dying(place.parent, at):
            go(place)
        if (
            place.exists()
            and not (place / "manifest.json").is_file()
            and (place / "plan.json").is_file()
        ):
            with pytest.raises(
                DataError, match="a store that is not finished; the same metajax inges"
            ):
                datasets.load(place)
        go(place)
        assert bits(place) == wanted, watched.calls[at - 1]


def test_a_full_disk_is_named_and_gone_on_with(tmp_path, log, monkeypatch):
    wanted = bits(ingest(log, tmp_path / "whole", duplicates="mean"))
    write, left = os.write, 9

    def full(descriptor, content):
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(28, "No space left on device")
        return write(descriptor, content)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match=r"No space left on device: '.*runs/1\.users'"):
            ingest(log, tmp_path / "store", duplicates="mean")
    assert bits(ingest(log, tmp_path / "store", duplicates="mean")) == wanted


@pytest.mark.parametrize("checks", [0, 1])
def test_a_disk_that_is_too_small_is_refused_before_it_is_full(tmp_path, log, monkeypatch, checks):
    """Behind the first batch, by an estimate, and again before the shards."""
    asked = []

    def usage(folder):
        asked.append(folder)
        return SimpleNamespace(free=0 if len(asked) > checks else 10**9)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", usage)
        with pytest.raises(OSError, match=r"0\.0 GB are free: make room") as caught:
            ingest(log, tmp_path / "store", duplicates="mean")
    assert len(asked) == checks + 1
    assert caught.value.filename == str(tmp_path / "store")
    wanted = bits(ingest(log, tmp_path / "whole", duplicates="mean"))
    assert bits(ingest(log, tmp_path / "store", duplicates="mean")) == wanted


def test_a_store_is_refused_where_another_or_something_else_is(tmp_path, log):
    store = ingest(log, tmp_path / "store", duplicates="mean")
    before = bits(store)
    assert bits(ingest(log, store, duplicates="mean")) == before
    with pytest.raises(ValueError, match="a store of other options is here"):
        ingest(log, store, duplicates="sum")
    log.write_text(log.read_text() + "u1,i1é,2,1500000000,red\n")
    with pytest.raises(ValueError, match="a store of other files is here"):
        ingest(log, store, duplicates="mean")
    with pytest.raises(ValueError, match="other files are here; output must be a new folder"):
        ingest(log, tmp_path)
    with pytest.raises(ValueError, match="a file is here; output must be a new folder"):
        ingest(log, log)
    assert bits(store) == before


def test_a_refusal_for_repeated_pairs_is_followed_without_reading_again(tmp_path, log, monkeypatch):
    with pytest.raises(DataError, match="keeps the newest"):
        ingest(log, tmp_path / "store")
    monkeypatch.setattr(runs, "_write_run", None)  # Nothing more is to be read.
    store = ingest(log, tmp_path / "store", duplicates="newest")
    same(datasets.load(store), datasets.load(log, duplicates="newest"))


def test_damaged_stores_and_options_that_come_too_late_are_refused(tmp_path, log):
    store = ingest(log, tmp_path / "store", duplicates="mean")
    assert open_store(store, verify=True).interactions.item.shape == (60,)
    assert datasets.load(store, relevant=4.5, transform="log1p").relevant == 4.5
    with pytest.raises(
        ValueError,
        match=r"scale= is chosen when a store is made \(metajax ingest\)",
    ):
        datasets.load(store, scale=(1.0, 5.0))
    item = store / "item.npy"
    data = bytearray(item.read_bytes())
    data[-1] ^= 1
    item.write_bytes(data)
    with pytest.raises(DataError, match=r"item\.npy: is damaged: it is not what was written"):
        open_store(store, verify=True)
    item.write_bytes(data[:-4])
    with pytest.raises(DataError, match=r"item\.npy: is damaged: it has 364 bytes of 368"):
        datasets.load(store)
    item.unlink()
    with pytest.raises(DataError, match=r"item\.npy: is missing"):
        datasets.load(store)
    manifest = store / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"metajax_store": 1', '"metajax_store": 2'))
    with pytest.raises(DataError, match="must be the manifest of a store, of version 1"):
        datasets.load(store)


def test_ids_that_hash_alike_are_told(monkeypatch):
    dictionary = runs._Dictionary()
    codes, new = dictionary.codes(pl.Series(["b", "d"]))
    assert codes.tolist() == [0, 1]
    assert new.all()
    codes, new = dictionary.codes(pl.Series(["a", "b", "c", "d"]))
    assert codes.tolist() == [2, 0, 3, 1]
    assert new.tolist() == [True, False, True, False]
    dictionary._checks[:] = 0
    with pytest.raises(RuntimeError, match="two ids have one hash"):
        dictionary.codes(pl.Series(["d"]))

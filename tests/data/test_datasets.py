import hashlib
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from metajax.data import datasets, fetch
from metajax.data.datasets import load, names
from metajax.data.fetch import DataUnavailable, Source, cache_folder, download
from metajax.data.inspection import problems
from metajax.data.readers import DataError, read

# The same two ratings as GroupLens and as RecBole lay them out, with the two films on which
# their item files disagree.
FLAGS = "|0" * 14
GROUPLENS = {
    "u.data": "1\t1412\t3\t4\n2\t267\t5\t6\n",
    "u.user": "1|24|M|technician|85711\n2|53|F|other|94043\n",
    "u.item": f"267|unknown||||1|0|0|0|0{FLAGS}\n"
    f"1412|Land, The (1995) (V)|01-Jan-1995||http://x|0|0|0|1|1{FLAGS}\n"
    f"1|Toy Story (1995)|01-Jan-1995||http://x|0|0|0|1|1{FLAGS}\n",
}
RECBOLE = {
    "ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "1\t1412\t3\t4\n2\t267\t5\t6\n",
    "ml-100k.user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    "1\t24\tM\ttechnician\t85711\n2\t53\tF\tother\t94043\n",
    "ml-100k.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    "267\tunkonwn\tunkonwn\tunknown\n"
    "1412\tLand, The (1995)\tV\tAnimation Children's\n"
    "1\tToy Story\t1995\tAnimation Children's\n",
}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sources() -> tuple[Source, ...]:
    entry = datasets._DATASETS["ml-100k"]
    assert isinstance(entry, tuple)
    return entry


def _replace_sources(monkeypatch, published: dict, packaged: dict) -> None:
    grouplens, recbole = _sources()
    replaced = grouplens._replace(**published), recbole._replace(**packaged)
    monkeypatch.setitem(datasets._DATASETS, "ml-100k", replaced)


@pytest.fixture
def sources(tmp_path, monkeypatch) -> Path:
    """A stand-in for the network: GroupLens' zip and the wheel, as files; an empty cache."""
    archive, wheel = tmp_path / "source.zip", tmp_path / "recbole-1.2.1-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as content:
        for name, text in GROUPLENS.items():
            content.writestr(f"ml-100k/{name}", text)
    with zipfile.ZipFile(wheel, "w") as content:
        for name, text in RECBOLE.items():
            content.writestr(f"recbole/dataset_example/ml-100k/{name}", text)

    def install(command, **options):
        target = Path(command[command.index("--dest" if "--dest" in command else "--target") + 1])
        if not wheel.exists():
            raise subprocess.CalledProcessError(1, command, stderr="warning\nno network\n")
        if "--dest" in command:
            (target / wheel.name).write_bytes(wheel.read_bytes())
        else:
            with zipfile.ZipFile(wheel) as content:
                content.extractall(target)

    monkeypatch.setenv("METAJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch.subprocess, "run", install)
    members = {
        f"recbole/dataset_example/ml-100k/{name}": _sha256(text.encode())
        for name, text in RECBOLE.items()
    }
    published = {"address": archive.as_uri(), "digest": _sha256(archive.read_bytes())}
    packaged = {"digest": _sha256(wheel.read_bytes()), "members": members}
    _replace_sources(monkeypatch, published, packaged)
    return tmp_path


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


def _cached(folder: Path) -> list[str]:
    return sorted(str(f.relative_to(folder / "cache")) for f in (folder / "cache").rglob("*.*"))


ATOMIC = ["ml-100k/ml-100k.inter", "ml-100k/ml-100k.item", "ml-100k/ml-100k.user"]


def _same(left, right) -> None:
    for one, other in zip(left.interactions, right.interactions, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in ((left.users, right.users), (left.items, right.items)):
        assert one.kinds == other.kinds
        assert list(one.columns) == list(other.columns)
        for name in one.columns:
            np.testing.assert_array_equal(one.columns[name], other.columns[name])
    assert (left.name, left.scale) == (right.name, right.scale)


def test_both_sources_give_the_same_data_set(sources):
    from_grouplens = load("ml-100k")
    assert _cached(sources) == ["ml-100k.zip"]
    (sources / "cache" / "ml-100k.zip").unlink()
    (sources / "source.zip").unlink()
    from_recbole = load("ml-100k")
    assert _cached(sources) == ATOMIC
    _same(from_grouplens, from_recbole)
    assert from_recbole.name == "ml-100k"
    assert from_recbole.scale == (1.0, 5.0)
    assert from_recbole.items.columns["title"].tolist() == ["Toy Story", "The Land", "unknown"]
    assert from_recbole.items.columns["year"].tolist() == ["1995", "1995", ""]


def test_uv_stands_in_for_a_missing_pip(sources, monkeypatch):
    (sources / "source.zip").unlink()
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(fetch.shutil, "which", lambda *a, **k: "/bin/uv")
    load("ml-100k")
    assert _cached(sources) == ATOMIC
    _flip(sources / "cache" / ATOMIC[0])
    wrong = dict.fromkeys(_sources()[1].members or {}, _sha256(b"another file"))
    _replace_sources(monkeypatch, {}, {"members": wrong})
    with pytest.raises(DataUnavailable, match="a wrong sha256"):
        load("ml-100k")
    monkeypatch.setattr(fetch.shutil, "which", lambda *a, **k: None)
    with pytest.raises(DataUnavailable, match="neither pip nor uv"):
        load("ml-100k")


@pytest.mark.parametrize("damage", [_cut, _flip])
def test_a_damaged_source_never_enters_the_cache(sources, damage):
    damage(sources / "source.zip")
    load("ml-100k")
    assert _cached(sources) == ATOMIC
    for file in (sources / "cache" / "ml-100k").iterdir():
        file.unlink()
    damage(sources / "recbole-1.2.1-py3-none-any.whl")
    with pytest.raises(DataUnavailable) as caught:
        load("ml-100k")
    assert "\n" not in str(caught.value)
    assert "wrong sha256" in str(caught.value)
    assert _cached(sources) == []


@pytest.mark.parametrize("damage", [_cut, _flip])
@pytest.mark.parametrize("source", ["source.zip", "recbole-1.2.1-py3-none-any.whl"])
def test_a_damaged_cache_is_fetched_again(sources, damage, source):
    if source != "source.zip":
        (sources / "source.zip").unlink()
    whole = load("ml-100k")
    before = _cached(sources)
    damage(sources / "cache" / before[0])
    _same(load("ml-100k"), whole)
    assert _cached(sources) == before


def _go_offline(sources: Path) -> None:
    (sources / "source.zip").unlink()
    (sources / "recbole-1.2.1-py3-none-any.whl").unlink()


@pytest.mark.parametrize("atomic", [False, True])
def test_the_cache_serves_without_a_network(sources, atomic):
    if atomic:
        (sources / "source.zip").rename(sources / "elsewhere.zip")
    whole = load("ml-100k")
    if atomic:
        (sources / "elsewhere.zip").rename(sources / "source.zip")
    _go_offline(sources)
    _same(load("ml-100k"), whole)


def test_no_network_and_no_cache_prints_instructions(sources):
    _go_offline(sources)
    with pytest.raises(DataUnavailable) as caught:
        load("ml-100k")
    message = str(caught.value)
    assert "\n" not in message
    assert f"at {sources / 'cache' / 'ml-100k.zip'}" in message
    assert "pip could not fetch recbole==1.2.1: no network" in message


def test_a_damaged_cache_without_a_network_is_named(sources):
    load("ml-100k")
    _go_offline(sources)
    _flip(sources / "cache" / "ml-100k.zip")
    with pytest.raises(DataUnavailable, match=r"ml-100k\.zip is not as published"):
        load("ml-100k")


def test_loads_at_once_do_not_disturb_each_other(sources):
    expected, found = load("ml-100k"), []
    (sources / "cache" / "ml-100k.zip").unlink()
    threads = [threading.Thread(target=lambda: found.append(load("ml-100k"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for dataset in found:
        _same(dataset, expected)
    assert _cached(sources) == ["ml-100k.zip"]


def test_progress_counts_to_the_size_of_the_file(tmp_path):
    source, calls = tmp_path / "source", []
    data = bytes(100_000)
    source.write_bytes(data)
    download(
        source.as_uri(),
        tmp_path / "target",
        digest=_sha256(data),
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(65_536, 100_000), (100_000, 100_000)]
    assert (tmp_path / "target").read_bytes() == data


def test_the_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("METAJAX_CACHE", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    assert cache_folder() == Path("/one")
    monkeypatch.delenv("METAJAX_CACHE")
    assert cache_folder() == Path("/two/metajax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "metajax"


def test_a_path_is_read(tmp_path):
    for name, text in RECBOLE.items():
        (tmp_path / name).write_text(text)
    _same(load(tmp_path), read(tmp_path))


def test_an_unknown_name_names_the_nearest():
    assert names()[:2] == ("ml-100k", "ml-latest-small")
    with pytest.raises(DataError, match=r"ml-100k, ml-latest-small, .*; did you mean 'ml-100k'\?"):
        load("ml-100")


def test_polars_is_imported_only_to_read_a_table():
    code = "import sys, metajax.data.datasets; print('polars' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_ml_100k_has_its_published_counts(ml100k):
    log = ml100k.interactions
    assert (len(log.user_ids), len(log.item_ids), len(log.item)) == (943, 1682, 100_000)
    # Ratings of 1 to 5 stars, counted by `cut -f 3 u.data | sort | uniq -c`.
    np.testing.assert_array_equal(
        np.bincount(log.rating.astype(int))[1:], [6110, 11370, 27145, 34174, 21201]
    )
    titles = dict(zip(log.item_ids, ml100k.items.columns["title"], strict=True))
    assert (titles["50"], titles["100"], titles["318"]) == (
        "Star Wars",
        "Fargo",
        "Schindler's List",
    )
    assert problems(ml100k) == ["1 of 1682 items have other features and no year: '267'"]

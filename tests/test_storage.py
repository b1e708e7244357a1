import os
from pathlib import Path

import pytest

from metajax import storage
from metajax.storage import Digest, check, digest_of, make_folder, write_file


@pytest.fixture
def calls(monkeypatch):
    """The calls that change names or force something to the disk, in order, with their paths."""
    made = []

    def noted(name):
        original = getattr(os, name)

        def call(first, *rest, **options):
            place = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else first
            made.append(
                (name, *(Path(p).name for p in (place, *rest) if isinstance(p, str | Path)))
            )
            return original(first, *rest, **options)

        monkeypatch.setattr(os, name, call)

    for name in ("mkdir", "rename", "replace", "fsync"):
        noted(name)
    return made


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_file(path, "é")
    assert path.read_bytes() == "é".encode()
    write_file(path, b"old")
    write = os.write

    def full(descriptor, content):
        write(descriptor, content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_its_name_and_its_name_before_the_return(tmp_path, calls):
    write_file(tmp_path / "file", "text")
    unfinished = f"file.{os.getpid()}.tmp"
    assert calls == [
        ("fsync", unfinished), ("replace", unfinished, "file"), ("fsync", tmp_path.name),
    ]  # fmt: skip


def test_parents_are_on_the_disk_once_they_are_made(tmp_path, calls):
    make_folder(tmp_path / "a" / "b")
    assert calls == [("mkdir", "a"), ("fsync", tmp_path.name), ("mkdir", "b"), ("fsync", "a")]
    make_folder(tmp_path / "a" / "b")
    assert len(calls) == 4
    write_file(tmp_path / "file", "")
    with pytest.raises(FileExistsError, match="file"):
        make_folder(tmp_path / "file" / "c")


def test_short_writes_are_continued_and_pieces_are_in_order(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, content: write(file, content[:300_000]))
    pieces = [os.urandom(size) for size in (3, 2**20, 0, 5, 2**20 + 1)]
    storage.write_pieces(tmp_path / "file", pieces)
    assert (tmp_path / "file").read_bytes() == b"".join(pieces)
    storage.append(tmp_path / "file", "end")
    assert (tmp_path / "file").read_bytes() == b"".join([*pieces, b"end"])


def test_damage_is_named(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    check(path, digest_of("content"))
    check(path, digest_of("cont"), beginning=True)
    for content, words in (
        (b"contens", "sha256 differs"),
        (b"conten", "shorter than"),
        (b"contents", "longer than"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"file: is damaged: it is .*{words}"):
            check(path, digest_of("content"))
    with pytest.raises(ValueError, match="shorter than"):
        check(path, Digest(9, ""), beginning=True)
    with pytest.raises(ValueError, match="absent: is missing"):
        check(tmp_path / "absent", digest_of(""))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe: is missing"):
        check(tmp_path / "pipe", digest_of(""))


def test_what_killed_processes_left_is_removed(tmp_path):
    (tmp_path / "a.tmp").mkdir()
    (tmp_path / "a.tmp" / "b").write_text("")
    for name in ("file.123.tmp", "file"):
        (tmp_path / name).write_text("")
    storage.remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_is_cut(tmp_path):
    path = tmp_path / "file"
    path.write_text("one\ntwo\n")
    storage.cut(path, 4)
    assert path.read_text() == "one\n"

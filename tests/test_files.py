import os
import socket

import pytest

from metajax import files
from metajax.files import DataError


def test_only_regular_files_are_read(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "link").symlink_to("a.txt")
    assert files.read_bytes(tmp_path / "link") == b"text"
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name, words in [
            ("folder", "a folder is here"),
            ("pipe", "a named pipe is here"),
            ("socket", "a socket is here"),
            ("none", "no such file"),
            ("a.txt/none", "no such file"),
        ]:
            with pytest.raises(DataError, match=f"{name}: {words}"):
                files.read_bytes(tmp_path / name)
    with pytest.raises(DataError, match="/dev/zero: a device is here"):
        files.read_bytes("/dev/zero")
    with pytest.raises(OSError, match="loop"):
        files.read_bytes(tmp_path / "loop")
    for name in ("", "a\0b"):
        with pytest.raises(DataError, match="must not be empty or hold NUL"):
            files.check_file(name)


def test_a_pipe_that_takes_the_place_of_a_file_is_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(files, "check_file", lambda path, most=None: path)
    with pytest.raises(DataError, match="a named pipe is here"):
        files.read_bytes(tmp_path / "pipe")


def test_what_the_size_of_a_file_does_not_say_is_bounded_too(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert files.read_bytes(tmp_path / "a", most=5) == b"12345"
    with pytest.raises(DataError, match="at most 4 bytes"):
        files.read_bytes(tmp_path / "a", most=4)
    # Files of the kernel have size 0.
    with pytest.raises(DataError, match="at most 4 bytes"):
        files.read_bytes("/proc/self/status", most=4)


def test_the_line_of_a_byte_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"\xef\xbb\xbfa\nb\xff")
    with pytest.raises(DataError, match=r"a, line 2: byte 0xff is not utf-8 text"):
        files.read_text(path)
    path.write_bytes(b"\xef\xbb\xbfa\r\nb")
    assert files.read_text(path) == "a\r\nb"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"a": 1,\n}', "line 2: not JSON"),
        ("[" * 100_000, "nested at most 32"),
        ("[" * 40 + "]" * 40, "nested at most 32"),
        ("1" * 5000, "not JSON: Exceeds the limit"),
    ],
)
def test_json_that_is_none_or_too_deep_is_refused(tmp_path, content, words):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=words):
        files.read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a = 1\nb =\n", "line 2"),
        ("a=" + "[" * 4000, "nested at most 32"),
        (".".join("a" * 40) + " = 1", "nested at most 32"),
        (".".join("a" * 10_000) + " = 1", "line 1: a line must have at most 4,096"),
        ("# comment\n" * 10_000, "at most 65,536 bytes"),
    ],
)
def test_toml_that_is_none_or_too_deep_is_refused(tmp_path, content, words):
    (tmp_path / "a.toml").write_text(content)
    with pytest.raises(DataError, match=words):
        files.read_toml(tmp_path / "a.toml")


def test_depth_is_counted_from_the_outermost(tmp_path):
    (tmp_path / "a.json").write_text("[" * 32 + "]" * 32)
    assert files.read_json(tmp_path / "a.json") != []

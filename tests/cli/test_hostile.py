"""What a stranger's files and machine do to the command line: one line each, and an exit status."""

import io
import os
import re
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from metajax import cli
from metajax.cli import app, console, data

WRONG: Any = "text"


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Runs a command in this process; returns its exit status and what it printed."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def run(*arguments):
        status = cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        lines = [line for line in printed.err.splitlines() if not line.endswith(" ...")]
        return status, printed.out, "\n".join(lines)

    return run


def the_log_of(line: str) -> str:
    path = re.search(r"\(traceback in (.+)\)\.$", line)
    assert path, line
    return Path(path[1]).read_text()


def deep(n=0):
    return deep(n + 1)


class PanicException(BaseException):
    """Of polars: no subclass of Exception."""


def panics():
    raise PanicException("index out of range")


@pytest.mark.parametrize(
    ("fails", "words"),
    [
        (deep, "unforeseen error, RecursionError: maximum recursion depth exceeded"),
        (panics, "unforeseen error, PanicException: index out of range"),
        (lambda: 10.0**1000, "unforeseen error, OverflowError: "),
        (lambda: {}[3], "unforeseen error, KeyError: 3"),
        (lambda: WRONG(), "unforeseen error, TypeError: 'str' object is not callable"),
        (lambda: int("x"), "unforeseen error, ValueError: invalid literal"),
        (lambda: os.lseek(0, -1, 99), "unforeseen error, OSError: "),
    ],
)
def test_an_unforeseen_error_is_one_line_and_a_log(run, monkeypatch, fails, words):
    monkeypatch.setattr(data.datasets, "load", lambda *_, **__: fails())
    status, out, err = run("data", "x")
    assert (status, out) == (1, "")
    assert err.startswith(f"metajax: {words}")
    assert "\n" not in err
    assert the_log_of(err).startswith("Traceback")


def test_an_accelerator_without_memory_is_named(run, monkeypatch):
    import jax

    def fails(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    monkeypatch.setattr(data.datasets, "load", fails)
    status, _, err = run("data", "x")
    assert status == 1
    assert err.startswith("metajax: out of memory: RESOURCE_EXHAUSTED")
    monkeypatch.setattr(data.datasets, "load", lambda *_, **__: bytearray(2**62))
    status, _, err = run("data", "x")
    assert status == 1
    assert err.startswith("metajax: out of memory (traceback in ")


def test_no_room_for_the_traceback_is_said(run, monkeypatch, tmp_path):
    monkeypatch.setattr(data.datasets, "load", lambda *_, **__: {}[3])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    status, _, err = run("data", "x")
    assert status == 1
    assert err.startswith("metajax: unforeseen error, KeyError: 3 (the traceback could not be")


def test_a_full_disk_and_a_closed_pipe_are_named(run, monkeypatch):
    def fails(number):
        def load(*_, **__):
            raise OSError(number, os.strerror(number))

        return load

    monkeypatch.setattr(data.datasets, "load", fails(28))
    assert run("data", "x")[::2] == (2, "metajax: standard output: No space left on device")
    monkeypatch.setattr(data.datasets, "load", fails(32))
    monkeypatch.setattr(console, "close_output", lambda: None)
    assert run("data", "x") == (141, "", "")


def test_little_address_space_is_refused_before_jax_aborts(run, monkeypatch):
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (10**9, 10**9))
    status, _, err = run("data", "x")
    assert status == 2
    assert err == (
        "metajax: the address space must be at least 2 GiB, the limit of this process is 0.93 GiB "
        "(ulimit -v)."
    )
    monkeypatch.setattr(resource, "getrlimit", lambda _: (-1, -1))
    assert run("data", "/none")[2].startswith("metajax: /none: no such path")


def test_a_terminal_obeys_no_title(run, tmp_path, capsys):
    for text, visible in [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("a\x9b31m", r"a\x9b31m"),
        ("a\0b\x7f", r"a\x00b\x7f"),
        ("a\nmetajax: b\r\t", "a metajax: b  "),
        ("exe.\u202egpj", r"exe.\u202egpj"),
        ("\ud800", r"\ud800"),
        ("Misérables, 日本語 שלום 👩‍🚀", "Misérables, 日本語 שלום 👩‍🚀"),
    ]:
        console.say(text)
        assert capsys.readouterr().out == f"{visible}\n"
    path = tmp_path / "log.csv"
    path.write_text("\x1b[2Juser,item\x1b[2J\n1,2\n")
    status, _, err = run("data", path)
    assert status == 2
    assert "\x1b" not in err
    assert r"\x1b[2J" in err


def test_a_terminal_of_few_characters_shows_the_others_by_their_codes(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    console.escape_unencodable()
    console.say("Misérables →")
    sys.stdout.flush()
    assert written.getvalue() == b"Mis\\xe9rables \\u2192\n"


def test_a_command_does_not_end_at_an_accent(monkeypatch, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user,item\né,a\né,b\nu,a\n", encoding="utf-8")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert cli.main(["data", str(path)]) == 0
    sys.stdout.flush()
    assert b"'\\xe9'" in written.getvalue()


def test_a_foreseen_error_is_raised_by_a_statement_of_the_package():
    from metajax import files

    with pytest.raises(files.DataError) as caught:
        files.check_file("/none")
    assert app._is_foreseen(caught.value)
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int("x")
    assert not app._is_foreseen(caught.value)
    assert not app._is_foreseen(ValueError("never raised"))
    # In a function of the package, but not by a statement of it.
    made: dict[str, Any] = {}
    exec(compile("def wrong():\n    int('x')", f"{app._PACKAGE}made.py", "exec"), made)
    with pytest.raises(ValueError, match="invalid literal") as caught:
        made["wrong"]()
    assert not app._is_foreseen(caught.value)


ROWS = "".join(f"u{u},i{i},{1 + (u * 7 + i * 3) % 5}\n" for u in range(8) for i in range(6))
LOG = f"user,item,rating\n{ROWS}"


def archive(method: int = zipfile.ZIP_DEFLATED) -> bytearray:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as content:
        content.writestr(
            "ml/u.data", "".join(f"{n % 9}\t{n}\t{1 + n % 5}\t{n}\n" for n in range(300))
        )
    return bytearray(file.getvalue())


def flipped(content: bytearray, at: int) -> bytes:
    content[at] ^= 0xFF
    return bytes(content)


def marked(local: int, central: int, value: int) -> bytes:
    """An archive with a byte of both its headers changed."""
    content = archive()
    content[local] = content[content.index(b"PK\x01\x02") + central] = value
    return bytes(content)


def parquet(damage) -> bytes:
    polars = pytest.importorskip("polars")
    file = io.BytesIO()
    polars.DataFrame({"user": ["a", "b"], "item": ["x", "y"], "rating": [1, 2]}).write_parquet(file)
    return damage(file.getvalue())


# The files of a folder by name, None for a named pipe; the arguments; words of the line.
REFUSED = {
    "a pipe as table": ({"a.csv": None}, ["data", "a.csv"], "a.csv: a named pipe is here"),
    "a pipe as atomic log": ({"a.inter": None}, ["data", "."], "named pipe|looked for"),
    "a pipe as graph": ({"g.ttl": None}, ["graph", "g.ttl"], "g.ttl: a named pipe is here"),
    "a pipe as link": (
        {"g.tsv": "a\tb\tc\n", "g.link": None},
        ["graph", "g.tsv", "--link=g.link"],
        "g.link: a named pipe is here",
    ),
    "a pipe beside a log": (
        {"a.csv": LOG, "users.csv": None},
        ["data", "a.csv"],
        "users.csv: a named pipe is here",
    ),
    "a pipe as settings": (
        {"a.toml": None},
        ["train", "--config=a.toml"],
        "a.toml: a named pipe is here",
    ),
    "a pipe as run": ({"run": None}, ["recommend", "run"], "run: no run is here"),
    "a pipe as settings of a run": (
        {"run/settings.json": None},
        ["train", "--resume=run"],
        "no run is here",
    ),
    "a pipe as overlap list": (
        {"a.csv": LOG, "b.csv": LOG, "l.csv": None},
        ["transfer", "--source=a.csv", "--target=b.csv", "--overlap-list=l.csv", "--no-report"],
        "l.csv: a named pipe is here",
    ),
    "a device": ({}, ["data", "/dev/zero"], "/dev/zero"),
    "no name": ({}, ["data", ""], "'': no such path"),
    "a folder of anything": (
        {f"n{n}.csv": LOG for n in range(300)},
        ["data", "."],
        "looked for .* found n0.csv, ",
    ),
    "an archive cut": ({"a.zip": bytes(archive()[:-30])}, ["data", "a.zip"], "a.zip: not a zip"),
    "an archive of a damaged member": (
        {"a.zip": flipped(archive(), 60)},
        ["data", "a.zip"],
        "a.zip/ml/u.data: cannot be unpacked",
    ),
    "an LZMA archive": (
        {"a.zip": flipped(archive(zipfile.ZIP_LZMA), 60)},
        ["data", "a.zip"],
        "a.zip/ml/u.data: cannot be unpacked",
    ),
    "a bzip2 archive": (
        {"a.zip": flipped(archive(zipfile.ZIP_BZIP2), 60)},
        ["data", "a.zip"],
        "a.zip/ml/u.data: cannot be unpacked",
    ),
    "an encrypted archive": (
        {"a.zip": marked(6, 8, 1)},
        ["data", "a.zip"],
        "u.data: cannot be unpacked: File 'ml/u.data' is encrypted",
    ),
    "an archive of an unknown compression": (
        {"a.zip": marked(8, 10, 97)},
        ["data", "a.zip"],
        "u.data: cannot be unpacked: That compression method is not supported",
    ),
    "a Parquet file cut": (
        {"a.parquet": parquet(lambda data: data[: len(data) // 2])},
        ["data", "a.parquet"],
        "a.parquet: not a Parquet file",
    ),
    "a Parquet file of noise": (
        {"a.parquet": b"PAR1" + bytes(range(256)) * 8 + b"\x00\x04\x00\x00PAR1"},
        ["data", "a.parquet"],
        "a.parquet: not a Parquet file",
    ),
    "a field of a megabyte": (
        {"a.csv": 'user,item,x\n1,a,\n2,b,"' + "y" * 10**6 + '"\n3,c\n'},
        ["data", "a.csv"],
        "a.csv, line 3: field larger than field limit",
    ),
    "carriage returns in N-Triples": (
        {"g.nt": "<x:a> <x:b> <x:c> .\r<x:a> <x:b>\r"},
        ["graph", "g.nt"],
        "g.nt, line 3",
    ),
    "a settings file of deep arrays": (
        {"a.toml": "a=" + "[" * 4000},
        ["train", "--config=a.toml"],
        "a.toml: must be nested at most 32 deep",
    ),
    "a settings file of very many dotted keys": (
        {"a.toml": ".".join("a" * 100_000) + "=1"},
        ["train", "--config=a.toml"],
        "a.toml: must have at most 65,536 bytes",
    ),
    "a comparison's settings likewise": (
        {"a.toml": ".".join("a" * 5_000) + "=1"},
        ["compare", "--config=a.toml"],
        "a.toml, line 1: a line must have at most 4,096 characters",
    ),
    "a table in another encoding": (
        {"a.csv": LOG.encode() + b"u\xe9,i1,3\n"},
        ["data", "a.csv"],
        r"a.csv, line 50: byte 0xe9 is not utf-8 text; name the encoding",
    ),
    "a graph in another encoding": (
        {"g.tsv": b"a\tb\tc\na\tb\t\xe9\n"},
        ["graph", "g.tsv"],
        "g.tsv, line 2: byte 0xe9 is not utf-8 text",
    ),
    "settings in another encoding": (
        {"a.toml": b"updates = 3\n# \xe9\n"},
        ["train", "--config=a.toml"],
        "a.toml, line 2: byte 0xe9 is not utf-8 text",
    ),
    "an id that is a NUL character": (
        {"a.csv": LOG + "u1,\0,3\n"},
        ["data", "a.csv"],
        "a.csv, line 50: a NUL character is here",
    ),
    "an atomic id that is a NUL character": (
        {"a.inter": "user_id:token\titem_id:token\nu\t\0\n"},
        ["data", "a.inter"],
        "a.inter, line 2: a NUL character is here",
    ),
    "an id of NUL in JSON": (
        {"a.jsonl": '{"user": "a", "item": "b"}\n{"user": "a", "item": "\\u0000"}\n'},
        ["data", "a.jsonl"],
        "a.jsonl, line 2, column 'item': an id must not hold a NUL character",
    ),
    "a quote that is not closed": (
        {"a.csv": 'user,item,rating\nu,i,3\nv,"j,4\nw,k,5\n'},
        ["data", "a.csv"],
        "a.csv, line 3: a quote is not closed",
    ),
    "a carriage return in a row": (
        {"a.csv": LOG + "u8,i\r1,3\n"},
        ["data", "a.csv"],
        "a.csv, line 50: must have 3 fields .* got 2",
    ),
    "an encoding that decodes nothing": (
        {"a.csv": LOG},
        ["data", "a.csv", "--encoding=undefined"],
        "encoding must be one that Python knows, .* got 'undefined'",
    ),
    "half a character as separator": (
        {"a.csv": LOG},
        ["data", "a.csv", "--separator=\udcff"],
        "separator must be of whole characters",
    ),
    "a name with NUL": ({}, ["data", "a\0b"], r"a\\x00b: no such path"),
    "settings of a run that are a list": (
        {"run/settings.json": "[1]", "run/checkpoints/00000000/manifest.json": "{}"},
        ["train", "--resume=run"],
        "no good checkpoint|settings.json",
    ),
}


@pytest.mark.parametrize(("files", "words", "line"), REFUSED.values(), ids=list(REFUSED))
def test_a_hostile_file_is_refused_in_one_line(run, tmp_path, monkeypatch, files, words, line):
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            os.mkfifo(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.chdir(tmp_path)
    began = time.process_time()
    status, out, err = run(*words)
    assert time.process_time() - began < 5
    assert (status, out) == (2, "")
    assert re.search(line, err), err
    assert len(err.splitlines()) == 1, err


def test_a_record_across_lines_is_one_row(run, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text('user,item,rating\nu,"a\nb",3\nv,"c\n\nd",4\n')
    status, out, _ = run("data", path)
    assert status == 0
    assert re.search(r"^interactions +2$", out, re.MULTILINE)


def test_a_user_without_a_home_is_told_what_to_set(run, monkeypatch):
    def homeless(path):
        raise RuntimeError("Could not determine home directory.")

    for variable in ("METAJAX_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pathlib.Path.expanduser", homeless)
    status, _, err = run("data", "ml-100k")
    assert status == 2
    assert re.fullmatch(r"metajax: ~/\.cache: .* set METAJAX_CACHE to a folder for data\.", err)

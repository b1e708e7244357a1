"""What a stranger's files and machine do to the command line: one line each, and an exit status."""

import io
import os
import re
import sys
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
    console.show_what_can_be_shown()
    console.say("Misérables →")
    sys.stdout.flush()
    assert written.getvalue() == b"Mis\\xe9rables \\u2192\n"


def test_a_foreseen_error_is_raised_by_a_statement_of_the_package():
    from metajax import files

    with pytest.raises(files.DataError) as caught:
        files.check_file("/none")
    assert app._is_foreseen(caught.value)
    with pytest.raises(ValueError, match="invalid literal") as caught:
        int("x")
    assert not app._is_foreseen(caught.value)
    assert not app._is_foreseen(ValueError("never raised"))

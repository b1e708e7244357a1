"""Signals at bad moments: nothing is lost, and the exit status says what happened."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from metajax import cli, runs
from metajax.cli import signals
from metajax.runs import judging


@pytest.fixture
def run(capsys):
    """Runs a command in this process; returns its exit status and what it printed."""

    def run(*arguments):
        status = cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def after(seconds, number):
    """Sends a signal to this process a little later."""

    def send():
        time.sleep(seconds)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_work_where_nothing_is_lost_stops_at_once(number):
    after(0.05, number)
    with pytest.raises(signals.Stopped, match="kept") as stopped, signals.stoppable("kept"):
        time.sleep(10)
    assert stopped.value.status == 128 + number


def test_under_nohup_a_closed_terminal_is_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.collected() as caught, signals.stoppable("kept"):
            os.kill(os.getpid(), signal.SIGHUP)
        assert not caught
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_second_signal_is_not_caught():
    with signals.collected() as caught:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        assert caught.numbers == [signal.SIGTERM]


def test_a_paused_terminal_does_not_keep_a_run_from_being_saved(begin_run, quick, tmp_path):
    """A read of an empty pipe waits like a write to a full one."""
    silent, _ = os.pipe()
    run, progress = begin_run(tmp_path / "run", quick)

    def show(row):
        after(0.05, signal.SIGTERM)
        os.read(silent, 1)

    with signals.collected() as caught:
        progress, finished = runs.train_run(
            run, progress, on_row=caught.interruptible(show), stop=lambda: bool(caught)
        )
    assert caught.numbers == [signal.SIGTERM]
    assert not finished
    assert int(runs.resumed(runs.open_run(tmp_path / "run")).state.step) == 5


def test_a_terminal_that_is_gone_does_not_end_a_run(begin_run, quick, tmp_path):
    def show(row):
        raise OSError(errno.EIO, "Input/output error")

    with signals.collected() as caught:
        _, finished = runs.train_run(
            *begin_run(tmp_path / "run", quick), on_row=caught.interruptible(show)
        )
    assert finished


@pytest.fixture
def judged(monkeypatch, trained, tmp_path):
    """A run that is judged in no time."""
    monkeypatch.setattr(judging, "judge_run", lambda *_, **__: judging.Judgement([], ["a note"]))
    monkeypatch.setattr(judging, "headline", lambda records: "a headline")
    monkeypatch.setattr("metajax.report.terminal_table", lambda records, brief: "the table")
    monkeypatch.setattr("metajax.report.html", lambda *_, **__: "<!doctype html>")
    return shutil.copytree(trained[0], tmp_path / "run")


def test_a_signal_while_the_report_is_written_keeps_it(run, judged, monkeypatch):
    write = judging.write_report

    def interrupted(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return write(*arguments, **options)

    monkeypatch.setattr(judging, "write_report", interrupted)
    status, out, err = run("evaluate", judged)
    assert (status, out) == (143, "")
    assert err.endswith(f"metajax: stopped; the report is {judged / 'report.html'}.\n")
    assert json.loads((judged / "report.json").read_text()) == []
    assert (judged / "report.html").exists()


def test_a_full_disk_costs_the_report_and_not_the_table(run, judged, monkeypatch):
    def full(descriptor, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    status, out, err = run("evaluate", judged)
    assert status == 2
    assert out == "the table\na note\na headline\n"
    assert err.endswith(f"metajax: {judged / 'report.json'}: No space left on device\n")


def test_the_report_is_written_before_it_is_shown(run, judged, monkeypatch):
    def interrupted(records, brief):
        raise KeyboardInterrupt

    monkeypatch.setattr("metajax.report.terminal_table", interrupted)
    assert run("evaluate", judged)[0] == 130
    assert (judged / "report.html").exists()


def test_an_interrupt_while_modules_are_imported_is_one_line():
    command = [sys.executable, "-m", "metajax", "train", "--data=synthetic"]
    # A test runner's workers may ignore Ctrl-C, and processes inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stderr is not None
    assert process.stderr.readline() == "Starting JAX ...\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert (process.returncode, err) == (
        130,
        "metajax: stopped before there was anything to save.\n",
    )

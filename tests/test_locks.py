import errno
import fcntl
import json
import os
import subprocess
import sys

import pytest

from metajax import locks
from metajax.locks import LockedError, locked

THIS = locks._this_process()


def leave(folder, **changes):
    """Writes the lock that a killed process leaves."""
    (folder / "lock").write_text(json.dumps({**THIS, **changes}))


def test_a_second_process_is_refused_and_told_who_holds_the_lock(tmp_path):
    with locked(tmp_path):
        words = rf": in use by process {os.getpid()} on {THIS['host']}, since 20\S+\.$"
        with pytest.raises(LockedError, match=words), locked(tmp_path):
            pass
    assert not list(tmp_path.iterdir())
    with locked(tmp_path):
        pass


HOLD = """
import sys, time
from pathlib import Path
from metajax import locks
locks.acquire(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_what_a_killed_process_holds_is_free(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(LockedError, match=f"in use by process {process.pid} on"), locked(tmp_path):
        pass
    process.kill()
    process.communicate()
    with locked(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


@pytest.fixture
def without_locks(monkeypatch):
    """A file system that has no locks."""

    def refuse(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_without_locks_the_process_is_looked_for(tmp_path, without_locks):
    parent = os.getppid()
    leave(tmp_path, pid=parent, started=locks._started(parent))
    with pytest.raises(LockedError, match=f"in use by process {parent} on"), locked(tmp_path):
        pass
    # A later process that has got the number of the one that was killed.
    leave(tmp_path, pid=parent, started="another boot 17")
    with locked(tmp_path):
        pass
    ended = subprocess.Popen(["true"])
    ended.wait()
    for gone in (ended.pid, 2**40, "1"):
        leave(tmp_path, pid=gone)
        with locked(tmp_path):
            pass
    (tmp_path / "lock").write_text('{"pid": 1')  # Killed while it wrote.
    with locked(tmp_path):
        pass


def test_without_locks_another_host_is_believed_and_how_to_go_on_is_said(tmp_path, without_locks):
    leave(tmp_path, host="elsewhere")
    words = rf"on elsewhere, since .*; if that is gone, delete {tmp_path / 'lock'}\.$"
    with pytest.raises(LockedError, match=words), locked(tmp_path):
        pass


def test_with_locks_what_another_host_has_left_is_free(tmp_path):
    leave(tmp_path, host="elsewhere")
    with locked(tmp_path):
        pass


def test_a_lock_stays_with_a_folder_that_is_renamed(tmp_path):
    (tmp_path / "a").mkdir()
    held = locks.acquire(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    with pytest.raises(LockedError), locked(tmp_path / "b"):
        pass
    locks.release(tmp_path / "b", held)
    assert not list((tmp_path / "b").iterdir())


def test_a_lock_that_is_released_while_it_is_opened_is_taken_anew(tmp_path, monkeypatch):
    first = locks.acquire(tmp_path)
    flock = fcntl.flock

    def late(descriptor, operation):
        # Between the opening and the locking the other process releases it.
        monkeypatch.setattr(fcntl, "flock", flock)
        locks.release(tmp_path, first)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(tmp_path):
        with pytest.raises(LockedError), locked(tmp_path):
            pass
        assert (tmp_path / "lock").exists()

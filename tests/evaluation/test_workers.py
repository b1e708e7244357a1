"""Workers run functions of the standard library: those any process can import."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from metajax.evaluation import workers
from metajax.evaluation.workers import WorkersError, in_processes

SLEEP = """
import time
from metajax.evaluation.workers import in_processes

def report():
    import multiprocessing
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)

if __name__ == "__main__":
    in_processes(time.sleep, [600, 601], jobs=2, waiting=report)
"""


def idle():
    pass


def test_an_error_in_a_process_is_reported():
    with pytest.raises(ValueError, match="invalid literal for int"):
        in_processes(int, ["1", "no number"], jobs=1, waiting=idle)
    assert not multiprocessing.active_children()


def test_the_share_of_a_killed_process_is_begun_anew(tmp_path, monkeypatch):
    command = f"test -e {tmp_path}/tried || (touch {tmp_path}/tried; kill -9 $PPID)"
    killed = []

    def waiting():
        # The first one while it starts.
        for child in multiprocessing.active_children() if not killed else ():
            killed.append(child.pid)
            child.kill()

    in_processes(os.system, [command, f"touch {tmp_path}/done"], jobs=1, waiting=waiting)
    assert killed
    assert {path.name for path in tmp_path.iterdir()} == {"tried", "done"}


def test_a_process_that_is_killed_again_and_again_is_an_error(monkeypatch):
    monkeypatch.setattr(workers, "_ATTEMPTS", 1)
    with pytest.raises(WorkersError, match="a process was killed 1 times"):
        in_processes(os._exit, [1], jobs=1, waiting=idle)


def test_nothing_outlives_a_process_that_is_killed(tmp_path):
    (tmp_path / "parent.py").write_text(SLEEP)
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    children: list[int] = []
    while len(children) < 2:
        children = [int(pid) for pid in parent.stdout.readline().split()]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while any(map(runs, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [pid for pid in children if runs(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

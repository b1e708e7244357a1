"""Kills commands, or processes that they started, at random moments, and types them once more.

Commands run in forks of this process, which has imported the package but started no JAX: a fork
takes no seconds to start. Each has a session of its own, by which its orphans are found.
"""

import contextlib
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from metajax import cli
from tests.kill.scenarios import bits_of, command_of, trouble_in

__all__ = ["KINDS", "Tally", "killed_at_random"]

KINDS = ("train", "graph train", "transfer", "folder creation", "compare", "compare's workers")

_PATIENCE = 300.0  # seconds until a command counts as hanging
_ORPHANS = 30.0  # seconds in which what a killed process started must have ended


class Tally(NamedTuple):
    """What came of the kills of one kind."""

    kills: int
    """How often a process was killed that was alive."""
    moments: dict[str, int]
    """How often the folder was absent, in the making, or there."""
    wrong: list[str]
    """Each kill after which something was wrong, with what it was."""
    seconds: float
    """Time of the command when it is not killed."""


def killed_at_random(kind: str, times: int, data: Path, root: Path, seed: int) -> Tally:
    """Kills a command at random moments.

    Args:
        kind: One of `KINDS`.
        times: The number of kills.
        data: Folder of the data.
        root: An empty folder.
        seed: Of the moments.

    Returns:
        What came of it.
    """
    name = {"folder creation": "train"}.get(kind, kind)
    rng = random.Random(f"{seed} {kind}")
    seconds, wanted = 0.0, {}
    for turn in ("warm", "whole"):
        began = time.monotonic()
        status, said = _ended(
            _started(command_of(name, data, root / turn), root / turn), root / turn
        )
        assert status == 0, said
        seconds, wanted = time.monotonic() - began, bits_of(root / turn)
    kills, wrong = 0, []
    moments = {"before the folder": 0, "while it is made": 0, "once it is there": 0}
    while kills < times:
        folder = root / f"{kills}"
        shutil.rmtree(folder, ignore_errors=True)
        pid = _started(command_of(name, data, folder), folder)
        made = folder.with_name(f"{folder.name}.tmp")
        if kind == "folder creation":
            _until(lambda: made.exists() or folder.exists() or _gone(pid))  # noqa: B023
            time.sleep(rng.uniform(0, 0.4))
        else:
            time.sleep(rng.uniform(0, seconds))
        victim = pid
        if kind == "compare's workers":
            _until(lambda: _workers(pid) or _gone(pid))  # noqa: B023
            victim = rng.choice(_workers(pid) or [0])
        moment = list(moments)[2 if folder.exists() else made.exists()]
        if victim == 0 or not _kill(victim, pid):
            _ended(pid, folder)  # Too late: it has done its work.
            continue
        kills += 1
        moments[moment] += 1
        problem = _after(name, pid, victim, data, folder, wanted)
        if problem:
            wrong.append(f"{kind}, kill {kills} ({moment}): {problem}")
        shutil.rmtree(folder, ignore_errors=True)
    return Tally(kills, moments, wrong, seconds)


def _after(
    name: str, pid: int, victim: int, data: Path, folder: Path, wanted: dict[str, str]
) -> str:
    """Goes on after a kill; returns what is wrong."""
    if victim == pid:
        os.waitpid(pid, 0)
        if not _until(lambda: not _session(pid), _ORPHANS):
            for orphan in _session(pid):
                os.kill(orphan, signal.SIGKILL)
            return f"orphans: {_session(pid)}"
        pid = _started(command_of(name, data, folder), folder)
    status, said = _ended(pid, folder)
    if status != 0:
        return f"a dead end, status {status}: {said}"
    # The tracker of shared resources ends after the processes that it serves.
    if not _until(lambda: not _session(pid), _ORPHANS):
        return f"orphans: {_session(pid)}"
    return trouble_in(folder, wanted)


def _started(arguments: list[str], folder: Path) -> int:
    """Runs a command in a fork; what it says goes to a file beside its folder."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        os.setsid()
        log = os.open(f"{folder}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(log, 1)
        os.dup2(log, 2)
        status = cli.main(arguments)
        sys.stdout.flush()
    finally:
        os._exit(status)


def _ended(pid: int, folder: Path) -> tuple[int, str]:
    """Waits for a command; returns its status and the last line that it said."""
    status: list[int] = []

    def ended() -> bool:
        found, code = os.waitpid(pid, os.WNOHANG)
        status.extend([os.waitstatus_to_exitcode(code)] if found else [])
        return bool(found)

    if not _until(ended, _PATIENCE):
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        status.append(-1)
    log = Path(f"{folder}.log")
    lines = log.read_text().splitlines() if log.is_file() else []
    return status[0], lines[-1] if lines else ""


def _until(holds: Callable[[], object], seconds: float = _PATIENCE) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _kill(victim: int, parent: int) -> bool:
    """Kills a process; returns False where it, or its parent, has ended before."""
    with contextlib.suppress(ProcessLookupError):
        if not _gone(victim) and not _gone(parent):
            os.kill(victim, signal.SIGKILL)
            return True
    return False


def _gone(pid: int) -> bool:
    return _stat(pid)[:1] in ([], ["Z"])


def _workers(parent: int) -> list[int]:
    """Lists the processes that a command has started to do its work."""
    found = []
    for pid in _session(parent):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            if pid != parent and b"spawn_main" in words:
                found.append(pid)
    return found


def _session(leader: int) -> list[int]:
    """Lists the living processes of a session."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    return [pid for pid in pids if _stat(pid)[3:4] == [str(leader)] and not _gone(pid)]


def _stat(pid: int) -> list[str]:
    """State, parent, group, session and so on; nothing of a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []

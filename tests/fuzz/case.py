"""One case of the fuzzer, and the rules it is judged by."""

import contextlib
import os
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from metajax.cli import app
from tests.fuzz.reference import Refused, Unsure

__all__ = ["Case", "Verdict", "judged"]

SECONDS = 5.0


class Case(NamedTuple):
    """Files and a call."""

    target: str
    """Its kind, for the counts."""
    files: dict[str, bytes | None]
    """Name to content of each file of the case's folder; None makes a named pipe."""
    call: Callable[[Path], Any]
    """Calls a public function on the folder; returns what is to be compared."""
    expected: Callable[[], Any] | None = None
    """Returns what the reference reads, or raises `Refused`; None: nothing is known of it."""
    named: Callable[[Path, str], bool] = lambda folder, message: str(folder) in message
    """True if an error's message names the file or the setting."""


class Verdict(NamedTuple):
    """How a case ended."""

    result: str
    """read, refused, too strict (refused what the reference reads), or failed."""
    why: str = ""
    """Of a failure."""


class _Late(BaseException):
    """The time of a case is over."""


def judged(case: Case, folder: Path) -> Verdict:
    """Runs a case in a folder, which is emptied.

    A case that takes longer than 5 s is run once more, for the machine may have been busy: it
    must then end in a minute, of which it and its processes compute for 5 s at most.
    """
    verdict = _judged(case, folder, SECONDS)
    if verdict.why.startswith("hang"):
        before = sum(os.times()[:4])
        verdict = _judged(case, folder, 12 * SECONDS)
        computed = sum(os.times()[:4]) - before
        if computed > SECONDS:
            return Verdict("failed", f"hang: {computed:.1f} s of computing")
    return verdict


def _judged(case: Case, folder: Path, seconds: float) -> Verdict:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in case.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            os.mkfifo(path)
        else:
            path.write_bytes(content)
    began = time.monotonic()
    try:
        with _limited(seconds):
            found = case.call(folder)
    except _Late:
        return Verdict("failed", f"hang: more than {seconds:g} s")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        verdict = _of_error(case, folder, error)
    else:
        verdict = _of_result(case, found)
    took = time.monotonic() - began
    if took > seconds:
        return Verdict("failed", f"hang: {took:.1f} s")
    return verdict


def _of_error(case: Case, folder: Path, error: BaseException) -> Verdict:
    foreseen = app._is_foreseen(error) or (isinstance(error, OSError) and error.filename)
    message = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if isinstance(error, OSError) and error.filename:
        message = f"{error.filename}: {error.strerror}"
    if not foreseen:
        last = traceback.extract_tb(error.__traceback__)[-3:]
        places = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(last))
        return Verdict("failed", f"unforeseen {type(error).__name__} at {places}: {message:.200}")
    if not case.named(folder, message):
        return Verdict("failed", f"unnamed {type(error).__name__}: {message:.300}")
    if case.expected is not None:
        with contextlib.suppress(Refused):
            case.expected()
            return Verdict("too strict", message)
    return Verdict("refused", message)


def _of_result(case: Case, found: Any) -> Verdict:
    if case.expected is None:
        return Verdict("read")
    try:
        expected = case.expected()
    except Unsure:
        return Verdict("read")
    except Refused as why:
        return Verdict("failed", f"read what the reference refuses ({why}): {found!r:.300}")
    if found != expected:
        return Verdict("failed", f"wrong read: {found!r:.300} and not {expected!r:.300}")
    return Verdict("read")


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def late(number: int, frame: Any) -> None:
        del number, frame
        raise _Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

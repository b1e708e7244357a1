"""Signals that stop a command: Ctrl-C, SIGTERM, and SIGHUP of a terminal that was closed.

Training saves first and then says so: a terminal that was paused, or is gone, must not keep it from
saving. The exit status is 128 and the signal's number, as of a process that the signal ended, so
that `train && next` does not go on.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

__all__ = ["Collected", "Stopped", "collected", "restore_interrupt", "stoppable"]


def restore_interrupt() -> None:
    """Lets Ctrl-C raise KeyboardInterrupt again, once everything is imported.

    Where it is ignored, as in the background of a shell, it stays so.
    """
    if threading.current_thread() is threading.main_thread() and signal.getsignal(
        signal.SIGINT
    ) not in (signal.SIG_IGN, None):
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Stopped(Exception):  # noqa: N818
    """A command that a signal has stopped."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.status = 128 + number
        """The exit status: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""


class _Interrupted(KeyboardInterrupt):
    """A signal, as an exception."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number


class Collected:
    """Signals that were received during work that is saved before it is left."""

    def __init__(self):
        self.numbers: list[int] = []
        """Their numbers, in order."""
        self._shows = False

    def __bool__(self):
        """True once a signal has come."""
        return bool(self.numbers)

    def raise_stopped(self, message: str) -> None:
        """Ends the command if a signal has come.

        Raises:
            Stopped: With the message.
        """
        if self.numbers:
            raise Stopped(message, self.numbers[0])

    def interruptible(self, show: Callable[[Any], None]) -> Callable[[Any], None]:
        """Wraps a function that prints: a signal interrupts it, and nothing is printed after that.

        A terminal that is paused lets it wait for ever, and one that is gone lets it fail.
        """

        def shown(value: Any) -> None:
            if self.numbers:
                return
            try:
                self._shows = True
                show(value)
                self._shows = False
            except (_Interrupted, OSError):
                self._shows = False

        return shown

    def _catch(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.numbers.append(number)
        # The next one ends the process at once.
        signal.signal(number, signal.SIG_DFL)
        if self._shows:
            raise _Interrupted(number)


@contextlib.contextmanager
def collected() -> Iterator[Collected]:
    """Collects signals, so that the step under way can be finished and saved.

    Yields:
        The signals that have come.
    """
    caught = Collected()
    with _handled(caught._catch):
        yield caught


@contextlib.contextmanager
def stoppable(message: str) -> Iterator[None]:
    """Lets signals stop work at once, where nothing is lost.

    Args:
        message: What is saved, and how to resume.

    Raises:
        Stopped: With the message, after a signal.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        del frame
        raise _Interrupted(number)

    try:
        with _handled(interrupt):
            yield
    except _Interrupted as stopped:
        raise Stopped(message, stopped.number) from None
    except KeyboardInterrupt:
        raise Stopped(message, signal.SIGINT) from None


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    numbers = [signal.SIGINT, signal.SIGTERM]
    # Windows has none; under nohup it is ignored.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)

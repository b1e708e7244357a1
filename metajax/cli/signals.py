"""Ctrl-C and SIGTERM, so that what was done is kept."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Terminated", "collected", "terminable"]


class Terminated(KeyboardInterrupt):
    """SIGTERM, as an exception."""


@contextmanager
def terminable() -> Iterator[None]:
    """Lets SIGTERM interrupt as Ctrl-C does."""

    def terminate(number: int, frame: Any) -> None:
        del number, frame
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def collected() -> Iterator[list[int]]:
    """Collects SIGTERM and Ctrl-C, so that the step under way can be finished and saved."""
    caught: list[int] = []

    def catch(number: int, frame: Any) -> None:
        del frame
        caught.append(number)
        # The next one ends the process at once.
        signal.signal(number, signal.SIG_DFL)
        print("Stopping after this dispatch ...", file=sys.stderr)

    before: dict[int, Callable[..., Any] | int | None] = {
        number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Progress of long work on the host, reported to a listener such as a progress bar.

Closed forms are fitted deep inside other functions, whose signatures have no room for a callback.
Nothing depends on the listener but what it shows.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

__all__ = ["counted", "listening", "teller"]

_Listener = Callable[[str, int, int], None]

_listener: ContextVar[_Listener | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def listening(on_step: _Listener) -> Iterator[None]:
    """Calls a function at each step of what runs inside.

    Args:
        on_step: `on_step(what, done, total)`, with the name of the work; `done` from 0 to `total`.

    Example:
        >>> with listening(lambda what, done, total: print(what, done, total)):
        ...     list(counted("EM", 2))
        EM 0 2
        EM 1 2
        EM 2 2
        [0, 1]
    """
    token = _listener.set(on_step)
    try:
        yield
    finally:
        _listener.reset(token)


def counted(what: str, total: int) -> Iterator[int]:
    """Yields 0 to `total - 1`, and tells the listener, if there is one, how many are done.

    Args:
        what: Name of the work.
        total: Number of steps.
    """
    tell = teller(what, total)
    for step in range(total):
        tell(step)
        yield step
    tell(total)


def teller(what: str, total: int) -> Callable[[int], None]:
    """Returns a function that tells the listener, if there is one, how many steps are done.

    Args:
        what: Name of the work.
        total: Number of steps.
    """
    on_step = _listener.get()
    return lambda done: None if on_step is None else on_step(what, done, total)

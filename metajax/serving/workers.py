"""Several processes that serve one socket, and the process that supervises them.

The socket is opened once and inherited: a connection that waits while a worker is killed is taken
by another one. With a socket for each (`SO_REUSEPORT`) the kernel would reset those of the dead
worker. Workers are spawned and not forked, as XLA has threads. uvicorn's own supervisor restarts
its workers at SIGHUP; here they stay, and load the new model beside the old one.

    SIGHUP             each worker reloads its model; one that starts meanwhile does afterwards
    SIGTERM, SIGINT    each worker finishes its requests, then all end
    a worker ends      another one is started, after a pause that grows while none gets ready
    this process ends  the workers end, as their pipe does
"""

import contextlib
import json
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from metajax.characters import visible

__all__ = ["Keeper", "supervise"]

_LOG = logging.getLogger(__name__)

_PAUSE, _LONGEST = 0.5, 30.0
"""Seconds before a worker is started again: of the first time, and at most."""

_PATIENCE = 20.0
"""Seconds in which a worker must have finished its requests."""


class Keeper:
    """A worker's connection to the process that supervises it.

    Args:
        pipe: To that process.
    """

    def __init__(self, pipe: Connection):
        self._pipe, self._lock = pipe, threading.Lock()
        threading.Thread(target=self._follow, name="keeper", daemon=True).start()

    def tell(self, what: str, line: str = "") -> None:
        """Tells it that this worker is `ready`, has `reloaded`, or that it `failed` and why."""
        with self._lock, contextlib.suppress(OSError):
            self._pipe.send((what, line))

    def _follow(self) -> None:
        """Ends this worker when that process is gone."""
        with contextlib.suppress(EOFError, OSError):
            self._pipe.recv()
        os.kill(os.getpid(), signal.SIGTERM)


class _Worker:
    """A process, and what is known of it."""

    def __init__(self, context: Any, run: Callable[..., None], arguments: tuple[Any, ...]):
        self.pipe, inner = context.Pipe()
        self.process = context.Process(target=_begin, args=(run, inner, arguments), daemon=False)
        self.process.start()
        inner.close()
        self.ready = False
        self.outdated = False
        """True of one that must reload once it is ready."""

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)


def supervise(
    run: Callable[..., None],
    arguments: tuple[Any, ...],
    *,
    workers: int,
    ready: Callable[[], None],
) -> None:
    """Starts workers, and replaces those that end, until a signal ends this process.

    Args:
        run: Called in each worker with its `Keeper` and the arguments; both can be pickled.
        arguments: Its other arguments.
        workers: Number of workers.
        ready: Called once all are ready.

    Raises:
        ValueError: If one fails before all were ready once; says why.
    """
    context: Any = multiprocessing.get_context("spawn")
    kept: list[_Worker] = []
    told, pause, due = False, _PAUSE, 0.0
    with _signals() as signals:
        try:
            while True:
                while len(kept) < workers and time.monotonic() >= due:
                    kept.append(_Worker(context, run, arguments))
                waiting = [signals, *(one.pipe for one in kept)]
                waiting += [one.process.sentinel for one in kept]
                late = len(kept) < workers
                timeout = max(0.0, due - time.monotonic()) if late else None
                found = wait(waiting, timeout)
                if signals in found:
                    if os.read(signals, 1) == b"s":
                        return
                    for one in kept:
                        _reload(one)
                for one in list(kept):
                    what, line = _message(one) if one.pipe in found else ("", "")
                    if what == "ready":
                        one.ready, pause = True, _PAUSE
                        if one.outdated:
                            _reload(one)
                    elif what == "reloaded":
                        for other in kept:
                            if other is not one:
                                _reload(other)
                    elif what == "failed" and not told:
                        raise ValueError(line)
                    elif what == "failed":
                        _LOG.error(json.dumps({"event": "worker failed", "why": visible(line)}))
                    if what or one.process.is_alive():
                        continue
                    code = one.process.exitcode
                    if not told:
                        raise ValueError(f"a worker ended with {code} before it was ready.")
                    _LOG.error(json.dumps({"event": "worker ended", "code": code}))
                    one.pipe.close()
                    kept.remove(one)
                    due, pause = time.monotonic() + pause, min(2 * pause, _LONGEST)
                if not told and len(kept) == workers and all(one.ready for one in kept):
                    told = True
                    ready()
        finally:
            _end(kept)


def _begin(run: Callable[..., None], pipe: Connection, arguments: tuple[Any, ...]) -> None:
    """Begins a worker, and tells why it could not."""
    keeper = Keeper(pipe)
    logging.basicConfig(format="%(message)s")
    try:
        run(keeper, *arguments)
    except (ValueError, OSError, ImportError) as problem:
        keeper.tell("failed", str(problem))


def _message(worker: _Worker) -> tuple[str, str]:
    try:
        return worker.pipe.recv()
    except (EOFError, OSError):
        return "", ""


def _reload(worker: _Worker) -> None:
    # The signal would end a worker that does not listen to it yet.
    worker.outdated = not worker.ready
    if worker.ready:
        worker.signal(signal.SIGHUP)


def _end(workers: list[_Worker]) -> None:
    for one in workers:
        one.signal(signal.SIGTERM)
    last = time.monotonic() + _PATIENCE
    for one in workers:
        one.process.join(max(0.0, last - time.monotonic()))
        if one.process.is_alive():
            one.process.kill()
            one.process.join()
        one.pipe.close()


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """Yields a descriptor with a byte for each signal: `s` to stop, `h` to reload."""
    reading, writing = os.pipe()
    before = {}

    def noting(byte: bytes) -> Callable[..., Any]:
        return lambda *_: os.write(writing, byte)

    try:
        for name, byte in (("SIGTERM", b"s"), ("SIGINT", b"s"), ("SIGHUP", b"h")):
            number = getattr(signal, name, None)
            if number is not None:
                before[number] = signal.signal(number, noting(byte))
        yield reading
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)

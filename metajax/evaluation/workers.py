"""Parallel evaluation of cells by several processes, each with a method at a time.

A compiled program serves all cells of its method, so methods are distributed and not cells. The
processes share the folder alone: a cell is finished when its file is there. What all of them need
lies in a file there too; through the pipe that starts a process only little may go, because nobody
reads it any more where the process is killed while it starts.
"""

import concurrent.futures
import contextlib
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

__all__ = ["WorkersError", "in_processes"]

_SECONDS = 0.3  # between two checks of the folder

# Workers that are killed again and again are killed for a reason, such as want of memory.
_ATTEMPTS = 3


class WorkersError(RuntimeError):
    """A process that failed, or was killed too often."""


def in_processes(
    work: Callable[[Any], Any],
    shares: Sequence[Any],
    *,
    jobs: int,
    waiting: Callable[[], None],
    starting: Callable[[], None] = lambda: None,
) -> None:
    """Runs `work(share)` for each share in one of some processes, until all are done.

    The processes end with this one, however it ends. Where one of them is killed the unfinished
    shares are begun anew, by new processes.

    Args:
        work: A function that a new process can import. Done twice it must do no harm.
        shares: Its arguments, which can be pickled, in a few kilobytes.
        jobs: The number of processes.
        waiting: Called now and then, and once more at the end.
        starting: Called while no process runs: first, and again after one of them was killed.

    Raises:
        ValueError: If one raised it.
        WorkersError: If one failed otherwise, or was killed three times.
    """
    left = list(shares)
    for _ in range(_ATTEMPTS):
        starting()
        with contextlib.suppress(BrokenProcessPool):
            for done in _finished(work, left, min(jobs, len(left)), waiting):
                left.remove(done)
            waiting()
            return
    raise WorkersError(
        f"a process was killed {_ATTEMPTS} times, perhaps for want of memory; what is finished is "
        "kept, and the same command goes on."
    )


def _finished(
    work: Callable[[Any], Any], shares: Sequence[Any], jobs: int, waiting: Callable[[], None]
) -> Iterator[Any]:
    """Yields each share when it is done; raises BrokenProcessPool where a process was killed."""
    import multiprocessing

    if not shares:
        return
    # Not forked: JAX has threads.
    context = multiprocessing.get_context("spawn")
    # Nothing is ever sent. The end that this process alone holds is closed when it ends, however
    # that happens, and then the others end too.
    watched, held = context.Pipe(duplex=False)
    pool = concurrent.futures.ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_end_with, initargs=(watched,)
    )
    try:
        with _without_interrupts():
            pending = {pool.submit(_outcome, work, share): share for share in shares}
        while pending:
            done, _ = concurrent.futures.wait(
                pending, _SECONDS, return_when=concurrent.futures.FIRST_COMPLETED
            )
            waiting()
            for future in done:
                kind, message = future.result()
                if kind:
                    raise (ValueError if kind == "ValueError" else WorkersError)(message)
                yield pending.pop(future)
    finally:
        # After an error or Ctrl-C they are in the middle of something; what is finished is kept.
        held.close()
        pool.shutdown(cancel_futures=True)
        watched.close()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Blocks Ctrl-C while processes are started, which inherit that: it is for the parent alone."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows.
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with(watched: Any) -> None:
    """Ends this process as soon as the other end of a pipe is closed."""

    def wait() -> None:
        with contextlib.suppress(EOFError, OSError):
            watched.recv()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _outcome(work: Callable[[Any], Any], share: Any) -> tuple[str, str]:
    """Returns kind and text of an error, empty without one: not every error can be pickled."""
    try:
        work(share)
    except ValueError as error:
        return "ValueError", str(error)
    except Exception as error:
        # A bug, so the traceback is printed.
        traceback.print_exc()
        return type(error).__name__, f"{type(error).__name__}: {error}"
    return "", ""

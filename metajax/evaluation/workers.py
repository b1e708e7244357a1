"""Parallel evaluation of cells by several processes, each with methods of its own.

A compiled program serves all cells of its method, so methods are distributed and not cells. The
processes share the folder alone: a cell is finished when its file is there.
"""

import contextlib
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["in_processes"]

_SECONDS = 0.3  # between two checks of the folder


def in_processes(
    work: Callable[[Any], Any],
    shares: Sequence[Any],
    *,
    waiting: Callable[[], None],
) -> None:
    """Runs `work(share)` for each share in a process of its own, until all are done.

    Args:
        work: A function that a new process can import.
        shares: Its arguments, which can be pickled.
        waiting: Called now and then, and once more at the end.

    Raises:
        ValueError: If one raised it.
        RuntimeError: If one failed otherwise.
    """
    import multiprocessing

    # Not forked: JAX has threads.
    context = multiprocessing.get_context("spawn")
    errors = context.SimpleQueue()
    processes = [context.Process(target=_guarded, args=(work, share, errors)) for share in shares]
    for process in processes:
        process.start()
    try:
        while any(process.is_alive() for process in processes):
            waiting()
            if not errors.empty():
                break
            time.sleep(_SECONDS)
    finally:
        # After an error or Ctrl-C; what is finished is kept.
        for process in processes:
            if process.is_alive():
                process.terminate()
        for process in processes:
            process.join()
    waiting()
    if not errors.empty():
        kind, message = errors.get()
        raise (ValueError if kind == "ValueError" else RuntimeError)(message)
    codes = [process.exitcode for process in processes]
    if any(codes):
        raise RuntimeError(f"a process ended with status {next(code for code in codes if code)}.")


def _guarded(work: Callable[[Any], Any], share: Any, errors: Any) -> None:
    try:
        with contextlib.suppress(KeyboardInterrupt):
            work(share)
    except ValueError as error:
        errors.put(("ValueError", str(error)))
    except Exception as error:
        # A bug, so the traceback is printed.
        traceback.print_exc()
        errors.put((type(error).__name__, f"{type(error).__name__}: {error}"))

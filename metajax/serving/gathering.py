"""Batching of concurrent requests by one thread."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from metajax.serving.defects import log_defect

__all__ = ["ClosedError", "Gatherer", "Job"]

Job = tuple[Any, Future[Any]]
"""A request, and its result."""


class ClosedError(Exception):
    """A gatherer that takes no more requests."""


class Gatherer:
    """One thread that takes all requests that wait, and handles them in one call.

    A request that comes alone is handled at once; those that come meanwhile wait for one another.
    With `patience` a call after one of several requests waits for as many.

    Args:
        handle: Sets the result, or the exception, of each job, or has it set later.
        most: Number of jobs of one call, at most.
        name: Of the thread.
        patience: Seconds to wait for as many jobs as the call before had.
    """

    def __init__(
        self,
        handle: Callable[[Sequence[Job]], None],
        *,
        most: int,
        name: str,
        patience: float = 0.0,
    ):
        self._handle, self._most, self._patience = handle, most, patience
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of jobs that wait."""
        return self._jobs.qsize()

    def submit(self, request: Any) -> Future[Any]:
        """Submits a request; returns the future of its result.

        Raises:
            ClosedError: After `close`.
        """
        future: Future[Any] = Future()
        with self._guard:
            if self._closed:
                raise ClosedError("closed")
            self._jobs.put((request, future))
        return future

    def close(self) -> None:
        """Handles what waits, and ends the thread."""
        with self._guard:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        group: list[Job] = []
        while (first := self._jobs.get()) is not None:
            expected, end = len(group), time.monotonic() + self._patience
            group, ends = [first], False
            while len(group) < self._most and not ends:
                left = end - time.monotonic() if len(group) < expected else 0.0
                try:
                    following = self._jobs.get(left > 0, max(left, 0.0))
                except queue.Empty:
                    break
                if following is None:
                    ends = True
                else:
                    group.append(following)
            # From here on nobody can cancel them.
            group = [job for job in group if job[1].set_running_or_notify_cancel()]
            try:
                self._handle(group)
            # Nobody may wait for ever, and the thread goes on.
            except Exception as error:
                waiting = [future for _, future in group if not future.done()]
                for future in waiting:
                    future.set_exception(error)
                if not waiting:
                    log_defect(error)
            if ends:
                return

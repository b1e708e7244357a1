"""A thread that does together what several requests wait for."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

__all__ = ["ClosedError", "Gatherer", "Job"]

Job = tuple[Any, Future[Any]]
"""A request, and its result."""


class ClosedError(Exception):
    """A gatherer that takes no more requests."""


class Gatherer:
    """One thread that takes all requests that wait, and handles them in one call.

    A request that comes alone is handled at once; those that come meanwhile wait for one another.

    Args:
        handle: Sets the result, or the exception, of each job.
        most: Number of jobs of one call, at most.
        name: Of the thread.
    """

    def __init__(self, handle: Callable[[Sequence[Job]], None], *, most: int, name: str):
        self._handle, self._most = handle, most
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of jobs that wait."""
        return self._jobs.qsize()

    def result(self, request: Any) -> Any:
        """Hands a request in, and waits for its result.

        Raises:
            ClosedError: After `close`.
        """
        future: Future[Any] = Future()
        with self._guard:
            if self._closed:
                raise ClosedError("closed")
            self._jobs.put((request, future))
        return future.result()

    def close(self) -> None:
        """Handles what waits, and ends the thread."""
        with self._guard:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._jobs.get()) is not None:
            group, ends = [first], False
            while len(group) < self._most and not ends:
                try:
                    following = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    ends = True
                else:
                    group.append(following)
            try:
                self._handle(group)
            # Nobody may wait for ever.
            except Exception as error:
                for _, future in group:
                    if not future.done():
                        future.set_exception(error)
            if ends:
                return

"""Connections on which nothing moves are cut, so that they cannot pile up.

uvicorn bounds the time between two requests, and the application that of a body. What remains are
clients that never finish the header of a request, and those that never read their answer.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

__all__ = ["IdleConnections"]


class _Watched(NamedTuple):
    cycle: Any
    """Last request that was begun, or None."""
    waits: float
    """Since when it has been answered, and no other one came."""
    buffered: int
    """Bytes of answers that the client has not taken."""
    stuck: float
    """Since when it has taken none of them."""


class IdleConnections:
    """Looks at the connections of a uvicorn server from time to time.

    Args:
        connections: Returns those that are open now.
        header: Seconds in which the header of a request must be whole, from the start of the
            connection or the last answer.
        taken: Seconds in which a client must take some byte of its answer.
        clock: Seconds that only rise.
    """

    def __init__(
        self,
        connections: Callable[[], Iterable[Any]],
        *,
        header: float,
        taken: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._connections, self._clock = connections, clock
        self._header, self._taken = header, taken
        self._watched: dict[Any, _Watched] = {}

    def cut(self) -> int:
        """Cuts those on which nothing moved for too long; returns their number."""
        now, number = self._clock(), 0
        watched: dict[Any, _Watched] = {}
        for one in list(self._connections()):
            cycle, buffered = one.cycle, one.transport.get_write_buffer_size()
            seen = self._watched.get(one, _Watched(cycle, now, 0, now))
            answered = cycle is None or cycle.response_complete
            waits = seen.waits if answered and seen.cycle is cycle else now
            stuck = seen.stuck if buffered and buffered >= seen.buffered > 0 else now
            if now - waits > self._header or now - stuck > self._taken:
                one.transport.abort()
                number += 1
            else:
                watched[one] = _Watched(cycle, waits, buffered, stuck)
        self._watched = watched
        return number

"""Limits on clients: requests that are under way and that come in a second, and who is local."""

import ipaddress
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable

__all__ = ["Limits", "is_loopback"]

_REMEMBERED = 10_000
"""Clients whose rates are known at once, at most: the others count as new."""

_BURST = 10.0
"""Seconds whose requests may come at once."""


def is_loopback(host: str) -> bool:
    """True of an address that other machines cannot reach.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Limits:
    """Counts of requests by client; for one thread, that of the event loop.

    The rate is kept by a token bucket for each client.

    Args:
        most: Requests under way of all clients together, at most.
        of_client: Requests under way of one client, at most.
        rate: Requests a second of one client, on average; None: any.
        clock: Seconds that only rise.

    Example:
        >>> limits = Limits(2, 1, None)
        >>> limits.enter("a"), limits.enter("a"), limits.enter("b"), limits.enter("c")
        (None, (429, 1), None, (503, 1))
        >>> limits.leave("a")
        >>> limits.enter("a")
    """

    def __init__(
        self,
        most: int,
        of_client: int,
        rate: float | None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._most, self._of_client, self._rate, self._clock = most, of_client, rate, clock
        self._under_way: Counter[str] = Counter()
        self._total = 0
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def enter(self, client: str) -> tuple[int, int] | None:
        """Admits a request, which must `leave`, or refuses it.

        Args:
            client: Address of the client.

        Returns:
            None, or the status and the seconds after which to try again.
        """
        if self._under_way[client] >= self._of_client:
            return 429, 1
        if self._total >= self._most:
            return 503, 1
        wait = self._wait(client)
        if wait > 0:
            return 429, math.ceil(wait)
        self._under_way[client] += 1
        self._total += 1
        return None

    def leave(self, client: str) -> None:
        """Counts an admitted request as done."""
        self._total -= 1
        self._under_way[client] -= 1
        if not self._under_way[client]:
            del self._under_way[client]

    def _wait(self, client: str) -> float:
        """Takes a token and returns 0, or returns the seconds until there is one."""
        if self._rate is None:
            return 0.0
        now, most = self._clock(), max(1.0, self._rate * _BURST)
        left, seen = self._buckets.pop(client, (most, now))
        left = min(most, left + (now - seen) * self._rate)
        wait = 0.0 if left >= 1 else (1 - left) / self._rate
        self._buckets[client] = (left if wait else left - 1, now)
        while len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        return wait

"""Scores of users who were adapted to, kept for as long as their events are the same."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

from metajax.runs.recommendation import Scored, Seen

__all__ = ["KeptScores"]

_Rows = tuple[np.ndarray, ...]


class KeptScores:
    """The least recently used scores go first; it may be called from any thread.

    The key is all that a method sees of a user, so that a new event is a new key: what is kept can
    never be old. Scores and not adapted states are kept, as most of the time goes into scoring the
    catalogue: of the engine on MovieLens-100K .9 ms of 5.2 are adaptation to 5 events.

    Args:
        compute: Scores users, whose number it takes at once.
        most: Bytes that are kept, at most.
    """

    def __init__(self, compute: Callable[[Sequence[Seen]], Scored], most: int):
        self._compute, self._most = compute, most
        self._kept: OrderedDict[bytes, _Rows] = OrderedDict()
        self._lock = threading.Lock()
        self._bytes = 0

    @property
    def users(self) -> int:
        """Number of users whose scores are kept."""
        return len(self._kept)

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return self._bytes

    def of(self, seen: Sequence[Seen]) -> Scored:
        """Scores all items for some users, of whom only new ones are adapted to."""
        keys = [_key(one) for one in seen]
        with self._lock:
            found = {key: self._kept[key] for key in keys if key in self._kept}
            for key in found:
                self._kept.move_to_end(key)
        missing = {key: one for key, one in zip(keys, seen, strict=True) if key not in found}
        if missing:
            scored = self._compute(list(missing.values()))
            # Copies, as a view would keep the rows of all users of the call.
            rows = (tuple(part.copy() for part in row) for row in zip(*scored, strict=True))
            new = dict(zip(missing, rows, strict=True))
            found |= new
            with self._lock:
                for key, row in new.items():
                    self._put(key, row)
        return Scored(*(np.stack(part) for part in zip(*(found[k] for k in keys), strict=True)))

    def _put(self, key: bytes, row: _Rows) -> None:
        if key in self._kept:
            return
        self._kept[key] = row
        self._bytes += _size(key, row)
        while self._bytes > self._most:
            self._bytes -= _size(*self._kept.popitem(last=False))


def _key(seen: Seen) -> bytes:
    parts = (seen.items.astype(np.int32), seen.labels.astype(np.float32), seen.features)
    return len(seen.items).to_bytes(4, "big") + b"".join(part.tobytes() for part in parts)


def _size(key: bytes, row: _Rows) -> int:
    return len(key) + sum(part.nbytes for part in row)

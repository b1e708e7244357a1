"""The first items of users who were adapted to, kept for as long as their events are the same."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b

import numpy as np

from metajax.runs.recommender import Seen

__all__ = ["KeptLists"]

FIRST = 64
"""Items that are kept of a user: ten are shown, and others may have been met or be unavailable."""

PLACE = np.dtype([("item", np.int32), ("score", np.float32), ("deviation", np.float32)])
"""An item, -1 where there is none, its score and the standard deviation of that."""

_ENTRY = 240
"""Bytes of a key and of its place in the order, by `tracemalloc`."""


class KeptLists:
    """Cache of users' first items, least recently used out first; for any thread.

    The key is all that a method sees of a user and what clients told of items, so that a new event
    is a new key: what is kept can never be old. The first items and not adapted states are kept, as
    most of the time goes into scoring the catalogue; and not all scores, whose size is that of the
    catalogue. All rows are one array.

    Args:
        most: Bytes that are kept, at most.
        length: Items of a user.
    """

    def __init__(self, most: int, length: int = FIRST):
        self._bytes = length * PLACE.itemsize + _ENTRY
        # Memory is taken as it is written.
        self._rows = np.empty((most // self._bytes, length), PLACE)
        self._place: OrderedDict[bytes, int] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def users(self) -> int:
        """Number of users whose items are kept."""
        return len(self._place)

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return len(self._place) * self._bytes

    def of(
        self,
        seen: Sequence[Seen],
        told: bytes,
        compute: Callable[[Sequence[Seen]], np.ndarray],
    ) -> np.ndarray:
        """Returns the first items of some users, of whom only new ones are adapted to.

        Args:
            seen: Of each user.
            told: What the scores depend on besides.
            compute: Returns `[B, length]` of `PLACE` for B users.

        Returns:
            `[B, length]` of `PLACE`; rows with a score that is not finite are not kept.
        """
        keys = [_key(one, told) for one in seen]
        found = np.empty((len(seen), self._rows.shape[1]), PLACE)
        missing: dict[bytes, list[int]] = {}
        with self._lock:
            for n, key in enumerate(keys):
                if key in self._place:
                    self._place.move_to_end(key)
                    found[n] = self._rows[self._place[key]]
                else:
                    missing.setdefault(key, []).append(n)
        if missing:
            new = compute([seen[places[0]] for places in missing.values()])
            with self._lock:
                for key, row in zip(missing, new, strict=True):
                    found[missing[key]] = row
                    if np.isfinite(row["score"]).all():
                        self._put(key, row)
        return found

    def _put(self, key: bytes, row: np.ndarray) -> None:
        if key in self._place or not len(self._rows):
            return
        place = len(self._place)
        if place == len(self._rows):
            place = self._place.popitem(last=False)[1]
        self._rows[place] = row
        self._place[key] = place


def _key(seen: Seen, told: bytes) -> bytes:
    digest = blake2b(told, digest_size=16)
    digest.update(len(seen.items).to_bytes(4, "big"))
    for part in (seen.items.astype(np.int32), seen.labels.astype(np.float32), seen.features):
        digest.update(part.tobytes())
    return digest.digest()

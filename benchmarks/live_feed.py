"""Does a live hypergraph of what others do right now help to order items for a new user?

    python benchmarks/live_feed.py [--data NAME|PATH] [--json FILE]

MovieLens-100K in the order of time: the last 30 % of the ratings are a stream, in which users come
who were never seen before. At each of their first ratings after one all items that they have not
rated are ordered by what was known at that moment, and the film that they rate next is looked for
among the first ten (NDCG@10 of that one). Popularity and cosine ItemKNN are counted at the start of
the stream (`start`), at the last midnight, as a nightly refit does (`nightly`), or at each event
(`always`). With `+ live` they are joined by what `knowledge.live` would make of the arrivals of
the stream, here in NumPy, users being hyperedges and weights decaying: the weight of each item, and
its weight in hyperedges that share items with the user. The weights of the parts and the decay are
chosen on the half of the users who come first; figures are of the others, with 95 % intervals over
users.
"""

import argparse
import itertools
import json
import platform
from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from metajax.data import load

DAY, TOP, MOST = 86_400.0, 10, 10
DECAYS = (1.0, 7.0, 30.0)
WEIGHTS = (0.0, 0.1, 0.3, 1.0, 3.0)
COMBINED = np.array(list(itertools.product(WEIGHTS, WEIGHTS, WEIGHTS)))
"""Weights of neighbours before the stream, of the weight in it, and of shared hyperedges."""


def standard(scores: np.ndarray) -> np.ndarray:
    """Scores over the largest; a part that knows nothing stays 0."""
    most = scores.max()
    return scores / most if most > 0 else scores


class Stream:
    """Arrivals of users, who are hyperedges; a weight is kept as at the start of the stream."""

    def __init__(self, users: int, items: int, decay: float, begin: float):
        self._weight = np.zeros((users, items), np.float32)
        self._sum = np.zeros(items)
        self._row: dict[int, int] = {}
        self._decay, self._begin = decay * DAY, begin

    def add(self, user: int, item: int, time: float) -> None:
        """Adds an arrival; nobody rates an item twice."""
        row = self._row.setdefault(user, len(self._row))
        weight = np.exp((time - self._begin) / self._decay)
        self._weight[row, item] = weight
        self._sum[item] += weight

    def parts(self, user: int, seen: Sequence[int], now: float) -> tuple[np.ndarray, np.ndarray]:
        """Weight of each item, and that among users who share items with this one."""
        weight, own = self._weight[: len(self._row)], self._row[user]
        shared = weight[:, seen].sum(1)
        shared[own] = 0
        live = np.maximum(self._sum - weight[own], 0) * np.exp((self._begin - now) / self._decay)
        return standard(np.log1p(live)), standard(standard(shared) @ weight)


def gains(parts: Sequence[np.ndarray], seen: Sequence[int], target: int) -> np.ndarray:
    """NDCG of one target, at each of `COMBINED` weights of the parts after the first."""
    scores = parts[0] + COMBINED @ np.stack(parts[1:])
    scores[:, seen] = -np.inf
    place = (scores > scores[:, [target]]).sum(1)
    return np.where(place < TOP, 1 / np.log2(place + 2), 0.0)


class Counts:
    """Popularity and cosine ItemKNN of all that was counted."""

    def __init__(self, counts: np.ndarray):
        self._counts, total = counts, counts.sum(0)
        self.popular = standard(np.log1p(total))
        self._norm = np.maximum(np.sqrt(total), 1.0)

    def parts(self, user: int, seen: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Popularity, and similarity to what a user has seen."""
        shared = (self._counts[:, seen] / self._norm[seen]).sum(1)
        shared[user] = 0
        return self.popular, standard(shared @ self._counts / self._norm)


def measure(data: str) -> list[dict[str, Any]]:
    """Returns a record for each way to order."""
    log = load(data).interactions
    order = np.lexsort((log.item, log.user, log.time))
    user, item, time = log.user[order], log.item[order], log.time[order].astype(float)
    begin = int(0.7 * len(user))
    counts = np.zeros((len(log.user_ids), len(log.item_ids)), np.float32)
    counts[user[:begin], item[:begin]] = 1
    new, nothing = counts.sum(1) == 0, np.zeros(counts.shape[1])
    start = nightly = Counts(counts.copy())
    night = time[begin] // DAY
    streams = {decay: Stream(*counts.shape, decay, time[begin]) for decay in DECAYS}
    seen: dict[int, list[int]] = defaultdict(list)
    found: dict[tuple[str, float], dict[int, list[np.ndarray]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for u, i, now in zip(
        user[begin:].tolist(), item[begin:].tolist(), time[begin:].tolist(), strict=True
    ):
        own = seen[u]
        if now // DAY > night:
            nightly, night = Counts(counts.copy()), now // DAY
        if new[u] and 1 <= len(own) <= MOST:
            live = {decay: stream.parts(u, own, now) for decay, stream in streams.items()}
            for name, base in ("start", start), ("nightly", nightly), ("always", Counts(counts)):
                parts = base.parts(u, own)
                found[name, 0.0][u].append(gains([*parts, nothing, nothing], own, i))
                for decay, more in live.items():
                    found[f"{name} + live", decay][u].append(gains([*parts, *more], own, i))
        for stream in streams.values():
            stream.add(u, i, now)
        counts[u, i] = 1
        own.append(i)
    newcomers = list(found["start", 0.0])
    tuning, judged = newcomers[: len(newcomers) // 2], newcomers[len(newcomers) // 2 :]

    def means(key: tuple[str, float], users: list[int]) -> np.ndarray:
        return np.stack([np.mean(found[key][u], axis=0) for u in users])

    values, records = {}, []
    draws = np.random.default_rng(0).integers(len(judged), size=(10_000, len(judged)))
    for name in dict.fromkeys(name for name, _ in found):
        tried = {key: means(key, tuning).mean(0) for key in found if key[0] == name}
        key = max(tried, key=lambda one: tried[one].max())
        best = int(tried[key].argmax())
        own = values[name] = means(key, judged)[:, best]
        ends = np.quantile(own[draws].mean(1), [0.025, 0.975])
        record = {"method": name, "users": len(judged), "ndcg": own.mean(), "interval": ends}
        if name.endswith(" + live"):
            more = own - values[name.removesuffix(" + live")]
            record["gain"] = more.mean()
            record["of_gain"] = np.quantile(more[draws].mean(1), [0.025, 0.975])
        record["setting"] = {"days": key[1], "weights": COMBINED[best].tolist()}
        records.append(record)
    return records


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="ml-100k")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options.data)
    machine = {"machine": platform.platform(), "date": date.today().isoformat()}
    for record in found:
        print(json.dumps(record, default=lambda a: a.tolist()), flush=True)
    if options.json is not None:
        options.json.write_text(
            json.dumps({**machine, "records": found}, indent=1, default=lambda a: a.tolist())
        )

"""Accuracy on the public LightGCN split of Gowalla, or on another set in its format.

    python benchmarks/gowalla.py FOLDER [--methods NAMES] [--users N] [--defaults] [--json FILE]

The folder holds train.txt and test.txt with a line "user item item ..." of each user. A method is
fitted to the training interactions of all users and ranks for each user all items but theirs.
recall@20 divides hits by the number of test items, NDCG@20 has binary gains and the best list of at
most 20 as its ideal; both are averaged over users with a test item, as the code of LightGCN does.

Settings are chosen on the training file alone: each of a method's grid is fitted without the last
eighth of each line and judged on that eighth, by recall@20 of N users. On Gowalla items of the test
resemble those at the end of a line more than others, so that a random held-out share chooses other
settings. With --defaults the first setting of the grid is taken unseen.

Each method runs in a process of its own, for its peak memory. Records of other data and methods
that the file holds are kept.
"""

import argparse
import json
import multiprocessing
import platform
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from records import markdown

from metajax import metrics, registry
from metajax.baselines import Baseline
from metajax.data.dataset import TrainingSet
from metajax.data.interactions import from_columns
from metajax.types import Adaptation, Examples, Inputs, Params

LENGTH = 20
METHODS = "popularity,item_knn,graph_filter"
BLOCK = 64


class Lines(NamedTuple):
    """The items of each user, in the order of the file."""

    offsets: np.ndarray
    """`[U + 1]` rows of each user."""
    item: np.ndarray
    """`[R]` items."""

    def of(self, user: int) -> np.ndarray:
        """The items of a user."""
        return self.item[self.offsets[user] : self.offsets[user + 1]]


def read(path: Path, users: int = 0) -> Lines:
    """Reads a file of lines "user item item ...", for at least so many users.

    Raises:
        ValueError: If a line holds anything but whole numbers, or a user or one of its items
            occurs twice.
    """
    found: dict[int, list[int]] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if not all(word.isdecimal() for word in words):
            raise ValueError(f"{path}:{number} must hold whole numbers, got {line[:60]!r}.")
        user, *items = map(int, words)
        if user in found:
            raise ValueError(f"{path}:{number} must be of another user, got {user} twice.")
        if len(set(items)) < len(items):
            raise ValueError(f"{path}:{number} must name an item once.")
        found[user] = items
    users = max(users, max(found, default=-1) + 1)
    counts = [len(found.get(user, ())) for user in range(users)]
    item = [item for user in range(users) for item in found.get(user, ())]
    return Lines(np.concatenate([[0], np.cumsum(counts)]), np.array(item, np.int32))


def without_ends(lines: Lines) -> tuple[Lines, Lines]:
    """Cuts the last eighth, one item at least, off each line."""
    counts = np.diff(lines.offsets)
    place = np.arange(len(lines.item)) - np.repeat(lines.offsets[:-1], counts)
    kept = place < np.repeat(counts - np.maximum(counts // 8, 1), counts)
    parts = []
    for rows in (kept, ~kept):
        ends = np.concatenate([[0], np.cumsum(rows)])[lines.offsets]
        parts.append(Lines(ends, lines.item[rows]))
    return parts[0], parts[1]


def training_set(lines: Lines, items: int) -> TrainingSet:
    """The log of these interactions, without attributes."""
    users = len(lines.offsets) - 1
    names = [np.array([f"{n:09}" for n in range(count)]) for count in (users, items)]
    user = np.repeat(np.arange(users), np.diff(lines.offsets))
    log = from_columns(user, lines.item, user_ids=names[0], item_ids=names[1])
    features = [np.zeros((count, 1), np.float32) for count in (users, items)]
    return TrainingSet(log, features[0], features[1], None)


@partial(jax.jit, static_argnames=("adaptation", "items"))
def _lists(
    adaptation: Adaptation, params: Params, item: jax.Array, mask: jax.Array, items: int
) -> jax.Array:
    every = Inputs(jnp.zeros((items, 1)), jnp.zeros((items, 1)), jnp.arange(items))

    def of_one(item: jax.Array, mask: jax.Array) -> jax.Array:
        rows = jnp.zeros((len(item), 1))
        support = Examples(Inputs(rows, rows, item), mask.astype(jnp.float32), mask)
        adapted = adaptation.adapt(params, support)
        scores = adaptation.predict(params, adapted, every)
        left = jnp.ones(items, bool).at[jnp.where(mask, item, items)].set(False, mode="drop")
        return metrics.top_items(scores, k=LENGTH, where=left)

    return jax.vmap(of_one)(item, mask)


def lists(
    adaptation: Adaptation, params: Params, seen: Lines, users: np.ndarray, items: int
) -> np.ndarray:
    """The best items that each user has not met, `[n, 20]`, in blocks of users of like counts."""
    counts = np.diff(seen.offsets)[users]
    order = np.argsort(counts, kind="stable")
    found = np.empty((len(users), LENGTH), np.int32)
    for first in range(0, len(users), BLOCK):
        rows = order[first : first + BLOCK]
        width = 1 << max(int(counts[rows].max()) - 1, 0).bit_length()
        item = np.zeros((BLOCK, width), np.int32)
        mask = np.zeros((BLOCK, width), bool)
        for n, row in enumerate(rows):
            own = seen.of(users[row])
            item[n, : len(own)], mask[n, : len(own)] = own, True
        found[rows] = np.asarray(_lists(adaptation, params, item, mask, items))[: len(rows)]
    return found


def judged(found: np.ndarray, asked: Lines, users: np.ndarray) -> dict[str, np.ndarray]:
    """recall@20 and NDCG@20 of each user."""
    discount = 1 / np.log2(2.0 + np.arange(LENGTH))
    recall, ndcg = np.empty(len(users)), np.empty(len(users))
    for n, user in enumerate(users):
        wanted = asked.of(user)
        hits = np.isin(found[n], wanted)
        recall[n] = hits.sum() / len(wanted)
        ndcg[n] = hits @ discount / discount[: len(wanted)].sum()
    return {"recall@20": recall, "ndcg@20": ndcg}


def figures(
    baseline: Baseline,
    settings: dict[str, Any],
    seen: Lines,
    asked: Lines,
    users: np.ndarray,
    items: int,
) -> dict[str, Any]:
    """Fits and judges: means, standard errors over users, and seconds."""
    began = time.perf_counter()
    params = jax.block_until_ready(baseline.fit(training_set(seen, items), **settings))
    fitted = time.perf_counter()
    found = judged(lists(baseline.adaptation, params, seen, users, items), asked, users)
    record: dict[str, Any] = {}
    for name, values in found.items():
        record[name] = round(float(values.mean()), 5)
        record[f"{name} error"] = round(float(values.std() / np.sqrt(len(values))), 5)
    record["fit s"] = round(fitted - began, 1)
    record["rank s"] = round(time.perf_counter() - fitted, 1)
    return record


def of_method(
    folder: Path, method: str, validated: int, defaults: bool, seed: int
) -> dict[str, Any]:
    """Chooses settings, fits and judges one method."""
    train = read(folder / "train.txt")
    test = read(folder / "test.txt", len(train.offsets) - 1)
    items = int(max(train.item.max(), test.item.max())) + 1
    baseline = registry.method_of(method)
    if not isinstance(baseline, Baseline):
        raise ValueError(f"methods must be closed forms, got {method!r}.")
    problem = registry.too_large(baseline, items)
    if problem is not None:
        return {"method": method, "refused": problem}
    # An implicit log has no use for a sharpness.
    grid = [{n: v for n, v in one.items() if n != "sharpness"} for one in baseline.grid]
    grid = [one for n, one in enumerate(grid) if one not in grid[:n]]
    chosen, trials = grid[0], []
    if len(grid) > 1 and not defaults:
        seen, asked = without_ends(train)
        counts = np.diff(seen.offsets)
        users = np.random.default_rng(seed).permutation(np.flatnonzero(counts))[:validated]
        for settings in grid:
            found = figures(baseline, settings, seen, asked, np.sort(users), items)
            trials.append({"settings": settings, **found})
            print(f"  {method} {settings}: {found['recall@20']:.4f}", flush=True)
        chosen = max(trials, key=lambda trial: trial["recall@20"])["settings"]
    users = np.flatnonzero(np.diff(test.offsets))
    found = figures(baseline, chosen, train, test, users, items)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {
        "method": method,
        "settings": chosen,
        **found,
        "peak GB": round(peak, 2),
        "users": len(users),
        "items": items,
        "interactions": [len(train.item), len(test.item)],
        "trials": trials,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path, help="of train.txt and test.txt")
    parser.add_argument("--methods", default=METHODS, help="closed forms, separated by commas")
    parser.add_argument("--users", type=int, default=5000, help="validation users")
    parser.add_argument("--defaults", action="store_true", help="first setting of each grid")
    parser.add_argument("--seed", type=int, default=0, help="of the validation users")
    parser.add_argument("--json", type=Path, help="where to write the records")
    given = parser.parse_args()
    records = []
    for method in given.methods.split(","):
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as process:
            arguments = given.folder, method, given.users, given.defaults, given.seed
            found = process.submit(of_method, *arguments).result()
        print({name: value for name, value in found.items() if name != "trials"}, flush=True)
        machine = f"{jax.devices()[0].device_kind}, {platform.machine()}"
        shared = {"data": given.folder.name, "seed": given.seed, "defaults": given.defaults}
        where = {"machine": machine, "jax": jax.__version__, "date": str(date.today())}
        records.append({**found, **shared, **where})
        if given.json:
            keep(given.json, records)
    print(table(records))


def keep(path: Path, records: list[dict[str, Any]]) -> None:
    """Writes records in place of those of the same data and methods."""
    kept = json.loads(path.read_text()) if path.exists() else []
    made = [_kind(record) for record in records]
    kept = [record for record in kept if _kind(record) not in made]
    path.write_text(json.dumps([*kept, *records], indent=1) + "\n")


def _kind(record: dict[str, Any]) -> tuple[Any, ...]:
    return record["data"], record["method"], record["defaults"]


def table(records: list[dict[str, Any]]) -> str:
    """The figures as a table in Markdown."""
    rows = []
    for record in records:
        name = f"`{record['method']}`" + (", default settings" if record["defaults"] else "")
        if "refused" in record:
            rows.append([name, record["refused"], *[""] * 4])
            continue
        shown = [
            f"{record[f'{n}@20']:.4f} ± {record[f'{n}@20 error']:.4f}" for n in ("recall", "ndcg")
        ]
        cost = [f"{record[n]:g}" for n in ("fit s", "rank s", "peak GB")]
        rows.append([name, *shown, *cost])
    return markdown(["", "recall@20", "NDCG@20", "fit, s", "rank, s", "peak, GB"], rows)


if __name__ == "__main__":
    main()

"""Time and memory of closed forms of an implicit log by the size of the catalogue.

    python benchmarks/many_items.py [--items N] [--users N] [--clicks N] [--methods NAMES]
        [--seed N] [--json FILE]

Drawn clicks: items by a power law, users with lognormal numbers of clicks, each user in one of a
hundred groups that prefer a hundredth of the items. Each method is fitted once, by the first
setting of its grid, in a process of its own, and lists ten items for 256 of the users. The peak is
that of the process: popularity shows what the log and the libraries take. Records of other sizes
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
from pathlib import Path
from typing import Any

import jax
import numpy as np
from gowalla import Lines, lists, training_set
from records import markdown

from metajax import registry
from metajax.baselines import Baseline

METHODS = "popularity,item_knn,graph_filter,implicit_als,ease"
GROUPS, USERS_LISTED = 100, 256


def drawn(users: int, items: int, clicks: int, seed: int) -> Lines:
    """Clicks of users, each item once a user; a little fewer than asked for."""
    rng = np.random.default_rng(seed)
    length = rng.lognormal(0, 0.8, users)
    counts = np.maximum(np.round(length / length.sum() * clicks), 1).astype(np.int64)
    user = np.repeat(np.arange(users), counts)
    # By rank, the share of an item falls with the power 2/3 of it.
    rank = np.floor(items * rng.random(len(user)) ** 3).astype(np.int64)
    # Half of the clicks are of the user's group, whose items are every hundredth.
    own = (rng.random(len(user)) < 0.5) & (rank // GROUPS * GROUPS + user % GROUPS < items)
    item = np.where(own, rank // GROUPS * GROUPS + user % GROUPS, rank)
    packed = np.unique(user * items + item)
    user, item = np.divmod(packed, items)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=users))])
    return Lines(offsets, item.astype(np.int32))


def cost(method: str, users: int, items: int, clicks: int, seed: int) -> dict[str, Any]:
    """Seconds and peak memory of a fit and of 256 lists."""
    baseline = registry.method_of(method)
    if not isinstance(baseline, Baseline):
        raise ValueError(f"methods must be closed forms, got {method!r}.")
    problem = registry.too_large(baseline, items)
    if problem is not None:
        return {"method": method, "refused": problem}
    found = drawn(users, items, clicks, seed)
    training = training_set(found, items)
    began = time.perf_counter()
    params = jax.block_until_ready(baseline.fit(training, **baseline.grid[0]))
    seconds = time.perf_counter() - began
    fitted = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    listed = np.flatnonzero(np.diff(found.offsets))[:USERS_LISTED]
    lists(baseline.adaptation, params, found, listed, items)
    began = time.perf_counter()
    lists(baseline.adaptation, params, found, listed, items)
    return {
        "method": method,
        "clicks drawn": len(found.item),
        "fit s": round(seconds, 1),
        "fit peak GB": round(fitted, 2),
        "ms a list": round((time.perf_counter() - began) / len(listed) * 1e3, 2),
        "peak GB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "parameters GB": round(sum(x.nbytes for x in jax.tree.leaves(params)) / 1e9, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--clicks", type=int, default=5_000_000)
    parser.add_argument("--methods", default=METHODS, help="closed forms, separated by commas")
    parser.add_argument("--seed", type=int, default=0, help="of the clicks")
    parser.add_argument("--json", type=Path, help="where to write the records")
    given = parser.parse_args()
    sizes = {"users": given.users, "items": given.items, "clicks": given.clicks}
    records = []
    for method in given.methods.split(","):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            size = given.users, given.items, given.clicks
            found = process.submit(cost, method, *size, given.seed).result()
        print(found, flush=True)
        machine = f"{jax.devices()[0].device_kind}, {platform.machine()}"
        where = {"machine": machine, "jax": jax.__version__, "date": str(date.today())}
        records.append({**found, **sizes, "seed": given.seed, **where})
    if given.json:
        kept = json.loads(given.json.read_text()) if given.json.exists() else []
        kept = [r for r in kept if any(r[name] != size for name, size in sizes.items())]
        given.json.write_text(json.dumps([*kept, *records], indent=1) + "\n")
    print(table(records))


def table(records: list[dict[str, Any]]) -> str:
    """The costs as a table in Markdown."""
    rows = []
    for record in records:
        size = [f"{record[name]:,}" for name in ("items", "users", "clicks")]
        shown = [record.get("refused", ""), *[""] * 3]
        if "refused" not in record:
            names = ("fit s", "fit peak GB", "ms a list", "parameters GB")
            shown = [f"{record[name]:g}" for name in names]
        rows.append([*size, f"`{record['method']}`", *shown])
    header = ["items", "users", "clicks", "", "fit, s", "peak, GB", "a list, ms", "parameters, GB"]
    return markdown(header, rows)


if __name__ == "__main__":
    main()

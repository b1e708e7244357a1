"""The solver from drawn clicks on a large catalogue to lists: time and memory of each step.

    python benchmarks/large_catalogue.py [--items N] [--users N] [--clicks N] [--method NAME]
        [--seed N] [--whole] [--json FILE]

Clicks as in `many_items.py`, without times or attributes. The catalogue holds the items that
somebody has: of a million items with 20,000 users and a million clicks 478,843. With `--whole` each
other item has one click more, of a drawn user: all million, and 1.5 million clicks.

`ColdStartSolver` is trained, saved, loaded, and recommends ten items to each of 32 users of one to
sixteen clicks, one user at a time, after one list that compiles. The peak is that of the process
until the end of a step. A record of the same size and method that the file holds is replaced.
"""

import argparse
import json
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import jax
import numpy as np
from gowalla import Lines
from many_items import drawn
from records import markdown

from metajax import ColdStartSolver

STEPS = ("train", "save", "load", "first list", "a list")
LISTED, LONGEST = 32, 16


def completed(found: Lines, items: int, seed: int) -> Lines:
    """The clicks, and one more of a drawn user for each item that nobody has."""
    users = len(found.offsets) - 1
    missing = np.setdiff1d(np.arange(items), found.item)
    more = np.random.default_rng(seed).integers(0, users, len(missing))
    user = np.concatenate([np.repeat(np.arange(users), np.diff(found.offsets)), more])
    item = np.concatenate([found.item, missing])
    order = np.lexsort((item, user))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=users))])
    return Lines(offsets, item[order].astype(np.int32))


def cost(
    method: str, users: int, items: int, clicks: int, seed: int, *, whole: bool
) -> dict[str, Any]:
    """Seconds of the clock and of the processor, and the peak, of each of `STEPS`."""
    found = drawn(users, items, clicks, seed)
    if whole:
        found = completed(found, items, seed)
    user = np.repeat(np.arange(users), np.diff(found.offsets))
    record: dict[str, Any] = {"clicks drawn": len(found.item), "met": len(np.unique(found.item))}

    def measured(step: str, work: Callable[[], Any], times: int = 1) -> Any:
        clock, processor = time.perf_counter(), time.process_time()
        result = work()
        spent = time.perf_counter() - clock, time.process_time() - processor
        record[f"{step}, s"], record[f"{step}, CPU s"] = (round(s / times, 4) for s in spent)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        record[f"{step}, peak GB"] = round(peak, 2)
        return result

    solver = ColdStartSolver(meta_method=method)
    measured("train", lambda: solver.train((user, found.item)))
    with tempfile.TemporaryDirectory() as folder:
        path = measured("save", lambda: solver.save(Path(folder) / "model"))
        record["model GB"] = round(sum(f.stat().st_size for f in path.iterdir()) / 1e9, 3)
        del solver
        solver = measured("load", lambda: ColdStartSolver.load(path))
    asked = np.flatnonzero(np.diff(found.offsets))[: LISTED + 1]
    names = [list(map(str, found.of(u)[: 1 + n % LONGEST])) for n, u in enumerate(asked)]
    measured("first list", lambda: solver.recommend(names[0]))
    rest = names[1:]
    measured("a list", lambda: [solver.recommend(own) for own in rest], max(len(rest), 1))
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--clicks", type=int, default=1_000_000)
    parser.add_argument("--method", default="hybrid", help="a closed form")
    parser.add_argument("--seed", type=int, default=0, help="of the clicks")
    parser.add_argument("--whole", action="store_true", help="a click of each item at least")
    parser.add_argument("--json", type=Path, help="where to write the record")
    given = parser.parse_args()
    names = ("users", "items", "clicks", "method", "seed", "whole")
    size = {name: getattr(given, name) for name in names}
    where = {
        "machine": f"{jax.devices()[0].device_kind}, {platform.machine()}",
        "jax": jax.__version__,
        "date": str(date.today()),
    }
    record = {**size, **cost(**size), **where}
    if given.json:
        kept = json.loads(given.json.read_text()) if given.json.exists() else []
        # Older records have no `whole`.
        kept = [r for r in kept if any(r.get(name, False) != v for name, v in size.items())]
        given.json.write_text(json.dumps([*kept, record], indent=1) + "\n")
    print(table([record]))


def table(records: list[dict[str, Any]]) -> str:
    """The costs as a table in Markdown, one row a step."""
    rows = []
    for record in records:
        size = [f"{record[name]:,}" for name in ("met", "users", "clicks drawn")]
        for step in STEPS:
            costs = [f"{record[f'{step}, {unit}']:g}" for unit in ("s", "CPU s", "peak GB")]
            rows.append([*size, f"`{record['method']}`", step, *costs])
    header = ["items", "users", "clicks", "", "", "s", "processor, s", "peak, GB"]
    return markdown(header, rows)


if __name__ == "__main__":
    main()

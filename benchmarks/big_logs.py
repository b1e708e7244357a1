"""Time and memory of big logs: ingestion, a shop from end to end, and a million users.

    python benchmarks/big_logs.py ingest [--rows 20000000] [--json FILE]
    python benchmarks/big_logs.py shop [--rows 800000] [--json FILE]
    python benchmarks/big_logs.py million [--rows 20000000] [--json FILE]

Logs are generated from a seed. Each stage is a process of its own, of which wall and CPU time and
the most resident memory are recorded; memory that is mapped from a file counts as far as it was
touched.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from metajax.data import cold_users, load, task_table

# Rows that are generated at a time.
_AT_ONCE = 2_000_000

_WORDS = [
    "red",
    "blue",
    "warm",
    "light",
    "soft",
    "solid",
    "wool",
    "cotton",
    "steel",
    "oak",
    "small",
    "large",
    "round",
    "flat",
]


def write_log(path: Path, rows: int, users: int, items: int, *, seed: int = 0) -> None:
    """Writes ratings of uniform users and popular items, whose pairs may repeat."""
    import polars

    rng = np.random.default_rng(seed)
    with path.open("wb") as file:
        for start in range(0, rows, _AT_ONCE):
            n = min(_AT_ONCE, rows - start)
            polars.DataFrame(
                {
                    "user_id": rng.integers(0, users, n),
                    "item_id": (items * rng.random(n) ** 2).astype(np.int64),
                    "rating": rng.integers(1, 6, n),
                    "timestamp": rng.integers(1_500_000_000, 1_700_000_000, n),
                }
            ).write_csv(file, include_header=start == 0)


def write_shop(folder: Path, rows: int, users: int, items: int, *, seed: int = 0) -> None:
    """Writes clicks of people with a taste for some categories, and tables of both."""
    import polars

    rng = np.random.default_rng(seed)
    kinds = 40
    kind = rng.integers(0, kinds, items)
    order = np.argsort(kind, kind="stable")
    first = np.searchsorted(kind[order], np.arange(kinds + 1))
    likes = rng.integers(0, kinds, (users, 3))
    user = (users * rng.random(rows) ** 1.5).astype(np.int64)
    liked = likes[user, rng.integers(0, 3, rows)]
    within = first[liked] + ((first[liked + 1] - first[liked]) * rng.random(rows) ** 2).astype(int)
    anything = (items * rng.random(rows) ** 2).astype(np.int64)
    item = np.where(rng.random(rows) < 0.7, order[within], anything)
    times = rng.integers(1_700_000_000, 1_731_000_000, rows)
    log = {"user_id": user, "item_id": item, "timestamp": times}
    polars.DataFrame(log).write_csv(folder / "clicks.csv")
    polars.DataFrame(
        {
            "user_id": np.arange(users),
            "age": rng.integers(18, 80, users),
            "city": [f"city{n}" for n in rng.integers(0, 60, users)],
        }
    ).write_csv(folder / "users.csv")
    polars.DataFrame(
        {
            "item_id": np.arange(items),
            "title": [f"Item {n}" for n in range(items)],
            "price": np.round(np.exp(rng.normal(3, 1, items)), 2),
            "category": [f"kind{n}" for n in kind],
            "description": [" ".join(rng.choice(_WORDS, 30)) for _ in range(items)],
        }
    ).write_csv(folder / "items.csv")


def stages(store: Path) -> dict[str, float]:
    """Seconds of what comes before training, on a store."""
    found = {}

    def timed(name: str, call: Any) -> Any:
        start = time.perf_counter()
        result = call()
        found[name] = round(time.perf_counter() - start, 2)
        return result

    dataset = timed("load_s", lambda: load(store))
    split = timed("split_s", lambda: cold_users(dataset))
    timed("task_table_s", lambda: task_table(split.training))
    return found


def measured(stage: str, arguments: list[str], **facts: Any) -> dict[str, Any]:
    """Runs a command in a process of its own."""
    command = [sys.executable, *arguments]
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate()
    wall = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{stage}: {' '.join(command)} ended with {process.returncode}.")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    record = {
        "stage": stage,
        **facts,
        "wall_s": round(wall, 1),
        "cpu_s": round(cpu, 1),
        # Of the largest child so far: stages grow.
        "peak_mb": round(after.ru_maxrss / 1024),
        "load": round(os.getloadavg()[0], 1),
    }
    last = output.strip().splitlines()[-1:]
    if last and last[0].startswith("{"):
        record |= json.loads(last[0])
    print(record, flush=True)
    return record


def ingest(folder: Path, rows: int) -> list[dict[str, Any]]:
    log, store = folder / "log.csv", folder / "log.store"
    users, items = 1_000_000, 100_000
    write_log(log, rows, users, items)
    size = round(log.stat().st_size / 1e6)
    command = ["-m", "metajax", "ingest", str(log), f"--output={store}", "--duplicates=newest"]
    record = measured("ingest", command, rows=rows, users=users, items=items, csv_mb=size)
    record["store_mb"] = round(sum(f.stat().st_size for f in store.rglob("*.npy")) / 1e6)
    return [record]


def shop(folder: Path, rows: int) -> list[dict[str, Any]]:
    users, items = max(rows // 16, 1), 5_000
    write_shop(folder, rows, users, items)
    command = ["-m", "metajax", "train", f"--data={folder}", f"--run={folder / 'run'}"]
    return [measured("shop", command, rows=rows, users=users, items=items)]


def million(folder: Path, rows: int) -> list[dict[str, Any]]:
    records = ingest(folder, rows)
    facts = {name: records[0][name] for name in ("rows", "users", "items")}
    store = folder / "log.store"
    command = [__file__, "stages", f"--store={store}"]
    records.append(measured("load, split, task table", command, **facts))
    trained = {
        "maml, 200 updates": ["--method=maml", "--updates=200", "--no-report"],
        "eb_fold_in, judged beside popularity": [
            "--method=eb_fold_in",
            "--baselines=popularity,item_mean",
        ],
    }
    for at, (stage, options) in enumerate(trained.items()):
        command = ["-m", "metajax", "train", f"--data={store}", f"--run={folder / f'run{at}'}"]
        records.append(measured(stage, [*command, *options], **facts))
    return records


PARTS = {"ingest": (ingest, 20_000_000), "shop": (shop, 800_000), "million": (million, 20_000_000)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=[*PARTS, "stages"])
    parser.add_argument("--rows", type=int, help="another number of rows")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the records to this file")
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "stages":
        print(json.dumps(stages(options.store)))
        return
    run, rows = PARTS[options.part]
    with tempfile.TemporaryDirectory() as folder:
        records = run(Path(folder), options.rows or rows)
    if options.json is not None:
        shared = {
            "date": str(datetime.date.today()),
            "device": f"cpu, {platform.machine()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
            "numpy": np.__version__,
        }
        known = json.loads(options.json.read_text()) if options.json.exists() else []
        known += [{"part": options.part, **record, **shared} for record in records]
        options.json.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()

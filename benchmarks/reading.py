"""Time to read a log on disk into sorted interactions.

    python benchmarks/reading.py [--quick] [--json FILE]

A seeded CSV of 5 million distinct pairs of 200,000 users and 50,000 items by `read_table`, and
MovieLens-100K by the standard library's reader, both on one thread and with a warm file cache.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# Read when polars is first imported, hence before anything else is.
os.environ["POLARS_MAX_THREADS"] = "1"

import numpy as np

from metajax.data.datasets import load
from metajax.data.fetch import DataUnavailable, cache_folder
from metajax.data.readers import read_atomic, read_movielens, read_table

USERS, ITEMS, REPEATS = 200_000, 50_000, 3


def write_log(path: Path, rows: int) -> None:
    """Writes a CSV of distinct pairs in random order."""
    import polars

    rng = np.random.default_rng(0)
    # A few too many, since some are drawn twice.
    pairs = np.unique(rng.integers(0, USERS * ITEMS, rows + rows // 50))
    pairs = rng.permutation(pairs)[:rows]
    polars.DataFrame(
        {
            "userId": pairs // ITEMS + 1,
            "movieId": pairs % ITEMS + 1,
            "rating": rng.integers(1, 11, rows) / 2,
            "timestamp": rng.integers(789_652_009, 1_700_000_000, rows),
        }
    ).write_csv(path)


def timed(workload: str, rows: int, call: Callable[[], object]) -> dict[str, str | int | float]:
    """Times a call a few times."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    record = {
        "workload": workload,
        "rows": rows,
        "median_s": round(statistics.median(seconds), 3),
        "low_s": round(min(seconds), 3),
        "high_s": round(max(seconds), 3),
        "device": f"cpu, 1 thread, {platform.machine()}, {os.cpu_count()} cores",
    }
    print("{workload:28} {rows:>9,} rows {median_s:7.3f} s [{low_s}, {high_s}]".format(**record))
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="500,000 rows for 5 million")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records here")
    options = parser.parse_args()
    rows = 500_000 if options.quick else 5_000_000
    print(
        f"{' '.join(['python', *sys.argv])}\n{datetime.date.today()}, {platform.platform()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}, NumPy {np.__version__}"
    )

    records = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ratings.csv"
        write_log(path, rows)
        records.append(timed("csv to interactions", rows, lambda: read_table(path)))
    try:
        load("ml-100k")
    except DataUnavailable as error:
        print(f"ml-100k left out: {error}", file=sys.stderr)
    else:
        archive = cache_folder() / "ml-100k.zip"
        read = (
            (lambda: read_movielens(archive))
            if archive.exists()
            else (lambda: read_atomic(cache_folder() / "ml-100k"))
        )
        records.append(timed("ml-100k, standard library", 100_000, read))
    if options.json is not None:
        options.json.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()

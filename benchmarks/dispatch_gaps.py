"""Share of a training in which the device waits for Python, by a trace of JAX's profiler.

    python benchmarks/dispatch_gaps.py [--method maml] [--rows 500000] [--repeats 5] [--json FILE]

A generated log (`big_logs.write_log`) is read into a store, opened, split, and a method trained on
it once to compile and then as often as is asked for under the profiler. A run of a compiled program
lasts from the start of its first operation to the end of its last, and the device waits where none
runs. Waits are added up from the first dispatch of updates to the end of the last: those between
two dispatches, and those around a validation, whose programs are many and short.
"""

import argparse
import gzip
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from big_logs import write_log
from measuring import write

from metajax.data import cold_users, ingest, load
from metajax.evaluation import train_on
from metajax.registry import first_progress, settings_for

__all__ = ["main", "waits"]

UPDATES = "jit_dispatch"


def waits(events: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Adds up the milliseconds in which no program runs.

    Args:
        events: Of a trace, in Chrome's format.

    Returns:
        The time from the first to the last dispatch of updates, and the waits in it: those between
        two dispatches that have no validation between them, and the others.
    """
    runs: dict[tuple[str, str], tuple[float, float]] = {}
    for event in events:
        facts = event.get("args", {})
        if event.get("ph") == "X" and "hlo_op" in facts:
            key = facts["hlo_module"], facts.get("run_id", "")
            low, high = runs.get(key, (np.inf, -np.inf))
            runs[key] = min(low, event["ts"]), max(high, event["ts"] + event["dur"])
    dispatches = sorted(span for (name, _), span in runs.items() if name == UPDATES)
    spans = sorted(runs.values())
    between, around = 0.0, 0.0
    for (_, end), (start, _) in itertools.pairwise(dispatches):
        inside = [(low, high) for low, high in spans if end <= low < start]
        waited, reached = 0.0, end
        for low, high in [*inside, (start, start)]:
            waited += max(0.0, low - reached)
            reached = max(reached, high)
        # A mean of a few numbers is no validation.
        if sum(high - low for low, high in inside) > 100:
            around += waited
        else:
            between += waited
    whole = dispatches[-1][1] - dispatches[0][0]
    return {
        "whole_ms": whole / 1e3,
        "between_ms": between / 1e3,
        "around_validation_ms": around / 1e3,
    }


def traced(run: Callable[[], object]) -> dict[str, float]:
    """The waits of a run, without Python's own calls in the trace, which take time."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            run()
        (trace,) = Path(folder).rglob("*.trace.json.gz")
        return waits(json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"])


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--method", default="maml", help="trained method")
    parser.add_argument("--rows", type=int, default=500_000, help="interactions")
    parser.add_argument("--users", type=int, default=50_000, help="users")
    parser.add_argument("--items", type=int, default=20_000, help="items")
    parser.add_argument("--updates", type=int, default=150, help="updates of a training")
    parser.add_argument("--repeats", type=int, default=5, help="trainings under the profiler")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records here")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        log, store = Path(folder, "log.csv"), Path(folder, "log.store")
        write_log(log, options.rows, options.users, options.items)
        ingest(log, store, duplicates="newest")
        split = cold_users(load(store))
        settings = settings_for(options.method, updates=options.updates, patience=options.updates)
        first = first_progress(settings, split.training)

        def train() -> None:
            for _ in train_on(split, settings, first):
                pass

        train()
        records = []
        shared = {name: value for name, value in vars(options).items() if name != "json"}
        for _ in range(options.repeats):
            found = traced(train)
            records.append({**shared, **found, "load": round(os.getloadavg()[0], 1)})
            whole = found["whole_ms"]
            print(
                f"{whole:.0f} ms; waits between dispatches {found['between_ms'] / whole:.2%}, "
                f"around validations {found['around_validation_ms'] / whole:.2%}",
                flush=True,
            )
    if options.json is not None:
        write(options.json, records)
    return records


if __name__ == "__main__":
    main()

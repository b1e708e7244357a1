"""Training by two processes: synchronous, asynchronous, and by one; updates a second, and losses.

    python benchmarks/many_processes.py [--data NAME|PATH] [--updates N] [--json FILE]

The same run of MAML, from the same first parameters, by one process, by two that share the tasks of
each update (`runs.DataParallel`), and by two that send gradients of all tasks to a parameter server
(`runs.ParameterServer`). Each process has one thread; Ray launches all of them, the single one too.
Time counts from the end of the first dispatch, so that Ray's start and compilation are not in it;
validation is, by the launching process, and asynchronous workers go on meanwhile. The forms take
turns; losses at equal time are the last that each has reached when the first form ends.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from measuring import write
from rich.console import Console
from rich.table import Table

from metajax import cluster, registry, runs
from metajax.data import datasets

__all__ = ["main"]


class Curve(NamedTuple):
    """A training."""

    seconds: list[float]
    """Of each validation, since the first dispatch was done."""
    steps: list[int]
    losses: list[float]
    """Validation losses."""
    rate: float
    """Updates a second."""
    staleness: float
    """Mean of the gradients, in updates; 0 of what is synchronous."""


FORMS = {
    "one process": lambda run, stale: runs.DataParallel(run, 1),
    "two, synchronous": lambda run, stale: runs.DataParallel(run, 2),
    "two, asynchronous": lambda run, stale: runs.ParameterServer(run, 2, on_staleness=stale.extend),
}


def trained(name: str, settings: Any, dataset: Any) -> Curve:
    """Trains a run in a folder that is removed afterwards, and follows it."""
    seconds, steps, losses, stale = [], [], [], []
    ends: list[tuple[float, int]] = []  # Of each dispatch: time, and updates made.
    with tempfile.TemporaryDirectory() as folder:
        run, progress = runs.create(Path(folder) / "run", settings, dataset)
        spread = FORMS[name](run, stale)
        for state, row in spread.steps(progress):
            ends.append((time.perf_counter(), int(state.state.step)))
            if row.validation is not None:
                seconds.append(ends[-1][0] - ends[0][0])
                steps.append(ends[-1][1])
                losses.append(row.validation)
    (began, first), (ended, last) = ends[0], ends[-1]
    rate = (last - first) / (ended - began)
    return Curve(seconds, steps, losses, rate, float(np.mean(stale)) if stale else 0.0)


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    options = _options(arguments)
    dataset = datasets.load(options.data)
    settings = registry.settings_for(
        "maml", data=options.data, updates=options.updates, tasks=options.tasks, patience=10**6
    )
    curves: dict[str, list[Curve]] = {name: [] for name in FORMS}
    with cluster.connected(cpus=2):
        for _ in range(options.repeats):
            for name, found in curves.items():
                print(f"{name} ...", file=sys.stderr)
                found.append(trained(name, settings, dataset))
    records = []
    for name, found in curves.items():
        rates = [curve.rate for curve in found]
        ratios = [a.rate / b.rate for a, b in zip(found, curves["one process"], strict=True)]
        at_once, at_end = [], []
        for turn, curve in enumerate(found):
            shared = min(curves[form][turn].seconds[-1] for form in FORMS)
            reached = np.searchsorted(curve.seconds, shared * (1 + 1e-9)) - 1
            at_once.append(curve.losses[max(int(reached), 0)])
            at_end.append(min(curve.losses))
        records.append(
            {
                "form": name,
                "data": options.data,
                "tasks": options.tasks,
                "updates": options.updates,
                "repeats": options.repeats,
                "load": os.getloadavg()[0],
                "updates_per_second": round(float(np.median(rates)), 3),
                "ratio_to_one_process": round(float(np.median(ratios)), 3),
                "loss_at_equal_time": round(float(np.median(at_once)), 5),
                "best_loss": round(float(np.median(at_end)), 5),
                "staleness": round(float(np.mean([curve.staleness for curve in found])), 2),
            }
        )
    _show(records)
    if options.json is not None:
        write(options.json, records)
    return records


def _show(records: list[dict[str, Any]]) -> None:
    table = Table(title="the same training by one process and by two")
    keys = ("updates_per_second", "ratio_to_one_process", "loss_at_equal_time", "best_loss")
    headings = ("", "updates/s", "x one process", "loss at equal time", "best loss", "staleness")
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for record in records:
        table.add_row(record["form"], *(str(record[key]) for key in (*keys, "staleness")))
    Console(width=None if sys.stdout.isatty() else 100).print(table)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", default="ml-100k", help="name or path")
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--tasks", type=int, default=64, help="users in an update")
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records here")
    options = parser.parse_args(arguments)
    for name in ("updates", "tasks", "repeats"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be >= 1, got {getattr(options, name)}.")
    return options


if __name__ == "__main__":
    main()

"""Search with several workers: speed, and what kills cost.

    python benchmarks/tuning.py [--trials 40] [--workers 4] [--kills 20] [--seconds 1] [--json FILE]

A trial multiplies matrices on one thread for about as many seconds as are asked for; the search is
`metajax.search.tune`, as `metajax tune` runs it.

- Speed-up: the time of a search with one worker that computes on one thread, by that with several.
  Each search is a fresh process; starting it is part of either time.
- Kills: a search with several workers is killed by SIGKILL at moments drawn by a seed, and begun
  again. After each kill every trial that had ended must be there as it was; the number that were
  lost is printed, and is to be 0.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from measuring import write

from metajax.fields import Range, Search
from metajax.search import Study, read, tune

__all__ = ["Work", "main"]

_SIZE = 400  # rows of a matrix


class Work(NamedTuple):
    """A loss whose computation takes some seconds on one thread."""

    seconds: float
    """Processor time of a trial."""
    seed: int = 0
    """Of the draws."""

    @property
    def space(self) -> dict[str, Search]:
        """Two numbers."""
        return {"x": Range(0.0, 1.0), "y": Range(0.0, 1.0)}

    @property
    def defaults(self) -> dict[str, Any]:
        """The middle."""
        return {"x": 0.5, "y": 0.5}

    @property
    def warmup(self) -> int:
        """No trial is validated on the way."""
        return 0

    def facts(self) -> dict[str, Any]:
        """Returns what is searched."""
        return {
            "method": "work",
            "data": "none",
            "digest": {"sha256": "0" * 64},
            "measure": "loss",
            "protocol": "none",
            "fold": 0,
            "seed": self.seed,
            "version": "1",
            "settings": {"seconds": self.seconds},
            "space": {name: str(values) for name, values in self.space.items()},
        }

    def objective(self) -> Callable[[Mapping[str, Any], Callable[[int, float], None]], float]:
        """Returns the loss."""
        matrix = np.random.default_rng(0).normal(size=(_SIZE, _SIZE)) / _SIZE**0.5

        def loss(chosen: Mapping[str, Any], report: Callable[[int, float], None]) -> float:
            until = time.process_time() + self.seconds
            while time.process_time() < until:
                matrix @ matrix
            return (chosen["x"] - 0.3) ** 2 + (chosen["y"] - 0.7) ** 2

        return loss


def _search(path: Path, seconds: float, trials: int, workers: int) -> subprocess.Popen[bytes]:
    """Starts a search in a process of its own, which computes on one thread."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, __file__, "--path", path, "--seconds", seconds]
    command += ["--trials", trials, "--workers", workers]
    return subprocess.Popen([str(part) for part in command], env={**os.environ, **threads})


def _timed(path: Path, seconds: float, trials: int, workers: int) -> float:
    began = time.monotonic()
    if _search(path, seconds, trials, workers).wait():
        raise RuntimeError("a search failed.")
    return time.monotonic() - began


def _ended(path: Path) -> dict[int, Any]:
    try:
        found: Study = read(path)
    except ValueError:  # Killed before there was one.
        return {}
    return {trial.index: trial for trial in found.trials}


def _killed(path: Path, seconds: float, trials: int, workers: int, kills: int) -> dict[str, Any]:
    """Kills a search again and again; counts trials that are lost."""
    draws, lost, known = random.Random(0), 0, {}
    for _ in range(kills):
        process = _search(path, seconds, trials, workers)
        # Past the start of the workers, in the middle of trials.
        time.sleep(draws.uniform(1, 12))
        process.send_signal(signal.SIGKILL)
        process.wait()
        found = _ended(path)
        lost += sum(found.get(index) != trial for index, trial in known.items())
        known = found
    _timed(path, seconds, trials, workers)
    found = _ended(path)
    lost += sum(found.get(index) != trial for index, trial in known.items())
    return {"kills": kills, "lost": lost, "trials": len(found)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, and prints the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.path is not None:
        tune(Work(chosen.seconds), chosen.path, trials=chosen.trials, workers=chosen.workers)
        return
    with tempfile.TemporaryDirectory() as folder:
        size = (chosen.seconds, chosen.trials)
        one = _timed(Path(folder) / "one.jsonl", *size, 1)
        many = _timed(Path(folder) / "many.jsonl", *size, chosen.workers)
        figures = {
            "trials": chosen.trials,
            "workers": chosen.workers,
            "seconds_one": one,
            "seconds_many": many,
            "speed_up": one / many,
            **_killed(Path(folder) / "killed.jsonl", *size, chosen.workers, chosen.kills),
        }
    for name, value in figures.items():
        print(f"{name:>14} {value:.2f}" if isinstance(value, float) else f"{name:>14} {value}")
    if chosen.json is not None:
        write(chosen.json, [figures])


if __name__ == "__main__":
    main()

"""Compilation, cost and interleaved timing of steps.

A machine's pace drifts; so methods take turns, and a method is compared with another by the
median of their ratios within a turn.
"""

import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import traverse_util
from workloads import Program

__all__ = ["Compiled", "compiled", "device", "gradient_error", "spread", "taking_turns", "write"]

# A call this short is made unmeasured for a while before it is measured, so that it does not pay
# for what the method before it left behind: other arrays in the caches, and threads of another
# package that wait for work in a loop (.2 s with OpenMP).
_SHORT_S = 1.0
# Adam's first moment after its first step is this share of the gradient.
_FIRST_MOMENT = 0.1


class Compiled(NamedTuple):
    """A compiled step and its cost."""

    run: Callable[[], None]
    """Makes one step further and waits for it."""
    meta_gradient: Callable[[], dict[str, np.ndarray]]
    """The gradient of the first step, by parameter; runs that step anew."""
    compile_s: float
    temp_bytes: int
    """Temporary memory of the compiled program, without its arguments and results."""
    text: str
    """The program before it is compiled."""
    flops: float
    """Of the compiled program as XLA counts them; where it loops, of the unrolled one lowered."""


def compiled(program: Program) -> Compiled:
    """Compiles a program ahead of time."""
    start = time.perf_counter()
    lowered = jax.jit(program.step).lower(program.carry, program.data)
    executable = lowered.compile()
    seconds = time.perf_counter() - start
    carry = program.carry

    def run() -> None:
        nonlocal carry
        carry = jax.block_until_ready(executable(carry, program.data))

    def meta_gradient() -> dict[str, np.ndarray]:
        moment = optax.tree.get(executable(program.carry, program.data), "mu")
        return {path: leaf / _FIRST_MOMENT for path, leaf in _by_path(moment).items()}

    memory: Any = executable.memory_analysis()
    counted: Any = executable
    if program.unrolled is not None:
        counted = jax.jit(program.unrolled).lower(program.carry, program.data)
    flops = float(counted.cost_analysis()["flops"])
    text = lowered.as_text()
    return Compiled(run, meta_gradient, seconds, memory.temp_size_in_bytes, text, flops)


def gradient_error(found: Mapping[str, np.ndarray], reference: Any) -> float:
    """Compares two gradients: the greatest relative error of a parameter, in the 2-norm.

    Raises:
        ValueError: If they are not of the same parameters.
    """
    right = _by_path(reference)
    if found.keys() != right.keys():
        raise ValueError(f"found must hold the parameters {sorted(right)}, got {sorted(found)}.")
    errors = [
        np.linalg.norm(found[path] - right[path]) / np.linalg.norm(right[path]) for path in right
    ]
    # Not Python's max, which may pass over NaN.
    return float(np.max(errors))


def taking_turns(
    methods: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    seconds: float,
    fewest: int = 3,
    warm: float = 0.4,
    measured: float = 0.1,
    on_call: Callable[[str], None] = lambda name: None,
) -> dict[str, np.ndarray]:
    """Times methods that take turns.

    Args:
        methods: What to call, by name.
        repeats: Turns.
        seconds: A method whose calls have taken as long sits out the other turns.
        fewest: Turns that every method takes whatever its time.
        warm: Seconds of unmeasured calls in a turn, at least one, where calls are short.
        measured: Seconds of calls that are measured together then, at least one.
        on_call: Told the name before each call.

    Returns:
        For each method `[repeats]` milliseconds, NaN where it sat out.
    """
    times = {name: np.full(repeats, np.nan) for name in methods}
    spent = dict.fromkeys(methods, 0.0)
    latest = dict.fromkeys(methods, 0.0)
    names = list(methods)
    for turn in range(repeats):
        # Another first and another neighbour each time.
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if turn >= fewest and spent[name] >= seconds:
                continue
            on_call(name)
            began = time.perf_counter()
            calls = 1
            if latest[name] < _SHORT_S:
                latest[name] = _seconds(methods[name])
                while time.perf_counter() - began < warm:
                    latest[name] = _seconds(methods[name])
                calls += int(measured / latest[name])
            latest[name] = _seconds(methods[name], calls)
            times[name][turn] = latest[name] * 1e3
            spent[name] += time.perf_counter() - began
    return times


def _seconds(call: Callable[[], object], calls: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def spread(times: np.ndarray, plain: np.ndarray) -> dict[str, float]:
    """Median, 10 % and 90 % points of `[repeats]` times, and their ratio to the plain step's."""
    low, median, high = np.nanpercentile(times, (10, 50, 90))
    return {
        "median_ms": round(float(median), 4),
        "low_ms": round(float(low), 4),
        "high_ms": round(float(high), 4),
        "ratio_to_plain": round(float(np.nanmedian(times / plain)), 4),
    }


def device() -> str:
    """Names what computes."""
    kind = jax.devices()[0].device_kind
    if kind == "cpu":
        return f"cpu, {platform.machine()}, {os.cpu_count()} cores"
    return f"{kind}, {jax.device_count()} of them"


def write(
    path: Path, records: list[dict[str, Any]], *, kept: Sequence[dict[str, Any]] = ()
) -> None:
    """Writes records as JSON, with the day and the versions, after those of an earlier day."""
    names = ("jax", "flax", "optax", "numpy", "torch", "higher", "torchopt")
    # Those that took part.
    versions = {name: version(name) for name in names if name in sys.modules}
    shared = {
        "device": device(),
        "date": str(datetime.date.today()),
        "python": platform.python_version(),
        **versions,
    }
    found = [*kept, *({**record, **shared} for record in records)]
    path.write_text(json.dumps(found, indent=1) + "\n")


def _by_path(tree: Any) -> dict[str, np.ndarray]:
    return jax.tree.map(np.asarray, traverse_util.flatten_dict(tree, sep="/"))

"""Profile of a meta-step by kind of operation, with lower bounds of its time.

    python benchmarks/where_time_goes.py [--workload W1|W2] [--steps 1] [--json FILE]

Runs this package's meta-step (form "auto", adjoint "reverse") and a plain supervised step under
JAX's profiler, and adds up the compiled program's operations by kind: products that all tasks
share, products within tasks, and the rest (activations, sums, changes of layout). Times of
operations that run side by side on several cores add up to more than the step takes.

The floors are lower bounds on the same machine: the arithmetic of an exact meta-step,
`(2.3 k S + Q) / (S + Q)` plain steps, at the plain step's own pace; and the operations that XLA
counts, at that pace. `bytes_ms` is what XLA's count of bytes would take at the rate of a large
copy, measured here: a floor only where arrays do not stay in the caches.
"""

import argparse
import gzip
import json
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measuring import device, write
from workloads import NAMED, Program, metajax_program, plain_program

__all__ = ["kinds_of", "main"]

SHARED, WITHIN, REST = "shared products", "products within tasks", "the rest"


def kinds_of(program: str) -> dict[str, str]:
    """Reads the kind of every named operation off a compiled program's text."""
    bodies = dict(re.findall(r"^%?([\w.\-]+) \([^\n]*\{\n(.*?)^\}", program, re.M | re.S))
    kinds = {}
    for name, line in re.findall(r"%?([\w.\-]+) = ([^\n]*)", program):
        called = re.search(r"calls=%?([\w.\-]+)", line)
        body = bodies.get(called[1], "") if called else line
        products = [part for part in body.splitlines() if re.search(r"\bdot\(", part)]
        batched = any("lhs_batch_dims={0" in part for part in products)
        kinds[name] = WITHIN if batched else SHARED if products else REST
    return kinds


def _measured(program: Program, steps: int = 20) -> dict[str, Any]:
    executable = jax.jit(program.step).lower(program.carry, program.data).compile()
    carry = program.carry

    def run() -> float:
        nonlocal carry
        start = time.perf_counter()
        carry = jax.block_until_ready(executable(carry, program.data))
        return (time.perf_counter() - start) * 1e3

    for _ in range(5):
        run()
    times = [run() for _ in range(steps)]
    spent = dict.fromkeys((SHARED, WITHIN, REST), 0.0)
    kinds = kinds_of(executable.as_text() or "")
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(steps):
                run()
        (trace,) = Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    for event in events:
        name = event.get("args", {}).get("hlo_op")
        if event.get("ph") == "X" and name is not None:
            spent[kinds.get(name, REST)] += event["dur"] / 1e3 / steps
    cost: Any = executable.cost_analysis()
    return {
        "median_ms": float(np.median(times)),
        **{f"{kind}, ms": value for kind, value in spent.items()},
        "flops": float(cost["flops"]),
        "bytes": float(cost["bytes accessed"]),
    }


def _copy_rate() -> float:
    """Measures bytes a second, read and written, of doubling 256 MB."""
    large = jnp.ones(1 << 26, jnp.float32)
    double: Callable[[Any], Any] = jax.jit(lambda x: 2 * x)
    double(large).block_until_ready()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        double(large).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * large.nbytes / float(np.median(seconds))


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--workload", choices=NAMED, default="W1", help="size of the network")
    parser.add_argument("--steps", type=int, default=1, help="inner steps")
    parser.add_argument("--tasks", type=int, default=256, help="tasks of an update")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records here")
    options = parser.parse_args(arguments)
    work = NAMED[options.workload]._replace(steps=options.steps, tasks=options.tasks)
    plain, ours = _measured(plain_program(work)), _measured(metajax_program(work))
    least = (2.3 * work.steps * work.support + work.query) / (work.support + work.query)
    pace = plain["flops"] / plain["median_ms"]
    floors = {
        "floor_by_arithmetic_ms": least * plain["median_ms"],
        "floor_by_flops_ms": ours["flops"] / pace,
        "bytes_ms": ours["bytes"] / _copy_rate() * 1e3,
    }
    shared = {"workload": options.workload, **work._asdict()}
    records = [
        {**shared, "method": "plain", **plain},
        {**shared, "method": "metajax", **ours, **floors},
    ]
    print(f"{options.workload}, {work}, {device()}")
    for record in records:
        figures = ", ".join(
            f"{name} {value:.3g}" for name, value in record.items() if isinstance(value, float)
        )
        print(f"{record['method']}: {figures}")
    if options.json is not None:
        write(options.json, records)
    return records


if __name__ == "__main__":
    main()

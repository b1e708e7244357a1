"""Everything that is to be measured on an accelerator, in at most 8 minutes, into one file.

    python benchmarks/accelerator.py --json FILE [--minutes 8] [--parts A,B] [--dry]

Parts, in this order; no cell begins after `--minutes`, and what was left out is named:

- rates: multiplications a second of large products in float32 and bfloat16, and bytes a second of a
  large copy. A floor of a step is the time of its counted operations at the former.
- peers: an exact meta-step of 256 tasks here, as it is usually written in JAX, and in PyTorch
  (torch.func and torch.compile), with the ratio to a supervised step on the same rows.
- grid: the meta-step by width (W1 64, W2 256, and 1024), tasks, inner steps and type of numbers.
- scatter: the gradient of an embedding table whose rows collide, from none to all of them.
- training: MAML on MovieLens-100K, updates a second and RMSE at the end.

The file is written after each cell: what was measured before an interruption stays. On a CPU it
runs too, and takes longer; `--dry` runs all of it on tiny sizes.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from against_others import METHODS, prepared
from measuring import Compiled, compiled, device, spread, taking_turns, write
from workloads import OUTER_RATE, Program, Work, draw, first_weights, maml_of, plain_program

from metajax import registry, runs
from metajax.data import load
from metajax.types import MetaState

__all__ = ["PARTS", "main"]

Record = dict[str, Any]
TYPES = {"float32": None, "bfloat16": jnp.bfloat16}
PEERS = ("metajax", "usual_jax", "torch_func", "torch_compile")


class Sizes(NamedTuple):
    """What is measured."""

    side: int = 8192
    """Rows of the square matrices whose product gives the rate."""
    widths: tuple[int, ...] = (64, 256, 1024)
    tasks: tuple[int, ...] = (256, 1024, 4096, 16384)
    steps: tuple[int, ...] = (1, 5, 10)
    table: int = 1_000_000
    """Rows of the embedding table."""
    rows: int = 2**18
    """Gradients that are added to it."""
    repeats: int = 5
    seconds: float = 1.0
    updates: int = 5000
    data: str = "ml-100k"


DRY = Sizes(64, (8,), (4,), (2,), 100, 64, 3, 0.01, 20, "synthetic")


def rates(sizes: Sizes) -> Iterator[Record]:
    """Yields the pace of large products and of a large copy."""
    for name, dtype in (("float32", jnp.float32), ("bfloat16", jnp.bfloat16)):
        x = jnp.ones((sizes.side, sizes.side), dtype)
        seconds = _least(jax.jit(jnp.matmul), x, x)
        yield {"cell": f"product, {name}", "flops_per_s": 2 * sizes.side**3 / seconds}
    x = jnp.ones(sizes.side**2, jnp.float32)
    seconds = _least(jax.jit(lambda x: 2 * x), x)
    yield {"cell": "copy", "bytes_per_s": 2 * x.nbytes / seconds}


def peers(sizes: Sizes) -> Iterator[Record]:
    """Yields the meta-step in several implementations, each checked, and a supervised step."""
    for width in sizes.widths[:2]:
        for steps in sizes.steps[:2]:
            work = Work(steps, width, min(256, sizes.tasks[0]))
            ready, left_out = {}, {}
            for method in METHODS:
                if method.name not in ("plain", *PEERS) or method.adjoint == "linearized":
                    continue
                if method.microbatch is not None:
                    continue
                try:
                    ready[method.label] = prepared(method, work)
                except (ImportError, ValueError) as problem:
                    left_out[method.label] = str(problem)
            times = taking_turns(
                {label: one.run for label, one in ready.items()},
                repeats=sizes.repeats,
                seconds=sizes.seconds,
            )
            for label, why in left_out.items():
                yield {"cell": label, **work._asdict(), "skipped": why}
            for label, one in ready.items():
                jax_costs = _costs(one) if isinstance(one, Compiled) else {}
                yield {
                    "cell": label,
                    **work._asdict(),
                    **spread(times[label], times["plain"]),
                    **jax_costs,
                }


def grid(sizes: Sizes) -> Iterator[Record]:
    """Yields the meta-step and a supervised step on the same rows, by size and type."""
    for width in sizes.widths:
        for tasks in sizes.tasks:
            plain = compiled(plain_program(Work(1, width, tasks)))
            for steps in sizes.steps:
                work = Work(steps, width, tasks)
                for name, dtype in TYPES.items():
                    cell = {"cell": f"meta-step, {name}", **work._asdict()}
                    try:
                        ours = compiled(_meta_step(work, dtype))
                        times = taking_turns(
                            {"plain": plain.run, "ours": ours.run},
                            repeats=sizes.repeats,
                            seconds=sizes.seconds,
                        )
                    except jax.errors.JaxRuntimeError as problem:
                        if "RESOURCE_EXHAUSTED" not in str(problem):
                            raise
                        yield {**cell, "skipped": "out of memory"}
                        continue
                    timed = spread(times["ours"], times["plain"])
                    yield {
                        **cell,
                        **timed,
                        **_costs(ours),
                        "tasks_per_s": round(work.tasks * 1e3 / timed["median_ms"]),
                    }


def scatter(sizes: Sizes) -> Iterator[Record]:
    """Yields the time of adding gradients to rows of a table, by how many of them meet."""
    rng = np.random.default_rng(0)
    table, gradients = jnp.zeros((sizes.table, 32)), jnp.ones((sizes.rows, 32))
    add = jax.jit(lambda table, row, gradients: table.at[row].add(gradients))
    for name, row in (
        ("all differ", rng.permutation(sizes.table)[: sizes.rows]),
        ("drawn uniformly", rng.integers(sizes.table, size=sizes.rows)),
        ("of 1,000 rows", rng.integers(min(1000, sizes.table), size=sizes.rows)),
        ("of one row", np.zeros(sizes.rows)),
    ):
        place = jnp.asarray(row, jnp.int32)
        yield {
            "cell": f"rows {name}",
            "rows": len(place),
            "ms": round(1e3 * _least(add, table, place, gradients[: len(place)]), 4),
        }


def training(sizes: Sizes) -> Iterator[Record]:
    """Yields the pace of a training from start to end, compiling included, and how it ends."""
    load(sizes.data)  # Fetched, if need be, before the clock runs.
    chosen = registry.settings_for("maml", data=sizes.data, updates=sizes.updates)
    rows: list[Any] = []
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        runs.train(Path(place) / "run", chosen, on_row=rows.append)
    seconds = time.perf_counter() - began
    validated = [row.validation for row in rows if row.validation is not None]
    yield {
        "cell": f"maml, {sizes.data}",
        "seconds": round(seconds, 2),
        "updates": rows[-1].step,
        "updates_per_s": round(rows[-1].step / seconds, 1),
        "validation_loss": round(min(validated), 4),
    }


PARTS: dict[str, Callable[[Sizes], Iterator[Record]]] = {
    "rates": rates,
    "peers": peers,
    "grid": grid,
    "scatter": scatter,
    "training": training,
}
"""What is measured, by name, in order."""


def _meta_step(work: Work, dtype: Any) -> Program:
    learner = maml_of(work, dtype=dtype)
    params = first_weights(work)
    carry = MetaState(params, optax.adam(OUTER_RATE).init(params), jnp.zeros((), jnp.int32))
    return Program(lambda state, tasks: learner.update(state, tasks)[0], carry, draw(work))


def _costs(cell: Compiled) -> Record:
    return {
        "compile_s": round(cell.compile_s, 2),
        "temp_bytes": cell.temp_bytes,
        "flops": cell.flops,
    }


def _least(call: Callable[..., Any], *arguments: Any) -> float:
    """Returns the least seconds of five calls after the first."""
    jax.block_until_ready(call(*arguments))
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        jax.block_until_ready(call(*arguments))
        taken.append(time.perf_counter() - began)
    return min(taken)


def _with_floors(records: Sequence[Record]) -> list[Record]:
    """Adds to each program the milliseconds of its counted operations at the rate of a product."""
    pace = {
        record["cell"].removeprefix("product, "): record["flops_per_s"]
        for record in records
        if "flops_per_s" in record
    }
    found = []
    for record in records:
        kind = "bfloat16" if record["cell"].endswith("bfloat16") else "float32"
        floor = {}
        if kind in pace and "flops" in record:
            floor = {"floor_ms": round(1e3 * record["flops"] / pace[kind], 5)}
        found.append({**record, **floor})
    return found


def main(arguments: Sequence[str] | None = None) -> list[Record]:
    """Measures, writes and prints, and returns the records."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="the records")
    parser.add_argument("--minutes", type=float, default=8.0, help="no cell begins after these")
    parser.add_argument("--parts", default=",".join(PARTS), help="what to measure")
    parser.add_argument("--dry", action="store_true", help="tiny sizes, in a minute")
    options = parser.parse_args(arguments)
    chosen = options.parts.split(",")
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"--parts must be of {', '.join(PARTS)}, got {', '.join(sorted(unknown))}.")
    # A cache of compiled programs would hide what compiling costs.
    jax.config.update("jax_enable_compilation_cache", False)
    if jax.default_backend() != "cpu":
        jax.config.update("jax_default_matmul_precision", "highest")
    sizes, records = DRY if options.dry else Sizes(), []
    late = time.monotonic() + 60 * options.minutes
    print(device())
    for part in filter(chosen.__contains__, PARTS):
        cells = PARTS[part](sizes)
        # Asked for before the next cell is measured, which a generator does when asked for it.
        while time.monotonic() < late and (record := next(cells, None)) is not None:
            records.append({"part": part, **record})
            write(options.json, _with_floors(records))
            print(", ".join(f"{k} {v}" for k, v in _with_floors(records)[-1].items()), flush=True)
        if time.monotonic() >= late:
            records.append({"part": part, "cell": "the rest", "skipped": "--minutes"})
    write(options.json, _with_floors(records))
    return records


if __name__ == "__main__":
    main()

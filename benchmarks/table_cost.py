"""Time and memory of an update of large embedding tables.

    python benchmarks/table_cost.py [--items 1000000] [--json FILE]

A rating network whose items each have an embedding and a bias, under a learner that adapts a
user's linear head in five steps (`maml`) and one that does not adapt (`supervised`). An update,
with Adam over the whole tables, is compiled with its state donated, as training loops have it.
Its temporary memory is the table's gradient and little more: a program that needs as much as a few
copies of the table, of which there would be one for each task, is an error.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measuring import device, taking_turns, write
from rich.console import Console
from rich.table import Table

from metajax.adaptation import matching
from metajax.learners import maml, supervised
from metajax.losses import squared_error
from metajax.networks import RatingNetwork, from_linen
from metajax.types import Examples, Inputs, MetaLearner, Model, Task

__all__ = ["compiled", "drawn_tasks", "learners", "main", "network"]

SUPPORT, QUERY, FEATURES = 10, 20, 16
# The gradient is one copy; XLA may keep one or two more of it and of the moments.
COPIES = 4


def network(options: argparse.Namespace) -> Model:
    """Builds the network whose tables are large."""
    return from_linen(
        RatingNetwork(
            user_widths=(32,),
            item_widths=(32,),
            predictor_widths=(32,),
            items=options.items,
            identity_width=options.width,
            direct=True,
        )
    )


def learners(model: Model, adapts: str = "direct/*") -> dict[str, MetaLearner]:
    """Lists by their names the learners to be timed."""
    shared: dict[str, Any] = {"outer": optax.adam(1e-3)}
    inner = optax.sgd(0.05)
    return {
        "supervised": supervised(model, squared_error, **shared),
        "maml": maml(model, squared_error, inner=inner, steps=5, adapts=matching(adapts), **shared),
    }


def drawn_tasks(options: argparse.Namespace) -> Task:
    """Draws users, each with other items; popular ones are in most of them."""
    rng = np.random.default_rng(0)

    def part(rows: int) -> Examples:
        shape = options.tasks, rows
        item = jnp.asarray(options.items * rng.random(shape) ** 2, jnp.int32)
        features = jnp.asarray(rng.normal(size=(*shape, FEATURES)), jnp.float32)
        labels = jnp.asarray(rng.normal(size=shape), jnp.float32)
        return Examples(Inputs(features, features, item), labels, jnp.ones(shape, bool))

    return Task(part(SUPPORT), part(QUERY))


def compiled(
    learner: MetaLearner, tasks: Task, options: argparse.Namespace
) -> tuple[Any, dict[str, Any]]:
    """Compiles an update.

    Returns:
        The program, and what it needs.

    Raises:
        AssertionError: If a copy of the table for each task could hide in it.
    """
    start = time.perf_counter()
    state = jax.eval_shape(learner.init, jax.random.key(0), tasks)
    update = jax.jit(learner.update, donate_argnums=0).lower(state, tasks).compile()
    seconds = time.perf_counter() - start
    memory: Any = update.memory_analysis()
    table = 4 * options.items * options.width
    if not memory.temp_size_in_bytes < COPIES * table:
        raise AssertionError(
            f"temporary memory must be less than {COPIES} tables of {table} bytes, got "
            f"{memory.temp_size_in_bytes}."
        )
    return update, {
        "compile_s": round(seconds, 2),
        "temp_bytes": memory.temp_size_in_bytes,
        "table_bytes": table,
    }


def _running(update: Any, learner: MetaLearner, tasks: Task) -> Callable[[], None]:
    state = jax.jit(learner.init)(jax.random.key(0), tasks)

    def run() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(update(state, tasks))

    return run


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    for name, default, what in (
        ("items", 1_000_000, "rows of the table"),
        ("width", 64, "numbers an embedding"),
        ("tasks", 256, "users in an update"),
        ("repeats", 5, "turns"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=what)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records here")
    options = parser.parse_args(arguments)
    for name in ("items", "width", "tasks", "repeats"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be >= 1, got {getattr(options, name)}.")
    return options


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    options = _options(arguments)
    # A cache of compiled programs would hide what compiling costs.
    jax.config.update("jax_enable_compilation_cache", False)
    tasks = drawn_tasks(options)
    records: list[dict[str, Any]] = []
    # One after the other: the states of both at once are four gigabytes.
    for name, learner in learners(network(options)).items():
        update, needs = compiled(learner, tasks, options)
        run = _running(update, learner, tasks)
        times = taking_turns({name: run}, repeats=options.repeats, seconds=60.0)[name]
        low, median, high = np.nanpercentile(times, (10, 50, 90))
        records.append(
            {
                "learner": name,
                **{axis: getattr(options, axis) for axis in ("items", "width", "tasks")},
                "median_ms": round(float(median), 4),
                "low_ms": round(float(low), 4),
                "high_ms": round(float(high), 4),
                **needs,
            }
        )
        if options.json is not None:
            write(options.json, records)
    _show(records, options)
    return records


def _show(records: list[dict[str, Any]], options: argparse.Namespace) -> None:
    table = Table(
        title=f"{options.items:,} embeddings of {options.width}, {options.tasks} tasks; {device()}"
    )
    for heading in ("update", "ms [10 %, 90 %]", "compile, s", "temporary, MB", "table, MB"):
        table.add_column(heading, no_wrap=True)
    for record in records:
        table.add_row(
            record["learner"],
            "{median_ms:.4g} [{low_ms:.4g}, {high_ms:.4g}]".format(**record),
            f"{record['compile_s']}",
            f"{record['temp_bytes'] / 1e6:.0f}",
            f"{record['table_bytes'] / 1e6:.0f}",
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()

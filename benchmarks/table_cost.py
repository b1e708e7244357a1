"""Time and memory of an update of large embedding tables.

    python benchmarks/table_cost.py [--items 1000000] [--json FILE]

A rating network whose items each have an embedding and a bias, under a learner that adapts a
user's linear head in five steps (`maml`) and one that does not adapt (`supervised`). An update,
with clipping and AdamW, is compiled with its state donated. One over the whole tables needs the
temporary memory of the table's gradient and little more: a program that needs as much as a few
copies of the table, of which there would be one for each task, is an error. An update of the
touched rows (`learners.touched_rows`) needs that of the rows. Parts of the former are timed as
programs of their own. A dispatch makes updates in one program (`training.dispatch`), whose state is
not donated, so that the tables are copied once.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
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
from metajax.learners import maml, supervised, touched_rows
from metajax.losses import squared_error
from metajax.methods.identities import item_tables
from metajax.networks import RatingNetwork, from_linen
from metajax.training import dispatch
from metajax.types import Examples, Inputs, MetaLearner, MetaState, Model, Task

__all__ = ["compiled", "drawn_tasks", "learners", "main", "network"]

SUPPORT, QUERY, FEATURES = 10, 20, 16
# The gradient is one copy; XLA may keep one or two more of it and of the moments.
COPIES = 4
DISPATCHES = 10, 50
TOUCHED = ", touched rows"


def network(options: argparse.Namespace, items: int) -> Model:
    """Builds the network whose tables are large."""
    return from_linen(
        RatingNetwork(
            user_widths=(32,),
            item_widths=(32,),
            predictor_widths=(32,),
            items=items,
            identity_width=options.width,
            direct=True,
        )
    )


def learners(options: argparse.Namespace, adapts: str = "direct/*") -> dict[str, MetaLearner]:
    """Lists by their names the learners to be timed."""
    inner = optax.sgd(0.05)

    def of_items(make: Callable[..., MetaLearner], items: int, **more: Any) -> MetaLearner:
        return make(network(options, items), squared_error, outer=_outer(), **more)

    found = {}
    for name, build in (
        ("supervised", partial(of_items, supervised)),
        ("maml", partial(of_items, maml, inner=inner, steps=5, adapts=matching(adapts))),
    ):
        found[name] = build(options.items)
        found[f"{name}{TOUCHED}"] = touched_rows(build, options.items, *item_tables)
    return found


def _outer() -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3, weight_decay=0.3))


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


def _dispatched(learner: MetaLearner, tasks: Task, length: int) -> Callable[[], None]:
    state = jax.jit(learner.init)(jax.random.key(0), tasks)

    def run() -> None:
        key = jax.random.key(0)
        jax.block_until_ready(
            dispatch(state, tasks, key, learner=learner, sample=_given, length=length)
        )

    return run


def _given(tasks: Task, key: jax.Array) -> Task:
    del key
    return tasks


def _parts(learner: MetaLearner, tasks: Task) -> dict[str, Callable[[], object]]:
    """Parts of an update over whole tables, by their names."""
    keep = optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda updates, state, params=None: (jax.tree.map(jnp.zeros_like, updates), updates),
    )
    assert learner.with_outer is not None
    keeping = learner.with_outer(lambda _: keep)
    params, state, _ = jax.jit(learner.init)(jax.random.key(0), tasks)

    @jax.jit
    def gradient_of(params: Any) -> Any:
        state = MetaState(params, keep.init(params), jnp.zeros((), jnp.int32))
        return keeping.update(state, tasks)[0].opt_state

    @partial(jax.jit, donate_argnums=(0, 1))
    def move(params: Any, state: Any, gradient: Any) -> Any:
        updates, state = _outer().update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    norm = jax.jit(optax.tree.norm)
    gradient = gradient_of(params)

    def moved() -> None:
        nonlocal params, state
        params, state = jax.block_until_ready(move(params, state, gradient))

    return {
        "gradient": lambda: jax.block_until_ready(gradient_of(params)),
        "its norm": lambda: jax.block_until_ready(norm(gradient)),
        "clipping and AdamW": moved,
    }


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
    shared = {axis: getattr(options, axis) for axis in ("items", "width", "tasks")}

    def timed(runs: dict[str, Callable[[], object]], **needs: Any) -> None:
        turns = taking_turns(runs, repeats=options.repeats, seconds=60.0)
        for name, times in turns.items():
            low, median, high = np.nanpercentile(times, (10, 50, 90))
            figures = {"median_ms": median, "low_ms": low, "high_ms": high}
            figures = {key: round(float(value), 4) for key, value in figures.items()}
            records.append({"learner": name, **shared, **figures, **needs})
        if options.json is not None:
            write(options.json, records)

    # One after the other: the states of all at once are eight gigabytes.
    for name, learner in learners(options).items():
        update, needs = compiled(learner, tasks, options)
        timed({name: _running(update, learner, tasks)}, **needs)
        for length in DISPATCHES:
            run = _dispatched(learner, tasks, length)
            timed({f"{name}: a dispatch of {length}": run})
        if not name.endswith(TOUCHED):
            timed({f"{name}: {part}": run for part, run in _parts(learner, tasks).items()})
    _show(records, options)
    return records


def _show(records: list[dict[str, Any]], options: argparse.Namespace) -> None:
    table = Table(
        title=f"{options.items:,} embeddings of {options.width}, {options.tasks} tasks; {device()}"
    )
    for heading in ("update", "ms [10 %, 90 %]", "compile, s", "temporary, MB"):
        table.add_column(heading, no_wrap=True)
    for record in records:
        table.add_row(
            record["learner"],
            "{median_ms:.4g} [{low_ms:.4g}, {high_ms:.4g}]".format(**record),
            f"{record.get('compile_s', '')}",
            f"{record['temp_bytes'] / 1e6:.0f}" if "temp_bytes" in record else "",
        )
    Console(width=100).print(table)


if __name__ == "__main__":
    main()

"""Time and memory of message passing on a large graph.

    python benchmarks/graph_cost.py [--edges 1000000] [--layers 2] [--json FILE]

A random graph of users and items, popular items in most of its edges, and embeddings of 64
numbers. For every kind of layers: propagation alone; propagation and the gradient of all
embeddings and weights ("both ways"); and for LightGCN an update of the learner as well, on tasks
of 10 items each, with Adam.

Edges are counted once; messages go along them both ways. A program that needs as much memory as a
matrix of nodes by nodes, or has an array as large, is an error.
"""

import argparse
import math
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measuring import device, taking_turns, write
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from metajax.data import bipartite_graph
from metajax.losses import bpr
from metajax.methods.light_gcn import light_gcn
from metajax.networks import (
    GraphAttention,
    GraphConvolution,
    GraphModel,
    GraphNetwork,
    GraphSAGE,
    LightGCN,
    graph_model,
)
from metajax.types import BipartiteGraph, Examples, Inputs, MemberInputs, Task

__all__ = ["largest_array", "main"]

LISTED = 10
NETWORKS: dict[str, Callable[[int, int], Any]] = {
    "LightGCN": lambda layers, width: LightGCN(layers),
    "GCN": lambda layers, width: GraphNetwork([GraphConvolution(width) for _ in range(layers)]),
    "GraphSAGE": lambda layers, width: GraphNetwork([GraphSAGE(width) for _ in range(layers)]),
    "GAT": lambda layers, width: GraphNetwork([GraphAttention(width) for _ in range(layers)]),
}


class Ready(NamedTuple):
    """A compiled program, and what it needs."""

    run: Callable[[], Any]
    compile_s: float
    temp_bytes: int
    """Temporary memory, without arguments and results."""
    largest: int
    """Numbers in the largest array of the program."""


def drawn_graph(options: argparse.Namespace) -> BipartiteGraph:
    """Draws edges: users alike, items with a density that falls as the root of their rank."""
    rng = np.random.default_rng(0)
    user = rng.integers(0, options.users, options.edges)
    item = np.int64(options.items * rng.random(options.edges) ** 2)
    return bipartite_graph(user, item, users=options.users, items=options.items)


def drawn_tasks(options: argparse.Namespace) -> Task:
    """Draws a list of items for each of some users, half of them liked; supports are empty."""
    rng = np.random.default_rng(1)
    shape = options.tasks, LISTED
    item = jnp.asarray(rng.integers(0, options.items, shape), jnp.int32)
    user = jnp.asarray(rng.integers(0, options.users, (options.tasks, 1)), jnp.int32)
    liked = jnp.broadcast_to(jnp.arange(LISTED) % 2, shape).astype(jnp.float32)
    blank, all_shown = jnp.zeros((*shape, 0)), jnp.ones(shape, bool)
    inputs = Inputs(blank, blank, item)
    member = MemberInputs(inputs, jnp.broadcast_to(user, shape), all_shown, liked)
    return Task(Examples(inputs, liked, ~all_shown), Examples(member, liked, all_shown))


def programs(name: str, model: GraphModel, tasks: Task) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Lists by their names the functions to be timed, each with its arguments."""

    def total(params: Any) -> jax.Array:
        nodes = model.propagate(params)
        return jnp.mean(jnp.square(nodes.user)) + jnp.mean(jnp.square(nodes.item))

    params = jax.jit(model.init)(jax.random.key(0), None)
    found: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "propagation": (model.propagate, (params,)),
        "both ways": (jax.value_and_grad(total), (params,)),
    }
    if name == "LightGCN":
        learner = light_gcn(model, bpr, outer=optax.adam(1e-3))
        found["update"] = learner.update, (learner.init(jax.random.key(0), tasks), tasks)
    return found


def compiled(function: Callable[..., Any], arguments: tuple[Any, ...], nodes: int) -> Ready:
    """Compiles a program.

    Raises:
        AssertionError: If a matrix of nodes by nodes could hide in it.
    """
    start = time.perf_counter()
    executable = jax.jit(function).lower(*arguments).compile()
    seconds = time.perf_counter() - start
    memory: Any = executable.memory_analysis()
    largest = largest_array(str(executable.as_text()))
    square = nodes * nodes
    if not (memory.temp_size_in_bytes < 4 * square and largest < square):
        raise AssertionError(
            f"memory must be less than of {nodes} by {nodes} numbers, got an array of {largest} "
            f"and {memory.temp_size_in_bytes} bytes."
        )

    def run() -> Any:
        return jax.block_until_ready(executable(*arguments))

    return Ready(run, seconds, memory.temp_size_in_bytes, largest)


def largest_array(text: str) -> int:
    """Returns the size of the largest array of a compiled program, in numbers.

    Example:
        >>> largest_array("%a = f32[2,3]{1,0} add(%b, %c), s32[5] d")
        6
    """
    shapes = re.findall(r"\b[a-z]+\d*\[(\d+(?:,\d+)*)\]", text)
    return max((math.prod(map(int, shape.split(","))) for shape in shapes), default=0)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    for name, default, what in (
        ("users", 100_000, "users"),
        ("items", 50_000, "items"),
        ("edges", 1_000_000, "pairs of user and item"),
        ("width", 64, "numbers an embedding"),
        ("layers", 2, "layers"),
        ("tasks", 1024, "users in an update"),
        ("repeats", 5, "turns"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=what)
    parser.add_argument("--networks", default=",".join(NETWORKS), help="of these")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records here")
    options = parser.parse_args(arguments)
    for name in ("users", "items", "edges", "width", "layers", "tasks", "repeats"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be >= 1, got {getattr(options, name)}.")
    options.networks = options.networks.split(",")
    if set(options.networks) - set(NETWORKS):
        parser.error(f"--networks must be of {', '.join(NETWORKS)}.")
    return options


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    options = _options(arguments)
    # A cache of compiled programs would hide what compiling costs.
    jax.config.update("jax_enable_compilation_cache", False)
    graph, tasks = drawn_graph(options), drawn_tasks(options)
    records: list[dict[str, Any]] = []
    axes = ("users", "items", "edges", "width", "layers", "tasks")
    shared = {name: getattr(options, name) for name in axes}
    with Progress(console=Console(stderr=True)) as bar:
        line = bar.add_task("", total=len(options.networks))
        for name in options.networks:
            bar.update(line, description=name)
            network = NETWORKS[name](options.layers, options.width)
            model = graph_model(graph, network, width=options.width)
            ready = {
                what: compiled(*program, options.users + options.items)
                for what, program in programs(name, model, tasks).items()
            }
            runs = {what: one.run for what, one in ready.items()}
            times = taking_turns(runs, repeats=options.repeats, seconds=60.0)
            for what, one in ready.items():
                low, median, high = np.nanpercentile(times[what], (10, 50, 90))
                records.append(
                    {
                        **shared,
                        "network": name,
                        "workload": what,
                        "median_ms": round(float(median), 4),
                        "low_ms": round(float(low), 4),
                        "high_ms": round(float(high), 4),
                        "compile_s": round(one.compile_s, 2),
                        "temp_bytes": one.temp_bytes,
                        "largest_array": one.largest,
                    }
                )
            bar.advance(line)
            # After every network: an interrupted run leaves what it has measured.
            if options.json is not None:
                write(options.json, records)
    _show(records, options)
    return records


def _show(records: list[dict[str, Any]], options: argparse.Namespace) -> None:
    table = Table(
        title=f"{options.edges:,} edges, {options.users + options.items:,} nodes, "
        f"{options.layers} layers of {options.width}; {device()}"
    )
    for heading in ("network", "workload", "ms [10 %, 90 %]", "compile, s", "temporary, MB"):
        table.add_column(heading, no_wrap=True)
    for record in records:
        table.add_row(
            record["network"],
            record["workload"],
            "{median_ms:.4g} [{low_ms:.4g}, {high_ms:.4g}]".format(**record),
            f"{record['compile_s']}",
            f"{record['temp_bytes'] / 1e6:.0f}",
        )
    Console(width=None if sys.stdout.isatty() else 100).print(table)


if __name__ == "__main__":
    main()

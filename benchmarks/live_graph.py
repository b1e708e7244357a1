"""Cost of the live hypergraph: arrivals, graph and convolution.

    python benchmarks/live_graph.py [--places 1000000] [--json FILE]

A full buffer of arrivals, each an item in a session, with skewed popularity. Timed are: a single
arrival, checked, transferred to the device and written; the same in batches of 256; the graph of
the buffer (`live_graph`, which sorts it); the convolution over its edges (`node_vectors`, items to
sessions and back); and both together, what a server does every few seconds. Wall time and CPU time
of all threads, on which other jobs on the machine have little influence.
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
from measuring import device, taking_turns, write
from rich.console import Console
from rich.table import Table

from metajax.data.dataset import room
from metajax.knowledge import add_arrivals, arrivals_of, live_buffer, live_graph, node_vectors

__all__ = ["main"]

BATCH = 256
# Half an hour of arrivals, of which the last five minutes count most.
SECONDS, TAU = 1800, 300.0


def drawn(options: argparse.Namespace, count: int, seed: int) -> list[np.ndarray]:
    """Draws arrivals: items with a density that falls as the root of their rank, of any session."""
    rng = np.random.default_rng(seed)
    item = (options.items * rng.random(count) ** 2).astype(np.int64)
    return [item, rng.integers(0, options.sessions, count), rng.integers(0, SECONDS, count)]


def arriving(
    options: argparse.Namespace, add: Callable[..., Any], buffer: Any, size: int
) -> Callable[[], None]:
    """Makes a call that puts the next arrivals into the ring and waits for it."""
    columns = drawn(options, 1 << 16, seed=size)
    start = 0

    def run() -> None:
        nonlocal buffer, start
        some = (column[start : start + size] for column in columns)
        buffer = jax.block_until_ready(add(buffer, arrivals_of(*some, nodes=options.items)))
        start = (start + size) % (len(columns[0]) - size)

    return run


def processor_ms(call: Callable[[], Any], calls: int) -> float:
    """Returns the processor's time a call, the median of five times so many calls."""
    times = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(calls):
            call()
        times.append((time.process_time() - began) / calls * 1e3)
    return float(np.median(times))


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    options = _options(arguments)
    add = jax.jit(add_arrivals, donate_argnums=0)
    places = room(options.places)
    all_arrivals = arrivals_of(*drawn(options, places, seed=0), nodes=options.items)
    x = jax.random.normal(jax.random.key(0), (options.items, options.width))

    def filled() -> Any:
        return add(live_buffer(places), all_arrivals)

    graph_of = jax.jit(partial(live_graph, tau=TAU))
    sums = jax.jit(node_vectors)
    both = jax.jit(lambda x, buffer, now: node_vectors(x, live_graph(buffer, now, TAU)))
    buffer, now = filled(), jnp.int32(SECONDS)
    graph = graph_of(buffer, now)
    methods: dict[str, tuple[int, Callable[[], Any]]] = {
        "an arrival": (1, arriving(options, add, filled(), 1)),
        f"an arrival of {BATCH}": (BATCH, arriving(options, add, filled(), BATCH)),
        "graph": (1, lambda: jax.block_until_ready(graph_of(buffer, now))),
        "sums": (1, lambda: jax.block_until_ready(sums(x, graph))),
        "graph and sums": (1, lambda: jax.block_until_ready(both(x, buffer, now))),
    }
    calls = {name: call for name, (_, call) in methods.items()}
    times = taking_turns(calls, repeats=options.repeats, seconds=60.0)
    records: list[dict[str, Any]] = []
    for name, (size, call) in methods.items():
        processor = processor_ms(call, 1 if name in ("graph", "sums", "graph and sums") else 200)
        low, median, high = np.nanpercentile(times[name], (10, 50, 90)) / size
        records.append(
            {
                "incidences": places,
                "items": options.items,
                "sessions": options.sessions,
                "width": options.width,
                "workload": name,
                "median_ms": round(float(median), 6),
                "low_ms": round(float(low), 6),
                "high_ms": round(float(high), 6),
                "processor_ms": round(processor / size, 6),
            }
        )
    if options.json is not None:
        write(options.json, records)
    table = Table(
        "workload",
        "ms [10 %, 90 %]",
        "of the processor",
        title=f"{places:,} incidences; {device()}",
    )
    for record in records:
        timed = "{median_ms:.4g} [{low_ms:.4g}, {high_ms:.4g}]".format(**record)
        table.add_row(record["workload"], timed, f"{record['processor_ms']:.4g}")
    Console(width=80).print(table)
    return records


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    for name, default, what in (
        ("places", 1_000_000, "arrivals in the ring, rounded up to a power of two"),
        ("items", 50_000, "items"),
        ("sessions", 200_000, "sessions"),
        ("width", 64, "numbers a vector"),
        ("repeats", 7, "turns"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=what)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records here")
    options = parser.parse_args(arguments)
    for name in ("places", "items", "sessions", "width", "repeats"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be >= 1, got {getattr(options, name)}.")
    return options


if __name__ == "__main__":
    main()

"""What do new entities cost, and what do old ones forget?

    python benchmarks/knowledge_growth.py [--seeds 3] [--json FILE]

UMLS, whose entities arrive in random order: three fifths at first, then a tenth at a time. A triple
is known from the snapshot on in which its later entity arrives. After every snapshot each method is
asked for the test triples of this and of all earlier ones, among all entities known by then (open)
and among those known when the triples were (closed). Methods, on the new triples alone but for
retraining and replay:

    retraining      all triples so far, from the first values
    fine-tuning     all rows are free
    replay          fine-tuning on a tenth of the old triples as well
    closed form     new entities are placed; nothing is trained
    new rows        then their rows are trained, all others frozen
    elastic weights then all rows, old ones held back; with weight 1e4 on the Fisher information, or
                    another on the information divided by its mean (normalised)

Times are CPU seconds, compiling apart.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from knowledge_data import Split, benchmark_graph
from measuring import write
from rich.console import Console
from rich.table import Table

from metajax.base import MetaState
from metajax.data.dataset import room
from metajax.knowledge import (
    Anchor,
    Facts,
    LinkPredictor,
    anchored,
    facts,
    filtered_ranks,
    link_predictor,
    new_rows,
    normalised_fisher,
    placed,
)

__all__ = ["main"]

WEIGHT, NORMALISED_WEIGHT = 1e4, 3.0
METHODS = (
    "retraining",
    "fine-tuning",
    "replay",
    "closed form",
    "new rows",
    "elastic weights",
    "elastic weights, normalised",
)


class Snapshots(NamedTuple):
    """A graph whose entities are numbered as they arrive; triples by when they arrive."""

    train: list[np.ndarray]
    test: list[np.ndarray]
    every: np.ndarray
    sizes: list[int]
    """Entities known at each."""
    relations: int


class Held(NamedTuple):
    """What a method carries from one snapshot to the next."""

    params: Any
    fisher: Any
    """Mean over all triples so far; None where it is not asked for."""


class Epochs(NamedTuple):
    """How long is trained."""

    retraining: int
    arrival: int
    """On new triples, with some rows or all."""


class Programs(NamedTuple):
    """What runs on the device; compiled once for each number of triples to the power of two."""

    learner: LinkPredictor
    train: Callable[..., Any]
    """`train(params, facts, key, epochs, moving, anchor) -> params`."""
    fisher: Callable[..., Any]
    place: Callable[..., Any]


def snapshots_of(split: Split, seed: int, arrivals: int) -> Snapshots:
    """Lets entities arrive in random order, three fifths at first."""
    size = len(split.entities)
    number = np.random.default_rng(seed).permutation(size)
    sizes = [round(size * (0.6 + 0.4 * n / arrivals)) for n in range(arrivals + 1)]

    def numbered(triples: np.ndarray) -> np.ndarray:
        return np.stack([number[triples[:, 0]], triples[:, 1], number[triples[:, 2]]], axis=1)

    def by_snapshot(triples: np.ndarray) -> list[np.ndarray]:
        rows = numbered(triples)
        at = np.searchsorted(sizes, rows[:, [0, 2]].max(axis=1), side="right")
        return [rows[at == n] for n in range(len(sizes))]

    train, test = by_snapshot(split.train), by_snapshot(split.test)
    return Snapshots(train, test, numbered(split.every), sizes, len(split.relations))


def programs() -> Programs:
    optimizer = anchored(optax.adam(0.01))
    learner = link_predictor("RotatE", optimizer, width=64, margin=9.0)

    def train(
        params: Any, given: Facts, key: jax.Array, epochs: Any, moving: Any, anchor: Any
    ) -> Any:
        state = MetaState(params, optimizer.init(params), jnp.zeros((), jnp.int32))

        def epoch(at: jax.Array, state: MetaState) -> MetaState:
            once = jax.random.fold_in(key, at)
            return learner.epoch(state, given, once, moving=moving, anchor=anchor)[0]

        return jax.lax.fori_loop(0, epochs, epoch, state).params

    place = jax.jit(partial(placed, learner.score))
    return Programs(learner, jax.jit(train), jax.jit(learner.fisher), place)


def arrival(
    method: str,
    run: Programs,
    graph: Snapshots,
    now: int,
    held: Held,
    first: Any,
    key: jax.Array,
    epochs: Epochs,
) -> Held:
    """Follows the arrival of a snapshot; at snapshot 0 all methods do the same."""
    before, old = held
    seen = np.concatenate(graph.train[: now + 1])
    shared = {"entities": graph.sizes[now], "relations": graph.relations, "known": seen}
    everything = new_rows(before, entities=0, relations=0)
    fresh = facts(graph.train[now], **shared)
    if method == "retraining" or not now:
        given = facts(seen, **shared)
        params = run.train(first, given, key, epochs.retraining, everything, None)
    elif method in ("fine-tuning", "replay"):
        given = fresh
        if method == "replay":
            earlier = np.concatenate(graph.train[:now])
            rng = np.random.default_rng(now)
            some = rng.choice(len(earlier), len(earlier) // 10, replace=False)
            given = facts(np.concatenate([graph.train[now], earlier[some]]), **shared)
        params = run.train(before, given, key, epochs.arrival, everything, None)
    else:
        new = new_rows(before, entities=graph.sizes[now - 1], relations=graph.relations)
        params = run.place(before, fresh, new["entity"])
        if method != "closed form":
            params = run.train(params, fresh, key, epochs.arrival, new, None)
        if method.startswith("elastic"):
            weight, fisher = WEIGHT, old
            if method.endswith("normalised"):
                sizes = {"entities": graph.sizes[now - 1], "relations": graph.relations}
                weight, fisher = NORMALISED_WEIGHT, normalised_fisher(old, **sizes)
            anchor = Anchor(params, fisher, weight)
            params = run.train(params, fresh, key, epochs.arrival, everything, anchor)
    fisher = None
    if method.startswith("elastic"):
        fisher = run.fisher(params, fresh, jax.random.fold_in(key, 1))
        if now:
            share = len(graph.train[now]) / len(seen)
            fisher = jax.tree.map(lambda a, b: (1 - share) * a + share * b, old, fisher)
    return Held(*jax.block_until_ready((params, fisher)))


def judged(run: Programs, graph: Snapshots, now: int, params: Any) -> list[dict[str, Any]]:
    """Ranks the test triples of this and of earlier snapshots."""
    found = []
    for then in range(now + 1):
        for candidates, size in (("open", graph.sizes[now]), ("closed", graph.sizes[then])):
            ranks = filtered_ranks(
                run.learner.score,
                params,
                graph.test[then],
                entities=graph.sizes[-1],
                relations=graph.relations,
                known=graph.every,
                candidates=np.arange(graph.sizes[-1]) < size,
            )
            mrr = float(np.mean(1 / ranks.realistic))
            found.append({"after": now, "test": then, "candidates": candidates, "mrr": mrr})
    return found


def one_seed(
    split: Split, seed: int, arrivals: int, methods: Sequence[str], run: Programs, epochs: Epochs
) -> list[dict[str, Any]]:
    """Follows all arrivals with every method, from one and the same first snapshot."""
    graph = snapshots_of(split, seed, arrivals)
    rows = room(graph.sizes[-1])
    first = run.learner.init(jax.random.key(seed), entities=rows, relations=graph.relations).params
    keys = jax.random.split(jax.random.key(1000 + seed), arrivals + 1)
    start = arrival("elastic weights", run, graph, 0, Held(first, None), first, keys[0], epochs)
    at_start = judged(run, graph, 0, start.params)
    found = []
    for method in methods:
        held = start
        found += [{"seed": seed, "method": method, **row} for row in at_start]
        for now in range(1, arrivals + 1):
            step = partial(arrival, method, run, graph, now, held, first, keys[now])
            # Compiles, if need be.
            step(Epochs(0, 0))
            began = time.process_time()
            held = step(epochs)
            seconds = time.process_time() - began
            shared = {"seed": seed, "method": method}
            found += [{**shared, **row} for row in judged(run, graph, now, held.params)]
            found.append({**shared, "after": now, "cpu_s": seconds})
    return found


def records_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Averages over seeds."""
    groups: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        metric = "cpu_s" if "cpu_s" in row else "mrr"
        cell = row["method"], metric, row["after"], row.get("test"), row.get("candidates")
        groups.setdefault(cell, []).append(row[metric])
    names = ("method", "metric", "after", "test", "candidates")
    return [
        {
            "dataset": "umls",
            **dict(zip(names, cell, strict=True)),
            "seeds": len(values),
            "mean": round(float(np.mean(values)), 5),
            "low": round(float(np.min(values)), 5),
            "high": round(float(np.max(values)), 5),
        }
        for cell, values in groups.items()
    ]


def summary(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each method: MRR of new triples when they are new, what old ones lose, and time."""
    at = {
        (r["method"], r["metric"], r["after"], r["test"], r["candidates"]): r["mean"]
        for r in records
    }
    last = max(r["after"] for r in records)
    found = []
    for method in dict.fromkeys(r["method"] for r in records):
        new = [at[method, "mrr", n, n, "open"] for n in range(1, last + 1)]
        when, end = (
            [at[method, "mrr", after, n, "closed"] for n, after in pairs]
            for pairs in ([(n, n) for n in range(last)], [(n, last) for n in range(last)])
        )
        end_open = [at[method, "mrr", last, n, "open"] for n in range(last + 1)]
        found.append(
            {
                "method": method,
                "new": float(np.mean(new)),
                "forgotten": float(np.mean(np.subtract(when, end))),
                "end": float(np.mean(end_open)),
                "cpu_s": float(
                    np.mean([at[method, "cpu_s", n, None, None] for n in range(1, last + 1)])
                ),
            }
        )
    return found


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arrivals", type=int, default=4, help="snapshots after the first")
    parser.add_argument("--retraining-epochs", type=int, default=50)
    parser.add_argument("--arrival-epochs", type=int, default=12)
    parser.add_argument("--methods", default=";".join(METHODS), help="separated by semicolons")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records here")
    options = parser.parse_args(arguments)
    split, run, rows = benchmark_graph("umls"), programs(), []
    epochs = Epochs(options.retraining_epochs, options.arrival_epochs)
    for seed in range(options.seeds):
        rows += one_seed(split, seed, options.arrivals, options.methods.split(";"), run, epochs)
    records = records_of(rows)
    totals = summary(records)
    _show(totals, options.seeds)
    shared = {"dataset": "umls", "metric": "summary", "seeds": options.seeds}
    records += [{**shared, **row} for row in totals]
    if options.json:
        write(options.json, records)
    return records


def _show(rows: list[dict[str, Any]], seeds: int) -> None:
    table = Table(title=f"UMLS, entities arriving, {seeds} seeds; MRR")
    headings = ("method", "new triples", "old ones lost", "all at the end", "CPU s an arrival")
    for heading in headings:
        table.add_column(heading)
    for row in rows:
        cells = [f"{row[name]:.3f}" for name in ("new", "forgotten", "end", "cpu_s")]
        table.add_row(row["method"], *cells)
    Console(width=None if sys.stdout.isatty() else 100).print(table)


if __name__ == "__main__":
    main()

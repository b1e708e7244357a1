"""Continual learning of knowledge graphs: cost of new entities, forgetting of old ones.

    python benchmarks/knowledge_growth.py [--datasets umls,ml-100k] [--seeds 3] [--json FILE]

UMLS, whose entities arrive in random order: three fifths at first, then a tenth at a time; and the
films of MovieLens-100K by year: those up to 1994, then of 1995, of 1996, of 1997 and 1998, with the
entities that no earlier film has. A triple belongs to the snapshot in which its later entity
arrives. After every snapshot each method ranks the test triples of this and of all earlier ones,
among all entities known by then (open) and among those of the triples' own snapshot (closed).
Methods, on the new triples alone but for retraining and replay:

    retraining      all triples so far, from the initial embeddings
    fine-tuning     all rows are trained
    replay          fine-tuning on a tenth of the old triples as well
    closed form     new entities are placed; nothing is trained
    new rows        then their rows are trained, all others frozen
    elastic weights then all rows, by elastic weight consolidation; with weight 1e4 on the Fisher
                    information, or another on the information divided by its mean (normalised)

Times are CPU seconds, without compilation.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from arrivals import Snapshots, entities_arriving, films_by_year
from growth_methods import METHODS, Epochs, Held, Programs, arrival, programs
from knowledge_data import FilmGraph, benchmark_graph, film_graph
from measuring import write
from rich.console import Console
from rich.table import Table

from metajax.data.dataset import room
from metajax.knowledge import filtered_ranks, prune_tails

__all__ = ["main"]


class Workload(NamedTuple):
    """A graph that grows, and how it is learned."""

    snapshots: Callable[[int], Snapshots]
    """By seed."""
    batch: int
    epochs: Epochs


def umls() -> Workload:
    split = benchmark_graph("umls")
    return Workload(partial(entities_arriving, split, arrivals=4), 256, Epochs(50, 8))


def films() -> Workload:
    graph, year = film_graph()
    last_years = (1994, 1995, 1996, 1998)
    snapshots = partial(films_by_year, FilmGraph(prune_tails(graph), year), last_years=last_years)
    return Workload(snapshots, 1024, Epochs(40, 8))


WORKLOADS = {"umls": umls, "ml-100k": films}


def judged(run: Programs, graph: Snapshots, now: int, params: Any) -> list[dict[str, Any]]:
    """Ranks the test triples of this and of earlier snapshots."""
    # Of a table that has room for more, ranking would score the room as well.
    rows = jax.tree.map(lambda leaf: leaf[: graph.sizes[-1]], params["entity"])
    known = {**params, "entity": rows}
    found = []
    for then in range(now + 1):
        for candidates, size in (("open", graph.sizes[now]), ("closed", graph.sizes[then])):
            ranks = filtered_ranks(
                run.learner.score,
                known,
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
    graph: Snapshots, seed: int, methods: Sequence[str], run: Programs, epochs: Epochs
) -> list[dict[str, Any]]:
    """Follows all arrivals with every method, from one and the same first snapshot."""
    rows, arrivals = room(graph.sizes[-1]), len(graph.sizes) - 1
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
    parser.add_argument("--datasets", default=",".join(WORKLOADS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--retraining-epochs", type=int, help="by default the graph's own")
    parser.add_argument("--arrival-epochs", type=int, help="likewise")
    parser.add_argument("--methods", default=";".join(METHODS), help="separated by semicolons")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records here")
    options = parser.parse_args(arguments)
    found = []
    for dataset in options.datasets.split(","):
        snapshots, batch, epochs = WORKLOADS[dataset]()
        epochs = Epochs(
            options.retraining_epochs or epochs.retraining, options.arrival_epochs or epochs.arrival
        )
        run, rows = programs(batch), []
        for seed in range(options.seeds):
            rows += one_seed(snapshots(seed), seed, options.methods.split(";"), run, epochs)
        records = records_of(rows)
        totals = summary(records)
        _show(dataset, totals, options.seeds)
        records += [{"metric": "summary", "seeds": options.seeds, **row} for row in totals]
        found += [{"dataset": dataset, **record} for record in records]
    if options.json:
        write(options.json, found)
    return found


def _show(dataset: str, rows: list[dict[str, Any]], seeds: int) -> None:
    table = Table(title=f"{dataset}, entities arriving, {seeds} seeds; MRR")
    headings = ("method", "new triples", "old ones lost", "all at the end", "CPU s an arrival")
    for heading in headings:
        table.add_column(heading)
    for row in rows:
        cells = [f"{row[name]:.3f}" for name in ("new", "forgotten", "end", "cpu_s")]
        table.add_row(row["method"], *cells)
    Console(width=None if sys.stdout.isatty() else 100).print(table)


if __name__ == "__main__":
    main()

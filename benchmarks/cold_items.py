"""Ranking of cold films, and for new users, with a knowledge graph.

    python benchmarks/cold_items.py [--parts films,users,ratings,engine] [--seeds 3] [--json FILE]

MovieLens-100K. A fifth of the films that the graph knows, drawn by seed, have no rating in
training; every user is known by all of their other ratings. The cold films are ranked for each
user, among themselves and among all films that the user has not rated; relevant are ratings of four
stars or more. `same size` ranks a film among the fifth of the cold films with about as many facts,
because the number of facts correlates with popularity.

Settings are tuned on a fifth of the remaining films of the graph, in the same way, then methods are
fitted again. Awards leak how a film was received: `with awards` is not available for a new film. In
the random graph entities are permuted among films.

Then new users with 1 or 5 known ratings, protocol P1, with entities as pseudo-users who like their
films; and rating prediction of unrated films, protocol P2. The JSON file keeps what is there of
other parts.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cold_item_data import Described
from cold_item_methods import METHODS
from cold_item_ratings import ratings
from cold_item_users import new_users
from measuring import write
from rich.console import Console
from rich.progress import track
from rich.table import Table

from metajax.data import load
from metajax.evaluation.intervals import resampled_sums
from metajax.knowledge import load_graph

__all__ = ["main"]

RESAMPLES = 2000
# How the engine predicts new items was chosen while looking at the first two.
ENGINE_DRAWS = (2, 3, 4)
AMONG = "NDCG@10 among cold films"
METRICS = (AMONG, "AUC among cold films", "NDCG@10 among all films")
SAME_SIZE = ("NDCG@10, same size", "AUC, same size")
# References: the graph alone, and no graph or a random one.
REFERENCES = ("TF-IDF", "ridge: attributes", "ridge: attributes, random graph")


class Measured(NamedTuple):
    """Measurements of one method: by metric, a number for each user and draw."""

    values: dict[str, list[np.ndarray]]
    """`[U]` a draw, NaN where nothing is relevant."""
    chosen: list[Mapping[str, Any]]
    """The settings, a draw."""


def intervals(values: np.ndarray, user: np.ndarray) -> tuple[float, float, float]:
    """Returns the mean and its 95 % interval over users drawn with replacement."""
    terms = [values[None], np.ones((1, len(values)))]
    total, count = resampled_sums(terms, user, RESAMPLES, 0)
    low, high = np.quantile(total / count, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def records_of(measured: dict[str, Measured], seeds: int) -> list[dict[str, Any]]:
    """Makes a record for each method and metric, and for each difference."""
    records = []
    for method, found in measured.items():
        for metric in found.values:
            for reference in (None, *REFERENCES):
                if reference == method or (reference and reference not in measured):
                    continue
                own = np.concatenate(found.values[metric])
                users = np.tile(np.arange(len(found.values[metric][0])), seeds)
                if reference:
                    own = own - np.concatenate(measured[reference].values[metric])
                kept = ~np.isnan(own)
                mean, low, high = intervals(own[kept], users[kept])
                record = {
                    "dataset": "ml-100k",
                    "method": method,
                    "against": reference,
                    "metric": metric,
                    "mean": round(mean, 4),
                    "low": round(low, 4),
                    "high": round(high, 4),
                    "seeds": seeds,
                }
                records.append(record if reference else {**record, "settings": found.chosen})
    return records


def measure(about: Described, scores: np.ndarray, cold: np.ndarray) -> dict[str, np.ndarray]:
    """Measures `[U, I]` scores where the films `[C]` are cold; returns `[U]` by metric."""
    found = dict(zip(METRICS[:2], about.judged(scores, cold), strict=True))
    found[METRICS[2]] = about.among_all(scores, cold)
    size = about.size[cold]
    group = np.digitize(size, np.quantile(size, [0.2, 0.4, 0.6, 0.8]))
    by_group = [about.judged(scores, cold[group == n]) for n in np.unique(group)]
    for metric, values in zip(SAME_SIZE, zip(*by_group, strict=True), strict=True):
        rows = np.stack(values)
        count = np.sum(~np.isnan(rows), axis=0)
        total = np.nansum(rows, axis=0)
        found[metric] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return found


def one_draw(about: Described, method: str, seed: int) -> tuple[dict[str, np.ndarray], Any]:
    """Tunes, fits again and measures."""
    fit, grid = METHODS[method]
    log, cold = about.drawn(about.log, seed)
    settings = grid[0]
    if len(grid) > 1:
        less, held_out = about.drawn(log, seed)
        judged = [np.nanmean(about.judged(fit(about, less, seed, **s), held_out)[0]) for s in grid]
        settings = grid[int(np.argmax(judged))]
    return measure(about, fit(about, log, seed, **settings), cold), settings


def cold_films(about: Described, names: Sequence[str], seeds: int) -> list[dict[str, Any]]:
    """Ranks cold films by each method; shows the figures and returns the records."""
    measured: dict[str, Measured] = {}
    for name in track(names, "Methods"):
        drawn = [one_draw(about, name, seed) for seed in range(seeds)]
        values = {metric: [found[metric] for found, _ in drawn] for metric in drawn[0][0]}
        measured[name] = Measured(values, [settings for _, settings in drawn])
    records = records_of(measured, seeds)
    _show(records)
    return records


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="draws of the cold films")
    parser.add_argument("--methods", help=f"of: {'; '.join(METHODS)}, separated by semicolons")
    parser.add_argument("--parts", default="films,users,ratings,engine", help="what to measure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records here")
    options = parser.parse_args(arguments)
    parts = options.parts.split(",")
    about = Described(load("ml-100k"), load_graph("ml-100k"))
    records = []
    if "films" in parts:
        names = options.methods.split("; ") if options.methods else list(METHODS)
        records += cold_films(about, names, options.seeds)
    if "users" in parts:
        records += new_users(about, range(options.seeds), intervals)
    if "ratings" in parts:
        records += ratings(about)
    if "engine" in parts:
        records += ratings(about, "hybrid", ENGINE_DRAWS)
    if options.json:
        # What was measured before of other parts stays.
        kept = json.loads(options.json.read_text()) if options.json.exists() else []
        own = {(record["method"], record["metric"]) for record in records}
        kept = [record for record in kept if (record["method"], record["metric"]) not in own]
        write(options.json, records, kept=kept)
    return records


def _show(records: list[dict[str, Any]]) -> None:
    table = Table("method", *METRICS, *SAME_SIZE)
    for method in dict.fromkeys(r["method"] for r in records):
        own = {r["metric"]: r for r in records if r["method"] == method and not r["against"]}
        table.add_row(method, *(f"{own[m]['mean']:.3f}" for m in (*METRICS, *SAME_SIZE)))
    Console(width=130).print(table)


if __name__ == "__main__":
    main()

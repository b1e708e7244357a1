"""Knowledge graph completion of new films: directors, actors, genres and other relations.

    python benchmarks/film_completion.py [--seeds 3] [--json FILE]

The films of MovieLens-100K of 1997 and 1998 are new, earlier ones old. For each relation in turn,
its triples of the new films are held out and those of the other relations are known. Held-out tails
are ranked among all tails of that relation in old films, filtered. A tail with fewer than two
triples of old films cannot be found, and is counted separately.

    frequency            how many old films have the tail
    TF-IDF neighbours    the sum of the cosines of those of the 50 nearest old films that have it
    RotatE, closed form  the film is placed by its known triples
    RotatE, new rows     then its row is trained
    weighed, no RotatE   frequency and neighbours (10, 50 and 200) with weights for each relation
    weighed, all         the same with both of RotatE

Weights are learned, and settings were chosen, with the films of 1996 as new and those before as
old. Intervals are of 10,000 resamples of the new films.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from completion_methods import (
    NewFilms,
    fitted,
    frequency,
    neighbours,
    new_films,
    question,
    rotate,
    stacked,
    trained,
)
from growth_methods import Epochs, programs
from knowledge_data import FilmGraph, film_graph
from measuring import write
from rich.console import Console
from rich.table import Table

from metajax.evaluation.intervals import resampled_sums

__all__ = ["main"]

RELATIONS = (
    "directed_by", "actor", "genre", "country", "language", "written_by", "production_companies",
)  # fmt: skip
BASELINE = "TF-IDF neighbours"
WITHOUT, WITH = "weighed, no RotatE", "weighed, all"
EPOCHS = Epochs(retraining=30, arrival=10)
TOGETHER = "all together"


def scored(given: NewFilms, relation: int, run: Any, params: Any, key: jax.Array) -> dict[str, Any]:
    """Returns `[F, C]` scores by method, and those that are weighed."""
    query = question(given, relation)
    near = {n: neighbours(given, query, nearest=n) for n in (10, 50, 200)}
    often = frequency(given, query)
    placed, moved = (
        rotate(given, query, run, params, key, epochs) for epochs in (0, EPOCHS.arrival)
    )
    known = [np.log1p(often), *(np.log(0.01 + scores) for scores in near.values()), near[50]]
    return {
        "right": query.right,
        "methods": {
            "frequency": often,
            BASELINE: near[50],
            "RotatE, closed form": placed,
            "RotatE, new rows": moved,
        },
        "weighed": {
            WITHOUT: stacked(known),
            WITH: stacked([*known, placed, moved]),
        },
    }


def hits(scores: np.ndarray, right: np.ndarray, length: int = 10) -> np.ndarray:
    """Counts the right tails of each film among the first.

    Args:
        scores: `[F, C]`.
        right: `[F, C]` bool.
        length: How many are first; equal scores share the middle of their ranks.

    Returns:
        `[F]` counts.
    """
    film, tail = np.nonzero(right)
    own = scores[film, tail][:, None]
    others = np.where(right, -np.inf, scores)[film]
    rank = 1 + np.sum(others > own, axis=1) + np.sum(others == own, axis=1) / 2
    return np.bincount(film, weights=rank <= length, minlength=len(right))


def one_seed(
    films: FilmGraph, relations: dict[str, int], seed: int
) -> dict[tuple[str, str], np.ndarray]:
    """Counts hits by relation and method, `[F]`; with weights from the year before."""
    run = programs(1024)
    first, second = jax.random.split(jax.random.key(seed))
    before, now = new_films(films, 1996, 1996), new_films(films, 1997, 1998)
    learned = [trained(given, run, first, EPOCHS.retraining) for given in (before, now)]
    found = {}
    for name, relation in relations.items():
        past, query = (
            scored(given, relation, run, params, second)
            for given, params in zip((before, now), learned, strict=True)
        )
        scores = dict(query["methods"])
        for method, parts in query["weighed"].items():
            scores[method] = parts @ fitted(past["weighed"][method], past["right"])
        for method, values in scores.items():
            found[name, method] = hits(values, query["right"])
    return found


def records_of(
    counts: dict[tuple[str, str], np.ndarray], findable: dict[str, np.ndarray], seeds: int
) -> list[dict[str, Any]]:
    """Turns hits into shares with intervals, and into differences of methods.

    Args:
        counts: By relation and method `[F]`, means over seeds.
        findable: By relation `[F]` how many facts can be found.
        seeds: How many there were.

    Returns:
        Records by relation; of all together, the mean of the relations.
    """
    names = list(findable)
    methods = list(dict.fromkeys(method for _, method in counts))
    terms = [findable[name][None] for name in names]
    terms += [counts[name, method][None] for method in methods for name in names]
    films = np.arange(terms[0].shape[1])
    drawn = np.concatenate(resampled_sums(terms, films, 10_000, 0), axis=1)
    # The films as they are, and under them what was drawn.
    sums = np.concatenate([[[term.sum() for term in terms]], drawn]).reshape(
        len(drawn) + 1, len(methods) + 1, len(names)
    )
    shares = sums[:, 1:] / np.maximum(sums[:, :1], 1)
    shares = np.concatenate([shares, shares.mean(axis=2, keepdims=True)], axis=2)
    values = {(method, "hits@10"): shares[:, m] for m, method in enumerate(methods)}
    pairs = [(method, BASELINE) for method in methods if method != BASELINE]
    pairs += [(WITH, WITHOUT)] if WITH in methods else []
    for method, other in pairs:
        above = values[method, "hits@10"] - values[other, "hits@10"]
        values[method, f"hits@10 above {other}"] = above
    records = []
    for (method, metric), of in values.items():
        bounds = np.percentile(of[1:], (2.5, 97.5), axis=0)
        for name, *figures in zip((*names, TOGETHER), of[0], *bounds, strict=True):
            mean, low, high = (round(float(figure), 5) for figure in figures)
            shared = {"relation": name, "method": method, "metric": metric, "seeds": seeds}
            records.append({**shared, "mean": mean, "low": low, "high": high})
    return records


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--relations", default=",".join(RELATIONS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records here")
    options = parser.parse_args(arguments)
    films = film_graph()
    by_name = {name.split(".")[-1]: n for n, name in enumerate(films.graph.relations.names)}
    relations = {name: by_name[name] for name in options.relations.split(",")}
    runs = [one_seed(films, relations, seed) for seed in range(options.seeds)]
    counts = {cell: np.mean([run[cell] for run in runs], axis=0) for cell in runs[0]}
    given = new_films(films, 1997, 1998)
    query = {name: question(given, relation) for name, relation in relations.items()}
    findable = {name: one.right.sum(axis=1) for name, one in query.items()}
    records = records_of(counts, findable, options.seeds)
    for name, one in query.items():
        shared = {"relation": name, "metric": "findable", "candidates": len(one.candidates)}
        facts, found = int(given.facts[one.relation]), int(findable[name].sum())
        counts_of = {"films": int(np.sum(findable[name] > 0)), "facts": facts, "found": found}
        records.append({**shared, **counts_of, "mean": round(found / facts, 5)})
    records = [{"dataset": "ml-100k", **record} for record in records]
    _show(records, options.seeds)
    if options.json:
        write(options.json, records)
    return records


def _show(records: list[dict[str, Any]], seeds: int) -> None:
    chosen = [r for r in records if r["metric"] == "hits@10"]
    names = list(dict.fromkeys(r["relation"] for r in chosen))
    table = Table(title=f"Films of 1997 and 1998, hits@10 of what can be found, {seeds} seeds")
    for heading in ("", *names):
        table.add_column(heading)
    for method in dict.fromkeys(r["method"] for r in chosen):
        table.add_row(method, *(f"{r['mean']:.3f}" for r in chosen if r["method"] == method))
    Console(width=None if sys.stdout.isatty() else 130).print(table)


if __name__ == "__main__":
    main()

"""Effect of the relation-cluster loss on a graph whose relations have many aliases.

    python benchmarks/relation_clusters.py [--aliases 20] [--seeds 3] [--json FILE]

UMLS, each triple of which has one of 20 aliases of its relation, drawn by seed: 920 relations, most
with a handful of triples. RotatE is trained without the relation-cluster term, and with labels from
relation signatures, as the library makes them; with the true labels, an upper bound; and with the
labels from signatures permuted at random. Ranked are the validation triples whose alias is seen in
training; triples known by any alias are filtered.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from knowledge_data import benchmark_graph
from measuring import write
from rich.console import Console
from rich.table import Table

from metajax.knowledge import (
    cluster_relations,
    filtered_ranks,
    graph_from_triples,
    link_predictor,
    ranking_metrics,
    relation_signatures,
    training_triples,
    vocabulary_of,
)

__all__ = ["main"]

WIDTH, MARGIN, RATE, BATCH, NEGATIVES = 64, 9.0, 0.01, 256, 16
# Whose labels, and what the term counts.
TERMS = (
    ("none", 0.0),
    ("signatures", 0.3),
    ("signatures", 3.0),
    ("right", 0.3),
    ("right", 3.0),
    ("dealt at random", 0.3),
    ("dealt at random", 3.0),
)


def renamed(triples: np.ndarray, aliases: int, rng: np.random.Generator) -> np.ndarray:
    """Gives the relation of each triple one of its names."""
    renamed = triples.copy()
    renamed[:, 1] = triples[:, 1] * aliases + rng.integers(aliases, size=len(triples))
    return renamed


def one_seed(dataset: str, aliases: int, epochs: int, seed: int) -> list[dict[str, Any]]:
    """Trains with each term; returns the records."""
    split, rng = benchmark_graph(dataset), np.random.default_rng(seed)
    kinds = len(split.relations)
    sizes = {"entities": len(split.entities), "relations": kinds * aliases}
    training, ranked = (renamed(part, aliases, rng) for part in (split.train, split.valid))
    ranked = ranked[np.isin(ranked[:, 1], training[:, 1])]
    known = np.concatenate([split.every * (1, aliases, 1) + (0, k, 0) for k in range(aliases)])
    entities, relations = (vocabulary_of(map(str, range(size))) for size in sizes.values())
    graph = graph_from_triples(training, entities, relations)
    found = cluster_relations(relation_signatures(graph), kinds, seed=seed)
    right = np.arange(kinds * aliases) // aliases
    labels = {
        "none": None,
        "signatures": found,
        "right": right.astype(np.int32),
        "dealt at random": rng.permutation(found),
    }
    records = []
    for of, weight in TERMS:
        learner = link_predictor(
            "RotatE",
            optax.adam(RATE),
            width=WIDTH,
            margin=MARGIN,
            negatives=NEGATIVES,
            batch=BATCH,
            clusters=kinds if weight else 0,
            cluster_weight=weight,
        )
        given = training_triples(training, **sizes, cluster=labels[of])
        first, second = jax.random.split(jax.random.key(seed))
        state, epoch = learner.init(first, **sizes), jax.jit(learner.epoch)
        for n in range(epochs):
            state, _ = epoch(state, given, jax.random.fold_in(second, n))
        ranks = filtered_ranks(learner.score, state.params, ranked, **sizes, known=known)
        records.append(
            {
                "dataset": dataset,
                "aliases": aliases,
                "epochs": epochs,
                "labels": of,
                "weight": weight,
                "seed": seed,
                "metric": "mrr",
                "value": round(float(ranking_metrics(ranks)["mrr"]), 4),
                "agreement": round(agreement(labels[of], right), 4),
            }
        )
    return records


def agreement(labels: np.ndarray | None, right: np.ndarray) -> float:
    """Purity: the share of labelled relations of the most frequent kind of their cluster."""
    if labels is None:
        return 0.0
    groups = [right[labels == group] for group in np.unique(labels[labels >= 0])]
    return sum(np.bincount(group).max() for group in groups) / sum(map(len, groups))


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--dataset", default="umls", choices=["umls", "nations"])
    parser.add_argument("--aliases", type=int, default=20, help="names of a relation")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records here")
    options = parser.parse_args(arguments)
    records = [
        record
        for seed in range(options.seeds)
        for record in one_seed(options.dataset, options.aliases, options.epochs, seed)
    ]
    table = Table("labels", "weight", "agreement", "MRR, seed by seed")
    for of, weight in TERMS:
        own = [r for r in records if (r["labels"], r["weight"]) == (of, weight)]
        values = " ".join(f"{r['value']:.3f}" for r in own)
        table.add_row(of, f"{weight:g}", f"{np.mean([r['agreement'] for r in own]):.2f}", values)
    Console().print(table)
    if options.json:
        write(options.json, records)
    return records


if __name__ == "__main__":
    main()

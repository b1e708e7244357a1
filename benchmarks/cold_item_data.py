"""Data of `cold_items.py`: films, their content features and their ratings."""

from collections.abc import Sequence
from functools import cached_property, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax import metrics
from metajax.data import split_items
from metajax.data.dataset import Dataset, TrainingSet
from metajax.data.interactions import Interactions
from metajax.knowledge import (
    KnowledgeGraph,
    content_vectors,
    drop_unused,
    fold_inverses,
    graph_from_names,
    item_entities,
    item_features,
    prune_tails,
    without_relations,
)

__all__ = ["RELEVANT", "Described", "Source", "evened"]

RELEVANT = 4.0


class Source(NamedTuple):
    """A graph, and the entity of each film."""

    graph: KnowledgeGraph
    entity: np.ndarray
    """`[I]` -1 for none."""

    @property
    def vectors(self) -> np.ndarray:
        """`[I, D]`, the mean square of a row 1."""
        return evened(content_vectors(self.graph, self.entity))


class Described:
    """Films with their content features and ratings.

    Entities of a single film are left out of the graph: no two films share them.
    """

    def __init__(self, dataset: Dataset, graph: KnowledgeGraph):
        self.dataset, self.log = dataset, dataset.interactions
        self.users, self.items = len(self.log.user_ids), len(self.log.item_ids)
        folded = fold_inverses(graph)
        known = without_relations(folded, "*award*")
        entity = item_entities(graph, self.log.item_ids)
        self.linked = np.flatnonzero(entity >= 0)
        self.size = np.bincount(item_features(known, entity).item, minlength=self.items)
        self.graph = _source(known, self.log.item_ids)
        self.awarded = _source(folded, self.log.item_ids)
        self.genres = _attributes(dataset, ("genre",))
        self.attributes = _attributes(dataset, ("genre", "year"))
        rating = np.zeros((self.users, self.items), np.float32)
        rating[self.log.user, self.log.item] = self.log.rating
        self.rating = rating
        # A random order, for equal scores.
        self.order = np.random.default_rng(0).permutation(self.items)

    @cached_property
    def vectors(self) -> dict[str, np.ndarray]:
        """Content vectors of films, by source."""
        sources = {"attributes": self.attributes, "graph": self.graph, "awards": self.awarded}
        return {name: source.vectors for name, source in sources.items()}

    @cached_property
    def rotated(self) -> dict[int, np.ndarray]:
        """Cache of RotatE's vectors of films, by seed."""
        return {}

    def shuffled(self, seed: int) -> np.ndarray:
        """Returns `[I]` the films whose entity each film of the graph has, at random."""
        other = np.arange(self.items)
        # Not the generator that draws cold films.
        other[self.linked] = np.random.default_rng([seed, 1]).permutation(self.linked)
        return other

    def drawn(self, log: Interactions, seed: int) -> tuple[Interactions, np.ndarray]:
        """Takes a fifth of the films of the graph out of a log."""
        return split_items(log, among=self.linked, seed=seed)

    def training(self, log: Interactions, features: np.ndarray) -> TrainingSet:
        """Returns the training set."""
        nothing = np.zeros((self.users, 0), np.float32)
        return TrainingSet(log, nothing, features.astype(np.float32), self.dataset.scale)

    def liked(self, log: Interactions) -> np.ndarray:
        """Returns `[U, I]` 1 where a user likes a film."""
        liked = np.zeros((self.users, self.items), np.float32)
        liked[log.user, log.item] = log.rating >= RELEVANT
        return liked

    def judged(self, scores: np.ndarray, cold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns `[U]` NDCG@10 and AUC among some films, NaN where all are relevant or none."""
        cold = self.order[np.isin(self.order, cold)]
        relevant = self.rating[:, cold] >= RELEVANT
        some = relevant.any(axis=1) & ~relevant.all(axis=1)
        found = _judged(jnp.asarray(scores[:, cold]), jnp.asarray(relevant))
        ndcg, auc = (np.where(some, np.asarray(values, np.float64), np.nan) for values in found)
        return ndcg, auc

    def among_all(self, scores: np.ndarray, cold: np.ndarray) -> np.ndarray:
        """Returns `[U]` NDCG@10 among all films but those the user rated in training."""
        is_cold = np.isin(np.arange(self.items), cold)
        candidate = (self.rating == 0) | is_cold
        relevant = (self.rating >= RELEVANT) & is_cold
        order = self.order
        found = _ndcg(
            *map(jnp.asarray, (scores[:, order], relevant[:, order], candidate[:, order]))
        )
        return np.where(relevant.any(axis=1), np.asarray(found, np.float64), np.nan)


def _source(graph: KnowledgeGraph, item_ids: np.ndarray) -> Source:
    kept = drop_unused(prune_tails(graph))
    return Source(kept, item_entities(kept, item_ids))


def _attributes(dataset: Dataset, relations: Sequence[str]) -> Source:
    """Writes genres and years as facts; a film is also a little of the two years on either side."""
    triples = []
    columns = dataset.items.columns
    for n, (genres, year) in enumerate(zip(columns["genres"], columns["year"], strict=True)):
        facts = [("genre", genre) for genre in str(genres).split()]
        if str(year).isdigit():
            facts += [("year", str(int(year) + step)) for step in range(-2, 3)]
        triples += [(f"film {n}", name, f"{name} {v}") for name, v in facts if name in relations]
    graph = graph_from_names(triples)
    known = graph.entities.index
    return Source(
        graph, np.array([known.get(f"film {n}", -1) for n in range(len(columns["year"]))])
    )


def evened(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.sqrt(np.mean(np.sum(vectors**2, axis=1)))


@jax.jit
def _judged(scores: jax.Array, relevant: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.vmap(partial(metrics.ndcg, k=10))(scores, relevant), jax.vmap(metrics.auc)(
        scores, relevant
    )


@jax.jit
def _ndcg(scores: jax.Array, relevant: jax.Array, candidate: jax.Array) -> jax.Array:
    return jax.vmap(lambda s, r, a: metrics.ndcg(s, r, k=10, where=a))(scores, relevant, candidate)

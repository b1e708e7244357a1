"""Relation clusters: signatures, k-means and an auxiliary loss, for graphs with too many relations.

Where one relation has twenty aliases, each has a twentieth of its triples. Cluster labels let
aliases learn from each other. They must come from outside the embeddings, here from relation
co-occurrence; labels made from the embeddings themselves would only confirm them.
"""

import jax
import jax.numpy as jnp
import numpy as np

from metajax import losses
from metajax.knowledge.graph import KnowledgeGraph

__all__ = [
    "cluster_loss",
    "cluster_relations",
    "relation_signatures",
]

# Entities at a time; there are 2 R role columns.
_BLOCK = 1 << 14


def relation_signatures(graph: KnowledgeGraph) -> np.ndarray:
    """Describes each relation by the other relations of its heads and tails.

    A role of an entity is to be the head, or the tail, of a relation. The signature of a relation
    is, over its triples, how often the head has each role in other triples, and the tail: the
    domain and range types, without types.

    Args:
        graph: A graph of R relations.

    Returns:
        `[R, 4 R]` float32 in [0, 1]: of the head, its R roles as head and R as tail, then of the
        tail; all 0 for a relation without triples.

    Example:
        >>> from metajax.knowledge import graph_from_names
        >>> graph = graph_from_names([("Alien", "director", "Scott"), ("Alien", "genre", "Horror"),
        ...                           ("Heat", "genre", "Crime")])
        >>> relation_signatures(graph)[1].tolist()
        [0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    head, relation, tail = graph.triples.T.astype(np.int64)
    entities, relations = len(graph.entities.names), len(graph.relations.names)
    role = np.concatenate([relation, relations + relation])
    order = np.argsort(np.concatenate([head, tail]), kind="stable")
    entity, role = np.concatenate([head, tail])[order], role[order]
    own = np.arange(2 * relations)
    seen_with = np.zeros((2 * relations, 2 * relations))
    for start in range(0, entities, _BLOCK):
        rows = slice(*np.searchsorted(entity, (start, start + _BLOCK)))
        counts = np.zeros((_BLOCK, 2 * relations), np.float32)
        np.add.at(counts, (entity[rows] - start, role[rows]), 1)
        seen_with += counts.T @ (counts > 0)
        # A triple is no other triple of its own entities.
        seen_with[own, own] -= np.sum(counts == 1, axis=0)
    triples_of = np.bincount(relation, minlength=relations)
    seen_with /= np.maximum(np.concatenate([triples_of, triples_of]), 1)[:, None]
    return np.concatenate([seen_with[:relations], seen_with[relations:]], axis=1, dtype=np.float32)


def cluster_relations(
    signatures: np.ndarray, clusters: int, *, seed: int = 0, rounds: int = 50
) -> np.ndarray:
    """Clusters relations by k-means.

    Signatures are normalised to length 1, so that the size of a relation makes no difference.

    Args:
        signatures: `[R, S]` from `relation_signatures`.
        clusters: Number of clusters, from 1 to R.
        seed: Seed of the initial centres, by k-means++.
        rounds: Most iterations.

    Returns:
        `[R]` int32 labels in [0, clusters); -1 for a relation without a signature.

    Raises:
        ValueError: If there are fewer relations than clusters, or `clusters` < 1.

    Example:
        >>> cluster_relations(np.array([[1., 0], [2, 0], [0, 3], [0, 0]]), 2).tolist() in (
        ...     [0, 0, 1, -1], [1, 1, 0, -1])
        True

    References:
        Arthur and Vassilvitskii, k-means++: The Advantages of Careful Seeding, SODA 2007.
    """
    lengths = np.linalg.norm(signatures, axis=1)
    seen = lengths > 0
    points = signatures[seen] / lengths[seen, None]
    if not 1 <= clusters <= len(points):
        raise ValueError(
            f"clusters must be from 1 to the {len(points)} relations with a signature, "
            f"got {clusters}."
        )
    rng = np.random.default_rng(seed)
    centres = points[rng.integers(len(points))][None]
    while len(centres) < clusters:
        away = np.maximum(_squares(points, centres).min(axis=1), 0)
        # If all points are centres already, any will do.
        total = away.sum()
        chance = away / total if total > 1e-9 else None
        centres = np.concatenate([centres, points[rng.choice(len(points), 1, p=chance)]])
    label = np.full(len(points), -1)
    for _ in range(rounds):
        nearest = _squares(points, centres).argmin(axis=1)
        if (nearest == label).all():
            break
        label = nearest
        for group in np.unique(label):
            centres[group] = points[label == group].mean(axis=0)
    labels = np.full(len(signatures), -1, np.int32)
    labels[seen] = label
    return labels


def cluster_loss(head: dict[str, jax.Array], features: jax.Array, cluster: jax.Array) -> jax.Array:
    """Cross-entropy of a linear classifier of relation clusters.

    Args:
        head: `kernel [F, G]` and `bias [G]`.
        features: `[M, F]` of relations; of phases cosine and sine, which are continuous at pi.
        cluster: `[R]` labels, below 0 where there is none.

    Returns:
        `[]` the mean over the labelled relations.
    """
    # Either may have more rows than there are relations.
    rows = min(len(features), len(cluster))
    cluster = cluster[:rows]
    logits = features[:rows] @ head["kernel"] + head["bias"][None]
    loss = jax.nn.logsumexp(logits, axis=-1)
    loss -= jnp.take_along_axis(logits, jnp.maximum(cluster, 0)[:, None], axis=-1)[:, 0]
    return losses.masked_mean(loss, cluster >= 0)


def _squares(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Squared distances of unit vectors to centres, up to rounding."""
    return 1 + np.sum(centres**2, axis=1) - 2 * points @ centres.T

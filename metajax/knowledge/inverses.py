"""Inverse and symmetric relations: detection and folding.

A graph with both "directed by" and "director of" leaks: a test triple is in training the other
way round, and a model that has learned only that relation pair looks good. So inverse relations
are detected and folded into one before a split.

References:
    Toutanova and Chen, Observed versus latent features for knowledge base and text inference,
    CVSC 2015, section 4.1: inverse relations in FB15k.
"""

from typing import NamedTuple

import numpy as np

from metajax.knowledge.graph import KnowledgeGraph, with_triples

__all__ = [
    "InversePair",
    "fold_inverses",
    "inverse_pairs",
]


class InversePair(NamedTuple):
    """Two relations, most triples of one of which are triples of the other reversed."""

    kept: int
    """Index of the relation that folding keeps."""
    folded: int
    """Index of the other one; the same for a symmetric relation."""
    shared: int
    """Number of triples that are present in both directions."""
    share: float
    """That over the number of triples of the rarer relation."""


def inverse_pairs(graph: KnowledgeGraph, *, share: float = 0.8) -> list[InversePair]:
    """Detects relations that are inverses of each other, or symmetric.

    Of a pair that relation is kept whose heads are heads of more relations, on average over its
    triples: a film has a director, a genre and a country, a director has films. In a tie it is the
    first.

    Args:
        graph: The graph.
        share: Least share of the rarer relation's triples that the other one must contain reversed,
            in (0, 1]. Below 1 a few missing triples are tolerated.

    Returns:
        The pairs, by falling number of shared triples.

    Raises:
        ValueError: If `share` is out of range.

    Example:
        >>> from metajax.knowledge import graph_from_names
        >>> triples = [("Alien", "director", "Scott"), ("Scott", "directed", "Alien")]
        >>> graph = graph_from_names([*triples, ("Alien", "genre", "Horror")])
        >>> inverse_pairs(graph)
        [InversePair(kept=1, folded=0, shared=1, share=1.0)]
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], got {share}.")
    triples, relations = graph.triples.astype(np.int64), len(graph.relations.names)
    head, relation, tail = triples.T
    size = len(graph.entities.names)
    forward, backward = head * size + tail, tail * size + head
    order = np.argsort(forward, kind="stable")
    begin = np.searchsorted(forward[order], backward, "left")
    matches = np.searchsorted(forward[order], backward, "right") - begin
    # Pairs of a triple and each triple of the same two entities in the opposite direction.
    one = np.repeat(np.arange(len(triples)), matches)
    nth = np.arange(len(one)) - np.repeat(np.cumsum(matches) - matches, matches)
    other = order[begin[one] + nth]
    shared = np.zeros((relations, relations), np.int64)
    np.add.at(shared, (relation[one], relation[other]), 1)

    count = np.bincount(relation, minlength=relations)
    described = np.unique(head * relations + relation) // relations
    described = np.bincount(described, minlength=size)
    described = np.bincount(relation, described[head] - described[tail], minlength=relations)
    found = []
    for r, s in zip(*np.nonzero(np.triu(shared)), strict=True):
        part = shared[r, s] / min(count[r], count[s])
        if part >= share:
            kept, folded = (r, s) if described[r] >= described[s] else (s, r)
            found.append(InversePair(int(kept), int(folded), int(shared[r, s]), float(part)))
    return sorted(found, key=lambda pair: (-pair.shared, pair.kept))


def fold_inverses(graph: KnowledgeGraph, *, share: float = 0.8) -> KnowledgeGraph:
    """Replaces the triples of inverse relations by their reverses in the kept relation.

    Of a symmetric relation the direction with the lower head index stays.

    Args:
        graph: The graph.
        share: As in `inverse_pairs`.

    Returns:
        The smaller graph; folded relations keep their names and have no triple.

    Raises:
        ValueError: If `share` is out of range.
    """
    pairs = inverse_pairs(graph, share=share)
    triples, gone = graph.triples, set()
    for kept, folded, *_ in pairs:
        if kept in gone or folded in gone:
            continue
        rows = triples[:, 1] == folded
        if kept == folded:
            rows &= triples[:, 0] > triples[:, 2]
        else:
            gone.add(folded)
        triples[rows] = np.stack([triples[rows, 2], np.full(rows.sum(), kept), triples[rows, 0]], 1)
    return with_triples(graph, triples)

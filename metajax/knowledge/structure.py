"""What a graph looks like: how much is said of whom, and which relations are alike."""

import numpy as np

from metajax.knowledge.graph import KnowledgeGraph

__all__ = ["degrees", "relation_signatures"]

# Entities at a time; their roles are as many columns as there are relations, twice.
_BLOCK = 1 << 14


def degrees(graph: KnowledgeGraph) -> np.ndarray:
    """Counts the facts of each entity, `[entities]` int64; one about itself counts twice."""
    ends = graph.triples[:, [0, 2]].ravel()
    return np.bincount(ends, minlength=len(graph.entities.names))


def relation_signatures(graph: KnowledgeGraph) -> np.ndarray:
    """Describes each relation by what else is said of the entities that it joins.

    A role of an entity is to be the head of a relation, or the tail of one. The signature of a
    relation says how often, over its facts, the head has each role in other facts, and the tail:
    what the types of its domain and range would tell, without types. Relations of one kind have
    signatures that are close, and clusters of them are labels that come from outside of any
    embedding.

    Args:
        graph: Any, of R relations.

    Returns:
        `[R, 4 R]` float32 from 0 to 1: of the head, its R roles as head and R as tail, then of the
        tail; all 0 for a relation without facts.

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
        # What a fact says itself is not said besides.
        seen_with[own, own] -= np.sum(counts == 1, axis=0)
    facts = np.bincount(relation, minlength=relations)
    seen_with /= np.maximum(np.concatenate([facts, facts]), 1)[:, None]
    return np.concatenate([seen_with[:relations], seen_with[relations:]], axis=1, dtype=np.float32)

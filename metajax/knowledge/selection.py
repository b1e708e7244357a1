"""Which facts of a graph to keep: pure functions from a graph to a smaller one.

Entities and relations keep their indices, whatever is left out; `in_use` counts them anew.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np

from metajax.knowledge.graph import (
    KnowledgeGraph,
    Vocabulary,
    first_five,
    graph_from_triples,
    vocabulary_of,
)

__all__ = [
    "about",
    "in_use",
    "keep_triples",
    "prune_tails",
    "touching",
    "with_triples",
    "without_relations",
]


def keep_triples(graph: KnowledgeGraph, kept: np.ndarray) -> KnowledgeGraph:
    """Keeps some of the facts.

    Args:
        graph: Any.
        kept: `[count]` bool.

    Returns:
        The smaller graph.

    Raises:
        ValueError: If nothing is kept, or `kept` has another shape.
    """
    kept = np.asarray(kept)
    if kept.shape != (graph.count,) or kept.dtype != bool:
        raise ValueError(f"kept must be {graph.count} booleans, got {kept.dtype} {kept.shape}.")
    return with_triples(graph, graph.triples[kept])


def with_triples(graph: KnowledgeGraph, triples: np.ndarray) -> KnowledgeGraph:
    """Puts other facts in the place of a graph's.

    Args:
        graph: Whose entities and relations they are about.
        triples: `[n, 3]` whole numbers, n >= 1.

    Returns:
        The graph of these facts.

    Raises:
        ValueError: As `graph_from_triples`.
    """
    return graph_from_triples(
        triples, graph.entities, graph.relations, graph.attributes, graph.links
    )


def about(graph: KnowledgeGraph, entities: Sequence[int] | np.ndarray) -> KnowledgeGraph:
    """Keeps the facts in which one of some entities is the head or the tail.

    Args:
        graph: Any.
        entities: Their indices.

    Returns:
        The smaller graph.

    Raises:
        ValueError: If there is no such fact.
    """
    return keep_triples(graph, touching(graph, entities))


def touching(graph: KnowledgeGraph, entities: Sequence[int] | np.ndarray) -> np.ndarray:
    """Finds the facts with one of some entities as head or tail, `[count]` bool."""
    head, _, tail = graph.triples.T
    return np.isin(head, entities) | np.isin(tail, entities)


def without_relations(graph: KnowledgeGraph, *patterns: str) -> KnowledgeGraph:
    """Leaves out all facts of some relations: awards, which tell how well a film was received.

    Args:
        graph: Any.
        *patterns: Shell-style patterns of names, for instance `"*award*"`.

    Returns:
        The smaller graph.

    Raises:
        KeyError: If a pattern fits no relation.
        ValueError: If nothing is left.

    Example:
        >>> from metajax.knowledge import graph_from_names
        >>> facts = [("Alien", "genre", "Horror"), ("Alien", "award_won", "Oscar")]
        >>> without_relations(graph_from_names(facts), "award_*").triples.tolist()
        [[0, 1, 1]]
    """
    names = graph.relations.names
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise KeyError(f"no relation fits {pattern!r}; there are {first_five(names)}.")
    left_out = [any(fnmatchcase(name, pattern) for pattern in patterns) for name in names]
    return keep_triples(graph, ~np.array(left_out)[graph.triples[:, 1]])


def prune_tails(graph: KnowledgeGraph, degree: int = 2) -> KnowledgeGraph:
    """Leaves out the facts whose tail is in fewer facts than `degree`, as head or tail.

    An entity with one fact tells nothing apart: an actor of one film is a name for that film.

    Args:
        graph: Any; fold inverses before, for they count twice.
        degree: >= 1.

    Returns:
        The smaller graph; pruned once, not until nothing changes.

    Raises:
        ValueError: If `degree` < 1 or nothing is left.
    """
    if degree < 1:
        raise ValueError(f"degree must be >= 1, got {degree}.")
    triples = graph.triples
    count = np.bincount(triples[:, [0, 2]].ravel(), minlength=len(graph.entities.names))
    return keep_triples(graph, count[triples[:, 2]] >= degree)


def in_use(graph: KnowledgeGraph) -> KnowledgeGraph:
    """Leaves out the names that no fact has, and counts the others anew.

    What was an attribute or a link of theirs goes with them. Tables learned before do not fit any
    more.

    Args:
        graph: Any.

    Returns:
        The same facts, of fewer names.
    """
    triples = graph.triples
    entities, ends = np.unique(triples[:, [0, 2]], return_inverse=True)
    relations, relation = np.unique(triples[:, 1], return_inverse=True)
    ends = ends.reshape(-1, 2)
    place = {int(entity): n for n, entity in enumerate(entities)}
    return graph_from_triples(
        np.stack([ends[:, 0], relation, ends[:, 1]], axis=1),
        _rows(graph.entities, entities),
        _rows(graph.relations, relations),
        [a._replace(entity=place[a.entity]) for a in graph.attributes if a.entity in place],
        [(item, place[entity]) for item, entity in graph.links if entity in place],
    )


def _rows(vocabulary: Vocabulary, rows: np.ndarray) -> Vocabulary:
    return vocabulary_of(vocabulary.names[row] for row in rows)

"""Splits of a graph into facts to learn from and facts to be asked for.

Entities and relations keep their indices in both parts.
"""

from collections.abc import Sequence

import numpy as np

from metajax.knowledge.graph import KnowledgeGraph, first_five
from metajax.knowledge.selection import keep_triples, touching

__all__ = ["check_seen", "leaked", "split_entities", "split_triples"]


def split_triples(
    graph: KnowledgeGraph, *, share: float = 0.1, seed: int = 0
) -> tuple[KnowledgeGraph, KnowledgeGraph]:
    """Draws facts for a test that training neither knows from the other end nor is blind to.

    All facts that join the same two entities, either way and by any relation, go to the same part:
    no inverse leaks, folded or not. And of every entity and every relation training has a fact.

    Args:
        graph: Any.
        share: Share of the facts that are asked for, in (0, 1).
        seed: Another seed is another draw.

    Returns:
        Training and test. Split training once more for validation.

    Raises:
        ValueError: If `share` is out of range, or that much cannot be left out.

    Example:
        >>> from metajax.knowledge import graph_from_names
        >>> graph = graph_from_names([("a", "knows", "b"), ("b", "known by", "a"),
        ...                           ("a", "knows", "c"), ("b", "knows", "c"), ("d", "knows", "a"),
        ...                           ("d", "known by", "b")])
        >>> [part.count for part in split_triples(graph, share=0.3)]
        [4, 2]
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be in (0, 1), got {share}.")
    triples = graph.triples
    _, group = np.unique(_pair(graph, triples), return_inverse=True)
    groups = int(group.max()) + 1
    rank = np.random.default_rng(seed).permutation(groups)
    # The first group of every entity and of every relation stays in training.
    stays = np.zeros(groups, bool)
    by_rank = np.argsort(rank[group], kind="stable")
    for columns in ([0, 2], [1]):
        _, first = np.unique(triples[by_rank][:, columns], return_index=True)
        stays[group[by_rank[first // len(columns)]]] = True
    size = np.bincount(group, minlength=groups)
    last_first = np.argsort(-rank)
    movable = last_first[~stays[last_first]]
    wanted = round(share * len(triples))
    total = np.cumsum(size[movable])
    if not len(total) or total[-1] < wanted or not wanted:
        raise ValueError(
            f"share must leave a fact of every entity and relation in training, and at least one "
            f"for the test: got {share}, with {total[-1] if len(total) else 0} of {graph.count} "
            "facts free to go."
        )
    asked = np.zeros(groups, bool)
    asked[movable[: np.searchsorted(total, wanted) + 1]] = True
    return keep_triples(graph, ~asked[group]), keep_triples(graph, asked[group])


def split_entities(
    graph: KnowledgeGraph, entities: Sequence[int] | np.ndarray
) -> tuple[KnowledgeGraph, KnowledgeGraph]:
    """Takes all that is said of some entities out of a graph, as if they were not known yet.

    Args:
        graph: Any.
        entities: Their indices.

    Returns:
        The facts without them, and those with them.

    Raises:
        ValueError: If one of the two parts is empty.
    """
    with_them = touching(graph, entities)
    return keep_triples(graph, ~with_them), keep_triples(graph, with_them)


def leaked(training: KnowledgeGraph, test: KnowledgeGraph) -> np.ndarray:
    """Finds the facts of a test whose entities training joins the other way round.

    Args:
        training: What may be learned from.
        test: Facts of the same entities.

    Returns:
        `[count]` bool: training says something of the tail with the head.
    """
    size = len(training.entities.names)
    head, _, tail = training.triples.T.astype(np.int64)
    asked, _, answer = test.triples.T.astype(np.int64)
    return np.isin(answer * size + asked, head * size + tail)


def check_seen(training: KnowledgeGraph, test: KnowledgeGraph) -> None:
    """Refuses a test about what training cannot know.

    Args:
        training: What may be learned from.
        test: What is asked for.

    Raises:
        ValueError: If a relation or an entity of the test is in no fact of training.
    """
    for what, columns, names in (
        ("relation", [1], training.relations.names),
        ("entity", [0, 2], training.entities.names),
    ):
        unseen = np.setdiff1d(test.triples[:, columns], training.triples[:, columns])
        if len(unseen):
            raise ValueError(
                f"every {what} of the test must be in a fact of training, got {len(unseen)} "
                f"unseen: {first_five(names[n] for n in unseen)}."
            )


def _pair(graph: KnowledgeGraph, triples: np.ndarray) -> np.ndarray:
    """One number for each two entities, whichever comes first."""
    ends = np.sort(triples[:, [0, 2]].astype(np.int64), axis=1)
    return ends[:, 0] * len(graph.entities.names) + ends[:, 1]

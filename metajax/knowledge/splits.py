"""Splits of a graph into facts to learn from and facts to be asked for.

Entities and relations keep their indices in both parts.
"""

import glob
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np

from metajax.knowledge.graph import (
    KnowledgeGraph,
    drop_unused,
    first_five,
    graph_from_triples,
    incident,
    keep_triples,
    vocabulary_of,
    without_relations,
)
from metajax.knowledge.inverses import fold_inverses, inverse_pairs

__all__ = [
    "GraphSplit",
    "check_seen",
    "leaked_triples",
    "split_entities",
    "split_from_json",
    "split_graph",
    "split_to_json",
    "split_triples",
]


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
    with_them = incident(graph, entities)
    return keep_triples(graph, ~with_them), keep_triples(graph, with_them)


def leaked_triples(training: KnowledgeGraph, test: KnowledgeGraph) -> np.ndarray:
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


_SPLIT = ("training", "validation", "test")


class GraphSplit(NamedTuple):
    """The parts of a graph. All have the same names, in the same order."""

    training: KnowledgeGraph
    """What is learned from; every name is in a fact."""
    validation: KnowledgeGraph
    """Facts that say when to stop."""
    test: KnowledgeGraph
    """Facts that are asked for in the end."""
    folded: dict[str, str]
    """Relations that say what another one says the other way round, and that one."""
    symmetric: list[str]
    """Relations that hold both ways round; of each fact one is kept."""
    unseen: dict[str, list[str]]
    """Names of `entity` and `relation` that no fact was left of."""
    left_out: dict[str, int]
    """How many triples were left out, by why."""

    @property
    def known(self) -> np.ndarray:
        """`[n, 3]` all facts, those of symmetric relations both ways round."""
        facts = np.concatenate([getattr(self, part).triples for part in _SPLIT])
        index = self.training.relations.index
        both = np.isin(facts[:, 1], [index[name] for name in self.symmetric])
        turned = facts[both & (facts[:, 0] != facts[:, 2])][:, ::-1]
        return np.concatenate([facts, turned])


def split_graph(
    graph: KnowledgeGraph, *, without: Sequence[str] = (), share: float = 0.05, seed: int = 0
) -> GraphSplit:
    """Folds inverses, leaves relations out, and splits without leaks.

    Args:
        graph: As it was read.
        without: Patterns of relations to leave out; one that fits either of two inverses means
            both.
        share: Share of the facts of the test, in (0, 0.5), and as many of validation.
        seed: Of the split.

    Returns:
        The parts.

    Raises:
        KeyError: If a pattern fits no relation.
        TypeError: If `without` is a text, each letter of which would be a pattern.
        ValueError: If nothing is left, `share` is out of range, or that much cannot be left out.

    Example:
        >>> from metajax.knowledge import graph_from_names
        >>> likes = [(a, "like", b) for a, b in ("ab", "bc", "ca", "cd", "db")]
        >>> liked = [(b, "liked by", a) for a, _, b in likes]
        >>> parts = split_graph(graph_from_names([*likes, *liked]), share=0.2)
        >>> parts.training.count, parts.validation.count, parts.test.count, parts.folded
        (3, 1, 1, {'liked by': 'like'})
    """
    if isinstance(without, str):
        raise TypeError(f"without must be a sequence of patterns, got the text {without!r}.")
    if not 0 < share < 0.5:
        raise ValueError(f"share must be in (0, 0.5), got {share}.")
    names, pairs = graph.relations.names, inverse_pairs(graph)
    whole = fold_inverses(graph)
    has_facts = np.isin(np.arange(len(names)), whole.triples[:, 1])
    folded = {
        names[pair.folded]: names[pair.kept]
        for pair in pairs
        if has_facts[pair.kept] and not has_facts[pair.folded]
    }
    kept = whole
    if without:
        turned = [
            glob.escape(other)
            for name, other in folded.items()
            if any(fnmatchcase(name, pattern) for pattern in without)
        ]
        kept = without_relations(whole, *without, *turned)
    used = drop_unused(kept)
    rest, test = split_triples(used, share=share, seed=seed)
    training, validation = split_triples(rest, share=test.count / rest.count, seed=seed + 1)
    relations = used.relations.index
    folded = {name: other for name, other in folded.items() if other in relations}
    return GraphSplit(
        training,
        validation,
        test,
        folded,
        [names[n] for n, other, *_ in pairs if n == other and names[n] in relations],
        {
            "entity": [name for name in graph.entities.names if name not in used.entities.index],
            "relation": [n for n in names if n not in relations and n not in folded],
        },
        {
            "say the same the other way round": graph.count - whole.count,
            "are of relations left out": whole.count - kept.count,
        },
    )


def split_to_json(parts: GraphSplit) -> dict[str, Any]:
    """Turns parts into what JSON can hold: names, and facts by their places; no attributes."""
    return {
        "entities": parts.training.entities.names,
        "relations": parts.training.relations.names,
        "links": parts.training.links,
        "folded": parts.folded,
        "symmetric": parts.symmetric,
        "unseen": parts.unseen,
        "left_out": parts.left_out,
        **{name: getattr(parts, name).triples.tolist() for name in _SPLIT},
    }


def split_from_json(values: Any) -> GraphSplit:
    """Turns what `split_to_json` gave back into parts.

    Raises:
        ValueError: If it is something else.
    """
    try:
        names = vocabulary_of(values["entities"]), vocabulary_of(values["relations"])
        links = [(item, entity) for item, entity in values["links"]]
        training, validation, test = (
            graph_from_triples(np.array(values[part]), *names, links=links) for part in _SPLIT
        )
        told = {name: values[name] for name in ("folded", "symmetric", "unseen", "left_out")}
    except (IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"parts of a graph must be complete, got an error about {error}."
        ) from None
    return GraphSplit(training, validation, test, **told)

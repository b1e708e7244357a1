"""Splits of a graph into training, validation and test triples without leakage.

Entities and relations keep their indices in all parts.
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
    labels_of,
    vocabulary_of,
    with_triples,
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
    "split_of_files",
    "split_to_json",
    "split_triples",
]

_SPLIT = ("training", "validation", "test")


def split_triples(
    graph: KnowledgeGraph, *, share: float = 0.1, seed: int = 0
) -> tuple[KnowledgeGraph, KnowledgeGraph]:
    """Holds out random triples without leakage and with full coverage.

    All triples that join the same two entities, in either direction and by any relation, are in the
    same part, so that no inverse leaks, folded or not. Every entity and every relation has a triple
    in training.

    Args:
        graph: The graph.
        share: Share of the triples to hold out, in (0, 1).
        seed: Seed of the draw.

    Returns:
        Training and test. Split training once more for validation.

    Raises:
        ValueError: If `share` is out of range, or that much cannot be held out.

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
            f"share must leave a triple of every entity and relation in training, and at least one "
            f"for the test: got {share}, with {total[-1] if len(total) else 0} of {graph.count} "
            "triples that can be held out."
        )
    held_out = np.zeros(groups, bool)
    held_out[movable[: np.searchsorted(total, wanted) + 1]] = True
    return keep_triples(graph, ~held_out[group]), keep_triples(graph, held_out[group])


def split_entities(
    graph: KnowledgeGraph, entities: Sequence[int] | np.ndarray
) -> tuple[KnowledgeGraph, KnowledgeGraph]:
    """Holds out all triples of some entities, as if these were new.

    Args:
        graph: The graph.
        entities: Their indices.

    Returns:
        The triples without them, and those with them.

    Raises:
        ValueError: If one of the two parts is empty.
    """
    with_them = incident(graph, entities)
    return keep_triples(graph, ~with_them), keep_triples(graph, with_them)


def leaked_triples(training: KnowledgeGraph, test: KnowledgeGraph) -> np.ndarray:
    """Mask of the test triples whose entities are joined in training in the opposite direction.

    Args:
        training: Training triples.
        test: Triples of the same entities.

    Returns:
        `[count]` bool, True if training has a triple from the tail to the head.
    """
    size = len(training.entities.names)
    head, _, tail = training.triples.T.astype(np.int64)
    test_head, _, test_tail = test.triples.T.astype(np.int64)
    return np.isin(test_tail * size + test_head, head * size + tail)


def check_seen(training: KnowledgeGraph, test: KnowledgeGraph) -> None:
    """Refuses a test with entities or relations that are unseen in training.

    Raises:
        ValueError: If a relation or an entity of the test has no training triple.
    """
    for what, columns, names in (
        ("relation", [1], training.relations.names),
        ("entity", [0, 2], training.entities.names),
    ):
        unseen = np.setdiff1d(test.triples[:, columns], training.triples[:, columns])
        if len(unseen):
            raise ValueError(
                f"every {what} of the test must have a training triple, got {len(unseen)} "
                f"unseen: {first_five(names[n] for n in unseen)}."
            )


class GraphSplit(NamedTuple):
    """Training, validation and test triples of a graph, with the same vocabularies."""

    training: KnowledgeGraph
    """Training triples; every name has one."""
    validation: KnowledgeGraph
    """Triples for early stopping; there may be none."""
    test: KnowledgeGraph
    """Triples for the final evaluation; there may be none."""
    folded: dict[str, str]
    """Folded inverse relations, and the relation that each is folded into."""
    symmetric: list[str]
    """Symmetric relations; one direction of each triple is kept."""
    unseen: dict[str, list[str]]
    """Names of `entity` and `relation` that no triple is left of."""
    left_out: dict[str, int]
    """Number of triples left out, by reason."""
    labels: dict[str, str]
    """Names for people, by name of an entity or relation."""

    @property
    def known(self) -> np.ndarray:
        """`[n, 3]` all triples, those of symmetric relations in both directions."""
        triples = np.concatenate([getattr(self, part).triples for part in _SPLIT])
        index = self.training.relations.index
        both = np.isin(triples[:, 1], [index[name] for name in self.symmetric])
        reverse = triples[both & (triples[:, 0] != triples[:, 2])][:, ::-1]
        return np.concatenate([triples, reverse])


def split_graph(
    graph: KnowledgeGraph,
    *,
    without: Sequence[str] = (),
    share: float = 0.05,
    inverse_share: float = 0.8,
    seed: int = 0,
) -> GraphSplit:
    """Folds inverses, drops relations, and splits without leakage.

    Args:
        graph: As read from a file.
        without: Patterns of relations to drop; a match of either of two inverses drops both.
        share: Share of test triples, in [0, 0.5); as many are for validation. 0 trains on all.
        inverse_share: As `share` in `inverse_pairs`.
        seed: Seed of the split.

    Returns:
        The split.

    Raises:
        KeyError: If a pattern matches no relation.
        TypeError: If `without` is one string, each letter of which would be a pattern.
        ValueError: If nothing is left, `share` is out of range, or that much cannot be held out.

    Example:
        >>> from metajax.knowledge import graph_from_names
        >>> likes = [(a, "like", b) for a, b in ("ab", "bc", "ca", "cd", "db")]
        >>> liked = [(b, "liked by", a) for a, _, b in likes]
        >>> split = split_graph(graph_from_names([*likes, *liked]), share=0.2)
        >>> split.training.count, split.validation.count, split.test.count, split.folded
        (3, 1, 1, {'liked by': 'like'})
    """
    if isinstance(without, str):
        raise TypeError(f"without must be a sequence of patterns, got the string {without!r}.")
    if not 0 <= share < 0.5:
        raise ValueError(f"share must be in [0, 0.5), got {share}.")
    names, pairs = graph.relations.names, inverse_pairs(graph, share=inverse_share)
    whole = fold_inverses(graph, share=inverse_share)
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
    training, validation, test = used, _without_triples(used), _without_triples(used)
    if share:
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
            "repeat another in reverse": graph.count - whole.count,
            "are of dropped relations": whole.count - kept.count,
        },
        _used_labels(graph, used),
    )


def split_of_files(
    training: KnowledgeGraph,
    validation: KnowledgeGraph | None,
    test: KnowledgeGraph,
    *,
    without: Sequence[str] = (),
) -> GraphSplit:
    """Takes a split as its files have it; inverse relations are not folded.

    Triples of the test or of validation that are in training too, or have a name of which training
    knows nothing, are left out.

    Args:
        training: Training triples.
        validation: Triples of the same names, or None.
        test: Triples of the same names.
        without: Patterns of relations to drop.

    Returns:
        The split.

    Raises:
        KeyError: If a pattern matches no relation.
        TypeError: If `without` is one string, each letter of which would be a pattern.
        ValueError: If nothing is left of a part.
    """
    if isinstance(without, str):
        raise TypeError(f"without must be a sequence of patterns, got the string {without!r}.")
    kept = without_relations(training, *without)
    used = drop_unused(kept)
    left_out = {"are of dropped relations": training.count - kept.count}
    known = set(map(tuple, used.triples.tolist()))
    new_names, repeated = "have a name without a training triple", "are in training too"

    def of_used(part: KnowledgeGraph, name: str) -> KnowledgeGraph:
        names, relations = part.entities.names, part.relations.names
        triples = []
        for head, relation, tail in part.triples.tolist():
            if any(fnmatchcase(relations[relation], pattern) for pattern in without):
                left_out["are of dropped relations"] += 1
                continue
            triple = (
                used.entities.index.get(names[head], -1),
                used.relations.index.get(relations[relation], -1),
                used.entities.index.get(names[tail], -1),
            )
            reason = new_names if min(triple) < 0 else repeated if triple in known else None
            if reason is None:
                triples.append(triple)
            else:
                left_out[reason] = left_out.get(reason, 0) + 1
        if not triples:
            raise ValueError(f"the {name} triples must have names of training, and none is left.")
        return with_triples(used, np.array(triples))

    return GraphSplit(
        used,
        _without_triples(used) if validation is None else of_used(validation, "validation"),
        of_used(test, "test"),
        {},
        [],
        {
            "entity": [n for n in training.entities.names if n not in used.entities.index],
            "relation": [n for n in training.relations.names if n not in used.relations.index],
        },
        left_out,
        _used_labels(training, used),
    )


def _without_triples(graph: KnowledgeGraph) -> KnowledgeGraph:
    """The names of a graph, of which no triple is left."""
    column = np.zeros(0, np.int32)
    return graph._replace(head=column, relation=column, tail=column, count=0)


def _used_labels(graph: KnowledgeGraph, used: KnowledgeGraph) -> dict[str, str]:
    return {
        name: label
        for name, label in labels_of(graph).items()
        if name in used.entities.index or name in used.relations.index
    }


def split_to_json(parts: GraphSplit) -> dict[str, Any]:
    """Converts a split to values that JSON can hold, without attributes."""
    return {
        "entities": parts.training.entities.names,
        "relations": parts.training.relations.names,
        "links": parts.training.links,
        "folded": parts.folded,
        "symmetric": parts.symmetric,
        "unseen": parts.unseen,
        "left_out": parts.left_out,
        "labels": parts.labels,
        **{name: getattr(parts, name).triples.tolist() for name in _SPLIT},
    }


def split_from_json(values: Any) -> GraphSplit:
    """Converts the values of `split_to_json` back.

    Raises:
        ValueError: If they are something else.
    """
    try:
        names = vocabulary_of(values["entities"]), vocabulary_of(values["relations"])
        links = [(item, entity) for item, entity in values["links"]]
        training = graph_from_triples(np.array(values["training"]), *names, links=links)
        validation, test = (
            with_triples(training, np.array(values[part]))
            if values[part]
            else _without_triples(training)
            for part in _SPLIT[1:]
        )
        kept = ("folded", "symmetric", "unseen", "left_out", "labels")
        rest = {name: values[name] for name in kept}
    except (IndexError, KeyError, TypeError) as error:
        raise ValueError(f"a split must be complete, got an error about {error}.") from None
    return GraphSplit(training, validation, test, **rest)


def _pair(graph: KnowledgeGraph, triples: np.ndarray) -> np.ndarray:
    """Key of an unordered pair of entities, `[n]`."""
    ends = np.sort(triples[:, [0, 2]].astype(np.int64), axis=1)
    return ends[:, 0] * len(graph.entities.names) + ends[:, 1]

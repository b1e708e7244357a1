"""A graph made ready: everything said once, and parts to learn from, to stop by and to ask for."""

import glob
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np

from metajax.knowledge.graph import KnowledgeGraph, graph_from_triples, vocabulary_of
from metajax.knowledge.inverses import fold_inverses, inverse_pairs
from metajax.knowledge.selection import in_use, without_relations
from metajax.knowledge.splits import split_triples

__all__ = ["Parts", "parts_from_json", "parts_of", "parts_to_json"]

_SPLIT = ("training", "validation", "test")


class Parts(NamedTuple):
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


def parts_of(
    graph: KnowledgeGraph, *, without: Sequence[str] = (), share: float = 0.05, seed: int = 0
) -> Parts:
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
        >>> parts = parts_of(graph_from_names([*likes, *liked]), share=0.2)
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
    used = in_use(kept)
    rest, test = split_triples(used, share=share, seed=seed)
    training, validation = split_triples(rest, share=test.count / rest.count, seed=seed + 1)
    relations = used.relations.index
    folded = {name: other for name, other in folded.items() if other in relations}
    return Parts(
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


def parts_to_json(parts: Parts) -> dict[str, Any]:
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


def parts_from_json(values: Any) -> Parts:
    """Turns what `parts_to_json` gave back into parts.

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
    return Parts(training, validation, test, **told)

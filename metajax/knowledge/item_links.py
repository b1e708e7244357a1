"""Links of the items of a log to the entities of a graph, by ids and titles, and their vectors."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np

from metajax.knowledge.content_features import content_vectors, item_features
from metajax.knowledge.datasets import item_entities
from metajax.knowledge.graph import KnowledgeGraph, add_triples, degrees, keep_triples, labels_of
from metajax.knowledge.inverses import fold_inverses

__all__ = ["SharedFacts", "item_vectors", "link_items", "shared_facts"]


class SharedFacts(NamedTuple):
    """N pairs of an item and one of F facts of a graph, sorted by item."""

    item: np.ndarray
    """`[N]` int32 the item."""
    fact: np.ndarray
    """`[N]` int32 the fact."""
    relation: np.ndarray
    """`[F]` name of each fact's relation, for people."""
    value: np.ndarray
    """`[F]` name of the entity at the other end, for people."""


def link_items(
    graph: KnowledgeGraph, ids: Sequence[str] | np.ndarray, titles: Sequence[str] | np.ndarray
) -> KnowledgeGraph:
    """Links the items of a log to entities, by the one rule that links the most of them.

    The rules, the first of equals: the links that the graph has; entities whose name is an item's
    id; entities whose name is one prefix, which ends in `/`, `#` or `:`, and an item's id; entities
    whose label, or the last part of whose name, is an item's title, whatever the case, where no
    other entity and no other item is called so.

    Args:
        graph: The graph.
        ids: `[I]` the items' ids in the log.
        titles: `[I]` their titles.

    Returns:
        The graph with links of items of the log alone; without any where no rule links an item.

    Example:
        >>> from metajax.knowledge import graph_from_names
        >>> graph = graph_from_names([("ex:Blade_Runner", "ex:by", "ex:Scott")])
        >>> link_items(graph, ["7", "8"], ["Alien", "Blade runner"]).links
        (('8', 0),)
    """
    names = graph.entities.names
    ids, titles = [str(one) for one in ids], [str(one) for one in titles]
    log = set(ids)
    own = [(item, names[entity]) for item, entity in graph.links if item in log]
    rules = [own, [(item, item) for item in ids if item in graph.entities.index]]
    rules += [_by_prefix(names, log), _by_title(graph, ids, titles)]
    best = max(rules, key=len)
    bare = graph._replace(links=())
    return add_triples(bare, [], links=best) if best else bare


def item_vectors(
    graph: KnowledgeGraph, ids: Sequence[str] | np.ndarray, *, width: int = 16
) -> np.ndarray:
    """Content vectors of the items of a log, from the facts that they share.

    Inverse relations are folded, and facts about a single entity are dropped, because they relate
    no two items; then `content_vectors`, divided by the root of the mean square of their lengths.

    Args:
        graph: With links to items of the log alone, as from `link_items`.
        ids: `[I]` the items' ids in the log.
        width: Most dimensions for a relation, >= 1.

    Returns:
        `[I, D]` float32, 0 of items that are not linked.

    Raises:
        ValueError: If there are links of items that are not in the log, `width` < 1, or no fact is
            shared by some linked items and not by all.
    """
    folded = fold_inverses(graph)
    entity = item_entities(folded, ids)
    is_item = np.zeros(len(folded.entities.names), bool)
    is_item[entity[entity >= 0]] = True
    # The end that is no item must be shared; a fact between two items relates them as it is.
    count = degrees(folded)
    ends = folded.triples[:, [0, 2]]
    shared = (is_item[ends] | (count[ends] >= 2)).all(axis=1) & is_item[ends].any(axis=1)
    if shared.any():
        kept = keep_triples(folded, np.asarray(shared))
        vectors = content_vectors(kept, entity, width=width)
        size = np.sqrt(np.mean(np.sum(np.square(vectors), axis=1)))
        if size > 0:
            return (vectors / size).astype(np.float32)
    raise ValueError("the graph tells no items apart: no fact is shared by some of them alone.")


def shared_facts(
    graph: KnowledgeGraph, ids: Sequence[str] | np.ndarray, *, most: int = 200
) -> SharedFacts:
    """Facts that several items have, such as the same director.

    Args:
        graph: With links to items of the log alone, as from `link_items`.
        ids: `[I]` the items' ids in the log.
        most: Most items of a fact: what many share tells little.

    Returns:
        The facts of 2 to `most` items. Names are labels where the graph has them (`labels_of`), or
        the last part of a name.

    Raises:
        ValueError: If there are links of items that are not in the log.

    Example:
        >>> from metajax.knowledge import graph_from_names
        >>> ids = ["Alien", "Legend"]
        >>> films = [(f"e:{film}", "e:directed_by", "e:Scott") for film in ids]
        >>> found = shared_facts(link_items(graph_from_names(films), ids, ids), ids)
        >>> found.item.tolist(), found.relation.tolist(), found.value.tolist()
        ([0, 1], ['directed by'], ['Scott'])
    """
    folded = fold_inverses(graph)
    features = item_features(folded, item_entities(folded, ids))
    count = np.bincount(features.feature, minlength=len(features.relation))
    kept = (count >= 2) & (count <= most)
    rows, number = kept[features.feature], np.cumsum(kept) - 1
    labels = labels_of(folded)

    def called(name: str) -> str:
        return labels.get(name) or _last_part(name) or name

    names, relations = folded.entities.names, folded.relations.names
    # In dotted names, as Freebase has them, the last part is the property.
    dotted = [labels.get(name) or called(name).rpartition(".")[2] or name for name in relations]
    return SharedFacts(
        features.item[rows].astype(np.int32),
        number[features.feature[rows]].astype(np.int32),
        np.array([dotted[i] for i in features.relation[kept].tolist()], dtype=str),
        np.array([called(names[i]) for i in features.entity[kept].tolist()], dtype=str),
    )


def _by_prefix(names: Iterable[str], ids: set[str]) -> list[tuple[str, str]]:
    found = []
    for name in names:
        # A prefix may end at any of the signs: an id may hold some.
        for sign in re.finditer(r"[/#:]", name):
            if name[sign.end() :] in ids:
                found.append((name[: sign.end()], name[sign.end() :], name))
                break
    counts = Counter(prefix for prefix, _, _ in found)
    if not counts:
        return []
    best = max(counts, key=lambda prefix: counts[prefix])
    return [(item, name) for prefix, item, name in found if prefix == best]


def _by_title(
    graph: KnowledgeGraph, ids: Sequence[str], titles: Sequence[str]
) -> list[tuple[str, str]]:
    names, labels = graph.entities.names, labels_of(graph)
    items = _alone(zip(map(_folded, titles), ids, strict=True))
    found: dict[str, str] = {}
    for called in (lambda name: labels.get(name, ""), _last_part):
        entities = _alone(_named(names, called))
        for title, item in items.items():
            if title in entities:
                found.setdefault(item, entities[title])
    return list(found.items())


def _named(names: Iterable[str], called: Callable[[str], str]) -> Iterable[tuple[str, str]]:
    return ((_folded(called(name)), name) for name in names)


def _last_part(name: str) -> str:
    return unquote(re.split(r"[/#:]", name)[-1]).replace("_", " ")


def _alone(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Returns values by keys, without empty keys and those of several values."""
    found: dict[str, str | None] = {}
    for key, value in pairs:
        found[key] = None if found.get(key, value) != value else value
    return {key: value for key, value in found.items() if key and value is not None}


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()

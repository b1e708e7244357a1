"""Facts that recommended items share with items that the user likes: attributes, and a graph's."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from metajax.data.dataset import Table
from metajax.knowledge import SharedFacts

__all__ = ["CommonFact", "common_facts"]

# Most facts of the graph, and most attributes, of an item.
_OF_GRAPH, _OF_ATTRIBUTES = 3, 2

# A relation such as a genre, and a value such as Comedy.
_Fact = tuple[str, str]


class CommonFact(NamedTuple):
    """A fact of a recommended item and of items that the user likes."""

    relation: str
    """Name of the relation, or of the column of attributes."""
    value: str
    """The entity or the attribute's value."""
    titles: tuple[str, ...]
    """Titles of the user's items that share it."""


def common_facts(
    items: Sequence[int],
    liked: Sequence[int],
    titles: np.ndarray,
    attributes: Table | None,
    shared: SharedFacts | None,
) -> list[tuple[CommonFact, ...]]:
    """Finds facts that items share with liked ones.

    Args:
        items: The recommended items.
        liked: The user's liked items.
        titles: `[I]` titles of all items.
        attributes: Raw attributes of all items; those that are categories or tokens are facts.
        shared: Facts of a graph.

    Returns:
        For each of `items` at most three facts of the graph, and after them at most two attributes.
        Of each relation it is the fact that the fewest items have, of relations those of the
        rarest facts. A value that more than half of all items have is left out.
    """
    everyone, few = {*items, *liked}, len(titles) / 2
    sources = (
        (_OF_GRAPH, *_from_graph(shared, everyone)),
        (_OF_ATTRIBUTES, *_from_attributes(attributes, everyone)),
    )
    found = []
    for i in items:
        told: list[CommonFact] = []
        for most, facts, count in sources:
            having = {fact: [j for j in liked if fact in facts[j]] for fact in facts[i]}
            having = {fact: who for fact, who in having.items() if who and count[fact] <= few}
            by_relation: dict[str, CommonFact] = {}
            # Of equally rare ones those of more liked items.
            for fact in sorted(having, key=lambda one: (count[one], -len(having[one]), one)):
                names = tuple(str(titles[j]) for j in having[fact])
                by_relation.setdefault(fact[0], CommonFact(*fact, names))
            told += list(by_relation.values())[:most]
        found.append(tuple(told))
    return found


def _from_graph(
    shared: SharedFacts | None, items: Iterable[int]
) -> tuple[dict[int, set[_Fact]], Mapping[_Fact, int]]:
    """Returns the facts of some items, and the number of items of each fact."""
    if shared is None:
        return {i: set() for i in items}, {}
    names = list(zip(shared.relation.tolist(), shared.value.tolist(), strict=True))
    count = np.bincount(shared.fact, minlength=len(names)).tolist()
    found = {}
    for i in items:
        rows = slice(*np.searchsorted(shared.item, [i, i + 1]))
        found[i] = {names[fact] for fact in shared.fact[rows].tolist()}
    return found, dict(zip(names, count, strict=True))


def _from_attributes(
    attributes: Table | None, items: Iterable[int]
) -> tuple[dict[int, set[_Fact]], Mapping[_Fact, int]]:
    """Returns the same of attributes that are categories or tokens."""
    found: dict[int, set[_Fact]] = {i: set() for i in items}
    count: Counter[_Fact] = Counter()
    for name, kind in (attributes.kinds if attributes else {}).items():
        if attributes is None or kind not in ("categorical", "tokens"):
            continue
        for i, cell in enumerate(attributes.columns[name].tolist()):
            tokens = cell.split() if kind == "tokens" else [cell.strip()]
            facts = {(name, token) for token in tokens if token}
            count.update(facts)
            if i in found:
                found[i] |= facts
    return found, count

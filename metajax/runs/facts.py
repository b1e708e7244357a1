"""Facts that recommended items share with items that the user likes: attributes, and a graph's."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from metajax.data.dataset import Table
from metajax.knowledge import SharedFacts

__all__ = ["CommonFact", "common_facts"]

_MOST = 3

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
        For each of `items` at most three facts, those that the fewest items have first. A value
        that more than half of all items have is left out.
    """
    found = _from_graph(shared, {*items, *liked})
    count: Counter[_Fact] = Counter()
    if shared is not None:
        per_fact = np.bincount(shared.fact, minlength=len(shared.relation)).tolist()
        names = zip(shared.relation.tolist(), shared.value.tolist(), strict=True)
        count.update(dict(zip(names, per_fact, strict=True)))
    if attributes is not None:
        for i in found:
            found[i] |= set(_of_attributes(attributes, i))
        count.update(_counted(attributes))
    few = len(titles) / 2
    explained = []
    for i in items:
        by_fact = {
            fact: tuple(str(titles[j]) for j in liked if fact in found[j])
            for fact in found[i]
            if count[fact] <= few
        }
        told = sorted(
            (fact for fact, names in by_fact.items() if names),
            key=lambda fact: (count[fact], -len(by_fact[fact]), fact),
        )
        explained.append(tuple(CommonFact(*fact, by_fact[fact]) for fact in told[:_MOST]))
    return explained


def _from_graph(shared: SharedFacts | None, items: Iterable[int]) -> dict[int, set[_Fact]]:
    if shared is None:
        return {i: set() for i in items}
    found = {}
    for i in items:
        rows = slice(*np.searchsorted(shared.item, [i, i + 1]))
        facts = shared.fact[rows]
        names = zip(shared.relation[facts].tolist(), shared.value[facts].tolist(), strict=True)
        found[i] = set(names)
    return found


def _columns(attributes: Table) -> Iterable[tuple[str, np.ndarray, bool]]:
    """Names and cells of columns of categories and tokens, and whether they are tokens."""
    for name, kind in attributes.kinds.items():
        if kind in ("categorical", "tokens"):
            yield name, attributes.columns[name], kind == "tokens"


def _values(cell: str, tokens: bool) -> Iterable[str]:
    return cell.split() if tokens else [cell] if cell.strip() else []


def _of_attributes(attributes: Table, item: int) -> Iterable[_Fact]:
    for name, cells, tokens in _columns(attributes):
        for value in _values(str(cells[item]), tokens):
            yield name, value


def _counted(attributes: Table) -> Counter[_Fact]:
    return Counter(
        (name, value)
        for name, cells, tokens in _columns(attributes)
        for cell in cells.tolist()
        for value in set(_values(cell, tokens))
    )

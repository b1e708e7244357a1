"""Summary of a knowledge graph, and problems that affect learning from it."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from metajax.knowledge.graph import KnowledgeGraph, degrees, first_five
from metajax.knowledge.inverses import inverse_pairs
from metajax.knowledge.readers import Statements

__all__ = [
    "problems",
    "relation_table",
    "summary",
]


def summary(graph: KnowledgeGraph) -> dict[str, str]:
    """Counts of triples, entities, relations, attributes and links.

    Returns:
        Values by name, formatted.
    """
    degree = degrees(graph)
    items = len({item for item, _ in graph.links})
    linked = len({entity for _, entity in graph.links})
    return {
        "triples": f"{graph.count:,}",
        "entities": f"{len(degree):,}, {degree.min()} to {degree.max()} triples each "
        f"(median {np.median(degree):g}, {100 * np.mean(degree == 1):.0f} % have one)",
        "relations": f"{len(graph.relations.names):,}",
        "attributes": f"{len(graph.attributes):,}",
        "linked items": f"{items:,} to {linked:,} entities",
    }


def relation_table(graph: KnowledgeGraph) -> list[tuple[str, int, int, int, int]]:
    """Statistics of each relation.

    Returns:
        Name, triples, heads, tails, and tails of degree 1, by falling number of triples.
    """
    triples, degree = graph.triples, degrees(graph)
    rows = []
    for n, name in enumerate(graph.relations.names):
        head, _, tail = triples[triples[:, 1] == n].T
        tails = np.unique(tail)
        rows.append(
            (name, len(head), len(np.unique(head)), len(tails), int(np.sum(degree[tails] == 1)))
        )
    return sorted(rows, key=lambda row: (-row[1], row[0]))


def problems(
    graph: KnowledgeGraph,
    statements: Statements | None = None,
    item_ids: Sequence[str] | np.ndarray | None = None,
) -> list[str]:
    """Problems of a graph: duplicates, loops, unfolded inverses, unused names, missing links.

    Args:
        graph: From a reader.
        statements: The statements it was built from; adds line numbers.
        item_ids: The items that it should describe.

    Returns:
        One sentence a problem; empty if there is none.
    """
    found = [] if statements is None else _of_lines(statements)
    if statements is not None and statements.unused:
        found.append(f"columns are not used: {', '.join(map(repr, statements.unused))}")
    if statements is not None and statements.spaced:
        found.append(
            f"{len(statements.spaced)} names had spaces around them, or others than one plain "
            f"space within, and have no more: {first_five(statements.spaced)}"
        )
    names = graph.relations.names
    for pair in inverse_pairs(graph):
        one, other = names[pair.kept], names[pair.folded]
        what = f"{one!r} is symmetric"
        if pair.kept != pair.folded:
            what = f"{other!r} is the inverse of {one!r}"
        found.append(f"{what} ({pair.shared} triples): fold inverses before splitting")
    count = np.bincount(graph.triples[:, 1], minlength=len(names))
    found += _some("relations have one triple", names, count == 1)
    found += _some("entities have no triple", graph.entities.names, degrees(graph) == 0)
    shared = Counter(entity for _, entity in graph.links)
    several = [graph.entities.names[entity] for entity, items in shared.items() if items > 1]
    if several:
        found.append(f"{len(several)} entities are several items each: {first_five(several)}")
    if item_ids is not None:
        linked = np.isin(item_ids, [item for item, _ in graph.links])
        found += _some("items are linked to no entity", item_ids, ~linked)
    return found


def _of_lines(statements: Statements) -> list[str]:
    triples, lines = statements.triples, statements.lines
    first = {triple: n for n, triple in reversed([*enumerate(triples)])}
    kinds = {
        "repeated": [n for n, triple in enumerate(triples) if first[triple] < n],
        "of an entity with itself": [
            n for n, (head, _, tail) in enumerate(triples) if head == tail
        ],
    }
    found = []
    for what, places in kinds.items():
        named = [" ".join(triples[n]) if lines is None else f"line {lines[n]}" for n in places[:5]]
        more = ", ..." if len(places) > 5 else ""
        if places:
            found.append(
                f"{len(places)} of {len(triples)} triples are {what}: {', '.join(named)}{more}"
            )
    return found


def _some(what: str, names: Sequence[str] | np.ndarray, which: np.ndarray) -> list[str]:
    chosen = [name for name, is_one in zip(names, which, strict=True) if is_one]
    return [f"{len(chosen)} of {len(names)} {what}: {first_five(chosen)}"] if chosen else []

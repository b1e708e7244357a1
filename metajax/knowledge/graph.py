"""Knowledge graphs: triples of head, relation and tail as columns of integers.

Columns are padded to powers of two, and so are the row counts of entity and relation tables, so
that a graph grows within its capacity without recompilation. Vocabularies are append-only: an
entity keeps its index for good, and tables learned on an earlier graph still fit.
"""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np

from metajax import display
from metajax.data.dataset import room
from metajax.fields import suggestion

__all__ = [
    "Attribute",
    "KnowledgeGraph",
    "Vocabulary",
    "add_triples",
    "degrees",
    "drop_unused",
    "first_five",
    "graph_from_names",
    "graph_from_triples",
    "incident",
    "index_of",
    "keep_triples",
    "label_attributes",
    "labels_of",
    "neighbourhood",
    "prune_tails",
    "triples_of",
    "vocabulary_of",
    "with_triples",
    "without_relations",
]


label_attributes = ("http://www.w3.org/2000/01/rdf-schema#label",)
"""Attributes that name an entity or a relation for people."""


class Vocabulary(NamedTuple):
    """Names in the order in which they were added; none ever changes its index."""

    names: tuple[str, ...]
    """Index to name."""
    index: Mapping[str, int]
    """Name to index."""


class Attribute(NamedTuple):
    """A literal of an entity: a year, a title."""

    entity: int
    """Index of the entity."""
    name: str
    """Name of the attribute, as of a relation."""
    value: str
    """The literal's text."""
    kind: str = ""
    """IRI of its datatype, "@en" and the like for a language, "" for plain text."""


class KnowledgeGraph(NamedTuple):
    """A set of distinct triples (head, relation, tail).

    Padding follows them: self-loops of the last row of an entity table, which no entity has.
    """

    head: np.ndarray
    """`[C]` int32 index of the head entity."""
    relation: np.ndarray
    """`[C]` int32 index of the relation."""
    tail: np.ndarray
    """`[C]` int32 index of the tail entity."""
    count: int
    """Number of triples; C is the next power of two."""
    entities: Vocabulary
    """Names of the entities; some may have no triple."""
    relations: Vocabulary
    """Names of the relations."""
    attributes: tuple[Attribute, ...] = ()
    """Literals of entities."""
    links: tuple[tuple[str, int], ...] = ()
    """Items of a log that are entities: pairs of item id and entity index."""

    @property
    def triples(self) -> np.ndarray:
        """`[count, 3]` int32 heads, relations and tails, without padding."""
        columns = (self.head, self.relation, self.tail)
        return np.stack([column[: self.count] for column in columns], axis=1)

    @property
    def mask(self) -> np.ndarray:
        """`[C]` bool, False in padding."""
        return np.arange(len(self.head)) < self.count

    @property
    def entity_rows(self) -> int:
        """Rows of an entity table: a power of two, the last of them for padding."""
        return room(len(self.entities.names) + 1)

    @property
    def relation_rows(self) -> int:
        """Rows of a relation table: a power of two, the last of them for padding."""
        return room(len(self.relations.names) + 1)

    def _repr_html_(self) -> str:
        counts = np.bincount(self.relation[: self.count], minlength=len(self.relations.names))
        order = np.argsort(-counts, kind="stable")[:8]
        rows = [[self.relations.names[n], f"{counts[n]:,}"] for n in order if counts[n]]
        about = {
            "triples": self.count,
            "entities": len(self.entities.names),
            "relations": len(self.relations.names),
            "attributes": len(self.attributes) or None,
            "items linked": len(self.links) or None,
        }
        return display.facts("Knowledge graph", about) + display.grid(["relation", "triples"], rows)


def graph_from_names(
    triples: Iterable[tuple[str, str, str]],
    *,
    attributes: Iterable[tuple[str, str, str, str]] = (),
    links: Iterable[tuple[str, str]] = (),
) -> KnowledgeGraph:
    """Builds a graph from triples of names.

    Names are indexed in alphabetical order and triples sorted, so that the order of a file makes no
    difference.

    Args:
        triples: Head, relation and tail; duplicates count once.
        attributes: Entity, name, value and kind of each attribute.
        links: Item id and entity.

    Returns:
        The graph.

    Raises:
        ValueError: If there is no triple, or a link points to an entity that is in none.

    Example:
        >>> graph = graph_from_names([("Alien", "director", "Scott"), ("Alien", "genre", "Horror")])
        >>> graph.entities.names, graph.triples.tolist()
        (('Alien', 'Horror', 'Scott'), [[0, 0, 2], [0, 1, 1]])
        >>> graph.entity_rows
        4
    """
    names, column = vocabulary_of(()), np.zeros(0, np.int32)
    empty = KnowledgeGraph(column, column, column, 0, names, names)
    return add_triples(empty, sorted(triples), attributes=attributes, links=links)


def add_triples(
    graph: KnowledgeGraph,
    triples: Iterable[tuple[str, str, str]],
    *,
    attributes: Iterable[tuple[str, str, str, str]] = (),
    links: Iterable[tuple[str, str]] = (),
) -> KnowledgeGraph:
    """Appends triples to a graph; new names are indexed after the known ones.

    Args:
        graph: Is not changed.
        triples: Head, relation and tail; known ones count once.
        attributes: Entity, name, value and kind of each attribute.
        links: Item id and entity.

    Returns:
        The larger graph. Its arrays keep their shapes while there is room.

    Raises:
        ValueError: If there is no triple at all, or a link points to an unknown entity.

    Example:
        >>> graph = graph_from_names([("Alien", "director", "Scott")])
        >>> larger = add_triples(graph, [("Aliens", "director", "Cameron")])
        >>> larger.entities.names, larger.triples.tolist()
        (('Alien', 'Scott', 'Aliens', 'Cameron'), [[0, 0, 1], [2, 0, 3]])
    """
    triples, attributes, links = list(triples), list(attributes), list(links)
    ends = [name for head, _, tail in triples for name in (head, tail)]
    entities = _extended(graph.entities, ends + [entity for entity, *_ in attributes])
    relations = _extended(graph.relations, [relation for _, relation, _ in triples])
    new = np.array(
        [(entities.index[h], relations.index[r], entities.index[t]) for h, r, t in triples],
        np.int32,
    ).reshape(-1, 3)
    known = dict.fromkeys(graph.attributes)
    known.update((Attribute(entities.index[e], *rest), None) for e, *rest in attributes)
    unknown = {entity: None for _, entity in links if entity not in entities.index}
    if unknown:
        raise ValueError(
            f"links must point to entities of the graph, got {len(unknown)} unknown: "
            f"{first_five(unknown)}."
        )
    linked = dict(graph.links) | {item: entities.index[entity] for item, entity in links}
    both = np.concatenate([graph.triples, new])
    return graph_from_triples(both, entities, relations, known, linked.items())


def graph_from_triples(
    triples: np.ndarray,
    entities: Vocabulary,
    relations: Vocabulary,
    attributes: Iterable[Attribute] = (),
    links: Iterable[tuple[str, int]] = (),
) -> KnowledgeGraph:
    """Builds a graph from triples of indices.

    Args:
        triples: `[n, 3]` integers: heads, relations and tails; of duplicates the first is kept.
        entities: Their names.
        relations: Their names.
        attributes: As in `KnowledgeGraph`.
        links: As in `KnowledgeGraph`.

    Returns:
        The graph.

    Raises:
        ValueError: If there is no triple, or an index is out of range.
    """
    triples = np.asarray(triples)
    if not triples.size:
        raise ValueError("a graph must have at least one triple, got none.")
    sizes = [len(vocabulary.names) for vocabulary in (entities, relations, entities)]
    wrong = np.flatnonzero(((triples < 0) | (triples >= sizes)).any(axis=1))
    if len(wrong):
        raise ValueError(
            f"triples must have indices in [0, {sizes}), got "
            f"{triples[wrong[0]].tolist()} in row {wrong[0]}."
        )
    triples = _distinct(triples)
    last = [room(size + 1) - 1 for size in sizes]
    padding = room(len(triples)) - len(triples)
    head, relation, tail = (
        np.pad(column, (0, padding), constant_values=fill).astype(np.int32)
        for column, fill in zip(triples.T, last, strict=True)
    )
    return KnowledgeGraph(
        head, relation, tail, len(triples), entities, relations, tuple(attributes), tuple(links)
    )


def vocabulary_of(names: Iterable[str]) -> Vocabulary:
    """Indexes distinct names in their order."""
    names = tuple(names)
    return Vocabulary(names, {name: n for n, name in enumerate(names)})


def index_of(vocabulary: Vocabulary, name: str, what: str = "entity") -> int:
    """Looks a name up.

    Raises:
        KeyError: If it is unknown; the nearest name is suggested.

    Example:
        >>> graph = graph_from_names([("Alien", "director", "Scott")])
        >>> index_of(graph.relations, "directer", "relation")
        Traceback (most recent call last):
        ...
        KeyError: "no relation 'directer'; did you mean 'director'?"
    """
    if name in vocabulary.index:
        return vocabulary.index[name]
    raise KeyError(f"no {what} {name!r}{suggestion(name, vocabulary.names)}")


def triples_of(graph: KnowledgeGraph, entity: str) -> np.ndarray:
    """Triples with an entity as head or tail, `[n, 3]` int32, n >= 1.

    Raises:
        KeyError: If the entity is unknown.
        ValueError: If it has no triple.
    """
    at = index_of(graph.entities, entity)
    found = graph.triples[(graph.triples[:, [0, 2]] == at).any(axis=1)]
    if not len(found):
        raise ValueError(f"entity {entity!r} has no triple.")
    return found


def labels_of(graph: KnowledgeGraph) -> dict[str, str]:
    """Labels by name, of entities and relations: in English, else without language, else any.

    Example:
        >>> label = ("m.1", label_attributes[0], "Alien", "@en")
        >>> labels_of(graph_from_names([("m.1", "by", "m.2")], attributes=[label]))
        {'m.1': 'Alien'}
    """
    names = graph.entities.names
    found: dict[str, tuple[int, str]] = {}
    for entity, name, value, kind in graph.attributes:
        if name in label_attributes and value.strip():
            rank = 0 if kind.startswith("@en") else 1 if not kind.startswith("@") else 2
            known = found.get(names[entity])
            if known is None or rank < known[0]:
                found[names[entity]] = rank, value.strip()
    return {name: label for name, (_, label) in found.items()}


def degrees(graph: KnowledgeGraph) -> np.ndarray:
    """Degree of each entity, `[entities]` int64; a self-loop counts twice."""
    ends = graph.triples[:, [0, 2]].ravel()
    return np.bincount(ends, minlength=len(graph.entities.names))


def first_five(names: Iterable[object]) -> str:
    """Quotes the first five names of many."""
    names = list(names)
    return ", ".join(repr(str(name)) for name in names[:5]) + (", ..." if len(names) > 5 else "")


def _distinct(triples: np.ndarray) -> np.ndarray:
    """Keeps the first of equal rows, in their order."""
    order = np.lexsort(triples.T)
    again = (triples[order[1:]] == triples[order[:-1]]).all(axis=1)
    # Sorting is stable: of equal rows the first comes first.
    return np.delete(triples, order[1:][again], axis=0)


def _extended(known: Vocabulary, names: Iterable[str]) -> Vocabulary:
    return vocabulary_of((*known.names, *sorted(set(names) - known.index.keys())))


def keep_triples(graph: KnowledgeGraph, kept: np.ndarray) -> KnowledgeGraph:
    """Selects triples; entities and relations keep their indices.

    Args:
        graph: The graph.
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
    """Replaces the triples of a graph.

    Args:
        graph: Gives entities, relations, attributes and links.
        triples: `[n, 3]` integers, n >= 1.

    Returns:
        The graph of these triples.

    Raises:
        ValueError: As `graph_from_triples`.
    """
    return graph_from_triples(
        triples, graph.entities, graph.relations, graph.attributes, graph.links
    )


def neighbourhood(graph: KnowledgeGraph, entities: Sequence[int] | np.ndarray) -> KnowledgeGraph:
    """Keeps the triples incident to some entities.

    Args:
        graph: The graph.
        entities: Their indices.

    Returns:
        The smaller graph.

    Raises:
        ValueError: If there is no such triple.
    """
    return keep_triples(graph, incident(graph, entities))


def incident(graph: KnowledgeGraph, entities: Sequence[int] | np.ndarray) -> np.ndarray:
    """Mask of the triples with one of some entities as head or tail, `[count]` bool."""
    head, _, tail = graph.triples.T
    return np.isin(head, entities) | np.isin(tail, entities)


def without_relations(graph: KnowledgeGraph, *patterns: str) -> KnowledgeGraph:
    """Drops all triples of some relations, for instance awards, which leak how a film was received.

    Args:
        graph: The graph.
        *patterns: Shell-style patterns of names, for instance `"*award*"`.

    Returns:
        The smaller graph.

    Raises:
        KeyError: If a pattern matches no relation.
        ValueError: If nothing is left.

    Example:
        >>> from metajax.knowledge import graph_from_names
        >>> triples = [("Alien", "genre", "Horror"), ("Alien", "award_won", "Oscar")]
        >>> without_relations(graph_from_names(triples), "award_*").triples.tolist()
        [[0, 1, 1]]
    """
    names = graph.relations.names
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise KeyError(f"no relation matches {pattern!r}; there are {first_five(names)}.")
    left_out = [any(fnmatchcase(name, pattern) for pattern in patterns) for name in names]
    return keep_triples(graph, ~np.array(left_out)[graph.triples[:, 1]])


def prune_tails(graph: KnowledgeGraph, degree: int = 2) -> KnowledgeGraph:
    """Drops the triples whose tail has a degree below a threshold.

    An entity of degree 1 cannot relate items: an actor of one film is an alias of that film.

    Args:
        graph: Fold inverses first, because they count twice.
        degree: Least degree, as head or tail, >= 1.

    Returns:
        The smaller graph; pruned once, not until nothing changes.

    Raises:
        ValueError: If `degree` < 1 or nothing is left.
    """
    if degree < 1:
        raise ValueError(f"degree must be >= 1, got {degree}.")
    return keep_triples(graph, degrees(graph)[graph.triples[:, 2]] >= degree)


def drop_unused(graph: KnowledgeGraph) -> KnowledgeGraph:
    """Drops names without a triple, and renumbers the others.

    Their attributes and links go with them. Tables learned before do not fit any more.

    Returns:
        The same triples with smaller vocabularies.
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

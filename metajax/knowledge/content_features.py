"""What a graph says of the items of a log, as numbers that any learner can read."""

from typing import NamedTuple

import numpy as np

from metajax.data.dataset import TrainingSet
from metajax.data.interactions import from_columns, user_of_row
from metajax.knowledge.graph import KnowledgeGraph

__all__ = [
    "ItemFeatures",
    "content_vectors",
    "entities_as_users",
    "item_features",
    "tfidf",
]


class ItemFeatures(NamedTuple):
    """N facts about I items, sorted by item.

    A fact is a relation, which end of it the item is, and the entity at the other end.
    """

    item: np.ndarray
    """`[N]` int64 the item."""
    feature: np.ndarray
    """`[N]` int64 which of the F distinct facts is true of it."""
    relation: np.ndarray
    """`[F]` int64 the relation, of R, that a fact is of."""
    entity: np.ndarray
    """`[F]` int64 the entity at the other end."""
    items: int
    """I, those that nothing is said of included."""


def item_features(graph: KnowledgeGraph, entity: np.ndarray) -> ItemFeatures:
    """Collects what is said of items.

    Args:
        graph: Fold inverses before, or everything is said twice.
        entity: `[I]` the entity of each item, -1 for none; from `item_entities`.

    Returns:
        The facts; none of an item that is linked to nothing.

    Raises:
        ValueError: If an entity is out of range.

    Example:
        >>> from metajax.knowledge import graph_from_names
        >>> graph = graph_from_names([("Alien", "by", "Scott"), ("Legend", "by", "Scott")])
        >>> found = item_features(graph, np.array([1, 0, -1]))  # Legend, Alien, unlinked
        >>> found.item.tolist(), found.feature.tolist(), found.entity.tolist()
        ([0, 1], [0, 0], [2])
    """
    entity = np.asarray(entity, np.int64)
    entities = len(graph.entities.names)
    wrong = entity[(entity < -1) | (entity >= entities)]
    if wrong.size:
        raise ValueError(f"entity must hold indices in [-1, {entities}), got {wrong[0]}.")
    linked = np.flatnonzero(entity >= 0)
    linked = linked[np.argsort(entity[linked], kind="stable")]
    # Several items may be one entity: each fact is repeated for all of them.
    count = np.bincount(entity[linked], minlength=entities)
    start = np.concatenate([[0], np.cumsum(count)])
    triples = graph.triples.astype(np.int64)
    found = []
    for end, other in ((0, 2), (2, 0)):
        own = triples[:, end]
        row = np.repeat(np.arange(len(triples)), count[own])
        place = np.arange(len(row)) - np.repeat(np.cumsum(count[own]) - count[own], count[own])
        item = linked[start[own[row]] + place]
        relation = 2 * triples[row, 1] + (end == 2)
        found.append(np.stack([item, relation, triples[row, other]], axis=1))
    rows = np.unique(np.concatenate(found), axis=0)
    distinct, fact = np.unique(rows[:, 1:], axis=0, return_inverse=True)
    return ItemFeatures(
        rows[:, 0], fact.reshape(-1), distinct[:, 0] // 2, distinct[:, 1], len(entity)
    )


def tfidf(facts: ItemFeatures) -> np.ndarray:
    """Weighs facts by how few items share them.

    Args:
        facts: Of items.

    Returns:
        `[N]` the logarithm of how many times as many items are described as share the fact, over
        the length of all of the item's weights; 0 where every item shares all of its facts. The
        sum of products over common facts is the cosine of two items.

    References:
        Sparck Jones, A Statistical Interpretation of Term Specificity and Its Application in
        Retrieval, Journal of Documentation 28, 1972.
    """
    described = len(np.unique(facts.item))
    weight = np.log(described / np.bincount(facts.feature))[facts.feature]
    length = np.sqrt(np.bincount(facts.item, weight**2, minlength=facts.items))
    return weight / np.where(length > 0, length, 1)[facts.item]


def content_vectors(
    graph: KnowledgeGraph, entity: np.ndarray, *, width: int = 64, sweeps: int = 8, seed: int = 0
) -> np.ndarray:
    """Describes items by vectors whose products say in how much they are alike.

    Relation by relation, the cosine of what is said of two items, TF-IDF weighted, is written as
    the product of short vectors: the directions along which items differ most, by orthogonal
    iteration. Relations are side by side, so that products of whole rows are the sum of cosines.

    Args:
        graph: Fold inverses before.
        entity: `[I]` the entity of each item, -1 for none.
        width: Most numbers for a relation, >= 1.
        sweeps: Iterations, >= 1.
        seed: Of the first directions.

    Returns:
        `[I, D]` float32; D is the sum over relations of `width`, or of the number of its facts
        where that is less. Rows of items that nothing is said of are 0.

    Raises:
        ValueError: As `item_features`, or if a number is below 1.

    References:
        Halko, Martinsson and Tropp, Finding Structure with Randomness, SIAM Review 2011,
        algorithm 4.4.
    """
    for name, value in (("width", width), ("sweeps", sweeps)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}.")
    facts = item_features(graph, entity)
    rng = np.random.default_rng(seed)
    blocks = [
        _reduced(_of_relation(facts, relation), width, sweeps, rng)
        for relation in np.unique(facts.relation)
    ]
    return np.concatenate([np.zeros((facts.items, 0), np.float32), *blocks], axis=1)


def entities_as_users(
    training: TrainingSet, graph: KnowledgeGraph, entity: np.ndarray
) -> TrainingSet:
    """Adds to a log what a graph says: each entity is a user, who likes the items it belongs to.

    So everything that is learned from who chose what, item-to-item weights and graph networks
    included, knows of items that nobody chose.

    Args:
        training: A log; its users stay the first.
        graph: Fold inverses before, and leave out entities that tell nothing apart (`prune_tails`).
        entity: `[I]` the entity of each item, -1 for none.

    Returns:
        The larger log. The users that are entities have the highest rating for their items, in
        each of their roles as one user, at time 0, and attributes that are all 0.

    Raises:
        ValueError: As `item_features`, or if `entity` does not tell of every item.

    References:
        Jeunen, Van Balen and Goethals, Closed-Form Models for Collaborative Filtering with
        Side-Information, RecSys 2020, section 3: attributes as further rows of the matrix.
    """
    log = training.interactions
    facts = item_features(graph, entity)
    if facts.items != len(log.item_ids):
        raise ValueError(f"entity must tell of {len(log.item_ids)} items, got {facts.items}.")
    added, users = len(facts.relation), len(log.user_ids)
    # Ids are sorted, and come after those of people whatever these are.
    last = max(log.user_ids, default="")
    names = [f"{last} entity {n:0{len(str(added))}d}" for n in range(added)]
    extended = from_columns(
        np.concatenate([user_of_row(log), users + facts.feature]),
        np.concatenate([log.item, facts.item]),
        np.concatenate([log.rating, np.full(len(facts.item), (training.scale or (1, 1))[1])]),
        np.concatenate([log.time, np.zeros(len(facts.item), np.int64)]),
        user_ids=np.concatenate([log.user_ids, names]) if added else log.user_ids,
        item_ids=log.item_ids,
    )
    features = np.pad(training.user_features, ((0, added), (0, 0)))
    return training._replace(interactions=extended, user_features=features)


def _of_relation(facts: ItemFeatures, relation: int) -> ItemFeatures:
    kept = facts.relation == relation
    rows = kept[facts.feature]
    number = np.cumsum(kept) - 1
    return ItemFeatures(
        facts.item[rows],
        number[facts.feature[rows]],
        facts.relation[kept],
        facts.entity[kept],
        facts.items,
    )


def _reduced(facts: ItemFeatures, width: int, sweeps: int, rng: np.random.Generator) -> np.ndarray:
    """Turns the sparse rows of items to the directions along which they are longest."""
    weight = tfidf(facts)
    count = len(facts.relation)
    by_fact = np.argsort(facts.feature, kind="stable")

    def of_items(vectors: np.ndarray) -> np.ndarray:
        found = np.zeros((facts.items, vectors.shape[1]))
        item, start = np.unique(facts.item, return_index=True)
        found[item] = np.add.reduceat(weight[:, None] * vectors[facts.feature], start)
        return found

    def of_facts(vectors: np.ndarray) -> np.ndarray:
        rows = (weight[:, None] * vectors[facts.item])[by_fact]
        return np.add.reduceat(rows, np.searchsorted(facts.feature[by_fact], np.arange(count)))

    if count <= width:
        return of_items(np.eye(count)).astype(np.float32)
    directions = rng.normal(size=(count, width))
    for _ in range(sweeps):
        directions = np.linalg.qr(of_facts(of_items(directions)))[0]
    return of_items(directions).astype(np.float32)

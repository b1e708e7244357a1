"""Content features of items from a knowledge graph: TF-IDF, dense vectors, pseudo-users.

A feature is a relation, its direction and the entity at the other end: "director is Scott".
"""

from typing import NamedTuple

import numpy as np

from metajax.data.dataset import TrainingSet
from metajax.data.interactions import from_columns
from metajax.knowledge.graph import KnowledgeGraph

__all__ = [
    "ItemFeatures",
    "content_vectors",
    "entities_as_users",
    "item_features",
    "tfidf",
]


class ItemFeatures(NamedTuple):
    """N nonzero binary features of I items, sorted by item.

    A feature is a relation, which end of it the item is, and the entity at the other end.
    """

    item: np.ndarray
    """`[N]` int64 the item."""
    feature: np.ndarray
    """`[N]` int64 the feature, of F."""
    relation: np.ndarray
    """`[F]` int64 the relation of each feature, of R."""
    entity: np.ndarray
    """`[F]` int64 the entity at the other end."""
    items: int
    """I, items without features included."""


def item_features(graph: KnowledgeGraph, entity: np.ndarray) -> ItemFeatures:
    """Sparse features of items: their triples.

    Args:
        graph: Fold inverses first, or every feature is doubled.
        entity: `[I]` the entity of each item, -1 for none; from `item_entities`.

    Returns:
        The features; unlinked items have none.

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
    # Several items may be one entity: its triples are repeated for each of them.
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
    distinct, feature = np.unique(rows[:, 1:], axis=0, return_inverse=True)
    return ItemFeatures(
        rows[:, 0], feature.reshape(-1), distinct[:, 0] // 2, distinct[:, 1], len(entity)
    )


def tfidf(features: ItemFeatures) -> np.ndarray:
    """TF-IDF weights of binary features, normalised by item.

    Args:
        features: Of items.

    Returns:
        `[N]` log of the number of described items over that of the items with the feature, divided
        by the norm of the item's weights; 0 where every item shares all of its features. The sum of
        products over common features is the cosine of two items.

    References:
        Sparck Jones, A Statistical Interpretation of Term Specificity and Its Application in
        Retrieval, Journal of Documentation 28, 1972.
    """
    described = len(np.unique(features.item))
    weight = np.log(described / np.bincount(features.feature))[features.feature]
    length = np.sqrt(np.bincount(features.item, weight**2, minlength=features.items))
    return weight / np.where(length > 0, length, 1)[features.item]


def content_vectors(
    graph: KnowledgeGraph, entity: np.ndarray, *, width: int = 64, sweeps: int = 8, seed: int = 0
) -> np.ndarray:
    """Dense content vectors, whose products are sums of cosine similarities by relation.

    Relation by relation, the TF-IDF matrix of items by features is projected on its leading right
    singular vectors, by orthogonal iteration. The projections of all relations are concatenated.

    Args:
        graph: Fold inverses first.
        entity: `[I]` the entity of each item, -1 for none.
        width: Most dimensions for a relation, >= 1.
        sweeps: Iterations, >= 1.
        seed: Seed of the initial directions.

    Returns:
        `[I, D]` float32; D is the sum over relations of `width`, or of the number of features where
        that is less. Items without features have rows of 0.

    Raises:
        ValueError: As `item_features`, or if a number is below 1.

    References:
        Halko, Martinsson and Tropp, Finding Structure with Randomness, SIAM Review 2011,
        algorithm 4.4.
    """
    for name, value in (("width", width), ("sweeps", sweeps)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}.")
    features = item_features(graph, entity)
    rng = np.random.default_rng(seed)
    blocks = [
        _reduced(_of_relation(features, relation), width, sweeps, rng)
        for relation in np.unique(features.relation)
    ]
    return np.concatenate([np.zeros((features.items, 0), np.float32), *blocks], axis=1)


def entities_as_users(
    training: TrainingSet, graph: KnowledgeGraph, entity: np.ndarray
) -> TrainingSet:
    """Adds the features of items to a log as pseudo-users, who like the items that have them.

    Every collaborative method, item-to-item weights and graph networks included, so extends to
    items without interactions.

    Args:
        training: A log; its users stay the first.
        graph: Fold inverses first, and drop entities that cannot relate items (`prune_tails`).
        entity: `[I]` the entity of each item, -1 for none.

    Returns:
        The larger log. Pseudo-users give their items the highest rating, at time 0, and have
        attributes that are all 0; an entity is one user for each relation and direction.

    Raises:
        ValueError: As `item_features`, or if `entity` has not one entry for each item.

    References:
        Jeunen, Van Balen and Goethals, Closed-Form Models for Collaborative Filtering with
        Side-Information, RecSys 2020, section 3: attributes as further rows of the matrix.
    """
    log = training.interactions
    features = item_features(graph, entity)
    if features.items != len(log.item_ids):
        raise ValueError(
            f"entity must have {len(log.item_ids)} entries, an item each, got {features.items}."
        )
    added, users = len(features.relation), len(log.user_ids)
    # Ids are sorted; these come after those of the users.
    last = max(log.user_ids, default="")
    names = [f"{last} entity {n:0{len(str(added))}d}" for n in range(added)]
    extended = from_columns(
        np.concatenate([log.user, users + features.feature]),
        np.concatenate([log.item, features.item]),
        np.concatenate([log.rating, np.full(len(features.item), (training.scale or (1, 1))[1])]),
        np.concatenate([log.time, np.zeros(len(features.item), np.int64)]),
        user_ids=np.concatenate([log.user_ids, names]) if added else log.user_ids,
        item_ids=log.item_ids,
    )
    features = np.pad(training.user_features, ((0, added), (0, 0)))
    return training._replace(interactions=extended, user_features=features)


def _of_relation(features: ItemFeatures, relation: int) -> ItemFeatures:
    kept = features.relation == relation
    rows = kept[features.feature]
    number = np.cumsum(kept) - 1
    return ItemFeatures(
        features.item[rows],
        number[features.feature[rows]],
        features.relation[kept],
        features.entity[kept],
        features.items,
    )


def _reduced(
    features: ItemFeatures, width: int, sweeps: int, rng: np.random.Generator
) -> np.ndarray:
    """Projects the sparse rows of items on the leading right singular vectors."""
    weight = tfidf(features)
    count = len(features.relation)
    by_feature = np.argsort(features.feature, kind="stable")

    def of_items(vectors: np.ndarray) -> np.ndarray:
        found = np.zeros((features.items, vectors.shape[1]))
        item, start = np.unique(features.item, return_index=True)
        found[item] = np.add.reduceat(weight[:, None] * vectors[features.feature], start)
        return found

    def of_features(vectors: np.ndarray) -> np.ndarray:
        rows = (weight[:, None] * vectors[features.item])[by_feature]
        return np.add.reduceat(
            rows, np.searchsorted(features.feature[by_feature], np.arange(count))
        )

    if count <= width:
        return of_items(np.eye(count)).astype(np.float32)
    directions = rng.normal(size=(count, width))
    for _ in range(sweeps):
        directions = np.linalg.qr(of_features(of_items(directions)))[0]
    return of_items(directions).astype(np.float32)

import numpy as np
import pytest

from metajax.data.dataset import TrainingSet
from metajax.data.interactions import from_columns
from metajax.knowledge import (
    content_vectors,
    entities_as_users,
    graph_from_names,
    item_features,
    tfidf,
)

GRAPH = graph_from_names(
    [
        ("Alien", "by", "Scott"),
        ("Legend", "by", "Scott"),
        ("Heat", "by", "Mann"),
        ("Alien", "genre", "Horror"),
        ("Jaws", "genre", "Horror"),
        ("Heat", "genre", "Crime"),
        ("Pacino", "acts in", "Heat"),
    ]
)
FILMS = ("Alien", "Heat", "Jaws", "Legend")
# The last film is in no graph.
ENTITY = np.array([GRAPH.entities.index[name] for name in FILMS] + [-1])


def cosines(relations):
    """The cosines of TF-IDF rows, from a dense matrix of each film's features."""
    described = [
        {
            (relation, end, other)
            for head, relation, tail in _named()
            for end, own, other in (("head", head, tail), ("tail", tail, head))
            if own == film and relation in relations
        }
        for film in FILMS
    ]
    facts = sorted(set().union(*described))
    rows = np.array([[fact in of for fact in facts] for of in described], float)
    described = (rows.sum(axis=1) > 0).sum()
    rows = rows * np.log(described / rows.sum(axis=0))
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = rows / np.where(length > 0, length, 1)
    return np.pad(rows @ rows.T, ((0, 1), (0, 1)))


def _named():
    entity, relation = GRAPH.entities.names, GRAPH.relations.names
    return [(entity[h], relation[r], entity[t]) for h, r, t in GRAPH.triples]


def test_features_depend_on_the_direction_of_a_relation():
    facts = item_features(GRAPH, ENTITY)
    assert len(facts.item) == 7
    assert facts.items == 5
    heat = facts.feature[facts.item == 1]
    others = {GRAPH.entities.names[n] for n in facts.entity[heat]}
    assert others == {"Mann", "Crime", "Pacino"}
    # Alien and Legend share their director.
    assert len(set(facts.feature[facts.item == 0]) & set(facts.feature[facts.item == 3])) == 1


def test_both_directions_of_a_relation_are_two_features():
    graph = graph_from_names([("Alien", "follows", "x"), ("x", "follows", "Heat")])
    found = item_features(graph, np.array([graph.entities.index[name] for name in FILMS[:2]]))
    assert (found.item.tolist(), found.feature.tolist()) == ([0, 1], [0, 1])
    assert (found.relation.tolist(), found.entity.tolist()) == ([0, 0], [2, 2])


def test_two_items_may_be_one_entity():
    twice = item_features(GRAPH, ENTITY[[0, 0, 1]])
    assert twice.feature[twice.item == 0].tolist() == twice.feature[twice.item == 1].tolist()


def test_tfidf_weights_equal_those_of_a_dense_matrix():
    facts = item_features(GRAPH, ENTITY)
    rows = np.zeros((facts.items, len(facts.relation)))
    rows[facts.item, facts.feature] = tfidf(facts)
    np.testing.assert_allclose(rows @ rows.T, cosines({"by", "genre", "acts in"}), atol=1e-12)


def test_products_of_content_vectors_are_sums_of_cosines_by_relation():
    vectors = content_vectors(GRAPH, ENTITY)
    expected = sum(cosines({name}) for name in ("by", "genre", "acts in"))
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-6)


def test_narrow_content_vectors_are_the_best_low_rank_approximation():
    rng = np.random.default_rng(0)
    graph = graph_from_names(
        {(f"film {a:02d}", "with", f"actor {b}") for a, b in rng.integers(12, size=(60, 2))}
    )
    films = np.array([graph.entities.index[f"film {n:02d}"] for n in range(12)])
    whole = content_vectors(graph, films, width=50)
    narrow = content_vectors(graph, films, width=3, sweeps=60)
    assert narrow.shape == (12, 3)
    values = np.linalg.svd(whole, compute_uv=False)
    left = np.linalg.norm(whole @ whole.T - narrow @ narrow.T)
    np.testing.assert_allclose(left, np.linalg.norm(values[3:] ** 2), rtol=1e-3)


def test_entities_become_pseudo_users_who_like_their_items():
    log = from_columns(
        np.array([0, 1]),
        np.array([0, 1]),
        np.array([3.0, 5.0]),
        user_ids=np.array(["me", "you"]),
        item_ids=np.array(["1", "2", "3", "4", "5"]),
    )
    training = TrainingSet(log, np.ones((2, 4), np.float32), np.zeros((5, 0)), (1.0, 5.0))
    extended = entities_as_users(training, GRAPH, ENTITY)
    # By Scott, by Mann, Horror, Crime, and Pacino from the other end.
    assert extended.interactions.user_ids[:2].tolist() == ["me", "you"]
    assert len(extended.interactions.user_ids) == 7
    assert sorted(extended.interactions.user_ids) == extended.interactions.user_ids.tolist()
    assert extended.user_features.shape == (7, 4)
    assert not extended.user_features[2:].any()
    entity = extended.interactions.user >= 2
    assert set(extended.interactions.rating[entity]) == {5.0}
    pairs = np.bincount(extended.interactions.item[entity], minlength=5)
    assert pairs.tolist() == [2, 3, 1, 1, 0]
    assert extended.interactions.rating[~entity].tolist() == [3.0, 5.0]


def test_invalid_arguments_are_refused_by_name():
    with pytest.raises(ValueError, match=r"entity must hold indices in \[-1, 9\), got 9"):
        item_features(GRAPH, np.array([9]))
    with pytest.raises(ValueError, match=r"entity must hold indices in \[-1, 9\), got -2"):
        item_features(GRAPH, np.array([8, -2]))
    with pytest.raises(ValueError, match=r"width must be >= 1, got 0\."):
        content_vectors(GRAPH, ENTITY, width=0)

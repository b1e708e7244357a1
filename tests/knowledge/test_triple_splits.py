import numpy as np
import pytest

from metajax.knowledge import (
    check_seen,
    fold_inverses,
    graph_from_names,
    keep_triples,
    leaked_triples,
    split_entities,
    split_triples,
)


@pytest.fixture(scope="module")
def graph():
    """300 facts between 40 entities; each is also present in reverse."""
    rng = np.random.default_rng(0)
    facts = [(f"e{h}", f"r{r}", f"e{t}") for h, r, t in rng.integers(0, (40, 3, 40), (300, 3))]
    return graph_from_names(facts + [(t, f"inverse {r}", h) for h, r, t in facts])


def test_a_random_split_leaks_inverses_and_ours_none(graph):
    drawn = np.random.default_rng(1).random(graph.count) < 0.2
    naive = keep_triples(graph, ~drawn), keep_triples(graph, drawn)
    assert leaked_triples(*naive).mean() > 0.7
    for whole in (graph, fold_inverses(graph)):
        training, test = split_triples(whole, share=0.2, seed=1)
        assert not leaked_triples(training, test).any()
        pairs = [set(map(frozenset, part.triples[:, [0, 2]].tolist())) for part in (training, test)]
        assert not pairs[0] & pairs[1]


def test_a_leak_is_a_fact_the_other_way_round():
    graph = graph_from_names([("a", "r", "b"), ("b", "s", "a"), ("a", "s", "c"), ("a", "r", "c")])
    assert graph.triples.tolist() == [[0, 0, 1], [0, 0, 2], [0, 1, 2], [1, 1, 0]]
    asked = np.array([False, False, True, True])
    # (a s c) has (a r c) in training, which is another relation the same way round.
    assert leaked_triples(keep_triples(graph, ~asked), keep_triples(graph, asked)).tolist() == [
        False,
        True,
    ]


def test_a_split_loses_nothing_and_leaves_training_a_fact_of_everything(graph):
    training, test = split_triples(graph, share=0.3, seed=2)
    both = np.concatenate([training.triples, test.triples]).tolist()
    assert sorted(both) == sorted(graph.triples.tolist())
    assert abs(test.count - 0.3 * graph.count) < 10
    check_seen(training, test)
    assert len(np.unique(training.triples[:, [0, 2]])) == len(np.unique(graph.triples[:, [0, 2]]))
    again, other = split_triples(graph, share=0.3, seed=2)[1], split_triples(graph, share=0.3)[1]
    np.testing.assert_array_equal(test.triples, again.triples)
    assert not np.array_equal(test.triples, other.triples)


@pytest.mark.parametrize(
    ("share", "rule"), [(0.999, "of 2 triples that can be held out"), (1, r"in \(0, 1\)")]
)
def test_a_split_that_cannot_be_is_refused(share, rule):
    graph = graph_from_names([("a", "r", "b"), ("b", "r", "c")])
    with pytest.raises(ValueError, match=rule):
        split_triples(graph, share=share)


def test_what_is_said_of_some_entities_can_be_taken_out(graph):
    training, new = split_entities(graph, [3, 5])
    assert not np.isin(training.triples[:, [0, 2]], [3, 5]).any()
    assert np.isin(new.triples[:, [0, 2]], [3, 5]).any(axis=1).all()
    assert training.count + new.count == graph.count


def test_a_relation_or_an_entity_unseen_in_training_is_refused():
    graph = graph_from_names([("a", "r", "b"), ("a", "s", "b"), ("a", "r", "c")])
    r, s = (graph.triples[:, 1] == n for n in (0, 1))
    with pytest.raises(
        ValueError, match=r"^every relation of the test must .* got 1 unseen: 's'\.$"
    ):
        check_seen(keep_triples(graph, r), keep_triples(graph, s))
    with pytest.raises(ValueError, match=r"every entity of the test must .* got 1 unseen: 'c'"):
        check_seen(keep_triples(graph, graph.triples[:, 2] == 1), keep_triples(graph, r))

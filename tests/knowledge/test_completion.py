from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from metajax.knowledge import Answer, add_triples, complete, graph_from_names, score_of

# Entities on a line, relations are steps: the score is minus the distance to where the step leads.
LINE = graph_from_names([("a", "+1", "b"), ("b", "+1", "c"), ("a", "+2", "c"), ("d", "+1", "e")])
PARAMS = {
    "entity": jnp.array([[0.0], [1], [2.25], [4], [1.5], [9]]),  # The last is room.
    "relation": jnp.array([[1.0], [2]]),
}
TRANSE = score_of("TransE")


def completed(params=PARAMS, training=LINE, **options):
    given: dict[str, Any] = {"entity": "a", "relation": "+1", **options}
    return complete(TRANSE, params, training, **given)


def test_answers_are_sorted_by_distance_to_the_query():
    place = np.array([0, 1, 2.25, 4, 1.5])
    for side, entity, target in (("tail", "c", 3.25), ("head", "a", -1.0)):
        found = completed(entity=entity, side=side)
        distance = np.abs(place - target)
        order = np.argsort(distance, kind="stable")
        assert [answer.entity for answer in found.answers] == ["abcde"[n] for n in order]
        np.testing.assert_allclose([a.score for a in found.answers], -distance[order], rtol=1e-6)
        assert found.known == 0


def test_known_triples_are_dropped_or_marked():
    found = completed(top=2)
    assert found.answers == (Answer("e", -0.5, False), Answer("a", -1.0, False))
    assert found.known == 1
    assert completed(top=2, keep_known=True).answers[0] == Answer("b", 0.0, True)
    # Known facts may be more than those of training.
    found = completed(known=[[0, 0, 1], [0, 0, 4], [0, 1, 0]], top=1)
    assert (found.answers[0].entity, found.known) == ("a", 2)


def test_there_may_be_fewer_answers_than_top():
    every = [[0, 0, n] for n in range(4)]
    found = completed(known=every, top=9)
    assert ([answer.entity for answer in found.answers], found.known) == (["e"], 4)
    assert completed(known=[*every, [0, 0, 4]]).answers == ()


def test_entities_added_after_training_are_no_candidates():
    later = add_triples(LINE, [("f", "+1", "a"), ("g", "+1", "a")])
    table = {**PARAMS, "entity": PARAMS["entity"][:5]}
    names = [answer.entity for answer in completed(table, later).answers]
    assert sorted(names) == ["a", "c", "d", "e"]
    # They may be in facts all the same.
    found = completed(table, later, side="head", keep_known=True)
    assert sorted(answer.entity for answer in found.answers) == ["a", "b", "c", "d", "e"]
    assert found.known == 2
    with pytest.raises(ValueError, match=r"^params must have a row for entity 'g', which is numb"):
        completed(table, later, entity="g")
    later = add_triples(LINE, [("a", "+3", "b")])
    with pytest.raises(ValueError, match=r"for relation '\+3', which is number 2; got 2\.$"):
        completed(training=later, relation="+3")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"entity": "x"}, KeyError, "no entity 'x'"),
        ({"relation": "+11"}, KeyError, r"no relation '\+11'; did you mean '\+1'\?"),
        ({"top": 0}, ValueError, r"^top must be >= 1, got 0\.$"),
        ({"side": "both"}, ValueError, r"^side must be tail or head, got 'both'\.$"),
        (
            {"params": {**PARAMS, "relation": jnp.array([[jnp.nan], [2.0]])}},
            ValueError,
            "^scores must be finite",
        ),
    ],
)
def test_invalid_queries_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        completed(**options)


def test_names_without_a_training_triple_are_refused():
    fewer = LINE._replace(count=1)
    with pytest.raises(ValueError, match=r"^entity 'd' has no triple"):
        completed(training=fewer, entity="d")
    with pytest.raises(ValueError, match=r"^relation '\+2' has no triple\.$"):
        completed(training=fewer, relation="+2")

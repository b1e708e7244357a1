import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.knowledge import score_names, score_of
from metajax.knowledge.scores import ComplexParts

BY_HAND = {
    "RotatE": lambda h, r, t: -np.abs(h * np.exp(1j * r) - t).sum(-1),
    "TransE": lambda h, r, t: -np.abs(h + r - t).sum(-1),
    "DistMult": lambda h, r, t: (h * r * t).sum(-1),
    "ComplEx": lambda h, r, t: (h * r * t.conj()).sum(-1).real,
}


def as_numpy(embedding):
    if isinstance(embedding, ComplexParts):
        return np.asarray(embedding.real) + 1j * np.asarray(embedding.imaginary)
    return np.asarray(embedding)


@pytest.mark.parametrize("name", score_names())
def test_both_queries_give_the_score_of_its_paper(name):
    score = score_of(name)
    one, two, three = jax.random.split(jax.random.key(0), 3)
    head, tail = (score.entities(key, 6, 5, 1.5) for key in (one, two))
    relation = score.relations(three, 6, 5, 1.5)
    right = BY_HAND[name](*(as_numpy(x) for x in (head, relation, tail)))
    operator = score.operator(relation)
    of_tails = score.match(score.tail_query(head, operator), tail)
    of_heads = score.match(score.head_query(operator, tail), head)
    np.testing.assert_allclose(of_tails, right, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(of_heads, right, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", score_names())
def test_entities_are_drawn_within_the_bound(name):
    for leaf in jax.tree.leaves(score_of(name).entities(jax.random.key(0), 50, 4, 0.25)):
        assert leaf.shape == (50, 4)
        assert 0.24 < jnp.abs(leaf).max() <= 0.25


def test_where_an_entity_is_what_is_asked_for_the_gradient_of_a_rotation_is_zero():
    score = score_of("RotatE")
    entity = score.entities(jax.random.key(0), 1, 3, 1.0)
    value, gradient = jax.value_and_grad(lambda e: score.match(e, entity)[0])(entity)
    assert float(value) == pytest.approx(-3e-6)
    for leaf in jax.tree.leaves(gradient):
        np.testing.assert_array_equal(leaf, 0)


def test_phases_that_differ_by_a_turn_look_the_same():
    score = score_of("RotatE")
    phase = jnp.array([[0.1, -3.0]])
    one, other = (score.features(score.operator(p)) for p in (phase, phase + 2 * jnp.pi))
    np.testing.assert_allclose(one, other, atol=1e-6)

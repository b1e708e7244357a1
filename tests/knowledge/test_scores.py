import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.knowledge import (
    filtered_ranks,
    frequency_baseline,
    graph_from_triples,
    score_names,
    score_of,
    vocabulary_of,
)
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
def test_head_and_tail_queries_give_the_published_score(name):
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
def test_entities_are_initialised_within_the_bound(name):
    for leaf in jax.tree.leaves(score_of(name).entities(jax.random.key(0), 50, 4, 0.25)):
        assert leaf.shape == (50, 4)
        assert 0.24 < jnp.abs(leaf).max() <= 0.25


def test_the_gradient_of_rotate_is_zero_at_an_exact_match():
    score = score_of("RotatE")
    entity = score.entities(jax.random.key(0), 1, 3, 1.0)
    value, gradient = jax.value_and_grad(lambda e: score.match(e, entity)[0])(entity)
    assert float(value) == pytest.approx(-3e-6)
    for leaf in jax.tree.leaves(gradient):
        np.testing.assert_array_equal(leaf, 0)


def test_phases_are_periodic():
    score = score_of("RotatE")
    phase = jnp.array([[0.1, -3.0]])
    one, other = (score.features(score.operator(p)) for p in (phase, phase + 2 * jnp.pi))
    np.testing.assert_allclose(one, other, atol=1e-6)


ENTITIES, RELATIONS = 9, 3


def graph():
    rng = np.random.default_rng(0)
    triples = rng.integers(0, (ENTITIES, RELATIONS, ENTITIES), (40, 3))
    return graph_from_triples(triples, vocabulary_of("abcdefghi"), vocabulary_of("rst"))


def test_frequency_baseline_ranks_by_counts():
    training = graph()
    triples = training.triples
    score, params = frequency_baseline(training)
    found = filtered_ranks(
        score, params, triples[:10], entities=ENTITIES, relations=RELATIONS, known=triples
    )
    for n, (head, relation, tail) in enumerate(triples[:10]):
        for side, (given, right) in enumerate(((tail, head), (head, tail))):
            column, other = (0, 2) if side == 0 else (2, 0)
            same = triples[triples[:, 1] == relation]
            counts = np.bincount(same[:, column], minlength=ENTITIES).astype(float)
            own = counts[right]
            counts[same[same[:, other] == given, column]] = -1
            assert found.optimistic[side, n] == 1 + np.sum(counts > own)
            assert found.pessimistic[side, n] == 1 + np.sum(counts >= own)


def test_frequency_baseline_is_not_trained():
    score, _ = frequency_baseline(graph())
    with pytest.raises(ValueError, match="counted, not trained"):
        score.entities(jax.random.key(0), 9, 2, 1.0)

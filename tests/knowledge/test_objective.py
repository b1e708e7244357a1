import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.knowledge import score_of, self_adversarial, training_triples
from metajax.knowledge.link_prediction import gather_embeddings, triple_losses
from metajax.knowledge.negative_sampling import sample_negatives

TRIPLES = [[0, 0, 1], [2, 1, 3], [1, 1, 1], [3, 0, 2]]
MARGIN, TEMPERATURE = 1.5, 0.7


def by_hand(entity, relation, given, joint):
    """The loss of each fact, false triple by false triple."""

    def plausible(h, r, t):
        return MARGIN - np.abs(entity[h] * np.exp(1j * relation[r]) - entity[t]).sum()

    def surprise(scores):
        return np.log1p(np.exp(scores))

    losses = []
    for chunk, triples in enumerate(np.asarray(given.triples)):
        for row, fact in enumerate(triples):
            against = []
            for place, slot in enumerate(("head", "relation", "tail")):
                if slot in given.replacement:
                    values = np.asarray(given.replacement[slot][chunk])
                    values = values[np.asarray(given.is_negative[slot][chunk, row])]
                    scores = [plausible(*np.where(np.arange(3) == place, v, fact)) for v in values]
                    against.append(np.array(scores))
            if joint:
                against = [np.concatenate(against)]
            terms = []
            for scores in against:
                weights = np.exp(TEMPERATURE * scores)
                total = (weights * surprise(scores)).sum()
                terms.append(total / weights.sum() if len(scores) else 0.0)
            losses.append((surprise(-plausible(*fact)) + np.mean(terms)) / 2)
    return np.array(losses)


@pytest.mark.parametrize(
    ("slots", "joint"),
    [(("head", "relation", "tail"), False), (("tail", "head"), True), (("relation",), False)],
)
def test_the_loss_of_a_fact_is_what_its_false_triples_say_one_by_one(slots, joint):
    score = score_of("RotatE")
    given = training_triples(TRIPLES, entities=4, relations=2)
    drawn = sample_negatives(
        given, jnp.arange(4), jax.random.key(0), chunk=2, negatives=3, slots=slots
    )
    params = {
        "entity": score.entities(jax.random.key(1), 4, 5, 0.5),
        "relation": score.relations(jax.random.key(2), 2, 5, 0.5),
    }

    @jax.jit
    def found(params):
        tables = {**params, "relation": score.operator(params["relation"])}
        read = gather_embeddings(tables, drawn)
        return triple_losses(
            score, read, drawn, margin=MARGIN, temperature=TEMPERATURE, joint=joint
        )

    entity = params["entity"].real + 1j * np.asarray(params["entity"].imaginary)
    right = by_hand(np.asarray(entity), np.asarray(params["relation"]), drawn, joint)
    np.testing.assert_allclose(found(params).ravel(), right, rtol=1e-5)


def test_no_gradient_goes_through_the_weights_of_false_triples():
    scores = jnp.array([0.3, -1.0, 2.0])
    gradient = jax.grad(lambda s: self_adversarial(s, where=jnp.ones(3, bool)))(scores)
    weights = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose(gradient, weights / (1 + np.exp(-scores)), rtol=1e-6)
    nothing = self_adversarial(scores, where=jnp.zeros(3, bool))
    assert float(nothing) == 0


@pytest.mark.parametrize("rows", [4, 70])
def test_rows_are_read_the_same_from_small_tables_and_large(rows):
    given = training_triples(TRIPLES, entities=4, relations=2)
    drawn = sample_negatives(given, jnp.arange(4), jax.random.key(0), chunk=2, negatives=3)
    table = jax.random.normal(jax.random.key(1), (rows, 2))
    ids = np.asarray(drawn.triples[..., 1])
    weight = jax.random.normal(jax.random.key(2), (*ids.shape, 2))

    @jax.jit
    @jax.value_and_grad
    def read(table):
        found = gather_embeddings({"entity": table, "relation": table}, drawn)["relation"]
        return jnp.vdot(found[:, : ids.shape[1]], weight)

    value, gradient = read(table)
    expected = np.zeros((rows, 2))
    np.add.at(expected, ids, np.asarray(weight))
    np.testing.assert_allclose(value, np.vdot(np.asarray(table)[ids], weight), rtol=1e-5)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)
    # Where rows are few nothing is added up in the order of a scatter.
    assert ("scatter" in read.lower(table).as_text()) == (rows == 70)

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax.knowledge import (
    link_predictor,
    normalised_fisher,
    score_of,
    self_adversarial,
    training_triples,
)
from metajax.knowledge.link_prediction import gather_embeddings, triple_losses
from metajax.knowledge.negative_sampling import sample_negatives

# A ring of eight: one relation leads to the next, the other back.
RING = [[n, 0, (n + 1) % 8] for n in range(8)] + [[(n + 1) % 8, 1, n] for n in range(8)]


def taken(table, rows):
    return jax.tree.map(lambda leaf: leaf[rows], table)


def predictor(**options):
    given: dict[str, Any] = {"width": 8, "margin": 2.0, "negatives": 4, "batch": 8, "chunk": 4}
    return link_predictor("RotatE", optax.adam(0.05), **{**given, **options})


@pytest.mark.parametrize(("score", "margin"), [("RotatE", 4.0), ("ComplEx", 0.0)])
def test_a_ring_of_triples_is_learned(score, margin):
    learner = link_predictor(
        score, optax.adam(0.05), width=8, margin=margin, negatives=8, batch=16, chunk=8
    )
    given = training_triples(RING, entities=8, relations=2, filtered=("head", "relation", "tail"))
    state = learner.init(jax.random.key(0), entities=8, relations=2)

    @jax.jit
    def trained(state):
        keys = jax.random.split(jax.random.key(1), 150)
        return jax.lax.scan(lambda s, key: learner.epoch(s, given, key), state, keys)[0]

    params = trained(state).params
    head, relation, tail = np.array(RING).T
    operator = learner.score.operator(params["relation"])
    query = learner.score.tail_query(taken(params["entity"], head), taken(operator, relation))
    scores = learner.score.match(taken(query, (slice(None), None)), taken(params["entity"], None))
    np.testing.assert_array_equal(scores.argmax(axis=1), tail)


def test_an_epoch_updates_on_every_triple_once():
    # Steps add up the gradients of all facts' true halves alone: of their false triples none is
    # false, as all tails are facts.
    triples = [[h, r, t] for h in range(2) for r in range(3) for t in range(2)][:11]
    given = training_triples(
        triples, entities=2, relations=3, filtered=("tail",), known=[[1, 2, 0], [1, 2, 1]]
    )
    learner = link_predictor(
        "DistMult", optax.sgd(1e-3), width=3, negatives=2, slots=("tail",), batch=4, chunk=2,
        margin=1.0,
    )  # fmt: skip
    state = learner.init(jax.random.key(0), entities=2, relations=3)
    new, metrics = jax.jit(learner.epoch)(state, given, jax.random.key(1))
    assert int(new.step) == 3
    e, r = (np.asarray(state.params[name], np.float64) for name in ("entity", "relation"))
    scores = np.array([1 + (e[h] * r[k] * e[t]).sum() for h, k, t in triples])
    # The step is so small that an update hardly changes the losses of the next.
    assert float(metrics["loss"]) == pytest.approx(np.log1p(np.exp(-scores)).mean() / 2, rel=1e-3)
    low, high = np.zeros_like(r), np.zeros_like(r)
    for (h, k, t), score in zip(triples, scores, strict=True):
        term = e[h] * e[t] / (1 + np.exp(score)) / 2
        # Eleven facts in updates of 4, 4 and 3, whichever they are.
        low[k] += np.minimum(term / 4, term / 3)
        high[k] += np.maximum(term / 4, term / 3)
    change = (np.asarray(new.params["relation"]) - r) / 1e-3
    assert (high - low).max() < 0.05 < np.abs(high).max()
    assert (change >= low - 1e-3).all()
    assert (change <= high + 1e-3).all()


def test_more_triples_and_entities_need_no_recompilation():
    learner = predictor()
    state = learner.init(jax.random.key(0), entities=8, relations=2)
    traced = []

    def epoch(*arguments):
        traced.append(1)
        return learner.epoch(*arguments)

    compiled = jax.jit(epoch)
    for count, entities in ((9, 5), (12, 7), (16, 8)):
        rows = [row for row in RING if max(row[0], row[2]) < entities]
        given = training_triples(np.resize(rows, (count, 3)), entities=entities, relations=2)
        state, metrics = compiled(state, given, jax.random.key(count))
        assert np.isfinite(metrics["loss"])
    assert len(traced) == 1


def test_entities_beyond_the_known_ones_are_not_updated():
    learner = predictor()
    state = learner.init(jax.random.key(0), entities=16, relations=2)
    given = training_triples(RING, entities=8, relations=2)
    new, _ = jax.jit(learner.epoch)(state, given, jax.random.key(1))
    for before, after in zip(
        *(jax.tree.leaves(s.params["entity"]) for s in (state, new)), strict=True
    ):
        np.testing.assert_array_equal(before[8:], after[8:])
        assert (before[:8] != after[:8]).any(axis=1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk": 3}, r"^chunk must divide batch, got 3 and 8\.$"),
        ({"negatives": 0}, r"^negatives must be >= 1, got 0\.$"),
        ({"slots": ()}, r"^slots must be of head, relation, tail, got none\.$"),
        ({"margin": float("nan")}, r"^margin and temperature must be >= 0, got nan and 1\.$"),
        ({"clusters": -1}, r"^clusters and cluster_weight must be >= 0, got -1 and 0\.3\.$"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        predictor(**options)
    with pytest.raises(ValueError, match=r"^score must be one of RotatE, TransE, DistMult, Com"):
        link_predictor("Rotate", optax.adam(0.1))


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
def test_the_loss_equals_that_of_negatives_one_by_one(slots, joint):
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


def test_no_gradient_flows_through_the_weights_of_negatives():
    scores = jnp.array([0.3, -1.0, 2.0])
    gradient = jax.grad(lambda s: self_adversarial(s, where=jnp.ones(3, bool)))(scores)
    weights = np.exp(scores) / np.exp(scores).sum()
    np.testing.assert_allclose(gradient, weights / (1 + np.exp(-scores)), rtol=1e-6)
    nothing = self_adversarial(scores, where=jnp.zeros(3, bool))
    assert float(nothing) == 0


@pytest.mark.parametrize("rows", [4, 70])
def test_gathering_from_small_and_large_tables_is_the_same(rows):
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


# The third has one entity in both places; false heads and tails are often entities of the fact.
REPEATED = [[0, 0, 1], [2, 1, 0], [1, 1, 1], [2, 0, 3], [3, 1, 1]]


def test_fisher_information_is_the_mean_of_squared_gradients_per_triple():
    learner = link_predictor(
        "RotatE", optax.sgd(0.1), width=3, margin=1.0, negatives=3, batch=2, chunk=2
    )
    given = training_triples(REPEATED, entities=4, relations=2)
    params = learner.init(jax.random.key(0), entities=8, relations=2).params
    key = jax.random.key(1)
    found = jax.jit(learner.fisher)(params, given, key)

    def of_fact(params, drawn, at):
        one = jax.tree.map(lambda leaf: leaf[at : at + 1], drawn)
        tables = {**params, "relation": learner.score.operator(params["relation"])}
        return triple_losses(learner.score, gather_embeddings(tables, one), one, margin=1.0)[0, 0]

    gradient = jax.jit(jax.grad(of_fact), static_argnums=2)
    total = jax.tree.map(np.zeros_like, params)
    for block in range(3):
        rows = 2 * block + jnp.arange(2)
        drawn = sample_negatives(given, rows, jax.random.fold_in(key, block), chunk=1, negatives=3)
        for at in range(2 if block < 2 else 1):
            squares = jax.tree.map(jnp.square, gradient(params, drawn, at))
            total = jax.tree.map(lambda a, b: a + b / 5, total, squares)
    for ours, right in zip(jax.tree.leaves(found), jax.tree.leaves(total), strict=True):
        np.testing.assert_allclose(ours, right, rtol=1e-4, atol=1e-9)
        assert (np.asarray(ours[:2]) > 0).all()
        np.testing.assert_array_equal(ours[4:], 0)

    scaled = normalised_fisher(found, entities=4, relations=2)
    numbers = [leaf[:4].ravel() for leaf in jax.tree.leaves(scaled)]
    np.testing.assert_allclose(np.concatenate(numbers).mean(), 1, rtol=1e-5)

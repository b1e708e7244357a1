from typing import Any

import jax
import numpy as np
import optax
import pytest

from metajax.knowledge import link_predictor, training_triples

# A ring of eight: one relation leads to the next, the other back.
RING = [[n, 0, (n + 1) % 8] for n in range(8)] + [[(n + 1) % 8, 1, n] for n in range(8)]


def taken(table, rows):
    return jax.tree.map(lambda leaf: leaf[rows], table)


def predictor(**options):
    given: dict[str, Any] = {"width": 8, "margin": 2.0, "negatives": 4, "batch": 8, "chunk": 4}
    return link_predictor("RotatE", optax.adam(0.05), **{**given, **options})


@pytest.mark.parametrize(("score", "margin"), [("RotatE", 4.0), ("ComplEx", 0.0)])
def test_a_ring_of_facts_is_learned(score, margin):
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


def test_an_epoch_is_an_update_on_every_fact_once():
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


def test_more_facts_and_entities_need_no_new_program():
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


def test_entities_that_no_fact_knows_are_not_moved():
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

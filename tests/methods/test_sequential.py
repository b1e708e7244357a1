import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import losses
from metajax.adaptation import matching, sequence_steps
from metajax.learners import sequential
from metajax.methods.sequential import SequenceNetwork, from_history_module
from metajax.networks import Encoder
from metajax.types import Examples, InHistory, Inputs, Model, Task

ITEMS, WIDTH, HEADS = 5, 4, 2
RNG = np.random.default_rng(0)


def inputs_of(n) -> Inputs:
    features = jnp.asarray(RNG.normal(size=(n, 2)))
    return Inputs(features, features[:, :1], jnp.asarray(RNG.integers(0, ITEMS, n)))


HISTORY = Examples(inputs_of(4), jnp.array([5.0, 1.0, 3.0, 0.0]), jnp.arange(4) < 3)
NOW = inputs_of(3)
ENCODER = Encoder((2,), (2,), items=ITEMS, identity_width=2)


def built(**options):
    model = from_history_module(SequenceNetwork(ENCODER, WIDTH, HEADS, (3,), **options))
    shapes = jax.eval_shape(model.init, jax.random.key(0), NOW)
    return model, jax.tree.map(lambda leaf: jnp.asarray(RNG.normal(size=leaf.shape)), shapes)


MODEL, PARAMS = built()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def dense(x, layer):
    return x @ np.asarray(layer["kernel"]) + np.asarray(layer.get("bias", 0))


def by_hand(seen):
    """Scores of NOW after the first `seen[n]` entries of the history."""

    def encoded(inputs):
        return [np.asarray(x) for x in ENCODER.apply({"params": PARAMS["encoder"]}, inputs)]

    _, item, bias = encoded(HISTORY.inputs)
    memory = hidden = np.zeros(WIDTH)
    states = [np.asarray(PARAMS["first_state"])[0]]
    cell = PARAMS["lstm"]
    for n in range(3):
        surprise = float(HISTORY.labels[n]) - bias[n]
        x = dense(np.concatenate([item[n], [surprise], item[n] * surprise]), PARAMS["event"])
        i, f, g, o = (dense(x, cell[f"i{g}"]) + dense(hidden, cell[f"h{g}"]) for g in "ifgo")
        memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(memory)
        states.append(hidden)
    user, item, bias = encoded(NOW)
    scores = []
    for n in range(3):
        about, attention = np.concatenate([user[n], item[n]]), PARAMS["attention"]
        visible = np.array(states[: seen[n] + 1])
        query = dense(about, PARAMS["query"])

        def heads(x, layer):
            return np.einsum("...d,dhk->...hk", x, layer["kernel"]) + np.asarray(layer["bias"])

        q, k, v = (
            heads(x, attention[name])
            for name, x in (("query", query), ("key", visible), ("value", visible))
        )
        weights = np.exp(np.einsum("hk,shk->hs", q, k) / np.sqrt(WIDTH / HEADS))
        weights /= weights.sum(axis=1, keepdims=True)
        found = np.einsum("hs,shk,hkd->d", weights, v, attention["out"]["kernel"])
        joined = np.concatenate([about, found + np.asarray(attention["out"]["bias"])])
        hidden = np.maximum(dense(joined, PARAMS["predictor"]["layer_0"]), 0)
        scores.append(bias[n] + dense(hidden, PARAMS["score"])[0])
    return np.array(scores)


@pytest.mark.parametrize("seen", [[0, 0, 0], [3, 3, 3], [0, 1, 2]])
def test_an_input_is_scored_by_the_history_before_it(seen):
    scores = MODEL.apply(PARAMS, InHistory(HISTORY, jnp.array(seen), NOW))
    np.testing.assert_allclose(scores, by_hand(seen), rtol=1e-4, atol=1e-5)


def test_heads_have_to_divide_the_width():
    model = from_history_module(SequenceNetwork(ENCODER, WIDTH, heads=3))
    with pytest.raises(ValueError, match=r"width must be a multiple of heads \(3\), got 4"):
        jax.eval_shape(model.init, jax.random.key(0), NOW)


def test_scores_do_not_depend_on_later_entries():
    def scores(labels):
        history = HISTORY._replace(labels=labels)
        return MODEL.apply(PARAMS, InHistory(history, jnp.array([0, 1, 3]), NOW))

    change = jnp.abs(jax.jit(jax.jacobian(scores))(HISTORY.labels))  # [N, S]
    np.testing.assert_array_equal(change[0], np.zeros(4))
    assert change[1, 0] > 0
    np.testing.assert_array_equal(change[1, 1:], np.zeros(3))
    assert (change[2, :3] > 0).all()


def test_inner_steps_fit_each_entry_given_those_before_it():
    # With a network that scores by the mean of the labels so far, everything can be counted.
    def apply(params, inputs):
        history, seen, _ = inputs
        before = jnp.arange(history.labels.shape[0])[None] < seen[:, None]
        kept = before & history.mask[None]
        return params * jnp.sum(jnp.where(kept, history.labels[None], 0), axis=1)

    rule = sequence_steps(apply, losses.squared_error, optax.sgd(0.1), 1)
    support = Examples(jnp.zeros(3), jnp.array([2.0, 9.0, 1.0]), jnp.array([True, False, True]))
    # Sums before the two entries are 0 and 2, at w = 1: the gradient is (2 * (2 - 1) * 2) / 2.
    adapted = rule.adapt(jnp.array(1.0), support)
    np.testing.assert_allclose(adapted.weights, 1 - 0.1 * 2, rtol=1e-6)
    # A candidate comes after both: 0.8 * (2 + 1).
    scores = rule.predict(jnp.array(1.0), adapted, jnp.zeros(2))
    np.testing.assert_allclose(scores, [2.4, 2.4], rtol=1e-6)


def test_the_learner_is_judged_by_an_order_and_takes_steps_on_ratings():
    task = Task(HISTORY, Examples(NOW, jnp.array([1.0, 0.0, 1.0]), jnp.ones(3, bool)))
    batch = jax.tree.map(lambda leaf: leaf[None], task)
    learner = sequential(
        Model(lambda key, inputs: PARAMS, MODEL.apply),
        losses.softmax_cross_entropy,
        inner=optax.sgd(0.1),
        outer=optax.sgd(0.1),
        adapts=matching("score/*"),
        inner_loss=losses.squared_error,
    )

    @jax.jit
    def judged(batch):
        state = learner.init(jax.random.key(0), batch)
        adapted = learner.adapt(PARAMS, HISTORY)
        return learner.update(state, batch)[1], learner.predict(PARAMS, adapted, NOW)

    metrics, scores = judged(batch)
    expected = losses.softmax_cross_entropy(scores, task.query.labels)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)

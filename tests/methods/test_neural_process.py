from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import losses
from metajax.learners import neural_process
from metajax.methods.neural_process import AttentiveProcess, ConditionalProcess
from metajax.networks import Encoder, from_support_module
from metajax.types import Examples, Inputs, Task

ITEMS, LEAST = 5, 0.1
RNG = np.random.default_rng(0)


def inputs_of(n) -> Inputs:
    features = jnp.asarray(RNG.normal(size=(n, 2)))
    return Inputs(features, features[:, :1], jnp.asarray(RNG.integers(0, ITEMS, n)))


SUPPORT = Examples(inputs_of(3), jnp.array([5.0, 1.0, 3.0]), jnp.array([True, True, False]))
QUERY = inputs_of(4)


def built(process, **options):
    module = process(Encoder((2,), (2,), items=ITEMS, identity_width=2), 4, **options)
    model = from_support_module(module)
    params = jax.jit(model.init)(jax.random.key(0), SUPPORT.inputs)
    leaves, structure = jax.tree.flatten(params)
    drawn = [leaf + 0.5 * RNG.normal(size=leaf.shape) for leaf in leaves]
    return model, structure.unflatten(drawn)


def dense(x, layer):
    return x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])


def tower(x, layers):
    for i in range(len(layers)):
        x = dense(x if i == 0 else np.maximum(x, 0), layers[f"layer_{i}"])
    return x


def encoded(params, inputs):
    user, item, bias = (
        np.asarray(leaf)
        for leaf in Encoder((2,), (2,), items=ITEMS, identity_width=2).apply(
            {"params": params["encoder"]}, inputs
        )
    )
    return user, item, bias


def example_vectors(params):
    _, item, bias = encoded(params, SUPPORT.inputs)
    surprise = (np.asarray(SUPPORT.labels) - bias)[:, None]
    joined = np.concatenate([item, surprise, item * surprise], axis=1)
    return tower(joined, params["examples"]["tower"])


def decoded(params, summed):
    user, item, bias = encoded(params, QUERY)
    hidden = tower(np.concatenate([user, item, summed], axis=1), params["decoder"]["tower"])
    raw = dense(np.maximum(hidden, 0), params["decoder"]["moments"])
    deviation = LEAST + (1 - LEAST) * np.log1p(np.exp(raw[:, 1]))
    return bias + raw[:, 0], deviation**2


def test_a_conditional_process_decodes_the_mean_of_its_examples_and_the_prior():
    model, params = built(ConditionalProcess)
    weight = np.exp(params["weight"])
    total = weight * np.asarray(params["prior"]) + example_vectors(params)[:2].sum(axis=0)
    state = model.encode(params, SUPPORT)
    np.testing.assert_allclose(state, total / (weight + 2), rtol=1e-5, atol=1e-6)
    mean, variance = decoded(params, np.tile(total / (weight + 2), (4, 1)))
    found = model.decode(params, state, QUERY)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.variance, variance, rtol=1e-5)


def test_an_attentive_process_decodes_the_attended_values():
    model, params = built(AttentiveProcess, heads=2)
    _, item, _ = encoded(params, SUPPORT.inputs)
    _, queried, _ = encoded(params, QUERY)

    def heads(x, layer):
        kernel, bias = np.asarray(layer["kernel"]), np.asarray(layer["bias"])
        return np.einsum("nd,dhk->nhk", x, kernel) + bias

    q = heads(queried, params["query"])
    k = np.concatenate([params["prior_key"], heads(item, params["key"])])
    v = np.concatenate([params["prior"], heads(example_vectors(params), params["value"])])
    logits = np.einsum("nhk,shk->nhs", q, k) / np.sqrt(2)
    logits[..., 3] = -np.inf  # the padding, behind the slot and two examples
    weights = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    out = params["joined"]
    summed = np.einsum("nhs,shk,hkd->nd", weights, v, np.asarray(out["kernel"]))
    mean, variance = decoded(params, summed + np.asarray(out["bias"]))
    found = model.decode(params, model.encode(params, SUPPORT), QUERY)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.variance, variance, rtol=1e-4)


def test_there_are_as_many_heads_as_there_is_room_for():
    with pytest.raises(ValueError, match=r"heads must be in \[1, 4\] \(the width\), got 5"):
        built(AttentiveProcess, heads=5)


def test_an_own_reference_replaces_the_bias():
    model, params = built(ConditionalProcess, reference=2.0)
    first = model.init(jax.random.key(0), SUPPORT.inputs)
    assert first["examples"]["reference"] == 2.0
    moved = {**params, "examples": {**params["examples"], "reference": jnp.array(9.0)}}
    bias = params["encoder"]["item_bias"]["embedding"] + 1
    encoder = {**params["encoder"], "item_bias": {"embedding": bias}}
    state = model.encode(params, SUPPORT)
    np.testing.assert_array_equal(model.encode({**params, "encoder": encoder}, SUPPORT), state)
    assert np.abs(model.encode(moved, SUPPORT) - state).max() > 1e-3


@pytest.mark.parametrize("loss", [None, losses.squared_error])
def test_scores_are_means_and_variances_need_the_likelihood_loss(loss):
    model, params = built(ConditionalProcess)
    learner = neural_process(model, loss, outer=optax.sgd(1.0))
    task = Task(SUPPORT, Examples(QUERY, jnp.ones(4), jnp.array([True, True, True, False])))

    @jax.jit
    def updated(batch):
        state = learner.init(jax.random.key(0), batch)
        return learner.update(state._replace(params=params), batch)[1]

    metrics = updated(jax.tree.map(lambda leaf: leaf[None], task))
    adapted = learner.adapt(params, SUPPORT)
    mean, variance = model.decode(params, adapted, QUERY)
    np.testing.assert_array_equal(learner.predict(params, adapted, QUERY), mean)
    error = np.asarray(mean - 1)[:3]
    if loss is None:
        assert learner.predict_variance is not None
        np.testing.assert_array_equal(learner.predict_variance(params, adapted, QUERY), variance)
        spread = np.asarray(variance)[:3]
        expected = np.mean(0.5 * np.log(2 * np.pi * spread) + 0.5 * error**2 / spread)
    else:
        assert learner.predict_variance is None
        expected = np.mean(error**2)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)


def test_predictions_can_be_batched_under_jit():
    model, params = built(AttentiveProcess, heads=2)
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), SUPPORT)
    states = jax.jit(jax.vmap(partial(model.encode, params)))(batch)
    assert states.value.shape == (2, 4, 2, 2)

"""Layers that compute in bfloat16, on weights, gradients and losses that stay float32."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import losses
from metajax.adaptation import (
    FirstOrder,
    Linearized,
    Mixed,
    Reverse,
    gradient_steps,
    inner_loop,
    paths,
)
from metajax.learners import maml
from metajax.networks import RatingNetwork, from_linen
from metajax.types import Examples, Inputs, Task

TASKS, ITEMS = 3, 7
SINGLE, HALF = np.dtype("float32"), jnp.dtype("bfloat16")


def examples(rng, rows) -> Examples:
    shapes = (TASKS, rows, 8), (TASKS, rows, 6), (TASKS, rows)
    user, item, labels = (rng.normal(size=shape).astype("f") for shape in shapes)
    inputs = Inputs(user, item, rng.integers(0, ITEMS, (TASKS, rows), np.int32))
    return Examples(inputs, labels, jnp.ones((TASKS, rows), bool))


def learner_of(dtype, form, adjoint=None, **options):
    return maml(
        from_linen(RatingNetwork((16,), (8,), (12,), ITEMS, 4, direct=True, dtype=dtype)),
        losses.squared_error,
        inner=optax.sgd(0.05),
        outer=optax.adam(1e-2),
        steps=2,
        form=form,
        adjoint=adjoint,
        **options,
    )


@pytest.fixture(scope="module")
def started():
    """A learner's first state, with no weight at zero, and three tasks."""
    rng = np.random.default_rng(0)
    tasks = jax.tree.map(jnp.asarray, Task(examples(rng, 2), examples(rng, 4)))
    state = jax.jit(learner_of(None, "plain").init)(jax.random.key(0), tasks)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(0.4 * rng.normal(size=leaf.shape), leaf.dtype), state.params
    )
    return state._replace(params=params), tasks


def one(tree):
    return jax.tree.map(lambda leaf: leaf[0], tree)


def types(tree):
    return {path: leaf.dtype for path, leaf in zip(paths(tree), jax.tree.leaves(tree), strict=True)}


@pytest.mark.parametrize("form", ["plain", "factored"])
def test_adapted_state_is_float32(started, form):
    state, tasks = started
    learner = learner_of(HALF, form)
    found = types(jax.eval_shape(learner.adapt, state.params, one(tasks.support)))
    # What went into a layer is of the type that the layer computes in: it is no weight.
    seen = {path: kind for path, kind in found.items() if "/inputs/" in path}
    assert {kind for path, kind in found.items() if path not in seen} == {SINGLE}
    types_of_layers = {
        "user_tower/layer_0": HALF,
        "item_tower/layer_0": HALF,
        "predictor/layer_0": HALF,
        "predictor/layer_1": SINGLE,
        "direct": SINGLE,
        "item_embedding": np.dtype("int32"),
        "item_bias": np.dtype("int32"),
    }
    layers = {path.rsplit("/", 3)[0]: kind for path, kind in seen.items()}
    assert layers == (types_of_layers if form == "factored" else {})


@pytest.mark.parametrize("adjoint", [Reverse(remat=True), Linearized(), Mixed(), FirstOrder()])
def test_meta_parameters_their_gradient_and_the_losses_are_float32(started, adjoint):
    state, tasks = started
    learner = learner_of(HALF, "factored", adjoint, microbatch=2)
    after, metrics = jax.eval_shape(learner.update, state, tasks)
    assert types(after) == types(state)
    assert set(types(metrics).values()) == {SINGLE}


def test_hidden_layers_compute_in_bfloat16_and_the_last_layer_in_float32(started):
    state, tasks = started
    learner = learner_of(HALF, "plain")
    adapted = jax.eval_shape(learner.adapt, state.params, one(tasks.support))
    jaxpr = jax.make_jaxpr(learner.predict)(state.params, adapted, one(tasks.query.inputs))
    products = [e.outvars[0].aval for e in jaxpr.eqns if e.primitive.name == "dot_general"]
    found = sorted((str(product.dtype), product.shape[-1]) for product in products)
    # The towers and the predictor; then the direct and the last layer.
    hidden = [("bfloat16", 8), ("bfloat16", 12), ("bfloat16", 16)]
    assert found == [*hidden, ("float32", 1), ("float32", 1)]
    assert jaxpr.out_avals[0].dtype == SINGLE


class Smooth(nn.Module):
    """Without corners, at which a rounding would turn a gradient into another."""

    dtype: Any

    @nn.compact
    def __call__(self, inputs):
        x = nn.tanh(nn.Dense(16, dtype=self.dtype)(inputs.user_features))
        return nn.Dense(1)(nn.tanh(nn.Dense(16, dtype=self.dtype)(x)))


@pytest.mark.slow
def test_both_forms_round_as_bfloat16_does(started):
    _, tasks = started

    def judged(dtype, form):
        model = from_linen(Smooth(dtype))
        inner_loss = losses.on_examples(model.apply, losses.squared_error)
        steps = gradient_steps(inner_loss, optax.sgd(0.1), 2, predict=model.apply, form=form)

        def loss(params, task):
            scores = steps.predict(params, steps.adapt(params, task.support), task.query.inputs)
            return losses.squared_error(scores, task.query.labels), scores

        def mean(params):
            values, scores = jax.vmap(loss, in_axes=(None, 0))(params, tasks)
            return values.mean(), scores

        params = model.init(jax.random.key(0), one(tasks.query.inputs))
        (_, scores), gradient = jax.value_and_grad(mean, has_aux=True)(params)
        return {"scores": scores, "gradient": gradient}

    cases = ((None, "plain"), (HALF, "plain"), (HALF, "factored"))
    right, plain, factored = jax.jit(lambda: [judged(*case) for case in cases])()
    for found, reference in ((plain, right), (factored, right), (factored, plain)):
        difference = jax.tree.map(jnp.subtract, found, reference)
        for name, whole in reference.items():
            # bfloat16 keeps 8 bits: 2^-9 a rounding, of which there are a few in a row.
            error = optax.tree.norm(difference[name]) / optax.tree.norm(whole)
            assert 2**-12 < error < 6 * 2**-9


@pytest.mark.parametrize("form", ["plain", "factored"])
def test_a_step_too_small_for_bfloat16_is_not_lost(form):
    model = from_linen(nn.Dense(1, use_bias=False, dtype=HALF))
    support = Examples(jnp.full((1, 1), 2.0), jnp.ones(1), jnp.ones(1, bool))
    inner_loss = losses.on_examples(model.apply, losses.squared_error)
    loop = inner_loop(inner_loss, optax.sgd(2**-12), 2, predict=model.apply, form=form)
    params = {"kernel": jnp.ones((1, 1))}
    weights = loop.materialise(params, loop.run(params, support)[0])
    # The loss (2 w - 1)^2 has the gradient 4 at 1, and 1 - 2^-10 is seen as 1 in bfloat16. So
    # both steps are of 4 * 2^-12, and a weight in bfloat16 would stand still.
    assert float(weights["kernel"][0, 0]) == 1 - 2**-9
    assert float(jnp.asarray(1 - 2**-10, HALF)) == 1

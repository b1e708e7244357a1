"""The factored form against the plain one: same values, same meta-gradients."""

from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import losses
from metajax.adaptation import (
    FirstOrder,
    Implicit,
    Linearized,
    LowRank,
    Mixed,
    Reverse,
    gradient_steps,
    initial_rates,
    inner_loop,
    learned_rates,
    matching,
)
from metajax.adaptation.partition import paths
from metajax.networks import RatingNetwork, from_linen
from metajax.types import Examples, Inputs, Task

SUPPORT, QUERY, ITEMS, TASKS = 4, 3, 9, 3


class Perceptron(nn.Module):
    """A plain Linen module, without code for adaptation."""

    @nn.compact
    def __call__(self, inputs):
        x = nn.relu(nn.Dense(8)(inputs.user_features))
        x = nn.relu(nn.Dense(8)(x))
        return nn.Dense(1)(x)


class Medley(nn.Module):
    """One layer used twice, one under a further axis, one tied, and others that are not linear."""

    @nn.compact
    def __call__(self, inputs):
        twice, table = nn.Dense(6, name="twice"), nn.Embed(ITEMS, 6, name="table")
        x = twice(nn.tanh(twice(inputs.user_features[:, :6])))
        x = x + table(inputs.item) - table((inputs.item + 1) % ITEMS)
        wide = jnp.stack([x, jnp.sin(x)], axis=1)  # [N, 2, 6]
        x = nn.LayerNorm()(nn.Dense(5, name="wide")(wide).sum(axis=1))
        x = nn.Conv(4, (3,))(x[None])[0]
        tied = nn.Embed(5, 4, name="tied")
        x = tied.attend(x + tied(inputs.item % 5))
        return (nn.tanh(x) @ self.param("raw", nn.initializers.normal(), (5, 1)))[:, 0]


MODELS = {
    "perceptron": Perceptron(),
    "towers": RatingNetwork((8, 6), (6, 5), (6, 5)),
    "towers and items": RatingNetwork((6, 5), (6,), (6,), ITEMS, identity_width=3, direct=True),
    "medley": Medley(),
}
FACTORED = {"perceptron": 3, "towers": 7, "towers and items": 8, "medley": 3}
LINEAR = {
    "sgd": optax.sgd(0.1),
    "momentum": optax.sgd(optax.linear_schedule(0.1, 0.05, 3), momentum=0.9, nesterov=True),
}


@pytest.fixture(autouse=True)
def _double_precision():
    with jax.enable_x64(True):
        yield


def examples(rng, rows) -> Examples:
    features = rng.normal(size=(TASKS, rows, 12))
    items = rng.integers(0, ITEMS, (TASKS, rows), np.int32)
    inputs = Inputs(features[..., :7], features[..., 7:], items)
    mask = np.arange(rows) < np.array([rows, 0, rows - 1])[:, None]
    return Examples(inputs, rng.normal(size=(TASKS, rows)), jnp.asarray(mask))


def batch() -> Task:
    """Three tasks: a whole support, an empty one, one with a gap."""
    rng = np.random.default_rng(0)
    return Task(
        examples(rng, SUPPORT), examples(rng, QUERY)._replace(mask=jnp.ones((TASKS, QUERY)))
    )


def one(tree, task=0):
    return jax.tree.map(lambda leaf: leaf[task], tree)


def started(module):
    model, tasks = from_linen(module), batch()
    shapes = jax.eval_shape(model.init, jax.random.key(0), one(tasks.support.inputs))
    rng = np.random.default_rng(1)
    return model, jax.tree.map(lambda leaf: rng.normal(size=leaf.shape) * 0.5, shapes), tasks


def loss_of(model):
    return losses.on_examples(model.apply, losses.squared_error)


def meta_gradient(adaptation, params, tasks):
    """Loss and scores of all tasks, and the gradient of their mean."""

    def loss(params, task):
        adapted = adaptation.adapt(params, task.support)
        scores = adaptation.predict(params, adapted, task.query.inputs)
        return jnp.mean(jnp.square(scores - task.query.labels)), scores

    def mean(params):
        values, scores = jax.vmap(loss, in_axes=(None, 0))(params, tasks)
        return values.mean(), scores

    return jax.jit(jax.value_and_grad(mean, has_aux=True))(params)


def low_rank_leaves(adapted):
    nodes = jax.tree.leaves(adapted, is_leaf=lambda node: isinstance(node, LowRank))
    return [node for node in nodes if isinstance(node, LowRank)]


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("perceptron", "momentum"),
        ("towers", "sgd"),
        ("towers and items", "momentum"),
        ("medley", "sgd"),
    ],
)
@pytest.mark.slow
def test_factored_and_plain_forms_agree(name, optimizer):
    model, params, tasks = started(MODELS[name])
    plain, factored = (
        gradient_steps(loss_of(model), LINEAR[optimizer], 2, predict=model.apply, form=form)
        for form in ("plain", "factored")
    )
    adapted = jax.eval_shape(factored.adapt, params, one(tasks.support))
    assert len(low_rank_leaves(adapted)) == FACTORED[name]
    chex.assert_trees_all_close(
        meta_gradient(factored, params, tasks),
        meta_gradient(plain, params, tasks),
        rtol=1e-11,
        atol=1e-12,
    )


def test_factored_and_plain_forms_agree_in_single_precision():
    with jax.enable_x64(False):
        model, params, tasks = jax.tree.map(
            lambda leaf: leaf.astype(np.float32) if hasattr(leaf, "astype") else leaf,
            started(MODELS["perceptron"]),
        )
        plain, factored = (
            gradient_steps(loss_of(model), LINEAR["sgd"], 2, predict=model.apply, form=form)
            for form in ("plain", "factored")
        )
        chex.assert_trees_all_close(
            meta_gradient(factored, params, tasks),
            meta_gradient(plain, params, tasks),
            rtol=1e-4,
            atol=1e-6,
        )


def test_whole_numbers_as_features_are_no_rows_of_a_table():
    model = from_linen(nn.Dense(1, use_bias=False))
    support = Examples(jnp.array([[2, 3], [0, 1]]), jnp.array([1.0, 0.0]), jnp.array([True, False]))
    loop = inner_loop(loss_of(model), optax.sgd(0.1), 1, predict=model.apply, form="factored")
    params = {"kernel": jnp.array([[1.0], [1.0]])}
    weights = loop.materialise(params, loop.run(params, support)[0])
    # The score is 5, its error 4, and the gradient 2 * 4 * [2, 3].
    np.testing.assert_allclose(weights["kernel"], [[1 - 1.6], [1 - 2.4]], rtol=1e-12)


def test_a_factored_weight_never_has_a_task_axis():
    model, params, tasks = started(RatingNetwork((31, 29), (23,), (37,)))
    adaptation = gradient_steps(
        loss_of(model), LINEAR["sgd"], 2, predict=model.apply, form="factored"
    )
    lowered = jax.jit(lambda p: meta_gradient(adaptation, p, tasks)).lower(params)
    text = str(lowered.compile().as_text())
    kernels = [leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    assert f"f64[{kernels[0][0]},{kernels[0][1]}]" in text
    assert not [k for k in kernels if f"f64[{TASKS},{k[0]},{k[1]}]" in text]


@pytest.mark.parametrize(
    "optimizer", [optax.adam(0.05, eps_root=1e-6), optax.chain(optax.clip(0.1), optax.sgd(0.1))]
)
def test_an_optimizer_that_is_not_linear_steps_the_weights(optimizer):
    model, params, tasks = started(MODELS["perceptron"])
    adaptation = gradient_steps(loss_of(model), optimizer, 2, predict=model.apply, form="factored")
    assert not low_rank_leaves(jax.eval_shape(adaptation.adapt, params, one(tasks.support)))


def test_auto_factors_where_factors_are_smaller():
    model, params, tasks = started(RatingNetwork((64, 2), (64,), (2,)))
    adaptation = gradient_steps(loss_of(model), LINEAR["sgd"], 1, predict=model.apply)
    adapted = jax.eval_shape(adaptation.adapt, params, one(tasks.support))
    # 4 rows: factors of 4 (7 + 64) numbers against 7 x 64, of 4 (64 + 2) against 64 x 2.
    assert isinstance(adapted["user_tower"]["layer_0"]["kernel"], LowRank)
    assert not isinstance(adapted["user_tower"]["layer_1"]["kernel"], LowRank)


def test_only_adapting_parameters_change():
    model, params, tasks = started(MODELS["towers and items"])
    chosen = matching("predictor/*", "*/embedding")
    plain, factored = (
        gradient_steps(
            loss_of(model), LINEAR["momentum"], 2, predict=model.apply, adapts=chosen, form=form
        )
        for form in ("plain", "factored")
    )
    adapted = jax.eval_shape(factored.adapt, params, one(tasks.support))
    assert adapted["user_tower"]["layer_0"]["kernel"] is None
    assert isinstance(adapted["item_embedding"]["embedding"], LowRank)
    chex.assert_trees_all_close(
        meta_gradient(factored, params, tasks), meta_gradient(plain, params, tasks), rtol=1e-11
    )


def test_materialised_factors_are_the_weights():
    model, params, tasks = started(MODELS["towers and items"])
    loops = {
        form: inner_loop(loss_of(model), LINEAR["sgd"], 2, predict=model.apply, form=form)
        for form in ("plain", "factored")
    }

    @jax.jit
    def adapted(support):
        return {
            form: loop.materialise(params, loop.run(params, support)[0])
            for form, loop in loops.items()
        }

    weights = adapted(one(tasks.support))
    chex.assert_trees_all_close(weights["factored"], weights["plain"], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("adjoint", [Reverse(remat=True), Linearized(), Mixed()])
def test_adjoints_of_the_factored_form_agree(adjoint):
    model, params, tasks = started(MODELS["perceptron"])
    exact, other = (
        gradient_steps(
            loss_of(model), LINEAR["sgd"], 2, predict=model.apply, adjoint=a, form="factored"
        )
        for a in (Reverse(), adjoint)
    )
    chex.assert_trees_all_close(
        meta_gradient(other, params, tasks), meta_gradient(exact, params, tasks), rtol=1e-10
    )


@pytest.mark.parametrize("adjoint", [FirstOrder(), Implicit()])
def test_inexact_adjoints_do_not_depend_on_the_form(adjoint):
    model, params, tasks = started(MODELS["perceptron"])
    plain, factored = (
        gradient_steps(
            loss_of(model), LINEAR["sgd"], 2, predict=model.apply, adjoint=adjoint, form=form
        )
        for form in ("plain", "factored")
    )
    chex.assert_trees_all_close(
        meta_gradient(factored, params, tasks), meta_gradient(plain, params, tasks), rtol=1e-10
    )


@pytest.mark.parametrize("form", ["plain", "factored"])
def test_a_run_resumed_is_a_run_uninterrupted(form):
    model, params, tasks = started(MODELS["towers and items"])
    support = one(tasks.support)

    @partial(jax.jit, static_argnums=0)
    def run(steps, state=None):
        loop = inner_loop(loss_of(model), LINEAR["momentum"], steps, predict=model.apply, form=form)
        adapted, state, _ = loop.run(params, support, state)
        return loop.predict(params, adapted, support.inputs), state

    whole, _ = run(3)
    _, state = run(1)
    resumed, _ = run(2, state)
    # Optax computes schedules in single precision.
    np.testing.assert_allclose(resumed, whole, rtol=1e-6)


def test_a_run_may_be_resumed_on_another_support():
    model, params, tasks = started(MODELS["perceptron"])

    @jax.jit
    def run():
        found = []
        for form in ("plain", "factored"):
            loop = inner_loop(loss_of(model), LINEAR["momentum"], 2, predict=model.apply, form=form)
            _, state, _ = loop.run(params, one(tasks.support))
            # Also of another number of rows.
            adapted, state, _ = loop.run(params, one(tasks.query), state)
            adapted, _, _ = loop.run(params, one(tasks.support), state)
            found.append(loop.materialise(params, adapted))
        return found

    plain, factored = run()
    chex.assert_trees_all_close(factored, plain, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("form", ["plain", "factored"])
def test_a_probe_sees_every_step(form):
    model, params, tasks = started(MODELS["perceptron"])
    support, query = one(tasks.support), one(tasks.query)

    def run(steps, probe=True):
        loop = inner_loop(loss_of(model), LINEAR["sgd"], steps, predict=model.apply, form=form)

        def scores(adapted):
            return loop.predict(params, adapted, query.inputs)

        adapted, _, probed = loop.run(params, support, probe=scores if probe else None)
        return scores(adapted), probed

    probed = run(3)[1]
    np.testing.assert_allclose(probed, [run(k)[0] for k in (1, 2, 3)], rtol=1e-12)
    assert run(1, probe=False)[1] is None


@pytest.mark.parametrize("per", ["leaf", "element"])
@pytest.mark.parametrize("steps", [None, 2])
def test_learned_rates_are_learned_in_either_form(per, steps):
    model, network, tasks = started(MODELS["perceptron"])
    rates = initial_rates(network, 0.1, per=per, steps=steps)
    params = {"network": network, "rates": rates}

    def apply(params, inputs):
        return model.apply(params["network"], inputs)

    def rule(params):
        return learned_rates(params["rates"], per_step=steps is not None)

    plain, factored = (
        gradient_steps(
            losses.on_examples(apply, losses.squared_error),
            rule,
            2,
            predict=apply,
            adapts=matching("network/*"),
            form=form,
        )
        for form in ("plain", "factored")
    )
    adapted = jax.eval_shape(factored.adapt, params, one(tasks.support))
    assert len(low_rank_leaves(adapted)) == (FACTORED["perceptron"] if per == "leaf" else 0)
    expected = meta_gradient(plain, params, tasks)
    chex.assert_trees_all_close(
        meta_gradient(factored, params, tasks), expected, rtol=1e-10, atol=1e-12
    )
    for path, leaf in zip(paths(expected[1]), jax.tree.leaves(expected[1]), strict=True):
        assert np.abs(leaf).max() > 0, path


def test_weights_seen_otherwise_when_predicting_are_materialised():
    model, params, tasks = started(MODELS["perceptron"])

    def predict(params, inputs):
        return model.apply(params, inputs) + jnp.sum(params["Dense_1"]["kernel"])

    plain, factored = (
        gradient_steps(loss_of(model), LINEAR["sgd"], 2, predict=predict, form=form)
        for form in ("plain", "factored")
    )
    chex.assert_trees_all_close(
        meta_gradient(factored, params, tasks), meta_gradient(plain, params, tasks), rtol=1e-11
    )


def test_a_form_that_is_none_is_refused():
    wrong: Any = "thin"
    nothing: Any = None
    with pytest.raises(ValueError, match="form must be one of auto, plain, factored, got 'thin'"):
        gradient_steps(nothing, optax.sgd(1), 1, predict=nothing, form=wrong)

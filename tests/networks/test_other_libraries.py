"""One network in Linen, NNX and Equinox: the tutorial's adapters, with the same weights."""

import re
from pathlib import Path

import chex
import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import metajax
from metajax import losses
from metajax.adaptation import LowRank, gradient_steps
from metajax.networks import from_linen
from metajax.types import Examples, Task

TASKS, FEATURES, WIDTH = 3, 5, 8
PAGE = Path(metajax.__file__).parents[1] / "docs" / "tutorials" / "other_libraries.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the pages are not installed")


class LinenNetwork(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(WIDTH, name="hidden")(x))
        return nn.Dense(1, name="last")(x)


class NnxNetwork(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(FEATURES, WIDTH, rngs=rngs)
        self.last = nnx.Linear(WIDTH, 1, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.hidden(x)))


class EquinoxNetwork(eqx.Module):
    hidden: eqx.nn.Linear
    last: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key)
        self.hidden = eqx.nn.Linear(FEATURES, WIDTH, key=keys[0])
        self.last = eqx.nn.Linear(WIDTH, 1, key=keys[1])

    def __call__(self, x):
        return self.last(jax.nn.relu(self.hidden(x)))


@pytest.fixture(scope="module")
def adapters():
    (block,) = (
        b
        for b in re.findall(r"```{code-cell}\n(.*?)```", PAGE.read_text(), re.DOTALL)
        if "def from_equinox" in b
    )
    names = {"jax": jax}
    exec(compile(block, PAGE.name, "exec"), names)
    return names


def batch() -> Task:
    rng = np.random.default_rng(0)

    def examples(rows):
        inputs, labels = rng.normal(size=(TASKS, rows, FEATURES)), rng.normal(size=(TASKS, rows))
        return Examples(jnp.asarray(inputs), jnp.asarray(labels), jnp.ones((TASKS, rows), bool))

    return Task(examples(2), examples(3))


def weights():
    rng = np.random.default_rng(1)
    shapes = {"hidden": (FEATURES, WIDTH), "last": (WIDTH, 1)}
    return {
        name: {"bias": rng.normal(size=shape[1]), "kernel": rng.normal(size=shape)}
        for name, shape in shapes.items()
    }


def to_equinox(params, given):
    for name, layer in given.items():
        params = eqx.tree_at(
            lambda m, name=name: (getattr(m, name).weight, getattr(m, name).bias),
            params,
            (layer["kernel"].T, layer["bias"]),
        )
    return params


def of_equinox(params):
    layers = {name: getattr(params, name) for name in ("hidden", "last")}
    return {name: {"bias": one.bias, "kernel": one.weight.T} for name, one in layers.items()}


def meta_gradient(model, params, form):
    """Loss, scores and meta-gradient; and which weights are kept as factors."""
    inner_loss = losses.on_examples(model.apply, losses.squared_error)
    steps = gradient_steps(inner_loss, optax.sgd(0.1), 2, predict=model.apply, form=form)
    tasks = batch()

    def loss(params, task):
        adapted = steps.adapt(params, task.support)
        scores = steps.predict(params, adapted, task.query.inputs)
        return jnp.mean(jnp.square(scores - task.query.labels)), scores

    def mean(params):
        values, scores = jax.vmap(loss, in_axes=(None, 0))(params, tasks)
        return values.mean(), scores

    support = jax.tree.map(lambda leaf: leaf[0], tasks.support)
    adapted = jax.eval_shape(steps.adapt, params, support)
    nodes = jax.tree.leaves(adapted, is_leaf=lambda node: isinstance(node, LowRank))
    factored = sum(isinstance(node, LowRank) for node in nodes)
    return jax.jit(jax.value_and_grad(mean, has_aux=True))(params), factored


def test_other_libraries_adapt_in_full_as_linen_does_by_factors(adapters):
    with jax.enable_x64(True):
        given, key, x = weights(), jax.random.key(0), batch().support.inputs[0]
        linen = from_linen(LinenNetwork())
        (expected, gradient), factored = meta_gradient(linen, given, "factored")
        assert factored == 2

        model = adapters["from_nnx"](NnxNetwork)
        structure = jax.tree.structure(model.init(key, x))
        params = jax.tree.unflatten(structure, jax.tree.leaves(given))
        (found, by_nnx), factored = meta_gradient(model, params, "factored")
        assert factored == 0
        chex.assert_trees_all_close(found, expected, rtol=1e-11)
        leaves = jax.tree.leaves(by_nnx), jax.tree.leaves(gradient)
        chex.assert_trees_all_close(*leaves, rtol=1e-11)

        model = adapters["from_equinox"](EquinoxNetwork)
        params = to_equinox(model.init(key, x), given)
        (found, by_equinox), factored = meta_gradient(model, params, "factored")
        assert factored == 0
        chex.assert_trees_all_close(found, expected, rtol=1e-11)
        chex.assert_trees_all_close(of_equinox(by_equinox), gradient, rtol=1e-11)


def test_a_plain_linen_network_is_factored_where_that_is_cheaper():
    with jax.enable_x64(True):
        linen, given = from_linen(LinenNetwork()), weights()
        chosen, factored = meta_gradient(linen, given, "auto")
        plain, none = meta_gradient(linen, given, "plain")
    # 2 rows: factors of 2 (5 + 8) numbers against 5 x 8; of 2 steps x 2 (8 + 1) against 8 x 1.
    assert (factored, none) == (1, 0)
    chex.assert_trees_all_close(chosen, plain, rtol=1e-11)


def test_adapters_give_scores_of_one_axis_and_refuse_several_outputs(adapters):
    key, x = jax.random.key(0), batch().support.inputs[0]
    for name, network in (("from_nnx", NnxNetwork), ("from_equinox", EquinoxNetwork)):
        model = adapters[name](network)
        assert model.apply(model.init(key, x), x).shape == (len(x),)
    wide = adapters["from_nnx"](lambda rngs: nnx.Linear(FEATURES, 2, rngs=rngs))
    with pytest.raises(TypeError, match="reshape"):
        wide.apply(wide.init(key, x), x)

"""What every adaptation owes its users, whatever its rule."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import losses
from metajax.adaptation import FirstOrder, gradient_steps, matching, no_steps
from metajax.base import Adaptation, Examples, Inputs, Task

SUPPORT, QUERY, ITEMS = 4, 3, 5


def apply(params, inputs):
    """A network small enough to compile often: two layers, and an identity of each item."""
    identity = jnp.take(params["item"], inputs.item, axis=0)
    hidden = inputs.user_features @ params["tower"] + inputs.item_features @ params["tower"]
    return jnp.tanh(hidden + identity) @ params["predictor"]


MEAN = losses.on_examples(apply, losses.squared_error)
TOTAL = losses.on_examples(apply, losses.total_squared_error)


def steps(optimizer, count, inner_loss=MEAN, **options) -> Adaptation:
    return gradient_steps(inner_loss, optimizer, count, predict=apply, **options)


LEARN = {
    "sgd": steps(optax.sgd(0.1), 2),
    "sgd of the total": steps(optax.sgd(0.02), 2, TOTAL),
    "sgd, first order": steps(optax.sgd(0.1), 2, adjoint=FirstOrder()),
    "sgd, scanned": steps(optax.sgd(0.05), 11),
    "momentum": steps(optax.sgd(0.1, momentum=0.9), 2),
    "adam": steps(optax.adam(0.05, eps_root=1e-6), 2),
    "sgd of the predictor": steps(optax.sgd(0.1), 2, adapts=matching("predictor")),
    "adam of the tower": steps(
        optax.adam(0.05, eps_root=1e-6), 2, adapts=matching("tower", "item")
    ),
}
ADAPTATIONS = {"no steps": no_steps(apply), **LEARN}


def examples(rng, n) -> Examples:
    users, items, labels = (jnp.asarray(rng.normal(size=size)) for size in ((n, 2), (n, 2), n))
    inputs = Inputs(users, items, jnp.asarray(rng.integers(0, ITEMS, n)))
    return Examples(inputs, labels, jnp.ones(n, bool))


def task_of(seed) -> Task:
    rng = np.random.default_rng(seed)
    return Task(examples(rng, SUPPORT), examples(rng, QUERY))


def some_params():
    rng = np.random.default_rng(1)
    shapes = {"tower": (2, 3), "item": (ITEMS, 3), "predictor": (3,)}
    return {name: jnp.asarray(rng.normal(size=shape)) for name, shape in shapes.items()}


PARAMS, TASK = some_params(), task_of(2)


def padded_with(task, value, item) -> Task:
    """Adds two rows to support and query that their masks hide."""

    def grow(leaf):
        fill = {"f": value, "i": item, "b": False}[leaf.dtype.kind]
        return jnp.concatenate([leaf, jnp.full((2, *leaf.shape[1:]), fill, leaf.dtype)])

    return jax.tree.map(grow, task)


def judged_by(adaptation):
    """The query's loss and scores, and the meta-gradient."""

    def loss(params, task):
        adapted = adaptation.adapt(params, task.support)
        query_loss = losses.on_examples(partial(adaptation.predict, params), losses.squared_error)
        scores = adaptation.predict(params, adapted, task.query.inputs)
        return query_loss(adapted, task.query), scores

    return jax.value_and_grad(loss, has_aux=True)


@pytest.fixture(scope="module", params=ADAPTATIONS)
def adaptation(request):
    return ADAPTATIONS[request.param]


@pytest.fixture(scope="module")
def judged(adaptation):
    return jax.jit(judged_by(adaptation))


@pytest.mark.parametrize("name", LEARN)
def test_a_support_changes_the_scores(name):
    adaptation = LEARN[name]
    adapted = adaptation.adapt(PARAMS, TASK.support)
    scores = adaptation.predict(PARAMS, adapted, TASK.query.inputs)
    assert np.abs(scores - apply(PARAMS, TASK.query.inputs)).max() > 1e-3


def test_the_same_support_gives_the_same_bits(judged):
    chex.assert_trees_all_equal(judged(PARAMS, TASK), judged(PARAMS, TASK))


def test_an_empty_support_gives_the_zero_shot_answer(judged):
    nothing = TASK.support._replace(mask=jnp.zeros(SUPPORT, bool))
    (_, scores), gradient = judged(PARAMS, TASK._replace(support=nothing))
    np.testing.assert_allclose(scores, apply(PARAMS, TASK.query.inputs), rtol=1e-5, atol=1e-6)
    zero_shot = jax.grad(MEAN)(PARAMS, TASK.query)
    # Adam's step is a function of the gradient even where that is zero: then only finite.
    chex.assert_tree_all_finite(gradient)
    chex.assert_trees_all_equal_shapes(gradient, zero_shot)


def test_the_order_of_the_support_adds_nothing(judged):
    shuffled = jax.tree.map(lambda leaf: leaf[jnp.array([2, 0, 3, 1])], TASK.support)
    chex.assert_trees_all_close(
        judged(PARAMS, TASK._replace(support=shuffled)), judged(PARAMS, TASK), rtol=1e-4, atol=1e-5
    )


def test_one_trace_serves_every_support_size(adaptation):
    sizes = []

    @jax.jit
    def scores(params, task):
        sizes.append(task.support.mask.shape)
        adapted = adaptation.adapt(params, task.support)
        return adaptation.predict(params, adapted, task.query.inputs)

    for size in range(SUPPORT + 1):
        mask = jnp.arange(SUPPORT) < size
        scores(PARAMS, TASK._replace(support=TASK.support._replace(mask=mask)))
    assert sizes == [(SUPPORT,)]


def test_padding_adds_nothing(judged):
    (loss, scores), gradient = judged(PARAMS, TASK)
    for value, item in ((np.nan, 0), (np.inf, 4), (3e38, -1), (1.0, 10**6), (-1e9, -(10**6))):
        padded = judged(PARAMS, padded_with(TASK, value, item))
        (padded_loss, padded_scores), padded_gradient = padded
        np.testing.assert_allclose(padded_loss, loss, rtol=1e-5)
        np.testing.assert_allclose(padded_scores[:QUERY], scores, rtol=1e-4, atol=1e-5)
        chex.assert_trees_all_close(padded_gradient, gradient, rtol=1e-4, atol=1e-5)


def test_vmap_equals_a_loop(adaptation, judged):
    tasks = [task_of(seed) for seed in range(3)]
    few = tasks[1].support._replace(mask=jnp.array([True, False, True, False]))
    tasks[1] = tasks[1]._replace(support=few)
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *tasks)
    batched = jax.jit(jax.vmap(judged_by(adaptation), in_axes=(None, 0)))(PARAMS, batch)
    looped = [judged(PARAMS, task) for task in tasks]
    looped = jax.tree.map(lambda *leaves: jnp.stack(leaves), *looped)
    chex.assert_trees_all_close(batched, looped, rtol=1e-4, atol=1e-5)


def test_jit_equals_eager(adaptation, judged):
    eager = judged_by(adaptation)(PARAMS, TASK)
    chex.assert_trees_all_close(judged(PARAMS, TASK), eager, rtol=1e-4, atol=1e-5)

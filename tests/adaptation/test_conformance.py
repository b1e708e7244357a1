"""Conformance of every adaptation: shapes, masks, vmap, jit and empty supports."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conformance import SUPPORT
from rows_by_steps import BY_STEPS
from rows_of_networks import OF_NETWORKS

from metajax import losses
from metajax.types import Task
from tests.kinds import slow_but

ROWS = BY_STEPS | OF_NETWORKS
# One of each way to look at a support, and each way to take steps.
EVERY_TIME = {
    "zero shot", "sgd", "sgd, first order", "adam", "cavia", "gru of embeddings", "imaml",
    "prototype, euclidean", "conditional process", "neighbours in a graph", "content of items",
    "ridge", "shared space", "EMCDR",
}  # fmt: skip


def padded_with(task, value, item) -> Task:
    """Adds two rows to support and query that their masks hide, before and between the others."""

    def grow(leaf):
        fill = {"f": value, "i": item, "b": False}[leaf.dtype.kind]
        row = jnp.full((1, *leaf.shape[1:]), fill, leaf.dtype)
        return jnp.concatenate([row, leaf[:2], row, leaf[2:]])

    return jax.tree.map(grow, task)


def judged_by(adaptation):
    """The query's loss and scores, and the meta-gradient."""

    def loss(params, task):
        adapted = adaptation.adapt(params, task.support)
        query_loss = losses.on_examples(partial(adaptation.predict, params), losses.squared_error)
        scores = adaptation.predict(params, adapted, task.query.inputs)
        return query_loss(adapted, task.query), scores

    return jax.value_and_grad(loss, has_aux=True)


@pytest.fixture(scope="module", params=slow_but(EVERY_TIME, ROWS))
def row(request):
    return ROWS[request.param]()


@pytest.fixture(scope="module")
def task(row):
    return row.task_of(2)


@pytest.fixture(scope="module")
def judged(row):
    return partial(jax.jit(judged_by(row.adaptation)), row.params)


@pytest.fixture(scope="module")
def batched(row):
    """As `judged`, of five padded tasks at once: one shape, so that it is compiled once."""
    judge = jax.jit(jax.vmap(judged_by(row.adaptation), in_axes=(None, 0)))
    return lambda tasks: judge(row.params, jax.tree.map(lambda *x: jnp.stack(x), *tasks))


@pytest.mark.slow
def test_a_support_changes_the_scores(row, judged, task):
    (_, scores), _ = judged(task)
    change = np.abs(scores - row.zero_shot(row.params, task.query.inputs)).max()
    assert change > 1e-3 if row.adapts else change < 1e-6


def test_the_same_support_gives_the_same_bits(judged, task):
    chex.assert_trees_all_equal(judged(task), judged(task))


def test_an_empty_support_gives_the_zero_shot_score(row, judged, task):
    nothing = task.support._replace(mask=jnp.zeros(SUPPORT, bool))
    (_, scores), gradient = judged(task._replace(support=nothing))
    expected = row.zero_shot(row.params, task.query.inputs)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)
    # Adam's step is a function of the gradient even where that is zero: then only finite.
    chex.assert_tree_all_finite(gradient)
    chex.assert_trees_all_equal_shapes(gradient, row.params)


def test_the_order_of_the_support_matters_for_sequence_methods_alone(row, judged, task):
    shuffled = jax.tree.map(lambda leaf: leaf[jnp.array([2, 0, 3, 1])], task.support)
    other, scores = judged(task._replace(support=shuffled)), judged(task)
    if row.in_order:
        assert np.abs(other[0][1] - scores[0][1]).max() > 1e-3
    else:
        chex.assert_trees_all_close(other, scores, rtol=1e-4, atol=1e-5)


def test_one_trace_serves_every_support_size(row, task):
    adaptation, sizes = row.adaptation, []

    @jax.jit
    def scores(params, task):
        sizes.append(task.support.mask.shape)
        adapted = adaptation.adapt(params, task.support)
        return adaptation.predict(params, adapted, task.query.inputs)

    for size in range(SUPPORT + 1):
        mask = jnp.arange(SUPPORT) < size
        scores.trace(row.params, task._replace(support=task.support._replace(mask=mask)))
    assert sizes == [(SUPPORT,)]


@pytest.mark.slow
def test_padding_adds_nothing(judged, batched, task):
    fills = ((np.nan, 0), (np.inf, 4), (3e38, -1), (1.0, 10**6), (-1e9, -(10**6)))
    padded = [padded_with(task, value, item) for value, item in fills]
    assert_alike(batched(padded), [judged(task)] * len(padded))


def test_vmap_equals_a_loop(row, judged, batched):
    tasks = [row.task_of(seed) for seed in range(5)]
    few = tasks[1].support._replace(mask=jnp.array([True, False, True, False]))
    tasks[1] = tasks[1]._replace(support=few)
    looped = [judged(task) for task in tasks]
    assert_alike(batched([padded_with(task, 0.0, 0) for task in tasks]), looped)


def test_jit_equals_eager(row, judged, task):
    adapted = row.adaptation.adapt(row.params, task.support)
    eager = row.adaptation.predict(row.params, adapted, task.query.inputs)
    (_, scores), _ = judged(task)
    np.testing.assert_allclose(scores, eager, rtol=1e-4, atol=1e-5)


def assert_alike(padded, plain):
    """Compares what a batch of padded tasks gave with what each task gave without padding."""
    (loss, scores), gradient = padded
    (each_loss, each_scores), each_gradient = jax.tree.map(lambda *x: jnp.stack(x), *plain)
    np.testing.assert_allclose(loss, each_loss, rtol=1e-5)
    at_query = scores[:, jnp.array([1, 2, 4])]
    np.testing.assert_allclose(at_query, each_scores, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(gradient, each_gradient, rtol=1e-4, atol=1e-5)

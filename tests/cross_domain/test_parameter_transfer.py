from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import cross_domain, losses
from metajax.types import Examples, Inputs, Task

ITEMS, WIDTH, TASKS = 6, 2, 3
DOMAIN = jnp.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
RNG = np.random.default_rng(0)


def examples(sources: int, targets: int) -> Examples:
    """Rows of the source first."""
    items = [RNG.integers(0, 3, (TASKS, sources)), RNG.integers(3, 6, (TASKS, targets))]
    item = jnp.asarray(np.concatenate(items, axis=1))
    blank = jnp.zeros((*item.shape, 0))
    labels = jnp.asarray(RNG.normal(size=item.shape), jnp.float32)
    return Examples(Inputs(blank, blank, item), labels, jnp.ones(item.shape, bool))


BATCH = Task(examples(3, 1), examples(2, 4))


def filled(key, inputs, model):
    params = model.init(key, inputs)
    embedding, bias = RNG.normal(size=(ITEMS, WIDTH)), RNG.normal(size=ITEMS)
    noise = jnp.array([0.5, 2.0])
    factors = cross_domain.DomainFactors(DOMAIN, jnp.asarray(embedding), jnp.asarray(bias), noise)
    return cross_domain.initial_factors(params, factors)


def error_in(learner, params, side: int) -> jax.Array:
    """The mean over tasks of the squared error of one domain's part of the query."""

    def error(task: Task) -> jax.Array:
        adapted = learner.adapt(params, task.support)
        scores = learner.predict(params, adapted, task.query.inputs)
        queried = DOMAIN[task.query.inputs.item] == side
        return losses.squared_error(scores, task.query.labels, where=queried)

    return jnp.mean(jax.jit(jax.vmap(error))(BATCH))


def after_updates(learner, count: int):
    update, state = jax.jit(learner.update), learner.init(jax.random.key(0), BATCH)
    found: list[Any] = [(state, {})]
    for _ in range(count):
        found.append(update(found[-1][0], BATCH))
    return found


def changed(before, after) -> set[str]:
    """Which parameters moved, by their names at the top and below."""
    flat = (jax.tree_util.tree_leaves_with_path(tree) for tree in (before, after))
    return {
        jax.tree_util.keystr(path[:2], simple=True, separator="/")
        for (path, a), (_, b) in zip(*flat, strict=True)
        if np.any(np.asarray(a) != np.asarray(b))
    }


def test_relations_are_learned_in_the_source_and_mapped_in_the_target():
    model = cross_domain.relation_transfer_network(ITEMS, WIDTH, cross_domain.RelationNetwork((3,)))
    learner = cross_domain.relation_transfer(
        model._replace(init=lambda key, inputs: filled(key, inputs, model)),
        losses.squared_error,
        outer=optax.adamw(0.05, weight_decay=0.0),
        pretraining=2,
    )
    (first, _), _, (second, source), (third, target) = after_updates(learner, 3)
    assert changed(first.params, second.params) == {
        "relations/relation",
        "relations/correction",
        "relations/head",
    }
    assert changed(second.params, third.params) == {"relations/transfer", "log_spread"}
    np.testing.assert_allclose(target["loss"], error_in(learner, second.params, 1), rtol=1e-5)
    assert source["loss"] < error_in(learner, first.params, 0)


def test_a_network_is_learned_in_the_source_and_fine_tuned_in_part():
    model = cross_domain.shared_user_mlp(ITEMS, WIDTH, (3,))
    learner = cross_domain.parameter_transfer(
        model._replace(init=lambda key, inputs: filled(key, inputs, model)),
        losses.squared_error,
        outer=optax.adamw(0.05, weight_decay=0.1),
        pretraining=2,
    )
    (first, _), _, (second, source), (third, target) = after_updates(learner, 3)
    assert changed(first.params, second.params) == {"predictor/hidden", "predictor/out"}
    assert changed(second.params, third.params) == {"predictor/out"}
    np.testing.assert_allclose(target["loss"], error_in(learner, second.params, 1), rtol=1e-5)
    assert source["loss"] < error_in(learner, first.params, 0)


def test_pretraining_below_one_is_refused():
    model = cross_domain.relation_transfer_network(ITEMS, WIDTH)
    with pytest.raises(ValueError, match="pretraining must be >= 1, got 0"):
        cross_domain.relation_transfer(
            model, losses.squared_error, outer=optax.sgd(0.1), pretraining=0
        )

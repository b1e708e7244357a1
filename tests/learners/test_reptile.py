import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import losses
from metajax.adaptation import matching
from metajax.learners import reptile
from metajax.networks import RatingNetwork, from_linen
from metajax.types import Examples, Inputs, Task

pytestmark = pytest.mark.usefixtures("x64")
RATE, TASKS, ROWS, ITEMS = 0.1, 5, 4, 7


def test_an_update_moves_a_fraction_towards_the_mean_adapted_parameters(line, regressions, kept):
    learner = reptile(
        line, losses.squared_error, inner=optax.sgd(RATE), outer=optax.sgd(0.25), steps=3
    )
    state = learner.init(jax.random.key(0), regressions)
    start = np.asarray(state.params)
    ends, values = [], []
    for (A, y), (B, z) in kept(regressions):
        if not len(z):
            continue
        X, labels, w = np.concatenate([A, B]), np.concatenate([y, z]), start
        for _ in range(3):
            w = w - RATE * 2 * X.T @ (X @ w - labels) / len(labels)
        ends.append(w)
        values.append(np.mean((B @ w - z) ** 2))
    new, metrics = jax.jit(learner.update)(state, regressions)
    np.testing.assert_allclose(new.params, 0.75 * start + 0.25 * np.mean(ends, axis=0), rtol=1e-12)
    np.testing.assert_allclose(metrics["loss"], np.mean(values), rtol=1e-12)


def rated(seed) -> Examples:
    rng = np.random.default_rng(seed)
    users, items = (jnp.asarray(rng.normal(size=(TASKS, ROWS, n))) for n in (11, 13))
    inputs = Inputs(users, items, jnp.asarray(rng.integers(0, ITEMS, (TASKS, ROWS), np.int32)))
    return Examples(
        inputs, jnp.asarray(rng.normal(size=(TASKS, ROWS))), jnp.ones((TASKS, ROWS)) > 0
    )


def test_the_factored_form_gives_the_same_update_without_a_user_s_weights():
    model = from_linen(RatingNetwork((17,), (19,), (), ITEMS, identity_width=3))
    tasks = Task(rated(0), rated(1))
    adapts = matching("user_tower/*", "item_embedding/*")

    def updated(form):
        learner = reptile(
            model, losses.squared_error, inner=optax.sgd(RATE), outer=optax.sgd(1.0), steps=2,
            adapts=adapts, form=form,
        )  # fmt: skip
        state = learner.init(jax.random.key(0), tasks)
        state = state._replace(
            params=jax.tree.map(lambda w: jnp.ones(w.shape) / 10 + w, state.params)
        )
        compiled = jax.jit(learner.update).lower(state, tasks).compile()
        return state.params, compiled(state, tasks), str(compiled.as_text())

    before, plain, plain_text = updated("plain")
    _, factored, text = updated("factored")
    chex.assert_trees_all_close(factored, plain, rtol=1e-9, atol=1e-12)
    # What does not adapt stays to the bit.
    chex.assert_trees_all_equal(factored[0].params["item_tower"], before["item_tower"])
    shape = f"f64[{TASKS},11,17]"
    assert shape in plain_text
    assert shape not in text

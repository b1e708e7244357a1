"""Meta-SGD and MAML++ against the recursion of their derivatives, written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import losses
from metajax.learners import maml_plus_plus, meta_sgd

RATE, OUTER = 0.1, 0.5
pytestmark = pytest.mark.usefixtures("x64")


def by_hand(w, rates, task, weights, *, first_order=False):
    """One task: its weighted query losses after each step, and their derivatives.

    For a loss |Xw - y|^2 / n with gradient g = H w - c and steps w' = w - r_j * g:
    dw' = dw - r_j * H dw - dr_j * g. First order drops the middle term.
    """
    (A, y), (B, z) = task
    H, c = (2 * A.T @ m / max(len(y), 1) for m in (A, y))
    steps, size = rates.shape
    by_w, by_rates = np.eye(size), np.zeros((size, steps, size))
    value, to_w, to_rates = 0.0, np.zeros(size), np.zeros(rates.shape)
    for j in range(steps):
        gradient = H @ w - c
        if not first_order:
            by_w = by_w - rates[j][:, None] * (H @ by_w)
            by_rates = by_rates - rates[j][:, None, None] * np.tensordot(H, by_rates, 1)
        by_rates[np.arange(size), j, np.arange(size)] -= gradient
        w = w - rates[j] * gradient
        error = B @ w - z
        slope = 2 * B.T @ error / len(z)
        value += weights[j] * np.mean(error**2)
        to_w += weights[j] * slope @ by_w
        to_rates += weights[j] * np.tensordot(slope, by_rates, 1)
    return value, to_w, to_rates


def mean_over_tasks(params, rates, tasks, weights, **options):
    found = [by_hand(params, rates, task, weights, **options) for task in tasks if len(task[1][1])]
    return [np.mean(values, axis=0) for values in zip(*found, strict=True)]


def test_meta_sgd_learns_a_rate_for_every_element(line, regressions, kept):
    learner = meta_sgd(line, losses.squared_error, rate=RATE, outer=optax.sgd(OUTER), steps=2)
    state = learner.init(jax.random.key(0), regressions)
    np.testing.assert_array_equal(state.params["rates"], [RATE, RATE])
    rates = np.array([0.05, 0.2])
    state = state._replace(params={**state.params, "rates": jnp.asarray(rates)})
    w = np.asarray(state.params["network"])
    value, to_w, to_rates = mean_over_tasks(
        w, np.stack([rates, rates]), kept(regressions), weights=(0, 1)
    )
    new, metrics = jax.jit(learner.update)(state, regressions)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-12)
    np.testing.assert_allclose(new.params["network"], w - OUTER * to_w, rtol=1e-12)
    np.testing.assert_allclose(
        new.params["rates"], rates - OUTER * to_rates.sum(axis=0), rtol=1e-12
    )


def test_maml_plus_plus_passes_from_first_order_and_many_losses_to_maml(line, regressions, kept):
    learner = maml_plus_plus(
        line,
        losses.squared_error,
        rate=RATE,
        outer=optax.sgd(OUTER),
        steps=2,
        first_order=1,
        multi_step=2,
    )
    state = learner.init(jax.random.key(0), regressions)
    np.testing.assert_array_equal(state.params["rates"], [RATE, RATE])
    traces = []

    @jax.jit
    def update(state, tasks):
        traces.append(None)
        return learner.update(state, tasks)

    # Weights of the two losses: alike, halfway, the last alone.
    for first_order, weights in ((True, (0.5, 0.5)), (False, (0.25, 0.75)), (False, (0, 1))):
        w, rates = (np.asarray(state.params[name]) for name in ("network", "rates"))
        value, to_w, to_rates = mean_over_tasks(
            w, np.stack([rates, rates], axis=1), kept(regressions), weights, first_order=first_order
        )
        state, metrics = update(state, regressions)
        np.testing.assert_allclose(metrics["loss"], value, rtol=1e-12)
        np.testing.assert_allclose(state.params["network"], w - OUTER * to_w, rtol=1e-12)
        expected = rates - OUTER * to_rates.sum(axis=1)
        np.testing.assert_allclose(state.params["rates"], expected, rtol=1e-12)
    assert len(traces) == 1


def test_a_negative_number_of_updates_is_refused(line):
    with pytest.raises(ValueError, match=r"^first_order must be >= 0, got -1\.$"):
        maml_plus_plus(line, losses.squared_error, rate=RATE, outer=optax.sgd(1), first_order=-1)
    with pytest.raises(ValueError, match=r"^multi_step must be >= 0, got -2\.$"):
        maml_plus_plus(line, losses.squared_error, rate=RATE, outer=optax.sgd(1), multi_step=-2)

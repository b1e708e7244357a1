import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import losses
from metajax.learners import imaml
from metajax.networks import from_linen
from metajax.types import Examples

PULL, OUTER = 2.0, 0.5


@pytest.mark.usefixtures("x64")
def test_the_update_is_that_of_ridge_regression_towards_the_parameters(line, regressions, kept):
    # (H + p I) w = c + p start, with H = 2 X'X / n and c = 2 X'y / n: w = S (c + p start), whose
    # derivative by the start is p S.
    learner = imaml(
        line,
        losses.squared_error,
        inner=optax.sgd(0.05),
        outer=optax.sgd(OUTER),
        proximal=PULL,
        iterations=2,
        steps=300,
    )
    state = learner.init(jax.random.key(0), regressions)
    start = np.asarray(state.params)
    values, gradients = [], []
    for (A, y), (B, z) in kept(regressions):
        if not len(z):
            continue
        H, c = (2 * A.T @ m / max(len(y), 1) for m in (A, y))
        S = np.linalg.inv(H + PULL * np.eye(2))
        error = B @ S @ (c + PULL * start) - z
        values.append(np.mean(error**2))
        gradients.append(PULL * S @ B.T @ error * 2 / len(z))
    new, metrics = jax.jit(learner.update)(state, regressions)
    # 300 steps shrink the distance to the solution by (1 - 0.05 p)^300 = 2e-14 at least.
    np.testing.assert_allclose(metrics["loss"], np.mean(values), rtol=1e-10)
    expected = start - OUTER * np.mean(gradients, axis=0)
    np.testing.assert_allclose(new.params, expected, rtol=1e-10)


def test_a_proximal_weight_of_zero_is_refused(line):
    with pytest.raises(ValueError, match=r"^proximal must be > 0, got 0\.$"):
        imaml(line, losses.squared_error, inner=optax.sgd(0.1), outer=optax.sgd(0.1), proximal=0)


def test_weights_of_a_user_are_kept_in_full_whatever_the_form():
    network = from_linen(nn.Dense(1))
    learner = imaml(
        network, losses.squared_error, inner=optax.sgd(0.1), outer=optax.sgd(0.1), form="factored"
    )
    support = Examples(jnp.ones((2, 8)), jnp.ones(2), jnp.ones(2, bool))
    params = jax.eval_shape(network.init, jax.random.key(0), support.inputs)
    adapted = jax.eval_shape(learner.adapt, params, support)
    assert jax.tree.map(lambda leaf: leaf.shape, adapted) == {"bias": (1,), "kernel": (8, 1)}

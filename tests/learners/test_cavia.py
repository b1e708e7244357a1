import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import losses
from metajax.adaptation import append_context
from metajax.learners import cavia
from metajax.types import Inputs, Model

RATE, OUTER, NUDGE = 0.3, 0.5, 1e-6
# Two features and a context of one number, in a network that is not linear in the context.
NETWORK = Model(
    init=lambda key, x: jnp.linspace(-0.5, 1.0, 2 * x.shape[-1]).reshape(x.shape[-1], 2),
    apply=lambda w, x: jnp.sum(jnp.tanh(x @ w), axis=1),
)


def by_hand(w, tasks):
    """The meta-loss in NumPy: two steps on the context from 0, by the chain rule."""
    values = []
    for (A, y), (B, z) in tasks:
        if not len(z):
            continue
        context = 0.0
        for _ in range(2):
            hidden = np.tanh(A @ w[:2] + context * w[2])
            slope = (1 - hidden**2) @ w[2]
            error = hidden.sum(axis=1) - y
            context = context - RATE * 2 * np.sum(error * slope) / max(len(y), 1)
        values.append(np.mean((np.tanh(B @ w[:2] + context * w[2]).sum(axis=1) - z) ** 2))
    return np.mean(values)


@pytest.mark.usefixtures("x64")
def test_the_update_is_that_of_two_steps_on_the_context(regressions, kept):
    learner = cavia(
        NETWORK, losses.squared_error, inner=optax.sgd(RATE), outer=optax.sgd(OUTER), size=1,
        steps=2,
    )  # fmt: skip
    state = learner.init(jax.random.key(0), regressions)
    assert state.params.shape == (3, 2)  # the context has a row of its own
    w, tasks = np.asarray(state.params), list(kept(regressions))
    new, metrics = jax.jit(learner.update)(state, regressions)
    np.testing.assert_allclose(metrics["loss"], by_hand(w, tasks), rtol=1e-12)
    nudges = NUDGE * np.eye(6).reshape(6, 3, 2)
    slopes = [(by_hand(w + n, tasks) - by_hand(w - n, tasks)) / (2 * NUDGE) for n in nudges]
    expected = w - OUTER * np.reshape(slopes, (3, 2))
    np.testing.assert_allclose(new.params, expected, rtol=1e-8, atol=1e-9)


def test_a_user_s_state_is_the_context_alone(regressions):
    learner = cavia(
        NETWORK, losses.squared_error, inner=optax.sgd(RATE), outer=optax.sgd(OUTER), size=3
    )
    params = learner.init(jax.random.key(0), regressions).params
    contexts = jax.jit(jax.vmap(learner.adapt, (None, 0)))(params, regressions.support)
    assert contexts.shape == (4, 3)
    assert not contexts[3].any()  # nothing seen


def test_the_context_follows_the_user_features():
    inputs = Inputs(jnp.ones((2, 1)), jnp.zeros((2, 4)), jnp.arange(2))
    joined = append_context(inputs, jnp.array([5.0, 6.0]))
    np.testing.assert_array_equal(joined.user_features, [[1, 5, 6], [1, 5, 6]])
    np.testing.assert_array_equal(joined.item_features, inputs.item_features)
    with pytest.raises(TypeError, match=r"^inputs must be Inputs or an array \[N, D\], got dict"):
        append_context({"x": jnp.ones((2, 1))}, jnp.zeros(1))


def test_a_context_of_width_zero_is_refused():
    with pytest.raises(ValueError, match=r"^size of the context must be >= 1, got 0\.$"):
        cavia(NETWORK, losses.squared_error, inner=optax.sgd(1.0), outer=optax.sgd(1.0), size=0)

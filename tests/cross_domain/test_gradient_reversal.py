import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.cross_domain.adversarial import reversal_schedule, reverse_gradient


def test_the_gradient_comes_back_turned_around_and_scaled():
    """Of sum (w x)^3 it is 3 w^3 x^2; before the reversal, minus s times that."""
    x, w, strength = jnp.array([1.0, -2.0, 0.5]), jnp.array([2.0, 0.5, -1.0]), 0.7

    def after(x, w, strength):
        return jnp.sum((w * reverse_gradient(x, strength)) ** 3)

    value, (by_x, by_w, by_strength) = jax.jit(jax.value_and_grad(after, (0, 1, 2)))(x, w, strength)
    np.testing.assert_allclose(value, np.sum((w * x) ** 3), rtol=1e-6)
    np.testing.assert_allclose(by_x, -strength * 3 * w**3 * x**2, rtol=1e-6)
    np.testing.assert_allclose(by_w, 3 * w**2 * x**3, rtol=1e-6)
    assert by_strength == 0


def test_the_reversal_grows_as_in_the_paper():
    strength = reversal_schedule(200, peak=0.5)
    for step in (0, 10, 100, 200):
        expected = 0.5 * (2 / (1 + math.exp(-10 * step / 200)) - 1)
        np.testing.assert_allclose(strength(jnp.array(step)), expected, rtol=1e-5, atol=1e-7)


def test_an_invalid_schedule_is_refused():
    with pytest.raises(ValueError, match="updates must be >= 1, got 0"):
        reversal_schedule(0)
    with pytest.raises(ValueError, match="peak must be >= 0, got -1"):
        reversal_schedule(10, peak=-1)

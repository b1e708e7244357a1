"""A layer that changes nothing on the way forth and turns the gradient around on the way back."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

__all__ = ["reversal_schedule", "reverse_gradient"]


@jax.custom_vjp
def reverse_gradient(x: jax.Array, strength: jax.Array | float) -> jax.Array:
    """Returns `x`; its gradient is `-strength` times the one that arrives.

    What comes after it learns to make a loss small, what comes before to make it large, in one
    descent.

    Args:
        x: Features, of any shape.
        strength: `[]` how much of the gradient comes through, turned around; 0 for nothing. It has
            no gradient of its own.

    Returns:
        `x`.

    Example:
        >>> float(jax.grad(lambda x: reverse_gradient(x, 0.5) ** 2)(3.0))
        -3.0

    References:
        Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 17, 2016.
    """
    del strength
    return x


def _forth(x: jax.Array, strength: jax.Array | float) -> tuple[jax.Array, jax.Array | float]:
    return x, strength


def _back(strength: jax.Array | float, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    return -strength * gradient, jnp.zeros_like(strength)


reverse_gradient.defvjp(_forth, _back)


def reversal_schedule(updates: int, *, peak: float = 1.0) -> Callable[[jax.Array], jax.Array]:
    """Lets the reversal grow from 0, for a discriminator that has learned nothing is no guide.

    Args:
        updates: Of the whole training, >= 1.
        peak: What it grows to, >= 0.

    Returns:
        `strength(step) -> []`, at the part p of the updates `peak (2 / (1 + exp(-10 p)) - 1)`.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Ganin et al., JMLR 17, 2016, with peak 1. The hyperbolic tangent of 5 p is the same.
    """
    for name, value, least in (("updates", updates, 1), ("peak", peak, 0)):
        if not value >= least:
            raise ValueError(f"{name} must be >= {least}, got {value}.")
    return lambda step: peak * jnp.tanh(5 * step / updates)

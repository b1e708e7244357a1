"""Refuses an inner optimizer that would turn the meta-gradient to NaN."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

__all__ = ["check_differentiable_at_zero"]


def check_differentiable_at_zero(optimizer: optax.GradientTransformation) -> None:
    """Refuses an optimizer whose update has no finite derivative where the gradient is zero.

    Adam divides by the root of a second moment, and the root's slope at 0 is infinite: one
    empty support, or one dead unit, would turn the whole meta-gradient to NaN.

    Args:
        optimizer: The inner optimizer. One whose rates are traced has no values to look at, and
            one that knows the parameters by name or shape takes no lone weight: both pass.

    Raises:
        ValueError: If the derivative is not finite.
    """

    def update(gradient: jax.Array) -> jax.Array:
        weight = jnp.zeros(())
        change: Any = optimizer.update(gradient, optimizer.init(weight), weight)[0]
        return change

    # Evaluated at once, also where the caller is being traced.
    with jax.ensure_compile_time_eval():
        try:
            slope = jax.grad(update)(jnp.zeros(()))
        except (TypeError, ValueError):
            return
    if not isinstance(slope, jax.core.Tracer) and not math.isfinite(slope):
        raise ValueError(
            "optimizer must have a finite derivative at zero gradient, got "
            f"{float(slope)}; for Adam set eps_root, for instance optax.adam(1e-2, eps_root=1e-8)."
        )

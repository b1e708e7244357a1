"""How the meta-gradient passes through an inner step: one argument chooses it.

An adjoint takes the gradient function of the inner loss and returns the one that the inner loop
calls. The values it computes are the same; what differs is what is differentiated through it.
"""

from collections.abc import Callable
from typing import Any

import jax

__all__ = ["Adjoint", "first_order", "reverse"]

GradientFn = Callable[..., Any]
Adjoint = Callable[[GradientFn], GradientFn]


def reverse(gradient: GradientFn) -> GradientFn:
    """Differentiates through the gradient by reverse mode: exact, second order.

    References:
        Finn, Abbeel and Levine, Model-Agnostic Meta-Learning, ICML 2017, equation 1.
    """
    return gradient


def first_order(gradient: GradientFn) -> GradientFn:
    """Treats the gradient as a constant: no second derivatives, a biased meta-gradient.

    References:
        Finn, Abbeel and Levine, Model-Agnostic Meta-Learning, ICML 2017, section 5.2.
    """

    def constant_gradient(*args: Any) -> Any:
        return jax.lax.stop_gradient(gradient(*args))

    return constant_gradient

r"""Adjoints that differentiate the gradient by products with the Hessian.

Let g(theta) be the gradient of the loss with respect to the fast parameters, where theta holds
these and everything else the loss depends on. The way back through g turns a direction v into

    d/dtheta <g(theta), v>  =  d/de [ gradient of the loss with respect to theta ](fast + e v)

because second derivatives commute. The right side needs no reverse pass through a reverse pass:
it is the derivative of one gradient along one line.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from metajax.adaptation.adjoints import Descent, Loss
from metajax.adaptation.gradient_call import Derivative, gradient_call

__all__ = ["FiniteDifference", "Linearized", "Mixed"]


@dataclass(frozen=True)
class Linearized:
    """Saves the gradient's linearization on the way forward and applies it on the way back.

    Exact. It has the arithmetic of `Reverse` and saves less: half of what a reverse pass through
    a reverse pass would keep is not needed.
    """

    def solve(self, loss: Loss, descend: Descent, start: Any, *given: Any) -> tuple[Any, Any]:
        """Descends along a gradient whose linearization is saved."""
        del start, given

        def back(gradients: Any, line: Any, fast: Any, direction: Any, lead: int) -> Any:
            del gradients, fast, lead
            return line(direction)

        return descend(gradient_call(loss, Derivative(jax.linearize, back)))


@dataclass(frozen=True)
class Mixed:
    """Differentiates the gradient by forward mode over reverse mode, on the way back.

    Exact. Saves the parameters of each step alone; the way back computes the gradient anew.

    References:
        Kemaev et al., Scalable Meta-Learning via Mixed-Mode Differentiation (MixFlow-MG),
        arXiv 2505.00793.
    """

    def solve(self, loss: Loss, descend: Descent, start: Any, *given: Any) -> tuple[Any, Any]:
        """Descends along a gradient that is differentiated by forward mode."""
        del start, given

        def back(gradients: Any, saved: Any, fast: Any, direction: Any, lead: int) -> Any:
            del saved, lead
            return jax.jvp(gradients, (fast,), (direction,))[1]

        return descend(gradient_call(loss, Derivative(_nothing_saved, back)))


@dataclass(frozen=True)
class FiniteDifference:
    """Approximates the gradient's derivative by a central difference of two gradients.

    Needs first derivatives alone. The error is of second order in `step`, and rounding is
    divided by it.

    Attributes:
        step: Length of the step to either side, as a distance between parameters.

    References:
        Liu, Simonyan and Yang, DARTS: Differentiable Architecture Search, ICLR 2019, equation 7.
    """

    step: float = 1e-2

    def __post_init__(self):
        if not self.step > 0:
            raise ValueError(f"step must be > 0, got {self.step}.")

    def solve(self, loss: Loss, descend: Descent, start: Any, *given: Any) -> tuple[Any, Any]:
        """Descends along a gradient that is differentiated by differences."""
        del start, given

        def back(gradients: Any, saved: Any, fast: Any, direction: Any, lead: int) -> Any:
            del saved
            length = jnp.sqrt(sum(jnp.sum(v**2, range(lead, v.ndim)) for v in direction))
            # A direction of length 0 moves nothing: any scale will do, but not 0 / 0.
            scale = self.step / jnp.where(length > 0, length, 1)

            def moved(sign: int) -> Any:
                there = [
                    w + sign * scale.reshape(scale.shape + (1,) * (w.ndim - lead)) * v
                    for w, v in zip(fast, direction, strict=True)
                ]
                return gradients(there, 0.5 / scale)

            return jax.tree.map(jnp.subtract, moved(1), moved(-1))

        return descend(gradient_call(loss, Derivative(_nothing_saved, back)))


def _nothing_saved(gradients: Callable[..., Any], fast: Any) -> tuple[Any, Any]:
    return gradients(fast), ()

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
import optax

from metajax.adaptation.adjoints import Descent, Gradient, Loss
from metajax.adaptation.partition import real_leaves

__all__ = ["FiniteDifference", "Linearized", "Mixed"]

# along(gradients, fast) -> (gradient with respect to fast, residuals), and the way back:
# back(gradients, residuals, fast, direction) -> derivative of all gradients along it.
_Forward = Callable[[Callable[..., Any], Any], tuple[Any, Any]]
_Back = Callable[[Callable[..., Any], Any, Any, Any], Any]


@dataclass(frozen=True)
class Linearized:
    """Saves the gradient's linearization on the way forward and applies it on the way back.

    Exact. It has the arithmetic of `Reverse` and saves less: half of what a reverse pass through
    a reverse pass would keep is not needed.
    """

    def solve(self, loss: Loss, descend: Descent, start: Any, *given: Any) -> tuple[Any, Any]:
        """Descends along a gradient whose linearization is saved."""
        del start, given

        def forward(gradients: Callable[..., Any], fast: Any) -> tuple[Any, Any]:
            return jax.linearize(gradients, fast)

        def back(gradients: Any, line: Any, fast: Any, direction: Any) -> Any:
            del gradients, fast
            return line(direction)

        return descend(_gradient(loss, forward, back))


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

        def back(gradients: Any, saved: Any, fast: Any, direction: Any) -> Any:
            del saved
            return jax.jvp(gradients, (fast,), (direction,))[1]

        return descend(_gradient(loss, _nothing_saved, back))


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

        def back(gradients: Any, saved: Any, fast: Any, direction: Any) -> Any:
            del saved
            length = optax.tree.norm(direction)
            # A direction of length 0 moves nothing: any scale will do, but not 0 / 0.
            scale = self.step / jnp.where(length > 0, length, 1)

            def moved(sign: int) -> Any:
                return gradients(jax.tree.map(lambda w, v: w + sign * scale * v, fast, direction))

            return jax.tree.map(lambda a, b: (a - b) / (2 * scale), moved(1), moved(-1))

        return descend(_gradient(loss, _nothing_saved, back))


def _nothing_saved(gradients: Callable[..., Any], fast: Any) -> tuple[Any, Any]:
    return gradients(fast), ()


def _gradient(loss: Loss, forward: _Forward, back: _Back) -> Gradient:
    """Makes `gradient(fast, *given)`, whose own derivative is `back`."""

    def gradient(fast: Any, *given: Any) -> Any:
        # The others apart, so that the way back can pass them over.
        real, others, joined = real_leaves(given)

        def gradients(real: list[Any], others: list[Any]) -> Callable[[Any], Any]:
            def of_fast(fast: Any) -> Any:
                def value(fast: Any, real: list[Any]) -> jax.Array:
                    return loss(fast, *joined(real, others))

                return jax.grad(value, argnums=(0, 1))(fast, real)

            return of_fast

        @jax.custom_vjp
        def value(fast: Any, real: list[Any], others: list[Any]) -> Any:
            return jax.grad(lambda fast: loss(fast, *joined(real, others)))(fast)

        def value_forward(fast: Any, real: list[Any], others: list[Any]) -> tuple[Any, Any]:
            both, saved = forward(gradients(real, others), fast)
            return both[0], (saved, fast, real, others)

        def value_back(residuals: Any, direction: Any) -> tuple[Any, Any, None]:
            saved, fast, real, others = residuals
            return *back(gradients(real, others), saved, fast, direction), None

        value.defvjp(value_forward, value_back)
        return value(fast, real, others)

    return gradient

"""Adjoints: derivatives of the meta-loss through the inner loop.

An adjoint is a frozen dataclass with one method, `solve`. It takes the inner loss and the inner
loop, a function of the gradient that it follows, and returns the result of the loop. All adjoints
compute the same result; they differ in its derivative.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax

from metajax.adaptation.gradient_call import Derivative, gradient_call, hoisted, real_leaves

__all__ = [
    "Adjoint",
    "FiniteDifference",
    "FirstOrder",
    "Implicit",
    "Linearized",
    "Mixed",
    "Reverse",
]


Loss = Callable[..., jax.Array]
Gradient = Callable[..., Any]
Descent = Callable[[Gradient], tuple[Any, Any]]


class Adjoint(Protocol):
    """The derivative of an inner loop, an option of `gradient_steps`."""

    def solve(self, loss: Loss, descend: Descent, start: Any, *given: Any) -> tuple[Any, Any]:
        """Descends, so that the result can be differentiated.

        Args:
            loss: `loss(fast, *given) -> []`, the inner loss.
            descend: `descend(gradient) -> (adapted, rest)`. It calls `gradient(fast, *given)`
                once a step, for the gradient of the loss with respect to `fast`.
            start: The parameters that the descent starts from.
            *given: What else the loss depends on: shared parameters, the support.

        Returns:
            The result of the descent.
        """
        ...


@dataclass(frozen=True)
class Reverse:
    """Differentiates through the steps by reverse mode: exact, second order.

    Attributes:
        remat: Save a step's parameters alone and compute its gradient anew on the way back:
            less memory for a third more arithmetic.

    References:
        Finn, Abbeel and Levine, Model-Agnostic Meta-Learning, ICML 2017, equation 1.
    """

    remat: bool = False

    def solve(self, loss: Loss, descend: Descent, start: Any, *given: Any) -> tuple[Any, Any]:
        """Descends along `jax.grad(loss)`."""
        del start, given
        gradient = jax.grad(loss)
        return descend(jax.checkpoint(gradient) if self.remat else gradient)


@dataclass(frozen=True)
class FirstOrder:
    """Treats the gradients as constants: no second derivatives, a biased meta-gradient.

    References:
        Finn, Abbeel and Levine, Model-Agnostic Meta-Learning, ICML 2017, section 5.2.
    """

    def solve(self, loss: Loss, descend: Descent, start: Any, *given: Any) -> tuple[Any, Any]:
        """Descends along gradients that are treated as constants."""
        del start, given

        def constant_gradient(*args: Any) -> Any:
            return jax.lax.stop_gradient(jax.grad(loss)(*args))

        return descend(constant_gradient)


@dataclass(frozen=True)
class Implicit:
    r"""Differentiates the solution of a proximal problem: iMAML.

    The descent follows the gradient of `L(w) + (p / 2) |w - start|^2`, with p the `proximal`
    weight. Where it has arrived, `gradient L(w) + p (w - start) = 0`; the derivative of that
    equation, with H the Hessian of L at w, gives

        d w / d start = (I + H / p)^-1,    d w / d other = -(H + p I)^-1  d gradient L / d other.

    Exact only so far as the descent has converged. Memory does not grow with the steps.

    Attributes:
        proximal: Weight p of the pull to the start, > 0.
        iterations: Of conjugate gradients, always as many.
        damping: Added to p in the linear system, where H is not positive.

    References:
        Rajeswaran et al., Meta-Learning with Implicit Gradients, NeurIPS 2019, equation 6 and
        algorithm 2.
    """

    proximal: float = 1.0
    iterations: int = 10
    damping: float = 0.0

    def __post_init__(self):
        if not self.proximal > 0:
            raise ValueError(f"proximal must be > 0, got {self.proximal}.")
        if self.iterations < 1:
            raise ValueError(f"iterations must be >= 1, got {self.iterations}.")
        if self.damping < 0:
            raise ValueError(f"damping must be >= 0, got {self.damping}.")

    def solve(self, loss: Loss, descend: Descent, start: Any, *given: Any) -> tuple[Any, Any]:
        """Descends on the proximal problem and differentiates its solution."""

        def proximal_gradient(fast: Any, *given: Any) -> Any:
            pull = jax.tree.map(lambda w, first: self.proximal * (w - first), fast, start)
            return jax.tree.map(jnp.add, jax.grad(loss)(fast, *given), pull)

        end, rest = jax.lax.stop_gradient(descend(proximal_gradient))
        return self._attached(loss, end, start, given), rest

    def _attached(self, loss: Loss, end: Any, start: Any, given: Any) -> Any:
        """Returns `end`, with the derivative that the implicit equation gives it."""
        # What the loss closes over may be traced, and a `custom_vjp` takes arguments alone.
        loss, held = hoisted(loss, end, *given)
        given = (*given, held)
        real, others, join = real_leaves(given)
        # What else the loss depends on has its derivative through this, as usual: from the
        # `custom_vjp` below every task would hand back one of its own for what all tasks share.
        slope = jax.checkpoint(jax.grad(loss))(end, *given)

        @jax.custom_vjp
        def solution(end: Any, start: Any, slope: Any, real: list[Any], others: list[Any]) -> Any:
            del start, slope, real, others
            return end

        def forward(
            end: Any, start: Any, slope: Any, real: list[Any], others: list[Any]
        ) -> tuple[Any, Any]:
            del start, slope
            return end, (end, real, others)

        def back(residuals: Any, direction: Any) -> tuple[None, Any, Any, None, None]:
            end, real, others = residuals
            # The gradient's linearization is its own transpose: the Hessian is symmetric.
            gradient = jax.grad(loss)
            hessian = jax.linearize(lambda fast: gradient(fast, *join(real, others)), end)[1]
            weight = self.proximal + self.damping

            def system(v: Any) -> Any:
                return jax.tree.map(lambda h, x: h + weight * x, hessian(v), v)

            solved = _conjugate_gradients(system, direction, self.iterations)
            to_start = jax.tree.map(lambda x: self.proximal * x, solved)
            return None, to_start, jax.tree.map(jnp.negative, solved), None, None

        solution.defvjp(forward, back)
        return solution(end, start, slope, real, others)


def _conjugate_gradients(system: Any, target: Any, iterations: int) -> Any:
    """Solves `system(x) = target` in a fixed number of iterations."""

    def dot(a: Any, b: Any) -> jax.Array:
        return jnp.asarray(optax.tree.vdot(a, b))

    def along(a: Any, scale: jax.Array, b: Any) -> Any:
        return jax.tree.map(lambda x, y: x + scale * y, a, b)

    def ratio(a: jax.Array, b: jax.Array) -> jax.Array:
        # Once the residual is 0 it stays so: 0 / 0 is no further step.
        return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))

    def iterate(_: int, carry: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        x, residual, direction = carry
        image = system(direction)
        step = ratio(dot(residual, residual), dot(direction, image))
        after = along(residual, -step, image)
        growth = ratio(dot(after, after), dot(residual, residual))
        return along(x, step, direction), after, along(after, growth, direction)

    start = jax.tree.map(jnp.zeros_like, target), target, target
    return jax.lax.fori_loop(0, iterations, iterate, start)[0]


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

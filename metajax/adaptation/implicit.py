"""The adjoint that differentiates where the descent ends, not the way there."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from metajax.adaptation.adjoints import Descent, Loss
from metajax.adaptation.arguments import held_apart, real_leaves

__all__ = ["Implicit"]


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
        loss, held = held_apart(loss, end, *given)
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
    """Solves `system(x) = target`, in as many iterations whatever the residual."""

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

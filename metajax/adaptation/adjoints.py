"""How the meta-gradient passes through the inner loop: one argument chooses it.

An adjoint is a frozen dataclass with one method, `solve`. It is given the inner loss and the
descent, a function of the gradient it is to follow, and returns where the descent ends. What it
computes forward is the descent; what differs is what is differentiated through it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import jax

__all__ = ["Adjoint", "FirstOrder", "Reverse"]

Loss = Callable[..., jax.Array]
Gradient = Callable[..., Any]
Descent = Callable[[Gradient], tuple[Any, Any]]


class Adjoint(Protocol):
    """What `gradient_steps` asks of its `adjoint`."""

    def solve(self, loss: Loss, descend: Descent, start: Any, *given: Any) -> tuple[Any, Any]:
        """Descends, so that the result can be differentiated.

        Args:
            loss: `loss(fast, *given) -> []`, the inner loss.
            descend: `descend(gradient) -> (adapted, rest)`. It calls `gradient(fast, *given)`
                once a step, for the gradient of the loss with respect to `fast`.
            start: The parameters that the descent starts from.
            *given: What else the loss depends on: shared parameters, the support.

        Returns:
            What the descent returns.
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
        """Descends along gradients that nothing is differentiated through."""
        del start, given

        def constant_gradient(*args: Any) -> Any:
            return jax.lax.stop_gradient(jax.grad(loss)(*args))

        return descend(constant_gradient)

"""Meta-learning by the derivative of a solution, not of the way to it."""

from collections.abc import Callable
from typing import Unpack

import jax

from metajax.adaptation import Implicit, Optimizer, everything
from metajax.learners.maml import Options, maml
from metajax.types import MetaLearner, Model

__all__ = ["imaml"]


def imaml(
    model: Model,
    loss: Callable[..., jax.Array],
    *,
    inner: Optimizer,
    proximal: float = 1.0,
    iterations: int = 5,
    damping: float = 0.0,
    adapts: Callable[[str], bool] = everything,
    **options: Unpack[Options],
) -> MetaLearner:
    """Is `maml` towards `argmin_w L(w) + (proximal / 2) |w - params|^2`.

    However many steps lead there, the meta-gradient costs a few products with the Hessian and no
    memory. Exact so far as steps and iterations have converged. The weights of a user are always
    kept in full: an implicit equation has no factors.

    Args:
        model: The network.
        loss: `loss(scores, labels, *, where) -> []`, of the query.
        inner: Optimizer of the inner steps; its steps are differentiated at no point.
        proximal: Weight of the pull to the meta-parameters, > 0.
        iterations: Of conjugate gradients, at least 1.
        damping: Added to `proximal` in the linear system, where the loss is not convex.
        adapts: Predicate on the path of a parameter: does it adapt?
        **options: As in `maml`.

    Returns:
        A meta-learner.

    Raises:
        ValueError: If `proximal`, `iterations` or `damping` is out of range.

    References:
        Rajeswaran, Finn, Kakade and Levine, Meta-Learning with Implicit Gradients, NeurIPS 2019,
        algorithms 1 and 2. Differs: parameters that do not adapt have their gradient, too.
    """
    adjoint = Implicit(proximal, iterations, damping)
    return maml(model, loss, inner=inner, adapts=adapts, adjoint=adjoint, **options)

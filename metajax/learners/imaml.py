"""iMAML: meta-gradients by implicit differentiation of the inner problem."""

from typing import Unpack

from metajax.adaptation import Implicit
from metajax.learners.maml import Options, maml
from metajax.types import Choice, Loss, MetaLearner, Model, Optimizer

__all__ = ["imaml"]


def imaml(
    model: Model,
    loss: Loss,
    *,
    inner: Optimizer,
    proximal: float = 1.0,
    iterations: int = 5,
    damping: float = 0.0,
    adapts: Choice = "*",
    **options: Unpack[Options],
) -> MetaLearner:
    """Implicit MAML, whose inner problem is `argmin_w L(w) + (proximal / 2) |w - params|^2`.

    The meta-gradient costs a few products with the Hessian, and its memory does not grow with the
    number of steps. It is exact once steps and iterations have converged. The weights of a user
    are always kept in full.

    Args:
        model: The network.
        loss: `loss(scores, labels, *, where) -> []`, of the query.
        inner: Optimizer of the inner steps; its steps are differentiated at no point.
        proximal: Weight of the pull to the meta-parameters, > 0.
        iterations: Of conjugate gradients, at least 1.
        damping: Added to `proximal` in the linear system, where the loss is not convex.
        adapts: The parameters that adapt: patterns of paths or a predicate.
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

"""Adaptation by a few steps of an optimizer on the user's support."""

from collections.abc import Callable
from typing import Any

import jax

from metajax.adaptation.adjoints import Adjoint
from metajax.adaptation.inner_loop import InnerLoop, Optimizer, inner_loop
from metajax.adaptation.partition import everything
from metajax.adaptation.plan import Form
from metajax.types import Adaptation, Examples, Params

__all__ = ["gradient_steps", "served_by"]


def gradient_steps(
    loss_fn: Callable[[Params, Examples], jax.Array],
    optimizer: Optimizer,
    steps: int,
    *,
    predict: Callable[[Params, Any], jax.Array],
    adapts: Callable[[str], bool] = everything,
    adjoint: Adjoint | None = None,
    form: Form = "auto",
) -> Adaptation:
    """Adapts by `steps` optimizer steps on the support loss, from the meta-parameters.

    An empty support has loss 0 and gradient 0: an optimizer that stands still at zero gradient
    (SGD, momentum, Adam; not one with weight decay) then gives the zero-shot answer.

    Args:
        loss_fn: `loss_fn(params, examples) -> []`, the inner loss of one task. It must ignore
            masked examples.
        optimizer: Any Optax optimizer; its state starts anew for every task. Or a function of the
            parameters that returns one, for rates that are learned (see `learned_rates`).
        steps: Number of inner steps, at least 1.
        predict: `predict(params, inputs) -> scores [N]`.
        adapts: Predicate on the path of a parameter (`predictor/layer_0/kernel`): does it adapt?
            The others are shared and never get a task axis.
        adjoint: How the meta-gradient passes through the steps; None means `Reverse()`.
        form: How a user's weights are kept. "factored": the weights of Linen's dense and
            embedding layers as shared values and a low-rank change, wherever that is exact;
            "plain": every adapted leaf in full; "auto": whichever is cheaper, weight by weight.
            The results differ by rounding alone.

    Returns:
        An adaptation whose adapted state has the shape of the parameters: an adapted leaf is its
        value or a `LowRank` change, the others are None.

    Raises:
        ValueError: If `steps` < 1, `form` is no form, or the optimizer cannot be differentiated
            at zero gradient and the adjoint does so.

    References:
        Finn, Abbeel and Levine, Model-Agnostic Meta-Learning, ICML 2017, algorithm 1.
    """
    loop = inner_loop(
        loss_fn, optimizer, steps, predict=predict, adapts=adapts, adjoint=adjoint, form=form
    )
    return served_by(loop)


def served_by(loop: InnerLoop) -> Adaptation:
    """Returns an inner loop as an adaptation, without its extras."""

    def adapt(params: Params, support: Examples, key: jax.Array | None = None) -> Any:
        del key
        return loop.run(params, support)[0]

    return Adaptation(adapt, loop.predict)

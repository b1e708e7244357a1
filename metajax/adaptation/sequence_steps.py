"""Gradient steps on the prediction of each entry of a sequence from those before it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metajax.adaptation.adjoints import Adjoint
from metajax.adaptation.factored.plan import Form
from metajax.adaptation.gradient_steps import gradient_steps
from metajax.losses import blanked, with_mask
from metajax.types import Adaptation, Choice, Examples, InHistory, Loss, Optimizer, Params

__all__ = ["Read", "sequence_steps"]


class Read(NamedTuple):
    """Adapted weights and history of a user."""

    weights: Any
    """Their weights, as `gradient_steps` keeps them."""
    history: Examples
    """Their interactions, oldest first, padding last."""


def sequence_steps(
    apply: Callable[[Params, InHistory], jax.Array],
    loss: Loss,
    optimizer: Optimizer,
    steps: int,
    *,
    adapts: Choice = "*",
    adjoint: Adjoint | None = None,
    form: Form = "auto",
) -> Adaptation:
    """Adapts by optimizer steps on the loss of each interaction given those before it.

    The rows of the support are in order of time. An interaction is predicted from the earlier
    ones alone, else a network that reads the labels would have nothing left to learn; a candidate
    is predicted from all of them. An empty support is an empty history and leaves the weights.

    Args:
        apply: `apply(params, in_history) -> scores [N]`, for instance of a
            `methods.sequential.SequenceNetwork`.
        loss: `loss(scores, labels, *, where) -> []`, of the support.
        optimizer: As in `gradient_steps`.
        steps: Number of inner steps, at least 1.
        adapts: The parameters that adapt: patterns of paths or a predicate. The others are shared.
        adjoint: Differentiation through the steps.
        form: Storage of a user's weights.

    Returns:
        An adaptation whose adapted state is `Read`. The order of the support's rows counts, the
        place of padding between them does not.

    Raises:
        ValueError: As `gradient_steps`.
    """
    masked_loss = with_mask(loss)

    def inner_loss(params: Params, history: Examples) -> jax.Array:
        before = jnp.arange(history.mask.shape[0])
        scores = apply(params, InHistory(history, before, history.inputs))
        return masked_loss(scores, history.labels, where=history.mask)

    by_steps = gradient_steps(
        inner_loss, optimizer, steps, predict=apply, adapts=adapts, adjoint=adjoint, form=form
    )

    def adapt(params: Params, support: Examples, key: jax.Array | None = None) -> Read:
        history = _padding_last(blanked(support))
        return Read(by_steps.adapt(params, history, key), history)

    def predict(params: Params, adapted: Read, inputs: Any) -> jax.Array:
        rows = jax.tree.leaves(inputs)[0].shape[0]
        seen = jnp.full(rows, adapted.history.mask.shape[0])
        return by_steps.predict(params, adapted.weights, InHistory(adapted.history, seen, inputs))

    return Adaptation(adapt, predict)


def _padding_last(examples: Examples) -> Examples:
    """Moves padding to the end; the order of examples is kept."""
    order = jnp.argsort(~examples.mask, stable=True)
    return jax.tree.map(lambda leaf: leaf[order], examples)

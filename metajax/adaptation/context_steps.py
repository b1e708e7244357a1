"""Fast context adaptation: inner steps on an input vector, with shared weights."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from metajax.adaptation.adjoints import Adjoint
from metajax.adaptation.gradient_steps import gradient_steps
from metajax.adaptation.partition import matching
from metajax.losses import on_examples
from metajax.types import Adaptation, Apply, Examples, Inputs, Loss, Optimizer, Params

__all__ = ["append_context", "context_steps"]


def append_context(inputs: Any, context: jax.Array) -> Any:
    """Appends a context to the features of the user, or to an array of features.

    Args:
        inputs: `Inputs`, or an array `[N, D]`.
        context: `[C]`, the same for every row.

    Returns:
        Inputs with user features `[N, Du + C]`, or an array `[N, D + C]`.

    Raises:
        TypeError: If the inputs are something else.
    """
    features = inputs.user_features if isinstance(inputs, Inputs) else inputs
    if getattr(features, "ndim", None) != 2:
        raise TypeError(
            f"inputs must be Inputs or an array [N, D], got {type(inputs).__name__}; "
            "give join for others."
        )
    rows = jnp.broadcast_to(context, (features.shape[0], context.shape[0]))
    joined = jnp.concatenate([features, rows.astype(features.dtype)], axis=1)
    return inputs._replace(user_features=joined) if isinstance(inputs, Inputs) else joined


def context_steps(
    apply: Apply,
    loss: Loss,
    optimizer: Optimizer,
    steps: int,
    *,
    size: int,
    join: Callable[[Any, jax.Array], Any] = append_context,
    adjoint: Adjoint | None = None,
) -> Adaptation:
    """Adapts a context vector by gradient steps from zero; all users share the weights.

    A user's state is `size` numbers, however large the network. Parameters have no task axis, so
    there is nothing to factor.

    Args:
        apply: `apply(params, inputs) -> scores [N]`, of inputs that have a context.
        loss: `loss(scores, labels, *, where) -> []`, of the support.
        optimizer: Any Optax optimizer, or a function of `{"network": ..., "context": ...}`.
        steps: Number of inner steps, at least 1.
        size: C, the size of the context, at least 1.
        join: `join(inputs, context [C]) -> inputs`.
        adjoint: As in `gradient_steps`.

    Returns:
        An adaptation whose adapted state is the context `[C]`.

    Raises:
        ValueError: If `size` or `steps` < 1, or as `gradient_steps`.

    References:
        Zintgraf, Shiarlis, Kurin, Hofmann and Whiteson, Fast Context Adaptation via
        Meta-Learning, ICML 2019, algorithm 1 and section 3.3 (a context starts at 0).
    """
    if size < 1:
        raise ValueError(f"size of the context must be >= 1, got {size}.")

    def apply_with(params: Params, inputs: Any) -> jax.Array:
        return apply(params["network"], join(inputs, params["context"]))

    descent = gradient_steps(
        on_examples(apply_with, loss),
        optimizer,
        steps,
        predict=apply_with,
        adapts=matching("context"),
        adjoint=adjoint,
        form="plain",
    )

    def adapt(params: Params, support: Examples, key: jax.Array | None = None) -> jax.Array:
        blank = {"network": params, "context": jnp.zeros(size)}
        return descent.adapt(blank, support, key)["context"]

    def predict(params: Params, context: jax.Array, inputs: Any) -> jax.Array:
        return apply_with({"network": params, "context": context}, inputs)

    return Adaptation(adapt, predict)

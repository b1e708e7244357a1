"""CAVIA: shared weights and an adapted context vector for each user."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from metajax.adaptation import Adjoint, append_context, context_steps
from metajax.learners.outer import meta_learner
from metajax.types import Loss, MetaLearner, Model, Optimizer, check_model

__all__ = ["cavia"]


def cavia(
    model: Model,
    loss: Loss,
    *,
    inner: Optimizer,
    outer: optax.GradientTransformation,
    size: int = 8,
    steps: int = 1,
    join: Callable[[Any, jax.Array], Any] = append_context,
    inner_loss: Loss | None = None,
    adjoint: Adjoint | None = None,
    microbatch: int | None = None,
) -> MetaLearner:
    """CAVIA: inner steps adapt a context vector, an input of the network.

    Args:
        model: The network; it sees inputs that have a context.
        loss: `loss(scores, labels, *, where) -> []`, of the query.
        inner: Optimizer of the context.
        outer: Optax optimizer of the network.
        size: C, the size of the context, at least 1.
        steps: Number of inner steps, at least 1.
        join: `join(inputs, context [C]) -> inputs`; by default the context follows the features
            of the user.
        inner_loss: The loss of the support; None means `loss`.
        adjoint: Differentiation through the steps; None means `Reverse()`.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner.

    Raises:
        ValueError: If `size` or `steps` < 1.

    Example:
        >>> from metajax import losses, types
        >>> line = types.Model(  # scores slope * x + context
        ...     init=lambda key, x: jnp.ones(2), apply=lambda w, x: x @ w
        ... )
        >>> learner = cavia(
        ...     line, losses.squared_error, inner=optax.sgd(0.5), outer=optax.sgd(0.1), size=1
        ... )
        >>> seen = types.Examples(jnp.array([[2.0]]), jnp.array([5.0]), jnp.array([True]))
        >>> learner.adapt(jnp.ones(2), seen).tolist()  # 0 - 0.5 * 2 * (2 - 5)
        [3.0]

    References:
        Zintgraf et al., Fast Context Adaptation via Meta-Learning, ICML 2019. Differs: the
        context is an input like the others, of any network; the paper adds it to the first
        layer of a perceptron, which is the same, or modulates the filters of a convolution.
    """
    check_model(model)
    adaptation = context_steps(
        model.apply, inner_loss or loss, inner, steps, size=size, join=join, adjoint=adjoint
    )
    widened = model._replace(init=lambda key, x: model.init(key, join(x, jnp.zeros(size))))
    return meta_learner(widened, adaptation, loss, outer, microbatch=microbatch)

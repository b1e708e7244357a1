"""Reptile: meta-gradients without differentiation through the inner loop."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from metajax.adaptation import (
    FirstOrder,
    Form,
    as_adaptation,
    inner_loop,
    inner_product,
    is_low_rank,
)
from metajax.learners.outer import learner_with
from metajax.losses import on_examples
from metajax.types import Choice, Loss, MetaLearner, Model, Optimizer, Params, Task

__all__ = ["reptile"]


def reptile(
    model: Model,
    loss: Loss,
    *,
    inner: Optimizer,
    outer: optax.GradientTransformation,
    steps: int = 5,
    adapts: Choice = "*",
    inner_loss: Loss | None = None,
    form: Form = "auto",
    microbatch: int | None = None,
) -> MetaLearner:
    """Reptile, whose meta-gradient is the mean of `params - adapted` over tasks.

    The inner loop runs on support and query of a training task together. With `steps=1` that is
    joint training; an initialisation is learned with several. Parameters that do not adapt have no
    meta-gradient and keep their values. In the factored form no weights of a user are formed here
    either, as the sum of all users' changes is one product.

    Args:
        model: The network.
        loss: `loss(scores, labels, *, where) -> []`; `update` reports that of the query after
            the descent on support and query.
        inner: Optimizer of the inner steps; any will do.
        outer: Optax optimizer of the meta-parameters; `optax.sgd(e)` moves them by the fraction e
            of the way, as the paper does.
        steps: Number of inner steps, at least 1.
        adapts: Predicate on the path of a parameter: does it adapt, and learn?
        inner_loss: The loss of the support; None means `loss`.
        form: Storage of a user's weights, see `gradient_steps`.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner.

    Raises:
        ValueError: If `steps` < 1.

    Example:
        >>> from metajax import losses, types
        >>> line = types.Model(init=lambda key, x: jnp.zeros(()), apply=lambda w, x: w * x)
        >>> learner = reptile(
        ...     line, losses.squared_error, inner=optax.sgd(0.25), outer=optax.sgd(0.5), steps=2
        ... )
        >>> one = types.Examples(jnp.ones((1, 1)), jnp.full((1, 1), 4.0), jnp.ones((1, 1), bool))
        >>> state = learner.init(jax.random.key(0), types.Task(one, one))
        >>> state, _ = learner.update(state, types.Task(one, one))
        >>> float(state.params)  # two steps, each half of the way to 4, lead to 3
        1.5

    References:
        Nichol, Achiam and Schulman, On First-Order Meta-Learning Algorithms, arXiv 1803.02999,
        algorithm 2. Differs: an inner step sees the whole task, not a minibatch of it.
    """
    loss_fn = on_examples(model.apply, inner_loss or loss)
    loop = inner_loop(
        loss_fn,
        inner,
        steps,
        predict=model.apply,
        adapts=adapts,
        adjoint=FirstOrder(),
        form=form,
    )

    def task_loss(params: Params, task: Task, key: jax.Array | None, step: jax.Array) -> jax.Array:
        del key, step
        still = jax.lax.stop_gradient(params)
        seen = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), task.support, task.query)
        adapted, _, _ = loop.run(still, seen)
        value = on_examples(partial(loop.predict, still), loss)(adapted, task.query)
        # The gradient of -<params, adapted - params>, the second factor constant, is Reptile's.
        surrogate = -_along(params, jax.lax.stop_gradient(adapted))
        return value + surrogate - jax.lax.stop_gradient(surrogate)

    return learner_with({0: task_loss}, model, as_adaptation(loop), outer, microbatch=microbatch)


def _along(params: Params, adapted: Any) -> jax.Array:
    """Returns the inner product of the parameters with the change, which is taken as constant."""
    leaves, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, params))
    total = jnp.zeros(())
    for leaf, value in zip(leaves, structure.flatten_up_to(adapted), strict=True):
        if is_low_rank(value):
            total += inner_product(value, leaf)
        elif value is not None:
            total += jnp.sum(leaf * (value - jax.lax.stop_gradient(leaf)))
    return total

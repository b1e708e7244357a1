"""Elastic weight consolidation against forgetting of a first kind of task."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from metajax.learners.outer import checked_tasks, query_loss
from metajax.types import Adaptation, Loss, MetaLearner, Params, Task

__all__ = ["consolidated", "ewc_penalty", "fisher_information"]


def fisher_information(
    adaptation: Adaptation | MetaLearner,
    loss: Loss,
    params: Params,
    tasks: Task,
) -> Params:
    """Diagonal of the empirical Fisher information of the meta-loss.

    The convention: one task is one observation. Of each task the gradient of its query loss is
    taken, through adaptation, and squared; the squares are averaged over the tasks that have a
    query. That is the diagonal of the empirical Fisher information, of labels as they were
    observed, if the loss is a negative log-likelihood: a squared error is one up to a factor,
    which `weight` may take up. Where every task is fitted perfectly it is 0.

    Args:
        adaptation: The adaptation and prediction: any adaptation or meta-learner.
        loss: `loss(scores, labels, *, where) -> []`, of one task's query.
        params: The parameters at which gradients are taken, trained on the first kind of task.
        tasks: A batch of the first kind of any size: one task is in memory at a time.

    Returns:
        The mean squares, in the shape of the parameters.
    """
    tasks = checked_tasks(tasks)
    task_loss = query_loss(adaptation, loss)

    def add(total: Any, task: Task) -> tuple[Any, None]:
        gradient = jax.grad(task_loss)(params, task, None, jnp.zeros((), jnp.int32))
        judged = task.query.mask.any()
        return jax.tree.map(lambda t, g: t + jnp.where(judged, g * g, 0), total, gradient), None

    total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), tasks)
    count = jnp.maximum(jnp.sum(tasks.query.mask.any(axis=1)), 1)
    return jax.tree.map(lambda t: t / count, total)


def ewc_penalty(params: Params, anchor: Params, fisher: Params, weight: float) -> jax.Array:
    """Computes `(weight / 2) sum_j fisher_j (params_j - anchor_j)^2`.

    Args:
        params: The parameters now.
        anchor: Parameters trained on the first kind of task.
        fisher: From `fisher_information`.
        weight: Weight of the penalty, >= 0.

    Returns:
        `[]` the penalty.

    Example:
        >>> ewc_penalty(jnp.array([3.0, 1.0]), jnp.ones(2), jnp.array([0.5, 9.0]), 2.0).item()
        2.0

    References:
        Kirkpatrick et al., Overcoming catastrophic forgetting in neural networks, PNAS 114(13),
        2017, equation 3.
    """
    terms = jax.tree.map(lambda p, a, f: jnp.sum(f * jnp.square(p - a)), params, anchor, fisher)
    return jnp.asarray(weight / 2 * optax.tree.sum(terms))


def consolidated(
    outer: optax.GradientTransformation, anchor: Params, fisher: Params, weight: float
) -> optax.GradientTransformation:
    """Outer optimizer of a loss with the penalty added, the `outer` of any learner.

    A gradient of a sum is the sum of the gradients, so what the outer optimizer sees is exactly
    that of `loss + ewc_penalty(...)`. The loss that `update` reports is still the loss alone.

    Args:
        outer: The outer optimizer.
        anchor: As in `ewc_penalty`.
        fisher: As in `ewc_penalty`.
        weight: As in `ewc_penalty`.

    Returns:
        The outer optimizer of the penalised loss.

    Raises:
        ValueError: If `weight` is negative or not finite.
    """
    if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f"weight must be finite and >= 0, got {weight}.")

    def update(updates: Any, state: Any, params: Params | None = None) -> tuple[Any, Any]:
        pull = jax.grad(ewc_penalty)(params, anchor, fisher, weight)
        return jax.tree.map(jnp.add, updates, pull), state

    return optax.chain(
        optax.GradientTransformation(lambda params: optax.EmptyState(), update), outer
    )

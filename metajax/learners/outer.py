"""The outer update: differentiate the query loss through adaptation, step with Optax."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from metajax.base import Adaptation, MetaLearner, MetaState, Model, Params, Task
from metajax.learners.microbatch import accumulated
from metajax.losses import on_examples
from metajax.models import SupportModel

__all__ = ["meta_learner"]


def meta_learner(
    model: Model | SupportModel,
    adaptation: Adaptation,
    loss: Callable[..., jax.Array],
    optimizer: optax.GradientTransformation,
    *,
    microbatch: int | None = None,
) -> MetaLearner:
    """Trains any adaptation end to end.

    The meta-loss is the mean, over the tasks that have a query, of each task's query loss.

    Args:
        model: Gives the parameters' first values.
        adaptation: Maps parameters and a support to predictions.
        loss: `loss(scores, labels, *, where) -> []`, of one task's query.
        optimizer: The outer optimizer, schedule and clipping included.
        microbatch: Tasks that are in memory at once; None means all of an update. The gradient
            is the same.

    Returns:
        A learner whose `update` reports `loss` and `gradient_norm`, both `[]`.

    Raises:
        ValueError: If `microbatch` < 1.
    """

    def init(key: jax.Array, tasks: Task) -> MetaState:
        one = jax.tree.map(lambda leaf: leaf[0], tasks.support.inputs)
        params = model.init(key, one)
        return MetaState(params, optimizer.init(params), jnp.zeros((), jnp.int32))

    def query_loss(params: Params, task: Task, key: jax.Array | None) -> jax.Array:
        adapted = adaptation.adapt(params, task.support, key)
        predict = partial(adaptation.predict, params)
        return on_examples(predict, loss)(adapted, task.query)

    def weighted_loss(params: Params, rows: Any, weights: jax.Array) -> jax.Array:
        losses = jax.vmap(query_loss, in_axes=(None, 0, 0))(params, *rows)
        return jnp.sum(jnp.where(weights > 0, weights * losses, 0))

    gradient_of = jax.value_and_grad(weighted_loss)
    if microbatch is not None:
        gradient_of = accumulated(gradient_of, microbatch)

    def update(
        state: MetaState, tasks: Task, key: jax.Array | None = None
    ) -> tuple[MetaState, dict[str, jax.Array]]:
        judged = tasks.query.mask.any(axis=1)
        keys = None if key is None else jax.random.split(key, len(judged))
        weights = judged / jnp.maximum(jnp.sum(judged), 1)
        value, gradient = gradient_of(state.params, (tasks, keys), weights)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": value, "gradient_norm": optax.tree.norm(gradient)}
        return MetaState(params, opt_state, state.step + 1), metrics

    return MetaLearner(init, update, *adaptation)

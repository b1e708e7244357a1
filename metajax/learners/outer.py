"""The outer update: differentiate the query loss through adaptation, step with Optax."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax

from metajax.base import Adaptation, MetaLearner, MetaState, Model, Params, Task
from metajax.losses import masked_mean, on_examples

__all__ = ["meta_learner"]


def meta_learner(
    model: Model,
    adaptation: Adaptation,
    loss: Callable[..., jax.Array],
    optimizer: optax.GradientTransformation,
) -> MetaLearner:
    """Trains any adaptation end to end.

    The meta-loss is the mean, over the tasks that have a query, of each task's query loss.

    Args:
        model: Gives the parameters' first values.
        adaptation: Maps parameters and a support to predictions.
        loss: `loss(scores, labels, *, where) -> []`, of one task's query.
        optimizer: The outer optimizer, schedule and clipping included.

    Returns:
        A learner whose `update` reports `loss` and `gradient_norm`, both `[]`.
    """

    def init(key: jax.Array, tasks: Task) -> MetaState:
        one = jax.tree.map(lambda leaf: leaf[0], tasks.support.inputs)
        params = model.init(key, one)
        return MetaState(params, optimizer.init(params), jnp.zeros((), jnp.int32))

    def query_loss(params: Params, task: Task, key: jax.Array | None) -> jax.Array:
        adapted = adaptation.adapt(params, task.support, key)
        predict = partial(adaptation.predict, params)
        return on_examples(predict, loss)(adapted, task.query)

    def meta_loss(params: Params, tasks: Task, key: jax.Array | None) -> jax.Array:
        keys = None if key is None else jax.random.split(key, tasks.query.mask.shape[0])
        key_axis = None if key is None else 0
        losses = jax.vmap(query_loss, in_axes=(None, 0, key_axis))(params, tasks, keys)
        return masked_mean(losses, tasks.query.mask.any(axis=1))

    def update(
        state: MetaState, tasks: Task, key: jax.Array | None = None
    ) -> tuple[MetaState, dict[str, jax.Array]]:
        value, gradient = jax.value_and_grad(meta_loss)(state.params, tasks, key)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": value, "gradient_norm": optax.tree.norm(gradient)}
        return MetaState(params, opt_state, state.step + 1), metrics

    return MetaLearner(init, update, adaptation.adapt, adaptation.predict)

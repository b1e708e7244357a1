"""Outer update: the gradient of the mean task loss, and a step of an Optax optimizer."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jax.sharding import PartitionSpec

from metajax.distributed import TASK_AXIS
from metajax.losses import check_shapes, on_examples
from metajax.types import (
    Adaptation,
    Examples,
    Loss,
    MetaLearner,
    MetaState,
    Model,
    Params,
    SupportModel,
    Task,
    check_model,
)

__all__ = ["TaskLoss", "accumulated", "learner_with", "meta_learner", "query_loss"]


TaskLoss = Callable[[Params, Task, jax.Array | None, jax.Array], jax.Array]
"""`task_loss(params, task, key, step) -> []`: what one task contributes to the meta-loss. `key` is
the task's own or None, `step` the number of updates made."""


def meta_learner(
    model: Model | SupportModel,
    adaptation: Adaptation,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    microbatch: int | None = None,
) -> MetaLearner:
    """Meta-learner of any adaptation, trained end to end.

    The meta-loss is the mean, over the tasks that have a query, of each task's query loss.

    Args:
        model: Initialises the parameters.
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
    return learner_with(
        {0: query_loss(adaptation, loss)}, model, adaptation, optimizer, microbatch=microbatch
    )


def checked_tasks(tasks: Task) -> Task:
    """Checks the shapes of a batch of tasks, and replaces a mask of None by one that keeps all.

    Args:
        tasks: T tasks.

    Returns:
        The same tasks.

    Raises:
        ValueError: If labels and mask are not `[T, N]`, a leaf of the inputs does not lead with
            `[T, N]`, or support and query differ in T. N may differ.
    """

    def checked(name: str, part: Examples) -> Examples:
        shape = jnp.shape(part.labels)
        if len(shape) != 2:
            raise ValueError(f"labels of the {name} must have the shape [T, N], got {shape}.")
        mask = jnp.ones(shape, bool) if part.mask is None else part.mask
        check_shapes(**{f"labels of the {name}": part.labels, f"mask of the {name}": mask})
        for leaf in jax.tree.leaves(part.inputs):
            if jnp.shape(leaf)[:2] != shape:
                raise ValueError(
                    f"inputs of the {name} must lead with the shape of its labels, {shape}, "
                    f"got {jnp.shape(leaf)}."
                )
        return part._replace(mask=mask)

    support, query = checked("support", tasks.support), checked("query", tasks.query)
    if len(support.mask) != len(query.mask):
        raise ValueError(
            "support and query must be of as many tasks, got "
            f"{len(support.mask)} and {len(query.mask)}."
        )
    return Task(support, query)


def query_loss(adaptation: Adaptation | MetaLearner, loss: Loss) -> TaskLoss:
    """Task loss of most learners: the loss of the query after adaptation to the support.

    Args:
        adaptation: The adaptation and prediction.
        loss: `loss(scores, labels, *, where) -> []`.

    Returns:
        The task loss.
    """

    def task_loss(params: Params, task: Task, key: jax.Array | None, step: jax.Array) -> jax.Array:
        del step
        adapted = adaptation.adapt(params, task.support, key)
        predict = partial(adaptation.predict, params)
        return on_examples(predict, loss)(adapted, task.query)

    return task_loss


def learner_with(
    task_losses: Mapping[int, TaskLoss],
    model: Model | SupportModel,
    adaptation: Adaptation,
    optimizer: optax.GradientTransformation,
    *,
    microbatch: int | None = None,
    shared: Callable[[Params, Task], Any] | None = None,
) -> MetaLearner:
    """Meta-learner with its own task losses, which may change during training.

    Args:
        task_losses: Task losses by the number of updates from which each holds, the first from 0.
            The update is one program of which one loss runs at a time.
        model: As in `meta_learner`.
        adaptation: The adaptation that serves a user.
        optimizer: As in `meta_learner`.
        microbatch: As in `meta_learner`.
        shared: `shared(params, tasks)` returns arrays of floats that task losses take in the place
            of the parameters: computed and differentiated once an update, whatever the number of
            tasks and microbatches. None means the parameters themselves.

    Returns:
        As `meta_learner`.

    Raises:
        ValueError: If `microbatch` < 1.
    """

    def gradient_by(task_loss: TaskLoss) -> Callable[..., tuple[jax.Array, Params]]:
        def weighted(params: Params, rows: Any, weights: jax.Array, step: jax.Array) -> jax.Array:
            tasks, keys = rows
            values = jax.vmap(task_loss, in_axes=(None, 0, 0, None))(params, tasks, keys, step)
            return jnp.sum(jnp.where(weights > 0, weights * values, 0))

        gradient_of = jax.value_and_grad(weighted)
        if microbatch is not None:
            gradient_of = accumulated(gradient_of, microbatch)
        return _summed_once(gradient_of if shared is None else _through(shared, gradient_of))

    check_model(model, SupportModel if hasattr(model, "decode") else Model)
    starts = sorted(task_losses)
    gradients = [gradient_by(task_losses[start]) for start in starts]

    def init(key: jax.Array, tasks: Task) -> MetaState:
        one = jax.tree.map(lambda leaf: leaf[0], checked_tasks(tasks).support.inputs)
        params = model.init(key, one)
        return MetaState(params, optimizer.init(params), jnp.zeros((), jnp.int32))

    def update(
        state: MetaState, tasks: Task, key: jax.Array | None = None
    ) -> tuple[MetaState, dict[str, jax.Array]]:
        tasks = checked_tasks(tasks)
        judged = tasks.query.mask.any(axis=1)
        keys = None if key is None else jax.random.split(key, len(judged))
        weights = judged / jnp.maximum(jnp.sum(judged), 1)
        phase = sum(state.step >= start for start in starts[1:])
        # The switch is outside of the differentiation: the residuals that one loss saves for
        # its backward pass cost another nothing.
        given = state.params, (tasks, keys), weights, state.step
        value, gradient = jax.lax.switch(phase, gradients, *given)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": value, "gradient_norm": optax.tree.norm(gradient)}
        return MetaState(params, opt_state, state.step + 1), metrics

    def with_outer(
        change: Callable[[optax.GradientTransformation], optax.GradientTransformation],
    ) -> MetaLearner:
        return learner_with(
            task_losses, model, adaptation, change(optimizer), microbatch=microbatch, shared=shared
        )

    return MetaLearner(init, update, adaptation, with_outer)


def _summed_once(
    gradient_of: Callable[..., tuple[jax.Array, Params]],
) -> Callable[..., tuple[jax.Array, Params]]:
    """Sums over the devices of the mesh that is set, by `jax.set_mesh`, in one exchange.

    The compiler would sum each parameter by itself, and between processes every sum waits for the
    others to be there. Without a mesh of the axis `task` nothing is changed.
    """

    def summed(params: Params, *given: Any) -> tuple[jax.Array, Params]:
        mesh = jax.sharding.get_abstract_mesh()
        if mesh.shape.get(TASK_AXIS, 1) == 1:
            return gradient_of(params, *given)

        def own(params: Params, *given: Any) -> tuple[jax.Array, Params]:
            found, unravel = ravel_pytree(gradient_of(params, *given))
            return unravel(jax.lax.psum(found, TASK_AXIS))

        everywhere, spread = PartitionSpec(), PartitionSpec(TASK_AXIS)
        specs = (everywhere, spread, spread, everywhere)
        # Unchecked, so that differentiation within stays that of each device's own tasks.
        return jax.shard_map(own, mesh=mesh, in_specs=specs, out_specs=everywhere, check_vma=False)(
            params, *given
        )

    return summed


def _through(
    shared: Callable[[Params, Task], Any], gradient_of: Callable[..., tuple[jax.Array, Any]]
) -> Callable[..., tuple[jax.Array, Params]]:
    """Pulls a gradient of shared arrays back to the parameters."""

    def gradient(params: Params, rows: Any, *given: Any) -> tuple[jax.Array, Params]:
        seen, back = jax.vjp(lambda params: shared(params, rows[0]), params)
        value, pulled = gradient_of(seen, rows, *given)
        return value, back(pulled)[0]

    return gradient


def accumulated(
    value_and_grad: Callable[..., tuple[jax.Array, Params]], size: int
) -> Callable[..., tuple[jax.Array, Params]]:
    """Sums a value and its gradient over chunks of tasks, one chunk at a time.

    The loop lies outside of the differentiation, so nothing of a chunk outlives it: memory is
    that of `size` tasks, whatever their number.

    Args:
        value_and_grad: `value_and_grad(params, rows, weights, *given) -> (value [], gradient)`, a
            sum over rows that each count by their weight.
        size: Tasks a chunk, at least 1.

    Returns:
        A function of the same arguments and results. Leaves of `rows` and `weights` lead with T;
        a ragged last chunk is filled with rows of weight 0.

    Raises:
        ValueError: If `size` < 1.
    """
    if size < 1:
        raise ValueError(f"microbatch must be >= 1, got {size}.")

    def summed(
        params: Params, rows: Any, weights: jax.Array, *given: Any
    ) -> tuple[jax.Array, Params]:
        count = len(weights)
        chunks = -(-count // size)
        index = jnp.arange(chunks * size).reshape(chunks, size)

        def add(total: Any, at: jax.Array) -> tuple[Any, None]:
            # Filled with copies, not zeros: on real rows every model is finite.
            row = jnp.minimum(at, count - 1)
            chosen = jax.tree.map(lambda leaf: leaf[row], rows)
            kept = jnp.where(at < count, weights[row], 0)
            found = value_and_grad(params, chosen, kept, *given)
            return jax.tree.map(jnp.add, total, found), None

        shapes = jax.eval_shape(value_and_grad, params, rows, weights, *given)
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.scan(add, nothing, index)[0]

    return summed

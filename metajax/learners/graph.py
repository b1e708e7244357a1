"""Meta-learners on a graph, with one propagation an update for all tasks."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from metajax.learners.frozen import fixed
from metajax.learners.outer import TaskLoss, learner_with, query_loss
from metajax.networks import GraphModel
from metajax.types import (
    Adaptation,
    Examples,
    MemberInputs,
    MetaLearner,
    Model,
    Params,
    Task,
)

__all__ = ["graph_learner", "new_user_learner"]


def graph_learner(
    model: GraphModel,
    rule: Adaptation,
    task_loss: TaskLoss,
    shared: Callable[[Params, Task], Any],
    *,
    outer: optax.GradientTransformation,
    microbatch: int | None = None,
) -> MetaLearner:
    """Trains on shared vectors of the nodes; the learner's adaptation propagates by itself.

    Args:
        model: The network on the graph.
        rule: Adaptation whose parameters are what `model.propagate` returns.
        task_loss: As in `learner_with`, of what `shared` returns.
        shared: `shared(params, tasks)` propagates, once for all tasks of an update.
        outer: Optax optimizer of the parameters; those that are `model.fixed` stay as they are.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner, with `predict_variance` if the rule has it.
    """

    def adapt(params: Params, support: Examples, key: jax.Array | None = None) -> Any:
        return rule.adapt(model.propagate(params), support, key)

    def predict(params: Params, adapted: Any, inputs: Any) -> jax.Array:
        return rule.predict(model.propagate(params), adapted, inputs)

    def predict_variance(params: Params, adapted: Any, inputs: Any) -> jax.Array:
        variance: Any = rule.predict_variance
        return variance(model.propagate(params), adapted, inputs)

    return learner_with(
        {0: task_loss},
        Model(model.init, model.apply),
        Adaptation(adapt, predict, predict_variance if rule.predict_variance else None),
        fixed(outer, *model.fixed),
        microbatch=microbatch,
        shared=shared,
    )


def new_user_learner(
    model: GraphModel,
    rule: Adaptation,
    loss: Callable[..., jax.Array],
    *,
    outer: optax.GradientTransformation,
    microbatch: int | None = None,
) -> MetaLearner:
    """Trains each task as that of a user who is not in the graph.

    Where tasks carry the user's index (`MemberInputs`), the edges of all users of an update are
    left out of the graph in it.

    Args: as in `graph_learner`, and
        loss: `loss(scores, labels, *, where) -> []`, of the query.

    Returns:
        A meta-learner, with `predict_variance` if the rule has it.
    """

    def shared(params: Params, tasks: Task) -> Any:
        inputs = tasks.query.inputs
        # A user is the same in every row of a query.
        users = inputs.user[:, 0] if isinstance(inputs, MemberInputs) else None
        return model.propagate(params, without=users)

    task_loss = query_loss(rule, loss)
    return graph_learner(model, rule, task_loss, shared, outer=outer, microbatch=microbatch)

"""Recipes on the graph of users and items: propagated once an update, whatever the tasks."""

import math
from collections.abc import Callable
from typing import Any

import jax
import optax

from metajax.adaptation import neighbourhood, ridge_head
from metajax.learners.frozen import fixed
from metajax.learners.outer import TaskLoss, learner_with, query_loss
from metajax.losses import on_examples
from metajax.networks import GraphModel, at_items
from metajax.types import (
    Adaptation,
    Examples,
    MemberInputs,
    MetaLearner,
    Model,
    NodeVectors,
    Params,
    Task,
)

__all__ = ["graph_fold_in", "graph_ridge", "light_gcn"]


def light_gcn(
    model: GraphModel,
    loss: Callable[..., jax.Array],
    *,
    outer: optax.GradientTransformation,
    relevant: float = -math.inf,
    microbatch: int | None = None,
) -> MetaLearner:
    """Learns vectors of the users in the graph, and serves others by what they choose.

    The baseline, without meta-learning: the support of a training task is not looked at. Train it
    on tasks that say whose they are, `data.sample_candidate_tasks(members=True)` or
    `data.sample_catalogue_tasks(members=True)`.

    Args:
        model: A `networks.graph_model`; the learner's namesake is that of a `LightGCN`.
        loss: `loss(scores, labels, *, where) -> []`, of the query, for instance `losses.bpr`.
        outer: Optax optimizer of the parameters; the graph among them stays as it is.
        relevant: Lowest label of an item of the support that counts as chosen.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner.

    Raises:
        ValueError: If `relevant` is NaN.

    References:
        He et al., LightGCN: Simplifying and Powering Graph Convolution Network for
        Recommendation, SIGIR 2020. Differs: any loss; biases of items; strangers are served.
    """
    on_query = on_examples(model.score, loss)

    def task_loss(
        nodes: NodeVectors, task: Task, key: jax.Array | None, step: jax.Array
    ) -> jax.Array:
        del key, step
        inputs = task.query.inputs
        if not isinstance(inputs, MemberInputs):
            raise TypeError(
                f"tasks must say whose they are, as MemberInputs, got {type(inputs).__name__}."
            )
        return on_query(nodes, task.query)

    def shared(params: Params, tasks: Task) -> NodeVectors:
        del tasks
        return model.propagate(params)

    return _learner(model, neighbourhood(relevant=relevant), task_loss, shared, outer, microbatch)


def graph_fold_in(
    model: GraphModel,
    loss: Callable[..., jax.Array],
    *,
    outer: optax.GradientTransformation,
    relevant: float = -math.inf,
    microbatch: int | None = None,
) -> MetaLearner:
    """Learns vectors of which those of the items that a new user chose tell what else they like.

    Every task is that of a stranger: its support is joined to the graph, its query judges. Where
    tasks say whose they are (`MemberInputs`), the edges of all users of an update are left out of
    the graph in it, so that items do not know what is asked; otherwise the graph knows the query,
    and training is easier than what it trains for.

    Args, Returns and Raises: as in `light_gcn`; inputs of the tasks may be plain `Inputs`.
    """
    return _of_strangers(model, neighbourhood(relevant=relevant), loss, outer, microbatch)


def graph_ridge(
    model: GraphModel,
    loss: Callable[..., jax.Array],
    *,
    outer: optax.GradientTransformation,
    microbatch: int | None = None,
) -> MetaLearner:
    """Learns what the graph adds to what is known of items; users are Bayesian regressions on that.

    Tasks are those of strangers, as in `graph_fold_in`. In two domains the rows of a user in one of
    them tell what they will like in the other, whose items lie in the same space.

    Args:
        model: A `networks.rating_graph`, or another whose `propagate` returns `Evidence` of items.
        loss: `loss(scores, labels, *, where) -> []`, of the query.
        outer: Optax optimizer of the parameters; those that are `fixed` stay as they are.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner, with `predict_variance`.
    """
    return _of_strangers(model, ridge_head(at_items), loss, outer, microbatch)


def _of_strangers(
    model: GraphModel,
    rule: Adaptation,
    loss: Callable[..., jax.Array],
    outer: optax.GradientTransformation,
    microbatch: int | None,
) -> MetaLearner:
    """Trains on tasks in which nobody of an update is in the graph."""

    def shared(params: Params, tasks: Task) -> Any:
        inputs = tasks.query.inputs
        # A user is the same in every row of a query.
        users = inputs.user[:, 0] if isinstance(inputs, MemberInputs) else None
        return model.propagate(params, without=users)

    return _learner(model, rule, query_loss(rule, loss), shared, outer, microbatch)


def _learner(
    model: GraphModel,
    rule: Adaptation,
    task_loss: TaskLoss,
    shared: Callable[[Params, Task], Any],
    outer: optax.GradientTransformation,
    microbatch: int | None,
) -> MetaLearner:
    """Trains on shared vectors of the nodes; what is served propagates by itself."""

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

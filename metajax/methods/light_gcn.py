"""LightGCN: trained on known users, with fold-in of new ones by their items."""

import math
from collections.abc import Callable

import jax
import optax

from metajax.adaptation import neighbourhood
from metajax.fields import Range
from metajax.learners.graph import graph_learner
from metajax.losses import on_examples
from metajax.methods.graph_fold_in import (
    VectorOptions,
    by_vectors,
    initial_vectors,
    light_network,
    ranking_defaults,
)
from metajax.methods.method import Method
from metajax.networks import GraphModel
from metajax.types import (
    MemberInputs,
    MetaLearner,
    NodeVectors,
    Params,
    Task,
)

__all__ = [
    "light_gcn",
    "methods",
]


def light_gcn(
    model: GraphModel,
    loss: Callable[..., jax.Array],
    *,
    outer: optax.GradientTransformation,
    relevant: float = -math.inf,
    microbatch: int | None = None,
) -> MetaLearner:
    """LightGCN: embeddings by linear propagation; new users by fold-in of their items.

    The baseline, without meta-learning: the support of a training task is not used. Train it on
    tasks with `MemberInputs`, `data.sample_candidate_tasks(members=True)` or
    `data.sample_catalogue_tasks(members=True)`.

    Args:
        model: A `networks.graph_model`; for the paper that of a `LightGCN`.
        loss: `loss(scores, labels, *, where) -> []`, of the query, for instance `losses.bpr`.
        outer: Optax optimizer of the parameters; the graph among them is fixed.
        relevant: Lowest label of an item of the support that counts as chosen.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner.

    Raises:
        ValueError: If `relevant` is NaN.

    References:
        He et al., LightGCN: Simplifying and Powering Graph Convolution Network for
        Recommendation, SIGIR 2020. Differs: any loss; biases of items; fold-in of new users.
    """
    on_query = on_examples(model.score, loss)

    def task_loss(
        nodes: NodeVectors, task: Task, key: jax.Array | None, step: jax.Array
    ) -> jax.Array:
        del key, step
        inputs = task.query.inputs
        if not isinstance(inputs, MemberInputs):
            raise TypeError(f"tasks must have MemberInputs, got {type(inputs).__name__}.")
        return on_query(nodes, task.query)

    def shared(params: Params, tasks: Task) -> NodeVectors:
        del tasks
        return model.propagate(params)

    rule = neighbourhood(relevant=relevant)
    return graph_learner(model, rule, task_loss, shared, outer=outer, microbatch=microbatch)


methods: tuple[Method, ...] = (
    Method(
        "light_gcn",
        learner=by_vectors(light_gcn),
        network=light_network,
        initial=initial_vectors,
        members=True,
        options=VectorOptions,
        settings={**ranking_defaults, "objective": "ranking"},
        grid=({}, {"order": "time"}),
        ranges={"rate": Range(1e-3, 0.1, log=True)},
        any_support=True,
    ),
)

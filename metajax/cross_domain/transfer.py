"""Recipes that learn in the source, keep a part of what was learned, and go on in the target."""

from collections.abc import Callable

import jax
import optax

from metajax.adaptation import amortised
from metajax.cross_domain.domain_factors import side_of
from metajax.learners.frozen import fixed, frozen
from metajax.learners.outer import TaskLoss, learner_with, query_loss
from metajax.types import MetaLearner, Params, SupportModel, Task

__all__ = ["parameter_transfer", "relation_transfer"]


def parameter_transfer(
    model: SupportModel,
    loss: Callable[..., jax.Array],
    *,
    outer: optax.GradientTransformation,
    pretraining: int,
    kept: tuple[str, ...] = ("predictor/hidden/*",),
    microbatch: int | None = None,
) -> MetaLearner:
    """Trains a rating network in the source and fine-tunes a part of it in the target.

    For the first updates the source's part of the query teaches all layers. Then those of `kept`
    stay as they are, and the target's part goes on with the others. What users are like is carried
    over by the model's factors; to copy rows of other tables see `models.copy_rows`.

    Args:
        model: Its parameters hold `factors`, for instance a `models.carried_users`.
        loss: `loss(scores, labels, *, where) -> []`, of one domain's part of the query. Tasks must
            ask for some of the source: `cross_domain.sample_cross_tasks(source_query=...)`.
        outer: Optax optimizer of the parameters; the factors among them stay as they are.
        pretraining: How many updates are made in the source, >= 1.
        kept: Patterns of the parameters that the target does not change.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner.

    Raises:
        ValueError: If `pretraining` < 1 or nothing is kept.

    References:
        Yosinski et al., How Transferable Are Features in Deep Neural Networks?, NeurIPS 2014, for
        layers that are copied and frozen or fine-tuned; Pan, Xiang, Liu and Yang, Transfer
        Learning in Collaborative Filtering for Sparsity Reduction, AAAI 2010, for factors that are
        learned elsewhere, and which the target starts from and is held to. Differs from the latter:
        it is the posterior of a user that is carried over, that of a new one too.
    """
    return _in_two_phases(model, loss, outer, kept, pretraining, microbatch)


def relation_transfer(
    model: SupportModel,
    loss: Callable[..., jax.Array],
    *,
    outer: optax.GradientTransformation,
    pretraining: int,
    microbatch: int | None = None,
) -> MetaLearner:
    """Learns in the source how users and items are related, and in the target what it means there.

    For the first updates the source's part of the query teaches the encoder of relations and the
    head. Then both stay as they are, and the target's part teaches the map of relations, and how
    far a user may be from what it says.

    Args:
        model: A `models.related_domains`.
        loss: `loss(scores, labels, *, where) -> []`, of one domain's part of the query. Tasks must
            ask for some of the source: `cross_domain.sample_cross_tasks(source_query=...)`.
        outer: Optax optimizer of the parameters; the factors among them stay as they are.
        pretraining: How many updates are made in the source, >= 1.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner.

    Raises:
        ValueError: If `pretraining` < 1.

    References:
        As `models.RelationNetwork`.
    """
    kept = ("relations/relation/*", "relations/correction/*", "relations/head/*")
    return _in_two_phases(model, loss, outer, kept, pretraining, microbatch)


def _in_two_phases(
    model: SupportModel,
    loss: Callable[..., jax.Array],
    outer: optax.GradientTransformation,
    kept: tuple[str, ...],
    pretraining: int,
    microbatch: int | None,
) -> MetaLearner:
    if pretraining < 1:
        raise ValueError(f"pretraining must be >= 1, got {pretraining}.")
    adaptation = amortised(model.encode, model.decode)
    of_query = query_loss(adaptation, loss)

    def asked_of(side: int) -> TaskLoss:
        def task_loss(
            params: Params, task: Task, key: jax.Array | None, step: jax.Array
        ) -> jax.Array:
            query = task.query
            asked = query.mask & (side_of(params["factors"], query.inputs) == side)
            return of_query(params, task._replace(query=query._replace(mask=asked)), key, step)

        return task_loss

    return learner_with(
        {0: asked_of(0), pretraining: asked_of(1)},
        model,
        adaptation,
        fixed(frozen(outer, *kept, after=pretraining), "factors"),
        microbatch=microbatch,
    )

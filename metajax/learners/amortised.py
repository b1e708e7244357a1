"""Recipes whose networks read the support: adaptation is a forward pass."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from metajax import losses
from metajax.adaptation import amortised
from metajax.learners.outer import meta_learner
from metajax.types import Gaussian, MetaLearner, Params, SupportModel

__all__ = ["mecos", "neural_process"]


def mecos(
    model: SupportModel,
    loss: Callable[..., jax.Array],
    *,
    outer: optax.GradientTransformation,
    microbatch: int | None = None,
) -> MetaLearner:
    """Learns to tell from a few sequences that end in a new item which others will.

    It adapts to an item: the support are sequences that end in it, the query are sequences of
    which it is asked whether they do, from `data.sample_item_tasks`. To recommend new items for
    one sequence, adapt to each of them and compare their scores (`cold_items.score_cold_items`).

    Args:
        model: The network, for instance a `models.PairNetwork`.
        loss: `loss(scores, labels, *, where) -> []`, of the query; labels are 1 and 0. A loss of
            each score by itself, such as `losses.sigmoid_cross_entropy`, makes items comparable;
            one of an order compares sequences of one item alone.
        outer: Optax optimizer of the parameters.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner.

    References:
        Zheng, Liu, Li and Wu, Cold-start Sequential Recommendation via Meta Learner, AAAI 2021.
        What differs is said where it lies: `models.PairNetwork`, `data.sample_item_tasks`.
    """
    adaptation = amortised(model.encode, model.decode)
    return meta_learner(model, adaptation, loss, outer, microbatch=microbatch)


def neural_process(
    model: SupportModel,
    loss: Callable[..., jax.Array] | None = None,
    *,
    outer: optax.GradientTransformation,
    microbatch: int | None = None,
) -> MetaLearner:
    """Learns a distribution of labels given a support, and says how sure it is.

    Args:
        model: The network; it decodes to a `Gaussian`, for instance a
            `models.ConditionalProcess` or a `models.AttentiveProcess`.
        loss: `loss(scores, labels, *, where) -> []`, of the means. None means the negative
            log-likelihood of the whole distribution.
        outer: Optax optimizer of the parameters.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner whose scores are the means; with `predict_variance`, unless a loss of the
        means was given, which teaches nothing of variances.
    """
    adaptation = amortised(model.encode, model.decode)

    def mean(params: Params, adapted: Any, inputs: Any) -> jax.Array:
        return model.decode(params, adapted, inputs).mean

    def variance(params: Params, adapted: Any, inputs: Any) -> jax.Array:
        return model.decode(params, adapted, inputs).variance

    def query_loss(
        prediction: Gaussian, labels: jax.Array, *, where: jax.Array | None = None
    ) -> jax.Array:
        if loss is not None:
            return loss(prediction.mean, labels, where=where)
        return losses.gaussian_nll(
            prediction.mean, labels, variance=prediction.variance, where=where
        )

    learner = meta_learner(model, adaptation, query_loss, outer, microbatch=microbatch)
    # A variance that nothing was learned about says nothing.
    return learner._replace(predict=mean, predict_variance=variance if loss is None else None)

"""Amortised learners: a network reads the support, and adaptation is one forward pass."""

from typing import Any

import jax
import optax

from metajax.adaptation import amortised
from metajax.learners.outer import meta_learner
from metajax.losses import gaussian_nll, with_mask
from metajax.types import Adaptation, Gaussian, Loss, MetaLearner, Params, SupportModel, check_model

__all__ = ["mecos", "neural_process"]


def mecos(
    model: SupportModel,
    loss: Loss,
    *,
    outer: optax.GradientTransformation,
    microbatch: int | None = None,
) -> MetaLearner:
    """MeCos: predicts from a few sequences that end in a new item which others will.

    It adapts to an item: the support are sequences that end in it, the query are sequences of
    which it is asked whether they do, from `data.sample_item_tasks`. To recommend new items for
    one sequence, adapt to each of them and compare their scores (`cold_items.score_cold_items`).

    Args:
        model: The network, for instance a `networks.PairNetwork`.
        loss: `loss(scores, labels, *, where) -> []`, of the query; labels are 1 and 0. A loss of
            each score by itself, such as `losses.sigmoid_cross_entropy`, makes items comparable;
            one of an order compares sequences of one item alone.
        outer: Optax optimizer of the parameters.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner.

    References:
        Zheng, Liu, Li and Wu, Cold-start Sequential Recommendation via Meta Learner, AAAI 2021.
        Differences are documented in `networks.PairNetwork` and `data.sample_item_tasks`.
    """
    check_model(model, SupportModel)
    adaptation = amortised(model.encode, model.decode)
    return meta_learner(model, adaptation, loss, outer, microbatch=microbatch)


def neural_process(
    model: SupportModel,
    loss: Loss | None = None,
    *,
    outer: optax.GradientTransformation,
    microbatch: int | None = None,
) -> MetaLearner:
    """Neural process: a predictive distribution of labels given the support.

    Args:
        model: The network; it decodes to a `Gaussian`, for instance a
            `networks.ConditionalProcess` or a `networks.AttentiveProcess`.
        loss: `loss(scores, labels, *, where) -> []`, of the means. None means the negative
            log-likelihood of the whole distribution.
        outer: Optax optimizer of the parameters.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner whose scores are the means; with `predict_variance` unless a loss of the
        means was given, which does not train variances.
    """
    check_model(model, SupportModel)
    adaptation = amortised(model.encode, model.decode)

    def mean(params: Params, adapted: Any, inputs: Any) -> jax.Array:
        return model.decode(params, adapted, inputs).mean

    def variance(params: Params, adapted: Any, inputs: Any) -> jax.Array:
        return model.decode(params, adapted, inputs).variance

    def query_loss(
        prediction: Gaussian, labels: jax.Array, *, where: jax.Array | None = None
    ) -> jax.Array:
        if loss is not None:
            return with_mask(loss)(prediction.mean, labels, where=where)
        return gaussian_nll(prediction.mean, labels, variance=prediction.variance, where=where)

    learner = meta_learner(model, adaptation, query_loss, outer, microbatch=microbatch)
    # A loss of the means alone does not train the variances.
    predict_variance = variance if loss is None else None
    return learner._replace(adaptation=Adaptation(adaptation.adapt, mean, predict_variance))

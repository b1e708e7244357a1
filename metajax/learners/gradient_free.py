"""Learners without inner gradients: prototypes, matching, Bayesian ridge, neural process."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from metajax.adaptation import amortised, prototypes, residual_attention, ridge_head
from metajax.adaptation.prototypes import Distance
from metajax.learners.outer import meta_learner
from metajax.losses import gaussian_nll, with_mask
from metajax.types import (
    Adaptation,
    Examples,
    Gaussian,
    Loss,
    MetaLearner,
    Model,
    Params,
    SupportModel,
    check_model,
)

__all__ = [
    "bayesian_ridge",
    "matching_network",
    "neural_process",
    "prototypical",
]


def prototypical(
    model: Model,
    loss: Loss,
    *,
    outer: optax.GradientTransformation,
    distance: Distance = "euclidean",
    scale: tuple[float, float] | None = None,
    sharpness: float = 1.0,
    microbatch: int | None = None,
) -> MetaLearner:
    """Prototypical network: a user is the weighted mean of the embeddings of rated items.

    Args:
        model: The network; its `apply` places inputs, for instance of a
            `methods.prototypical.PrototypeNetwork`.
        loss: `loss(scores, labels, *, where) -> []`, of the query.
        outer: Optax optimizer of the parameters.
        distance: See `adaptation.prototypes`.
        scale: Lowest and highest score; None for a loss of an order.
        sharpness: Weight of higher labels over lower ones.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner.
    """
    adaptation = prototypes(model.apply, distance=distance, scale=scale, sharpness=sharpness)
    return meta_learner(model, adaptation, loss, outer, microbatch=microbatch)


def matching_network(
    model: Model,
    loss: Loss,
    *,
    outer: optax.GradientTransformation,
    microbatch: int | None = None,
) -> MetaLearner:
    """Matching network: candidates are scored by attention to the labels of the support.

    Args:
        model: The network; its `apply` prepares inputs, for instance of a
            `methods.matching_network.MatchingNetwork`.
        loss: `loss(scores, labels, *, where) -> []`, of the query.
        outer: Optax optimizer of the parameters.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner.
    """
    adaptation = residual_attention(model.apply)
    return meta_learner(model, adaptation, loss, outer, microbatch=microbatch)


def bayesian_ridge(
    model: Model,
    loss: Loss,
    *,
    outer: optax.GradientTransformation,
    prior: Callable[[Params, Examples], jax.Array] | None = None,
    microbatch: int | None = None,
) -> MetaLearner:
    """Bayesian ridge head: learned features, on which a user is a closed-form posterior.

    Args:
        model: The network; its `apply` returns `Evidence`, for instance a
            `networks.RidgeNetwork`.
        loss: `loss(scores, labels, *, where) -> []`, of the query.
        outer: Optax optimizer of the parameters.
        prior: As in `adaptation.ridge_head`, for instance of a
            `cross_domain.InformedRidgeModel`.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner with `predict_variance`.
    """
    check_model(model)
    adaptation = ridge_head(model.apply, prior)
    return meta_learner(
        Model(model.init, model.apply), adaptation, loss, outer, microbatch=microbatch
    )


def neural_process(
    model: SupportModel,
    loss: Loss | None = None,
    *,
    outer: optax.GradientTransformation,
    microbatch: int | None = None,
) -> MetaLearner:
    """Neural process: a predictive distribution of labels given the support.

    Args:
        model: The network; it decodes to a `Gaussian`, for instance one of those in
            `methods.neural_process`.
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

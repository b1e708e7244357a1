"""Amortised learners: a network reads the support, and adaptation is one forward pass."""

from typing import Any

import jax
import optax

from metajax.adaptation import amortised
from metajax.learners.outer import meta_learner
from metajax.losses import gaussian_nll, with_mask
from metajax.types import Adaptation, Gaussian, Loss, MetaLearner, Params, SupportModel, check_model

__all__ = ["neural_process"]


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

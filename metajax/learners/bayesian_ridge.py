"""Bayesian ridge regression on learned features."""

from collections.abc import Callable

import jax
import optax

from metajax.adaptation import ridge_head
from metajax.learners.outer import meta_learner
from metajax.types import Examples, Loss, MetaLearner, Model, Params, check_model

__all__ = ["bayesian_ridge"]


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
        prior: As in `adaptation.ridge_head`, for instance that of a `cross_domain.InformedRidge`.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner with `predict_variance`.
    """
    check_model(model)
    adaptation = ridge_head(model.apply, prior)
    return meta_learner(
        Model(model.init, model.apply), adaptation, loss, outer, microbatch=microbatch
    )

"""Metric-based learners: prototypes, and attention to the support."""

import optax

from metajax.adaptation import prototypes, residual_attention
from metajax.adaptation.prototypes import Distance
from metajax.learners.outer import meta_learner
from metajax.types import (
    Loss,
    MetaLearner,
    Model,
)

__all__ = ["matching_network", "prototypical"]


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
        sharpness: How much more a higher label weighs.
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

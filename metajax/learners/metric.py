"""Metric-based learners: prototypes, attention to the support, attention to other users."""

from typing import Any

import jax
import optax

from metajax.adaptation import cosine_prototypes, prototypes, residual_attention
from metajax.adaptation.prototypes import Distance
from metajax.learners.outer import meta_learner
from metajax.losses import blanked
from metajax.types import (
    Adaptation,
    Examples,
    Loss,
    MetaLearner,
    Model,
    Params,
    SupportModel,
    check_model,
)

__all__ = ["attentive_neighbours", "attribute_prototypes", "matching_network", "prototypical"]


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
        model: The network; its `apply` places inputs, for instance a `networks.PrototypeNetwork`.
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
        model: The network; its `apply` prepares inputs, for instance a `networks.MatchingNetwork`.
        loss: `loss(scores, labels, *, where) -> []`, of the query.
        outer: Optax optimizer of the parameters.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner.
    """
    adaptation = residual_attention(model.apply)
    return meta_learner(model, adaptation, loss, outer, microbatch=microbatch)


def attribute_prototypes(
    model: Model,
    loss: Loss,
    *,
    outer: optax.GradientTransformation,
    microbatch: int | None = None,
) -> MetaLearner:
    """Attribute prototypes: a candidate is scored by cosine attention to ratings and prototypes.

    Args:
        model: The network; its `apply` compares inputs with prototypes, for instance a
            `networks.AttributePrototypes`.
        loss: `loss(scores, labels, *, where) -> []`, of the query.
        outer: Optax optimizer of the parameters.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner.
    """
    return meta_learner(model, cosine_prototypes(model.apply), loss, outer, microbatch=microbatch)


def attentive_neighbours(
    model: SupportModel,
    loss: Loss,
    *,
    outer: optax.GradientTransformation,
    microbatch: int | None = None,
) -> MetaLearner:
    """Attentive neighbours: scores by attention to similar training users and item-to-item weights.

    Train it on `data.sample_catalogue_tasks(members=True)`: the model remembers the training
    users, and has to be asked about each of them as if it did not.

    Args:
        model: What remembers, a `networks.user_memory`; it sees padding as it is.
        loss: `loss(scores, labels, *, where) -> []`, of the query, for instance
            `losses.approximate_ndcg`.
        outer: Optax optimizer of the parameters. The memory has no gradient, but decay would wear
            it down.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner.
    """
    check_model(model, SupportModel)

    def adapt(params: Params, support: Examples, key: jax.Array | None = None) -> Any:
        del key
        # The inputs of padding stay: of an empty support they hold the user's attributes.
        return model.encode(params, support._replace(mask=blanked(support).mask))

    return meta_learner(model, Adaptation(adapt, model.decode), loss, outer, microbatch=microbatch)

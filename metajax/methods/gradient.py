"""The gradient family on the two towers: how each of its learners is made of the settings.

Items start from factors in closed form, so for most of the family what adapts is the layer that
maps an identity straight to the score: a user's own vector of the factor model.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from metajax import learners
from metajax.adaptation import matching
from metajax.learners.gru_adapter import all_features
from metajax.methods.method import Method
from metajax.methods.parts import (
    RATES,
    adapted_parameters,
    by_gradient_steps,
    objectives,
    outer_optimizer,
    pretrained,
    rating_network,
)
from metajax.methods.settings import Settings, TwoTowerOptions
from metajax.types import Inputs, MetaLearner, Model, Params

__all__ = [
    "anil",
    "boil",
    "cavia",
    "gru_embeddings",
    "gru_gradients",
    "imaml",
    "maml_plus_plus",
    "meta_sgd",
    "methods",
    "proto_maml",
    "reptile",
    "without_adaptation",
]

# What a rating is off by, in the data's own units, where the network knows nothing of the user.
_LEVELS = (-2.0, -1.0, 0.0, 1.0, 2.0)
_LAST_LAYERS = ("direct/*", "predictor/layer_2/*")
_WEIGHTS = ("*_tower/*", "predictor/*", "direct/*")

_INNER_RATES = ({}, {"inner_rate": 0.03}, {"inner_rate": 0.1}, {"inner_rate": 0.2})
_SMALL_RATES = ({}, {"inner_rate": 0.005}, {"inner_rate": 0.03})


def without_adaptation(settings: Settings, network: Model) -> MetaLearner:
    """Trains the network on queries; it does not adapt."""
    return learners.supervised(
        network,
        objectives[settings.objective].loss,
        outer=outer_optimizer(settings),
        microbatch=settings.microbatch,
    )


def anil(settings: Settings, network: Model) -> MetaLearner:
    """Adapts the last layers, or what the settings say."""
    head = matching(*(settings.options.adapts or _LAST_LAYERS))
    return learners.anil(network, head=head, **_by_sgd(settings))


def boil(settings: Settings, network: Model) -> MetaLearner:
    """Adapts the layers before the last ones; items stay where they are, as everyone's."""
    head = matching("item_embedding/*", "item_bias/*", *_LAST_LAYERS)
    return learners.boil(network, head=head, **_by_sgd(settings))


def cavia(settings: Settings, network: Model) -> MetaLearner:
    """Adapts a context of as many numbers as an item has factors."""
    return learners.cavia(network, size=max(settings.options.rank, 1), **_by_sgd(settings))


def gru_embeddings(settings: Settings, network: Model) -> MetaLearner:
    """Reads the items' identities and the ratings in their order."""
    return learners.gru_adapter(
        network,
        objectives[settings.objective].loss,
        outer=outer_optimizer(settings),
        sees="embeddings",
        width=settings.options.embedding,
        embed=identities,
        adapts=matching(*adapted_parameters(settings)),
        microbatch=settings.microbatch,
    )


def gru_gradients(settings: Settings, network: Model) -> MetaLearner:
    """Learns the rates of the steps from the gradients."""
    return learners.gru_adapter(network, sees="gradients", **_by_rate(settings))


def imaml(settings: Settings, network: Model) -> MetaLearner:
    """Solves for the user with the pull that a unit prior and a unit noise have.

    Half a sum of squared errors and half a squared length are the negative logarithms of both;
    the inner loss is the whole sum, so the pull is 2.
    """
    adapts = matching(*adapted_parameters(settings))
    return learners.imaml(network, proximal=2.0, adapts=adapts, **_by_sgd(settings))


def maml_plus_plus(settings: Settings, network: Model) -> MetaLearner:
    """Goes by first order for a tenth of the updates, asks every step for half of them."""
    return learners.maml_plus_plus(
        network,
        first_order=settings.updates // 10,
        multi_step=settings.updates // 2,
        **_by_rate(settings),
    )


def meta_sgd(settings: Settings, network: Model) -> MetaLearner:
    """Learns a rate for every element of what adapts."""
    return learners.meta_sgd(network, **_by_rate(settings))


def proto_maml(settings: Settings, network: Model) -> MetaLearner:
    """Adds prototypes of identities to what `maml` adapts."""
    adapts = matching(*adapted_parameters(settings))
    return learners.proto_maml(
        network, embed=identities, levels=_LEVELS, adapts=adapts, **_by_sgd(settings)
    )


def reptile(settings: Settings, network: Model) -> MetaLearner:
    """Goes a fraction of the way, less and less, as the paper does; adapts all but the items.

    An optimizer that divides by the size of its gradients would go as far where tasks agree as
    where they do not. What does not adapt would not learn. An order is descended on by its own
    loss: the squares of a whole catalogue add up to more than a step can bear.
    """
    objective = objectives[settings.objective]
    fraction = optax.linear_schedule(settings.rate, 0.0, settings.updates)
    adapts = matching(*(settings.options.adapts or _WEIGHTS))
    shared: dict[str, Any] = {**_by_sgd(settings), "outer": optax.sgd(fraction)}
    if not objective.rating:
        shared["inner_loss"] = objective.loss
    return learners.reptile(network, adapts=adapts, **shared)


def identities(network: Params, inputs: Inputs) -> jax.Array:
    """Embeds interactions by their item's identity `[N, rank + 1]`, without one by features."""
    if "item_embedding" not in network:
        return all_features(network, inputs)
    return jnp.take(network["item_embedding"]["embedding"], inputs.item, axis=0)


def _by_sgd(settings: Settings) -> dict[str, Any]:
    """Names what learners share that take the steps of an optimizer."""
    objective = objectives[settings.objective]
    return {
        "loss": objective.loss,
        "inner": optax.sgd(settings.options.inner_rate),
        "outer": outer_optimizer(settings),
        "steps": settings.options.steps,
        "inner_loss": objective.inner_loss,
        "microbatch": settings.microbatch,
    }


def _by_rate(settings: Settings) -> dict[str, Any]:
    """Names what learners share that learn their rates."""
    shared = _by_sgd(settings)
    del shared["inner"]
    adapts = matching(*adapted_parameters(settings))
    return {**shared, "rate": settings.options.inner_rate, "adapts": adapts}


_TWO_TOWER = Method(
    "two_tower",
    without_adaptation,
    kind="baseline",
    network=rating_network,
    initial=pretrained,
    options=TwoTowerOptions,
)

methods: tuple[Method, ...] = (
    _TWO_TOWER,
    Method(
        "two_tower_fine_tuned",
        by_gradient_steps(learners.fine_tuned),
        grid=_INNER_RATES,
        kind="baseline",
        trained_as=_TWO_TOWER,
        network=rating_network,
        initial=pretrained,
        options=TwoTowerOptions,
    ),
    Method(
        "maml",
        by_gradient_steps(learners.maml),
        grid=_INNER_RATES,
        network=rating_network,
        initial=pretrained,
        options=TwoTowerOptions,
    ),
    Method(
        "fomaml",
        by_gradient_steps(learners.fomaml),
        grid=_INNER_RATES,
        network=rating_network,
        initial=pretrained,
        options=TwoTowerOptions,
    ),
    Method(
        "maml_from_random",
        by_gradient_steps(learners.maml),
        settings={"pretrained": False},
        grid=_INNER_RATES,
        network=rating_network,
        initial=pretrained,
        options=TwoTowerOptions,
    ),
    Method(
        "reptile",
        reptile,
        settings={"inner_rate": 0.002, "rate": 0.3},
        grid=({}, {"inner_rate": 0.001}, {"rate": 1.0}),
        network=rating_network,
        initial=pretrained,
        options=TwoTowerOptions,
    ),
    Method(
        "anil",
        anil,
        settings={"inner_rate": 0.01},
        grid=_SMALL_RATES,
        network=rating_network,
        initial=pretrained,
        options=TwoTowerOptions,
    ),
    Method(
        "boil",
        boil,
        settings={"inner_rate": 0.01},
        grid=_SMALL_RATES,
        network=rating_network,
        initial=pretrained,
        options=TwoTowerOptions,
    ),
    Method(
        "meta_sgd",
        meta_sgd,
        grid=_INNER_RATES,
        network=rating_network,
        initial=pretrained,
        options=TwoTowerOptions,
    ),
    Method(
        "maml_plus_plus",
        maml_plus_plus,
        grid=_INNER_RATES,
        network=rating_network,
        initial=pretrained,
        options=TwoTowerOptions,
    ),
    Method(
        "imaml",
        imaml,
        settings={"steps": 15},
        grid=_INNER_RATES,
        network=rating_network,
        initial=pretrained,
        options=TwoTowerOptions,
    ),
    Method(
        "cavia",
        cavia,
        grid=_INNER_RATES,
        network=rating_network,
        initial=pretrained,
        options=TwoTowerOptions,
    ),
    Method(
        "proto_maml",
        proto_maml,
        settings={"inner_rate": 0.02},
        grid=_SMALL_RATES,
        network=rating_network,
        initial=pretrained,
        options=TwoTowerOptions,
    ),
    Method(
        "gru_gradients",
        gru_gradients,
        grid=_INNER_RATES,
        network=rating_network,
        initial=pretrained,
        options=TwoTowerOptions,
    ),
    Method(
        "gru_embeddings",
        gru_embeddings,
        grid=RATES,
        network=rating_network,
        initial=pretrained,
        options=TwoTowerOptions,
    ),
)
"""The same network without meta-learning first, then the family."""

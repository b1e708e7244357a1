"""The network under a Bayesian ridge head that looks at what a user chose, and then at ratings."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metajax.networks.linen import from_linen
from metajax.networks.ridge_network import RidgeNetwork
from metajax.types import Evidence, Examples, Inputs, Params

__all__ = ["InformedRidge", "Told", "informed_ridge_network", "start_told"]


class Told(NamedTuple):
    """What choices tell of a user along each of F directions; it is not trained.

    All leaves are floats, so that parameters which hold them can be differentiated.
    """

    looked_at: jax.Array
    """`[I]` 1 for items whose choice tells something, those of the source; 0 for others."""
    of_item: jax.Array
    """`[I, F]`, to be added up over the n chosen items and divided by the root of n."""
    level: jax.Array
    """`[F]` what to add where n > 0."""
    unknown: jax.Array
    """`[F]` what to expect where n is 0."""


class InformedRidge(NamedTuple):
    """A ridge network, and where it expects a user before it has looked at ratings."""

    init: Callable[..., Params]
    """`init(key, inputs) -> params`."""
    apply: Callable[[Params, Any], Evidence]
    """`apply(params, inputs) -> Evidence`."""
    prior: Callable[[Params, Examples], jax.Array]
    """`prior(params, support) -> mean [F]`; it does not look at labels."""


def informed_ridge_network(items: int, width: int, tastes: int = 0) -> InformedRidge:
    """Describes the network: a `RidgeNetwork`, a prior from choices, and how far to trust labels.

    The prior mean is `g * told` with a learned gain g of each direction, and tastes follow the
    mean attributes of what was chosen, by a map that starts at 0. Labels of the items looked at,
    and those of others, count with learned powers, for a user's many ratings in one domain are
    less than independent evidence of what they think of another.

    Args:
        items: I, the size of the catalogue.
        width: Directions of identities along which users differ.
        tastes: Directions of attributes along which users differ.

    Returns:
        The network; its parameters are `network`, `told` (a `Told`, to be kept as it is), `gain`,
        `taste_map` and `log_power`.
    """
    network = from_linen(RidgeNetwork(items, width, tastes))
    directions = width + tastes

    def init(key: jax.Array, inputs: Inputs) -> Params:
        return {
            "network": network.init(key, inputs),
            "told": Told(
                looked_at=jnp.zeros(items),
                of_item=jnp.zeros((items, directions)),
                level=jnp.zeros(directions),
                unknown=jnp.zeros(directions),
            ),
            "gain": jnp.ones(directions),
            "taste_map": jnp.zeros((inputs.item_features.shape[1], tastes)),
            "log_power": jnp.zeros(2),
        }

    def apply(params: Params, inputs: Inputs) -> Evidence:
        looked_at = jax.lax.stop_gradient(params["told"].looked_at)[inputs.item]
        log_power = params["log_power"]
        log_power = log_power[0] + looked_at * (log_power[1] - log_power[0])
        return network.apply(params["network"], inputs)._replace(power=jnp.exp(log_power))

    def prior(params: Params, support: Examples) -> jax.Array:
        told = jax.lax.stop_gradient(params["told"])
        item, features = support.inputs.item, support.inputs.item_features
        chosen = support.mask * told.looked_at[item]  # [N]
        n = jnp.sum(chosen)
        mean = told.level + chosen @ told.of_item[item] / jnp.sqrt(jnp.maximum(n, 1))
        mean = params["gain"] * jnp.where(n > 0, mean, told.unknown)
        taste = chosen @ features / jnp.maximum(n, 1) @ params["taste_map"]
        return mean.at[width:].add(taste)

    return InformedRidge(init, apply, prior)


def start_told(params: Params, told: Told, power: jax.Array) -> Params:
    """Fills in what choices tell along the directions of identities.

    Args:
        params: Parameters of an `informed_ridge`.
        told: Of the first directions; nothing is told of the tastes that follow them.
        power: `[2]` with which labels count, those of other items and of those looked at, > 0.

    Returns:
        The parameters, changed.

    Raises:
        ValueError: If a shape does not fit.
    """
    blank = params["told"]
    missing = blank.level.shape[0] - told.level.shape[0]

    def filled(name: str, value: jax.Array, like: jax.Array) -> jax.Array:
        if name != "looked_at":
            value = jnp.pad(value, ((0, 0),) * (value.ndim - 1) + ((0, max(missing, 0)),))
        if value.shape != like.shape:
            raise ValueError(f"{name} must have the shape {like.shape}, got {value.shape}.")
        return jnp.asarray(value, jnp.float32)

    named = zip(told._fields, told, blank, strict=True)
    known = Told(*(filled(*leaf) for leaf in named))
    return {**params, "told": known, "log_power": jnp.log(jnp.asarray(power, jnp.float32))}

"""What a user is like in one domain, what that lets expect in the other, and what corrects it.

Each domain has its own items, with embeddings and biases in closed form, under which a user is a
standard normal vector that ratings correct exactly. So the systems built on it differ in one
thing alone: the bridge from what is known of a user in the source to what to expect of them in
the target.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metajax.gaussian import ridge_posterior
from metajax.networks.linen import init_params
from metajax.types import Evidence, Examples, Inputs, Params, Posterior, SupportModel

__all__ = [
    "BothSides",
    "DomainFactors",
    "blank_factors",
    "domain_evidence",
    "known_of",
    "rating_at",
    "side_of",
    "start_factors",
    "two_domains",
]

SOURCE, TARGET = 0, 1


class DomainFactors(NamedTuple):
    """Items of two domains in closed form, each for users with a standard normal prior.

    It is not trained. All leaves are floats, so that parameters which hold them can be
    differentiated. F is the number of directions in which users of a domain differ.
    """

    domain: jax.Array
    """`[I]` 0 for an item of the source, 1 for one of the target."""
    embedding: jax.Array
    """`[I, F]` what a unit of a user along each direction of the item's domain adds to a rating."""
    bias: jax.Array
    """`[I]` the rating of a user of whom nothing is known."""
    noise: jax.Array
    """`[2]` variance of a rating in the source and in the target."""


class BothSides(NamedTuple):
    """What is kept of a user."""

    source: jax.Array
    """`[F]` posterior mean in the source."""
    target: Posterior
    """In the target: what the bridge expects, corrected by what was rated there."""


def two_domains(items: int, width: int, bridge: nn.Module) -> SupportModel:
    """Describes a model of users of two domains.

    A support holds rows of both domains in any order. The user's place in the source is the
    posterior mean given its rows of the source; the bridge maps it to an expected place in the
    target, from which the true one is off by a learned spread along each direction; rows of the
    target correct it to z, and an item scores `bias + embedding . z`.

    Args:
        items: I, the size of the catalogue of both domains.
        width: F.
        bridge: A Linen module, `bridge(source: Posterior) -> [F]`, for instance `models.MapOfMean`.

    Returns:
        The model. Its parameters are `factors`, a `DomainFactors` that `start_factors` fills and
        that no optimizer may move; `bridge`; and `log_spread [F]`. `encode` returns `BothSides`.
        In an item of the source the user is served by their place there.

    Raises:
        ValueError: If `items` or `width` < 1.
    """
    for name, value in (("items", items), ("width", width)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}.")

    def init(key: jax.Array, inputs: Any) -> Params:
        del inputs
        nobody = Posterior(jnp.zeros(width), jnp.eye(width))
        return {
            "factors": blank_factors(items, width),
            "bridge": init_params(bridge, key, nobody),
            "log_spread": jnp.zeros(width),
        }

    def encode(params: Params, support: Examples) -> BothSides:
        factors = params["factors"]
        source = known_of(factors, support, SOURCE)
        expected: Any = bridge.apply({"params": params["bridge"]}, source)
        spread = jnp.exp(params["log_spread"])
        target = known_of(factors, support, TARGET, expected=expected, spread=spread)
        return BothSides(source.mean, target)

    return SupportModel(init, encode, rating_by_side)


def rating_by_side(params: Params, state: BothSides, inputs: Inputs) -> jax.Array:
    """Rates items `[N]` by the user's place in the domain of each, `[N]`."""
    side = side_of(params["factors"], inputs)[:, None]
    place = (1 - side) * state.source[None] + side * state.target.mean[None]
    return rating_at(params["factors"], place, inputs)


def rating_at(factors: DomainFactors, place: jax.Array, inputs: Inputs) -> jax.Array:
    """Rates items `[N]` by where a user lies in the domain of each, `[N, F]` or `[1, F]`."""
    found = domain_evidence(factors, inputs)
    return found.expected + jnp.sum(found.design * place, axis=1)


def side_of(factors: DomainFactors, inputs: Inputs) -> jax.Array:
    """Returns of which domain each item is, `[N]` of 0 for the source and 1 for the target."""
    return jax.lax.stop_gradient(factors.domain)[inputs.item]


def domain_evidence(factors: DomainFactors, inputs: Inputs) -> Evidence:
    """Describes interactions of either domain, in the directions of the item's own."""
    factors = jax.lax.stop_gradient(factors)
    item = inputs.item
    noise = factors.noise[side_of(factors, inputs).astype(jnp.int32)]
    return Evidence(factors.bias[item], factors.embedding[item], noise)


def known_of(
    factors: DomainFactors,
    support: Examples,
    side: int,
    *,
    expected: jax.Array | None = None,
    spread: jax.Array | None = None,
) -> Posterior:
    """Returns what the support tells of a user in one of the domains.

    Args:
        factors: Of the items.
        support: Rows of both domains; those of the other are not looked at.
        side: 0 for the source, 1 for the target.
        expected: `[F]` where the user is expected; None means 0.
        spread: `[F]` standard deviation of the true place around it along each direction, > 0;
            None means 1.

    Returns:
        The posterior of the user's place.
    """
    found = domain_evidence(factors, support.inputs)
    seen = support._replace(mask=support.mask & (side_of(factors, support.inputs) == side))
    # With place = expected + spread * e, e is standard normal.
    if expected is not None:
        found = found._replace(expected=found.expected + found.design @ expected)
    if spread is not None:
        found = found._replace(design=found.design * spread[None])
    away = ridge_posterior(found, seen)
    if spread is not None:
        away = Posterior(spread * away.mean, spread[:, None] * away.covariance * spread[None])
    return away if expected is None else away._replace(mean=expected + away.mean)


def blank_factors(items: int, width: int) -> DomainFactors:
    """Returns factors that know nothing, in which all items are of the target."""
    return DomainFactors(jnp.ones(items), jnp.zeros((items, width)), jnp.zeros(items), jnp.ones(2))


def start_factors(params: Params, factors: DomainFactors) -> Params:
    """Fills in what is known of the items.

    Args:
        params: Parameters with `factors`.
        factors: Of the same shapes.

    Returns:
        The parameters, changed.

    Raises:
        ValueError: If a shape does not fit.
    """
    for name, leaf, like in zip(factors._fields, factors, params["factors"], strict=True):
        if jnp.shape(leaf) != like.shape:
            raise ValueError(f"{name} must have the shape {like.shape}, got {jnp.shape(leaf)}.")
    return {**params, "factors": DomainFactors(*(jnp.asarray(x, jnp.float32) for x in factors))}

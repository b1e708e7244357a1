"""Items that nobody rated, in the space of those that many did: by a map of their attributes."""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metajax.networks.encoder import Tower
from metajax.networks.meta_params import with_initial_values
from metajax.types import Evidence, Inputs, Params

__all__ = ["Mapped", "SemanticMap", "start_semantic_map"]


class Mapped(NamedTuple):
    """N interactions, described by what is known of their items and by attributes alone."""

    evidence: Evidence
    """By the item's own embedding as far as it has one, and else by the map."""
    guess: Evidence
    """By the map, as if nobody had rated the item."""
    distance: jax.Array
    """`[N]` squared distance of the two, for what is known of the item."""


class SemanticMap(nn.Module):
    """Maps traits and attributes of items into the space of pretrained embeddings.

    The map is linear, plus what hidden layers add to it, which starts at 0. The expected label is
    the item's bias and what a user of these attributes is expected to be like; the noise of what
    the map describes has in it how far the map is off.

    Parameters are named `map`, `hidden`, `correction`, `user_map`, `item_bias`, `log_noise`,
    `log_error` and, from closed forms and not trained, `item_embedding`, `known`, `traits` and
    `item_spread`.

    Attributes:
        items: Number of items.
        width: F, of the embeddings.
        traits: V, numbers that are known of an item beside its attributes.
        widths: Widths of the hidden layers; none means a linear map.
    """

    items: int
    width: int
    traits: int
    widths: Sequence[int] = ()

    @nn.compact
    def __call__(self, inputs: Inputs) -> Mapped:
        """Describes N interactions."""
        zeros = nn.initializers.zeros_init()

        def given(name: str, *shape: int) -> jax.Array:
            table = self.param(name, zeros, (self.items, *shape))
            return jax.lax.stop_gradient(table)[inputs.item]

        own, known = given("item_embedding", self.width), given("known")
        said = jnp.concatenate([given("traits", self.traits), inputs.item_features], axis=1)
        mapped = nn.Dense(self.width, use_bias=False, name="map")(said)
        if self.widths:
            hidden = nn.relu(Tower(self.widths, name="hidden")(said))
            mapped += nn.Dense(self.width, kernel_init=zeros, name="correction")(hidden)
        bias = self.param("item_bias", zeros, (self.items,))[inputs.item]
        noise = jnp.exp(self.param("log_noise", zeros, ())) + given("item_spread") ** 2
        error = jnp.exp(self.param("log_error", zeros, ()))
        place = jnp.zeros((len(bias), self.width))
        if inputs.user_features.shape[1]:
            user_map = nn.Dense(self.width, use_bias=False, kernel_init=zeros, name="user_map")
            place = user_map(inputs.user_features)

        def described(design: jax.Array, known: jax.Array) -> Evidence:
            usual = jnp.sum(place * design, axis=1)
            return Evidence(bias + usual, design, noise + (1 - known) * error)

        mixed = known[:, None] * own + (1 - known)[:, None] * mapped
        distance = known * jnp.sum(jnp.square(own - mapped), axis=1)
        return Mapped(described(mixed, known), described(mapped, jnp.zeros_like(known)), distance)


def start_semantic_map(
    params: Params,
    *,
    item_embedding: jax.Array,
    known: jax.Array,
    traits: jax.Array,
    item_bias: jax.Array,
    item_spread: jax.Array,
    weights: jax.Array,
    noise: jax.Array,
    error: jax.Array,
) -> Params:
    """Starts from pretrained embeddings and a linear map to them.

    Args:
        params: Parameters of a `SemanticMap`.
        item_embedding: `[I, F]` for users with a standard normal prior.
        known: `[I]` how far an item goes by its own embedding, in [0, 1].
        traits: `[I, V]` what is known of items beside their attributes.
        item_bias: `[I]` ratings by a user whose latents are 0.
        item_spread: `[I]` standard deviation of what is not known of the biases.
        weights: `[V + Di, F]` from traits and attributes to embeddings.
        noise: `[]` variance of a rating, > 0.
        error: `[]` expected squared distance of the map, > 0.

    Returns:
        The parameters, changed.

    Raises:
        ValueError: If a shape does not fit.
    """
    given = {
        "item_embedding": item_embedding,
        "known": known,
        "traits": traits,
        "item_bias": item_bias,
        "item_spread": item_spread,
        "map": {"kernel": weights},
        "log_noise": jnp.log(noise),
        "log_error": jnp.log(error),
    }
    return with_initial_values(params, given)

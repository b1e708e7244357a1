"""Linear network of a Bayesian ridge head, initialised by closed-form factors."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from metajax.types import Evidence, Inputs, Params

__all__ = ["RidgeNetwork", "initial_evidence"]


class RidgeNetwork(nn.Module):
    """Design matrix and expected label from item embeddings and attributes of user and item.

    An item is at its identity plus a linear map of its attributes, turned by a matrix `root`
    that all share: with a standard normal prior in front of it, the prior of users has the
    covariance `root root'`. Along further directions, another map of its attributes, users differ
    in their tastes for these. The expected label is the item's bias, a linear form of its
    attributes, the products of its attributes with the user's, and what a user of these
    attributes is expected to be like. All but biases, identities and tastes starts at 0.

    Identities and tastes are not trained, nor how far an item may be from its bias: they come from
    closed forms that have seen every training user with its latents integrated out, and episodes
    only wear them down.

    Attributes:
        items: Number of items with an identity.
        width: Directions of identities along which users differ.
        tastes: Directions of attributes along which users differ.
    """

    items: int
    width: int
    tastes: int = 0

    @nn.compact
    def __call__(self, inputs: Inputs) -> Evidence:
        """Describes interactions.

        Args:
            inputs: N interactions.

        Returns:
            Arrays that lead with N; F is `width + tastes`.
        """
        zeros = nn.initializers.zeros_init()

        def linear(width: int, name: str, x: jax.Array) -> jax.Array:
            # Without attributes there is nothing to map.
            if not x.shape[-1] or not width:
                return jnp.zeros((*x.shape[:-1], width), x.dtype)
            return nn.Dense(width, use_bias=False, kernel_init=zeros, name=name)(x)

        user, item = inputs.user_features, inputs.item_features
        identity = nn.Embed(self.items, self.width, name="item_embedding")(inputs.item)
        bias = nn.Embed(self.items, 1, embedding_init=zeros, name="item_bias")(inputs.item)
        spread = nn.Embed(self.items, 1, embedding_init=zeros, name="item_spread")(inputs.item)
        root = self.param("root", lambda key: jnp.eye(self.width))
        placed = jax.lax.stop_gradient(identity) + linear(self.width, "item_map", item)
        design = placed @ root
        taste = jax.lax.stop_gradient(linear(self.tastes, "taste_map", item))
        expected = bias[:, 0] + linear(1, "item_effect", item)[:, 0]
        expected += jnp.sum(linear(item.shape[-1], "affinity", user) * item, axis=1)
        expected += jnp.sum(linear(self.width, "user_map", user) * design, axis=1)
        noise = jnp.exp(self.param("log_noise", zeros, ()))
        noise += jax.lax.stop_gradient(spread[:, 0] ** 2)
        return Evidence(expected, jnp.concatenate([design, taste], axis=1), noise)


def initial_evidence(
    params: Params,
    embedding: jax.Array,
    bias: jax.Array,
    noise: jax.Array,
    *,
    spread: jax.Array | None = None,
    taste_map: jax.Array | None = None,
) -> Params:
    """Initialises the network by a Gaussian model of ratings, whose posterior it then predicts.

    Args:
        params: Parameters of a `RidgeNetwork`.
        embedding: `[I, width]` identities for a standard normal prior.
        bias: `[I]` expected ratings.
        noise: `[]` variance of a rating.
        spread: `[I]` standard deviation of what is not known of the biases; None means 0.
        taste_map: `[Di, tastes]` what a unit of taste along each direction adds to the rating of
            an item, by its attributes; None means 0.

    Returns:
        The parameters, changed.

    Raises:
        ValueError: If a shape does not fit.
    """
    tables = {"item_embedding": embedding, "item_bias": bias[:, None]}
    if spread is not None:
        tables["item_spread"] = spread[:, None]
    given = {(name, "embedding"): value for name, value in tables.items()}
    if taste_map is not None and taste_map.size:
        given["taste_map", "kernel"] = taste_map
    params = dict(params)
    for (name, leaf), value in given.items():
        shape = params[name][leaf].shape
        if value.shape != shape:
            raise ValueError(f"{name} must have the shape {shape}, got {value.shape}.")
        params[name] = {leaf: jnp.asarray(value, jnp.float32)}
    return {**params, "log_noise": jnp.log(jnp.asarray(noise, jnp.float32))}

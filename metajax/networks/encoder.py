"""Embeddings of users and items, and the dense tower that networks share."""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype
from jax.typing import ArrayLike

from metajax.types import Inputs, Params

__all__ = ["Encoded", "Encoder", "Tower", "initial_encoder"]


class Encoded(NamedTuple):
    """Embeddings of N interactions by an `Encoder`."""

    user: jax.Array
    """`[N, E]` user embeddings by attributes; E is 0 without attributes of users."""
    item: jax.Array
    """`[N, F]` the item of each, by attributes and identity."""
    bias: jax.Array
    """`[N]` what is expected of the item before anything else is known."""


class Encoder(nn.Module):
    """Embeds users and items with the towers and the identities of a `RatingNetwork`.

    Parameters are named as there: `user_tower/layer_i`, `item_tower/layer_i`,
    `item_embedding/embedding` and `item_bias/embedding`, which adds to the `bias` of all, so that
    weight decay draws an item's towards what the others have.

    Attributes:
        user_widths: Widths of the user tower; the last one is the embedding's.
        item_widths: Widths of the item tower.
        items: Number of items with an identity; 0 for none.
        identity_width: Width of the identity embedding.
    """

    user_widths: Sequence[int] = (64, 32)
    item_widths: Sequence[int] = (64, 32)
    items: int = 0
    identity_width: int = 16

    @nn.compact
    def __call__(self, inputs: Inputs) -> Encoded:
        """Embeds N interactions.

        Raises:
            ValueError: If items have neither attributes nor identities.
        """
        rows = inputs.item.shape[0]
        user, item = jnp.zeros((rows, 0)), []
        if inputs.user_features.shape[-1]:
            user = Tower(self.user_widths, name="user_tower")(inputs.user_features)
        if inputs.item_features.shape[-1]:
            item.append(Tower(self.item_widths, name="item_tower")(inputs.item_features))
        zeros = nn.initializers.zeros_init()
        bias = jnp.broadcast_to(self.param("bias", zeros, ()), (rows,))
        if self.items:
            item.append(
                nn.Embed(self.items, self.identity_width, name="item_embedding")(inputs.item)
            )
            own = nn.Embed(self.items, 1, embedding_init=zeros, name="item_bias")(inputs.item)
            bias += own[:, 0]
        if not item:
            raise ValueError("inputs must have item features where items is 0, got none.")
        return Encoded(user, jnp.concatenate(item, axis=-1), bias)


def initial_encoder(params: Params, bias: ArrayLike, embedding: ArrayLike | None = None) -> Params:
    """Initialises the `encoder` of a network from closed forms.

    Args:
        params: Parameters of a network that holds an `Encoder` of that name.
        bias: `[I]` what to expect of each item, or `[]` of all of them.
        embedding: `[I, identity_width]` item factors; None leaves them as they are.

    Returns:
        The parameters, changed.

    Raises:
        ValueError: If the shapes do not fit.
    """
    mean = jnp.mean(jnp.asarray(bias))
    encoder = {**params["encoder"], "bias": mean.astype(params["encoder"]["bias"].dtype)}
    given = {}
    if jnp.ndim(bias):
        given["item_bias"] = jnp.asarray(bias)[:, None] - mean
    if embedding is not None:
        given["item_embedding"] = jnp.asarray(embedding)
    for name, value in given.items():
        if name not in encoder:
            raise ValueError(f"encoder must have {name}, got {', '.join(encoder)}.")
        old = encoder[name]["embedding"]
        if value.shape != old.shape:
            raise ValueError(f"{name} must have the shape {old.shape}, got {value.shape}.")
        encoder[name] = {"embedding": value.astype(old.dtype)}
    return {**params, "encoder": encoder}


class Tower(nn.Module):
    """Dense layers `layer_i` with relu between them.

    Attributes:
        widths: Widths of the layers; nothing comes after the last one.
        dtype: Type of the computation; None means the type of parameters and inputs.
        scores: True if the last layer gives scores, which are not rounded to `dtype`.
    """

    widths: Sequence[int]
    dtype: Dtype | None = None
    scores: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, shared: jax.Array | None = None) -> jax.Array:
        """Maps `[..., D]` to `[..., widths[-1]]`.

        Args:
            x: The inputs.
            shared: `[1, S]` inputs that stand before those of every row of `x` `[N, D]`: what the
                first layer makes of them is computed once. None: there are none.
        """
        for i, width in enumerate(self.widths):
            is_last = i == len(self.widths) - 1
            dtype = None if self.scores and is_last else self.dtype
            layer = nn.Dense(width, dtype=dtype, name=f"layer_{i}")
            if i == 0 and shared is not None:
                of_shared = layer(jnp.pad(shared, ((0, 0), (0, x.shape[1]))))
                x = jnp.pad(x, ((0, 0), (shared.shape[1], 0)))
                # The layer's bias is in both.
                x = layer(x) + of_shared - layer(jnp.zeros_like(x[:1]))
            else:
                x = layer(x if i == 0 else nn.relu(x))
        return x

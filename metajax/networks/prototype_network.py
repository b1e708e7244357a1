"""A space of items in which a user is a point."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metajax.types import Inputs

__all__ = ["Placed", "PrototypeNetwork"]


class Placed(NamedTuple):
    """Where N interactions lie in the space of a `prototypes` adaptation."""

    item: jax.Array
    """`[N, D]` the item of each."""
    prior: jax.Array
    """`[N, D]` the prototype of its user before anything is seen of them."""
    prior_label: jax.Array
    """`[N]` the label of an example that weighs as much as that prior."""
    closeness: jax.Array
    """`[N]` by how much a score falls with a unit of distance, > 0."""
    bias: jax.Array
    """`[N]` the score at no distance, in the units of the scores before they are bounded."""


class PrototypeNetwork(nn.Module):
    """Places items by attributes and identity, and a user's prior prototype by attributes.

    Attributes:
        encoder: Maps inputs to `Encoded`.
        width: Dimension of the space, D.
        prior_label: What the prior's weight is at first: that of one example with this label.
    """

    encoder: nn.Module
    width: int = 32
    prior_label: float = 5.0

    @nn.compact
    def __call__(self, inputs: Inputs) -> Placed:
        """Places N interactions."""
        user, item, bias = self.encoder(inputs)
        # All near each other at first: what is scored then is the bias.
        near = nn.initializers.variance_scaling(0.02, "fan_in", "truncated_normal")
        place = nn.Dense(self.width, use_bias=False, kernel_init=near, name="item")(item)
        # Without attributes the prior is one point for all users.
        prior = self.param("prior", nn.initializers.zeros_init(), (self.width,))[None]
        if user.shape[-1]:
            prior += nn.Dense(self.width, use_bias=False, kernel_init=near, name="user")(user)
        label = self.param("prior_label", nn.initializers.constant(self.prior_label), ())
        closeness = self.param("closeness", nn.initializers.zeros_init(), ())
        return Placed(
            place,
            jnp.broadcast_to(prior, place.shape),
            jnp.broadcast_to(label, bias.shape),
            jnp.broadcast_to(nn.softplus(closeness), bias.shape),
            bias,
        )

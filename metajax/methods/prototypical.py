"""Prototypical recommender: the mean of a user's items, weighted by their residuals."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from metajax import learners
from metajax.data.dataset import Shapes
from metajax.methods.identities import item_tables
from metajax.methods.item_encoder import EncoderOptions, encoder_of, initial_popularity
from metajax.methods.method import Method
from metajax.methods.objective import RATES, by_one_pass
from metajax.methods.settings import Settings
from metajax.networks import from_linen
from metajax.types import Inputs, Placed

__all__ = [
    "PrototypeNetwork",
    "methods",
]


class PrototypeNetwork(nn.Module):
    """Embeds items by attributes and identity, and a user's prior prototype by attributes.

    Attributes:
        encoder: Maps inputs to `Encoded`.
        width: Dimension of the space, D.
        prior_label: Label of an example with the initial weight of the prior.
    """

    encoder: nn.Module
    width: int = 32
    prior_label: float = 5.0

    @nn.compact
    def __call__(self, inputs: Inputs) -> Placed:
        """Embeds N interactions."""
        user, item, bias = self.encoder(inputs)
        # Initially all near each other, so that the score is the bias.
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


def _network(settings: Settings, shapes: Shapes) -> Any:
    return from_linen(PrototypeNetwork(encoder_of(settings, shapes), settings.options.embedding))


methods: tuple[Method, ...] = (
    Method(
        "prototypical",
        learner=by_one_pass(learners.prototypical),
        network=_network,
        tables=item_tables,
        initial=initial_popularity,
        options=EncoderOptions,
        grid=RATES,
    ),
)

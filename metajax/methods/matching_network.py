"""Matching network: attention from a candidate to the rated items."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from metajax import learners
from metajax.data.dataset import Shapes
from metajax.fields import bounded
from metajax.methods.identities import item_tables
from metajax.methods.item_encoder import (
    EncoderOptions,
    encoder_of,
    initial_popularity,
    reference_label,
)
from metajax.methods.method import Method
from metajax.methods.objective import RATES, by_one_pass
from metajax.methods.settings import Settings
from metajax.networks import from_linen
from metajax.networks.encoder import Tower
from metajax.types import Inputs, Matched

__all__ = [
    "MatchingNetwork",
    "MatchingOptions",
    "methods",
]


class MatchingNetwork(nn.Module):
    """Attends from candidates, shifted by the user's embedding, to the user's rated items.

    Attributes:
        encoder: Maps inputs to `Encoded`.
        heads: Attention heads, H.
        width: Width of each head, D.
        predictor_widths: Hidden widths of the zero-shot score.
        reference: Reference of labels. None: the zero-shot score of the same item, as
            is right where scores predict labels. A number: a learned one that starts there, for
            losses of an order, whose scores are in units of their own.
    """

    encoder: nn.Module
    heads: int = 4
    width: int = 16
    predictor_widths: Sequence[int] = (64,)
    reference: float | None = None

    @nn.compact
    def __call__(self, inputs: Inputs) -> Matched:
        """Prepares N interactions for matching."""
        user, item, bias = self.encoder(inputs)
        zeros = nn.initializers.zeros_init()
        hidden = nn.relu(
            Tower(self.predictor_widths, name="predictor")(jnp.concatenate([user, item], axis=-1))
        )
        score = bias + nn.Dense(1, kernel_init=zeros, name="score")(hidden)[:, 0]
        shifted = item
        if user.shape[-1]:
            shifted += nn.Dense(item.shape[-1], use_bias=False, name="shift")(user)
        shape = (self.heads, self.width)
        query = nn.DenseGeneral(shape, name="query")(shifted)
        key = nn.DenseGeneral(shape, name="key")(item)
        # A prior key of its own, and its weight in examples: initially about three.
        prior_key = self.param("prior_key", zeros, shape)
        prior = jnp.einsum("nhd,hd->nh", query, prior_key) / jnp.sqrt(float(self.width))
        prior += self.param("prior", nn.initializers.constant(1.0), (1, self.heads))
        expected = score
        if self.reference is not None:
            learned = self.param("reference", nn.initializers.constant(self.reference), ())
            expected = jnp.broadcast_to(learned, score.shape)
        gain = self.param("gain", nn.initializers.ones_init(), ())
        return Matched(query, key, prior, score, expected, jnp.broadcast_to(gain, score.shape))


@dataclass(frozen=True, kw_only=True)
class MatchingOptions(EncoderOptions):
    """Options of the matching network."""

    heads: int = bounded(4, least=1)
    """Attention heads, each half an embedding wide."""


def _network(settings: Settings, shapes: Shapes) -> Any:
    options: MatchingOptions = settings.options
    return from_linen(
        MatchingNetwork(
            encoder_of(settings, shapes),
            width=max(options.embedding // 2, 1),
            heads=options.heads,
            predictor_widths=(options.width,),
            reference=reference_label(settings, shapes),
        )
    )


methods: tuple[Method, ...] = (
    Method(
        "matching_network",
        learner=by_one_pass(learners.matching_network),
        network=_network,
        tables=item_tables,
        initial=initial_popularity,
        options=MatchingOptions,
        grid=RATES,
    ),
)

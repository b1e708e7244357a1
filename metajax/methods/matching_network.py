"""Matching network: attention to the interactions of a user's support."""

from dataclasses import dataclass
from typing import Any

from metajax import learners
from metajax.data.dataset import Shapes
from metajax.methods.item_encoder import (
    EncoderOptions,
    encoder_of,
    initial_popularity,
    reference_label,
)
from metajax.methods.method import Method
from metajax.methods.parts import RATES, by_one_pass
from metajax.methods.settings import Settings, bounded
from metajax.networks import MatchingNetwork, from_linen

__all__ = ["MatchingOptions", "methods"]


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
        initial=initial_popularity,
        options=MatchingOptions,
        grid=RATES,
    ),
)

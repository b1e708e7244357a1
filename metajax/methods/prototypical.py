"""Prototypical recommender: the mean of a user's items, weighted by their residuals."""

from typing import Any

from metajax import learners
from metajax.data.dataset import Shapes
from metajax.methods.item_encoder import EncoderOptions, encoder_of, initial_popularity
from metajax.methods.method import Method
from metajax.methods.parts import RATES, by_one_pass
from metajax.methods.settings import Settings
from metajax.networks import PrototypeNetwork, from_linen

__all__ = ["methods"]


def _network(settings: Settings, shapes: Shapes) -> Any:
    return from_linen(PrototypeNetwork(encoder_of(settings, shapes), settings.options.embedding))


methods: tuple[Method, ...] = (
    Method(
        "prototypical",
        learner=by_one_pass(learners.prototypical),
        network=_network,
        initial=initial_popularity,
        options=EncoderOptions,
        grid=RATES,
    ),
)

"""Sequence encoder with inner steps on its last layer, on the user's history so far."""

from dataclasses import dataclass
from typing import Any

from metajax import learners
from metajax.data.dataset import Shapes
from metajax.methods.item_encoder import (
    EncoderOptions,
    encoder_of,
    initial_values,
    reference_label,
)
from metajax.methods.method import Method
from metajax.methods.parts import by_gradient_steps
from metajax.methods.settings import Settings, bounded
from metajax.networks import SequenceNetwork, from_history_module

__all__ = ["SequenceOptions", "methods"]


@dataclass(frozen=True, kw_only=True)
class SequenceOptions(EncoderOptions):
    """Options of the sequence encoder."""

    steps: int = bounded(5, least=1)
    """Inner steps on a user's support."""
    inner_rate: float = bounded(0.01, above=0)
    """Learning rate of the inner steps."""
    adapts: tuple[str, ...] = ("score/*",)
    """Patterns of the parameters that adapt to a user; the others are shared."""
    heads: int = bounded(2, least=1)
    """Attention heads; one where `embedding` is no multiple of them."""


def _network(settings: Settings, shapes: Shapes) -> Any:
    options: SequenceOptions = settings.options
    return from_history_module(
        SequenceNetwork(
            encoder_of(settings, shapes),
            options.embedding,
            heads=options.heads if options.embedding % options.heads == 0 else 1,
            predictor_widths=(options.width, options.width),
            reference=reference_label(settings, shapes),
        )
    )


methods: tuple[Method, ...] = (
    Method(
        "sequential",
        learner=by_gradient_steps(learners.sequential),
        network=_network,
        initial=initial_values,
        options=SequenceOptions,
        grid=({}, {"inner_rate": 0.003}, {"inner_rate": 0.02}, {"steps": 2}),
    ),
)

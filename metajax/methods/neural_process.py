"""Conditional and attentive neural process."""

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
from metajax.methods.parts import RATES, objectives, outer_optimizer
from metajax.methods.settings import Settings, bounded
from metajax.networks import AttentiveProcess, ConditionalProcess, from_support_module
from metajax.types import MetaLearner

__all__ = ["AttentiveOptions", "methods"]


@dataclass(frozen=True, kw_only=True)
class AttentiveOptions(EncoderOptions):
    """Options of the attentive neural process."""

    heads: int = bounded(4, least=1)
    """Most attention heads; no more than `width`."""


def _conditional_process(settings: Settings, shapes: Shapes) -> Any:
    encoder, reference = encoder_of(settings, shapes), reference_label(settings, shapes)
    return from_support_module(ConditionalProcess(encoder, settings.options.width, reference))


def _attentive_process(settings: Settings, shapes: Shapes) -> Any:
    options: AttentiveOptions = settings.options
    encoder, reference = encoder_of(settings, shapes), reference_label(settings, shapes)
    heads = min(options.heads, options.width)
    return from_support_module(AttentiveProcess(encoder, options.width, heads, reference))


def _neural_process(settings: Settings, network: Any) -> MetaLearner:
    # By its likelihood where scores are ratings.
    objective = objectives[settings.objective]
    return learners.neural_process(
        network,
        None if objective.rating else objective.loss,
        outer=outer_optimizer(settings),
        microbatch=settings.microbatch,
    )


methods: tuple[Method, ...] = (
    Method(
        "conditional_process",
        learner=_neural_process,
        network=_conditional_process,
        initial=initial_popularity,
        options=EncoderOptions,
        grid=RATES,
    ),
    Method(
        "attentive_process",
        learner=_neural_process,
        network=_attentive_process,
        initial=initial_popularity,
        options=AttentiveOptions,
        grid=RATES,
    ),
)

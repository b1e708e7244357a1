"""Recipes whose networks start from an `Encoder`: what they compare, sum up or read are items."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from metajax import learners
from metajax.baselines.factors import fit_factors
from metajax.baselines.preferences import liked_counts
from metajax.data.dataset import Shapes, TrainingSet
from metajax.methods.method import Method
from metajax.methods.parts import (
    RATES,
    by_gradient_steps,
    by_one_pass,
    identities_of,
    objectives,
    outer_optimizer,
)
from metajax.methods.settings import Settings, TwoTowerOptions
from metajax.networks import (
    AttentiveProcess,
    ConditionalProcess,
    Encoder,
    MatchingNetwork,
    PrototypeNetwork,
    SequenceNetwork,
    from_history_module,
    from_linen,
    from_support_module,
    initial_encoder,
)
from metajax.types import MetaLearner, Params

__all__ = [
    "attentive_process",
    "conditional_process",
    "matching_network",
    "methods",
    "neural_process",
    "prototype_network",
    "sequence_network",
    "start",
    "start_popular",
]


def start(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Starts the encoder from factors in closed form; without them from the mean rating."""
    if not (settings.options.rank and settings.options.pretrained):
        return partial(initial_encoder, bias=np.mean(training.interactions.rating))
    factors = fit_factors(training.interactions, rank=settings.options.rank, seed=settings.seed)
    embedding, bias = identities_of(factors)
    return partial(initial_encoder, bias=bias, embedding=embedding)


def start_popular(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Is `start`, but where scores only order the items they start at log popularity.

    Its softmax is how often each item is liked. Not for those who take inner steps on ratings,
    which have to start at ratings.
    """
    begun = start(settings, training)
    if objectives[settings.objective].rating or not settings.options.rank:
        return begun
    popularity = np.log1p(liked_counts(training))
    return lambda params: initial_encoder(begun(params), bias=popularity)


def prototype_network(settings: Settings, shapes: Shapes) -> Any:
    """Builds the space of a prototypical recommender."""
    return from_linen(PrototypeNetwork(_encoder(settings, shapes), settings.options.embedding))


def matching_network(settings: Settings, shapes: Shapes) -> Any:
    """Builds a matching network of four heads."""
    return from_linen(
        MatchingNetwork(
            _encoder(settings, shapes),
            width=max(settings.options.embedding // 2, 1),
            predictor_widths=(settings.options.width,),
            reference=_reference(settings, shapes),
        )
    )


def conditional_process(settings: Settings, shapes: Shapes) -> Any:
    """Builds a conditional neural process."""
    encoder, reference = _encoder(settings, shapes), _reference(settings, shapes)
    return from_support_module(ConditionalProcess(encoder, settings.options.width, reference))


def attentive_process(settings: Settings, shapes: Shapes) -> Any:
    """Builds an attentive neural process of up to four heads."""
    encoder, reference = _encoder(settings, shapes), _reference(settings, shapes)
    return from_support_module(
        AttentiveProcess(encoder, settings.options.width, min(4, settings.options.width), reference)
    )


def sequence_network(settings: Settings, shapes: Shapes) -> Any:
    """Builds a network that reads a user's history."""
    return from_history_module(
        SequenceNetwork(
            _encoder(settings, shapes),
            settings.options.embedding,
            heads=2 if settings.options.embedding % 2 == 0 else 1,
            predictor_widths=(settings.options.width, settings.options.width),
            reference=_reference(settings, shapes),
        )
    )


def neural_process(settings: Settings, network: Any) -> MetaLearner:
    """Trains a neural process by its likelihood where scores are ratings."""
    objective = objectives[settings.objective]
    return learners.neural_process(
        network,
        None if objective.rating else objective.loss,
        outer=outer_optimizer(settings),
        microbatch=settings.microbatch,
    )


def _encoder(settings: Settings, shapes: Shapes) -> Encoder:
    width, embedding = settings.options.width, settings.options.embedding
    return Encoder(
        user_widths=(width, embedding),
        item_widths=(width, embedding),
        items=shapes.items if settings.options.rank else 0,
        identity_width=settings.options.rank + 1,
    )


def _reference(settings: Settings, shapes: Shapes) -> float | None:
    """What the labels of a support are compared with: see `MatchingNetwork`."""
    if objectives[settings.objective].rating:
        return None
    return 1.0 if shapes.scale is None else sum(shapes.scale) / 2


methods: tuple[Method, ...] = (
    Method(
        "prototypical",
        by_one_pass(learners.prototypical),
        prototype_network,
        start_popular,
        grid=RATES,
        options=TwoTowerOptions,
    ),
    Method(
        "matching_network",
        by_one_pass(learners.matching_network),
        matching_network,
        start_popular,
        grid=RATES,
        options=TwoTowerOptions,
    ),
    Method(
        "conditional_process",
        neural_process,
        conditional_process,
        start_popular,
        grid=RATES,
        options=TwoTowerOptions,
    ),
    Method(
        "attentive_process",
        neural_process,
        attentive_process,
        start_popular,
        grid=RATES,
        options=TwoTowerOptions,
    ),
    Method(
        "sequential",
        by_gradient_steps(learners.sequential),
        sequence_network,
        start,
        settings={"adapts": ("score/*",), "inner_rate": 0.01},
        grid=({}, {"inner_rate": 0.003}, {"inner_rate": 0.02}, {"steps": 2}),
        options=TwoTowerOptions,
    ),
)
"""By one pass over the support, the last by steps on its sequence."""

"""Encoder of items of several networks: options and initial values."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from metajax.baselines.preferences import liked_counts
from metajax.data.dataset import Shapes, TrainingSet
from metajax.fields import Range, bounded
from metajax.methods.identities import item_identities
from metajax.methods.objective import objectives
from metajax.methods.settings import Options, Settings
from metajax.networks import Encoder, initial_encoder
from metajax.types import Params

__all__ = [
    "EncoderOptions",
    "encoder_of",
    "initial_popularity",
    "initial_values",
    "reference_label",
]


@dataclass(frozen=True, kw_only=True)
class EncoderOptions(Options):
    """Options of networks with an `Encoder`."""

    width: int = bounded(64, least=1)
    """Width of the hidden layers."""
    embedding: int = bounded(32, least=1)
    """Width of the user and item embeddings."""
    rank: int = bounded(8, least=0, search=Range(2, 16))
    """Factors of an item's identity; 0 for a network of attributes alone."""
    pretrained: bool = True
    """Initialise identities by factors fitted in closed form, or at random."""


def encoder_of(settings: Settings, shapes: Shapes) -> Encoder:
    """Builds the encoder with one hidden layer a side."""
    options: EncoderOptions = settings.options
    return Encoder(
        user_widths=(options.width, options.embedding),
        item_widths=(options.width, options.embedding),
        items=shapes.items if options.rank else 0,
        identity_width=options.rank + 1,
    )


def reference_label(settings: Settings, shapes: Shapes) -> float | None:
    """Returns the reference that residuals of labels are taken from: see `MatchingNetwork`.

    In an implicit log it starts at 0: at 1, the label of every interaction, no support would count.
    """
    if objectives[settings.objective].rating:
        return None
    return 0.0 if shapes.scale is None else sum(shapes.scale) / 2


def initial_values(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Initialises the encoder by factors in closed form; without them by the mean rating."""
    options: EncoderOptions = settings.options
    if not (options.rank and options.pretrained):
        return partial(initial_encoder, bias=np.mean(training.interactions.rating))
    embedding, bias = item_identities(training, rank=options.rank, seed=settings.seed)
    return partial(initial_encoder, bias=bias, embedding=embedding)


def initial_popularity(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Initialises as `initial_values`, and where scores only order the items, by log popularity.

    Its softmax is how often each item is liked. Inner steps on ratings have to begin at ratings,
    so that methods that take some use `initial_values`.
    """
    initial = initial_values(settings, training)
    if objectives[settings.objective].rating or not settings.options.rank:
        return initial
    popularity = np.log1p(liked_counts(training))
    return lambda params: initial_encoder(initial(params), bias=popularity)

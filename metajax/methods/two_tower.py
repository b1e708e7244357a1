"""Two-tower rating network without meta-learning, and parts of gradient-based methods on it.

Items start from factors in closed form, so for most gradient-based methods the adapted parameters
are the layer that maps an item's identity to the score: a user's own vector of the factor model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from metajax import learners
from metajax.data.dataset import Shapes, TrainingSet
from metajax.fields import Range, bounded
from metajax.learners.gru_adapter import all_features
from metajax.methods.identities import item_identities, item_tables
from metajax.methods.method import Method
from metajax.methods.objective import by_gradient_steps, by_one_pass
from metajax.methods.settings import Options, Settings
from metajax.networks import RatingNetwork, from_linen, initial_bias, initial_identity
from metajax.types import Inputs, Model, Params

__all__ = [
    "GradientOptions",
    "StepOptions",
    "TowerOptions",
    "identities",
    "inner_rates",
    "last_layers",
    "methods",
    "pretrained",
    "rating_network",
]

inner_rates = ({}, {"inner_rate": 0.03}, {"inner_rate": 0.1}, {"inner_rate": 0.2})
"""Grid of the learning rate of the inner steps."""

last_layers = ("direct/*", "predictor/layer_2/*")
"""Patterns of the parameters after the last hidden layer."""


@dataclass(frozen=True, kw_only=True)
class TowerOptions(Options):
    """Options of the two-tower network; every method on it has these."""

    width: int = bounded(64, least=1)
    """Width of the hidden layers."""
    embedding: int = bounded(32, least=1)
    """Width of the user and item embeddings."""
    rank: int = bounded(8, least=0, search=Range(2, 16))
    """Factors of an item's identity; 0 for a network of attributes alone."""
    pretrained: bool = True
    """Initialise identities by factors fitted in closed form, or at random."""


@dataclass(frozen=True, kw_only=True)
class StepOptions(TowerOptions):
    """Options of methods that take inner steps on the two-tower network."""

    steps: int = bounded(5, least=1, search=Range(1, 10))
    """Inner steps on a user's support."""
    inner_rate: float = bounded(0.05, above=0, search=Range(0.001, 0.5, log=True))
    """Learning rate of the inner steps."""


@dataclass(frozen=True, kw_only=True)
class GradientOptions(StepOptions):
    """Options of methods whose adapted parameters can be chosen."""

    adapts: tuple[str, ...] = ()
    """Patterns of the parameters that adapt to a user; the others are shared. By default the
    method's own choice: for most direct/*, or where items have no identities predictor/*."""


def rating_network(settings: Settings, shapes: Shapes) -> Model:
    """Builds the two towers."""
    options: TowerOptions = settings.options
    return from_linen(
        RatingNetwork(
            user_widths=(options.width, options.width, options.embedding),
            item_widths=(options.width, options.embedding),
            predictor_widths=(options.width, options.width),
            items=shapes.items if options.rank else 0,
            identity_width=options.rank + 1,
            direct=options.rank > 0,
        ),
        broadcasts_user=True,
    )


def pretrained(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Initialises the two towers by factors in closed form; without them by the mean rating."""
    options: TowerOptions = settings.options
    if not (options.rank and options.pretrained):
        return partial(initial_bias, bias=float(np.mean(training.interactions.rating)))
    found = item_identities(training, rank=options.rank, seed=settings.seed)
    embedding, bias = map(jnp.asarray, found)
    return partial(initial_identity, embedding=embedding, bias=bias)


def identities(network: Params, inputs: Inputs) -> jax.Array:
    """Embeds interactions by their item's identity `[N, rank + 1]`, without one by features."""
    if "item_embedding" not in network:
        return all_features(network, inputs)
    return jnp.take(network["item_embedding"]["embedding"], inputs.item, axis=0)


_TWO_TOWER = Method(
    "two_tower",
    learner=by_one_pass(learners.supervised),
    network=rating_network,
    tables=item_tables,
    initial=pretrained,
    options=TowerOptions,
    kind="baseline",
)

methods: tuple[Method, ...] = (
    _TWO_TOWER,
    Method(
        "two_tower_fine_tuned",
        learner=by_gradient_steps(learners.fine_tuned),
        network=rating_network,
        tables=item_tables,
        initial=pretrained,
        options=GradientOptions,
        grid=inner_rates,
        kind="baseline",
        trained_as=_TWO_TOWER,
    ),
)
"""The network trained on all ratings; the second takes inner steps on a user's support, though it
was not trained to."""

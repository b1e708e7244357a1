"""Bayesian ridge head on item factors, those of unrated items predicted from attributes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax.numpy as jnp

from metajax import learners
from metajax.baselines.attribute_factors import with_attributes
from metajax.baselines.content import taste_map
from metajax.baselines.factors import Factors, fit_factors, identities_of
from metajax.data.dataset import Shapes, TrainingSet
from metajax.fields import Range, bounded
from metajax.methods.method import Method
from metajax.methods.objective import by_one_pass
from metajax.methods.settings import Options, Settings
from metajax.networks import RidgeNetwork, from_linen, initial_evidence
from metajax.types import Model, Params

__all__ = [
    "RidgeOptions",
    "check_rank",
    "fixed_parameters",
    "initial_from_factors",
    "initial_values",
    "methods",
    "preference_directions",
    "ridge_network",
]

fixed_parameters = ("item_embedding", "item_spread", "taste_map")
"""The parameters of a `RidgeNetwork` that are not trained."""


@dataclass(frozen=True, kw_only=True)
class RidgeOptions(Options):
    """Options of the Bayesian ridge head."""

    rank: int = bounded(8, least=0, search=Range(2, 16))
    """Factors of an item, at least 1."""
    attribute_axes: int = bounded(32, least=0)
    """Most main axes of item attributes along which users differ; memory of a user is the square of
    all directions."""
    taste_share: float = bounded(0.07, above=0, search=Range(0.01, 0.5, log=True))
    """Variance that tastes for attributes explain of an average item's rating before anything is
    known of the user, as a share of the noise."""


def ridge_network(settings: Settings, shapes: Shapes) -> Model:
    """Builds the network for `rank` factors, the user's bias, and tastes for attributes."""
    network = RidgeNetwork(
        shapes.items, settings.options.rank + 1, preference_directions(settings, shapes)
    )
    return from_linen(network)


def preference_directions(settings: Settings, shapes: Shapes) -> int:
    """Number of directions of item attributes along which users differ."""
    return min(shapes.item_width, settings.options.attribute_axes)


def initial_values(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Initialises by factors in closed form, completed by attributes.

    Without attributes the first predictions are the fold-in's. With them unrated items get the
    expectation of similar items, personalised by the user's tastes for attributes.
    """
    check_rank(settings)
    factors = fit_factors(training.interactions, rank=settings.options.rank, seed=settings.seed)
    return initial_from_factors(settings, factors, training)


def check_rank(settings: Settings) -> None:
    """Refuses items without identities."""
    if not settings.options.rank:
        raise ValueError("rank must be >= 1 for a ridge head, got 0.")


def initial_from_factors(
    settings: Settings, factors: Factors, training: TrainingSet
) -> Callable[[Params], Params]:
    """Initialises by given factors, completed by attributes."""
    factors, spread = with_attributes(factors, training)
    embedding, bias = map(jnp.asarray, identities_of(factors))
    options = settings.options
    tastes = taste_map(
        training,
        float(factors.noise),
        share=options.taste_share,
        most=options.attribute_axes,
    )
    return partial(
        initial_evidence,
        embedding=embedding,
        bias=bias,
        noise=factors.noise,
        spread=jnp.asarray(spread),
        taste_map=jnp.asarray(tastes),
    )


methods: tuple[Method, ...] = (
    Method(
        "bayesian_ridge",
        by_one_pass(learners.bayesian_ridge, *fixed_parameters),
        ridge_network,
        initial_values,
        settings={"weight_decay": 0.0, "updates": 300},
        any_support=True,
        needs_ratings=True,
        options=RidgeOptions,
    ),
)

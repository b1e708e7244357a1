"""Recipes of users who are known in one domain and new to another, on factors of both."""

from collections.abc import Callable
from functools import partial
from types import MappingProxyType

from metajax.base import Params
from metajax.data.dataset import Shapes, TrainingSet
from metajax.models import SupportModel, shared_space, start_maps
from metajax.recipes.domain_factors import canonical_factors
from metajax.recipes.sampling import Sampler, cross_tasks
from metajax.settings import Settings

__all__ = [
    "SETTINGS",
    "asked_of_both",
    "shared_maps",
    "shared_network",
]

SETTINGS = MappingProxyType(
    {"width": 32, "weight_decay": 0.0, "support": 5, "updates": 200, "validate_every": 20}
)
"""What starts at a closed form needs few updates, and is looked at often."""


def shared_network(settings: Settings, shapes: Shapes) -> SupportModel:
    """Builds one space for both domains, and a predictor with one hidden layer."""
    return shared_space(shapes.items, settings.rank + 1, (settings.width,))


def shared_maps(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Starts the space where users of both domains are jointly normal."""
    found = canonical_factors(training, rank=settings.rank, seed=settings.seed)
    return partial(start_maps, factors=found.factors, correlation=found.correlation)


def asked_of_both(settings: Settings, shapes: Shapes) -> Sampler:
    """Samples tasks that ask for as much of the source as of the target."""
    return cross_tasks(settings, shapes, source_query=settings.query)

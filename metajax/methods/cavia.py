"""CAVIA on the two-tower network: a context of the user adapts."""

from metajax import learners
from metajax.methods.identities import item_tables
from metajax.methods.method import Method
from metajax.methods.objective import step_arguments
from metajax.methods.settings import Settings
from metajax.methods.two_tower import (
    StepOptions,
    inner_rates,
    pretrained,
    rating_network,
)
from metajax.types import MetaLearner, Model

__all__ = ["methods"]


def _cavia(settings: Settings, network: Model) -> MetaLearner:
    # As many numbers as an item has factors.
    size = max(settings.options.rank, 1)
    return learners.cavia(network, size=size, **step_arguments(settings))


methods: tuple[Method, ...] = (
    Method(
        "cavia",
        learner=_cavia,
        network=rating_network,
        tables=item_tables,
        initial=pretrained,
        options=StepOptions,
        grid=inner_rates,
    ),
)

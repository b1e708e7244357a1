"""ANIL on the two-tower network: the last layers adapt."""

from metajax import learners
from metajax.adaptation import matching
from metajax.methods.identities import item_tables
from metajax.methods.method import Method
from metajax.methods.objective import step_arguments
from metajax.methods.settings import Settings
from metajax.methods.two_tower import (
    GradientOptions,
    last_layers,
    pretrained,
    rating_network,
)
from metajax.types import MetaLearner, Model

__all__ = ["methods"]


def _anil(settings: Settings, network: Model) -> MetaLearner:
    head = matching(*(settings.options.adapts or last_layers))
    return learners.anil(network, head=head, **step_arguments(settings))


methods: tuple[Method, ...] = (
    Method(
        "anil",
        learner=_anil,
        network=rating_network,
        tables=item_tables,
        initial=pretrained,
        options=GradientOptions,
        settings={"inner_rate": 0.01},
        grid=({}, {"inner_rate": 0.005}, {"inner_rate": 0.03}),
    ),
)

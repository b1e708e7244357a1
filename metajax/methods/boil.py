"""BOIL on the two-tower network: the layers before the last ones adapt."""

from metajax import learners
from metajax.adaptation import matching
from metajax.methods.identities import item_tables
from metajax.methods.method import Method
from metajax.methods.objective import step_arguments
from metajax.methods.settings import Settings
from metajax.methods.two_tower import (
    StepOptions,
    last_layers,
    pretrained,
    rating_network,
)
from metajax.types import MetaLearner, Model

__all__ = ["methods"]


def _boil(settings: Settings, network: Model) -> MetaLearner:
    # Items are shared by all users.
    head = matching("item_embedding/*", "item_bias/*", *last_layers)
    return learners.boil(network, head=head, **step_arguments(settings))


methods: tuple[Method, ...] = (
    Method(
        "boil",
        learner=_boil,
        network=rating_network,
        tables=item_tables,
        initial=pretrained,
        options=StepOptions,
        settings={"inner_rate": 0.01},
        grid=({}, {"inner_rate": 0.005}, {"inner_rate": 0.03}),
    ),
)

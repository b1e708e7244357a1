"""Reptile on the two-tower network."""

import optax

from metajax import learners
from metajax.adaptation import matching
from metajax.fields import Range
from metajax.methods.identities import item_tables
from metajax.methods.method import Method
from metajax.methods.objective import objectives, step_arguments
from metajax.methods.settings import Settings
from metajax.methods.two_tower import (
    GradientOptions,
    pretrained,
    rating_network,
)
from metajax.types import MetaLearner, Model

__all__ = ["methods"]

# All but the items: what does not adapt would not learn.
_ADAPTED = ("*_tower/*", "predictor/*", "direct/*")


def _reptile(settings: Settings, network: Model) -> MetaLearner:
    """Reptile with a decaying outer step, as in the paper.

    An optimizer that divides by the size of its gradients would go as far where tasks agree as
    where they do not. An order is descended on by its own loss: the squares of a whole catalogue
    add up to more than a step can bear.
    """
    objective = objectives[settings.objective]
    fraction = optax.linear_schedule(settings.rate, 0.0, settings.updates)
    arguments = step_arguments(settings) | {"outer": optax.sgd(fraction)}
    if not objective.rating:
        arguments["inner_loss"] = objective.loss
    adapts = matching(*(settings.options.adapts or _ADAPTED))
    return learners.reptile(network, adapts=adapts, **arguments)


methods: tuple[Method, ...] = (
    Method(
        "reptile",
        learner=_reptile,
        network=rating_network,
        tables=item_tables,
        initial=pretrained,
        options=GradientOptions,
        settings={"inner_rate": 0.002, "rate": 0.3},
        grid=({}, {"inner_rate": 0.001}, {"rate": 1.0}),
        ranges={
            "rate": Range(0.03, 1.0, log=True),
            "inner_rate": Range(1e-4, 0.05, log=True),
        },
    ),
)

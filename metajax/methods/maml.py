"""MAML on the two-tower network."""

from metajax import learners
from metajax.methods.identities import item_tables
from metajax.methods.method import Method
from metajax.methods.objective import by_gradient_steps
from metajax.methods.two_tower import (
    GradientOptions,
    inner_rates,
    pretrained,
    rating_network,
)

__all__ = ["methods"]

_MAML = Method(
    "maml",
    learner=by_gradient_steps(learners.maml),
    network=rating_network,
    tables=item_tables,
    initial=pretrained,
    options=GradientOptions,
    grid=inner_rates,
)

methods: tuple[Method, ...] = (
    _MAML,
    _MAML._replace(name="maml_from_random", settings={"pretrained": False}),
)
"""The second with random initial parameters."""

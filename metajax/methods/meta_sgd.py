"""Meta-SGD on the two-tower network: a learned rate for each adapted parameter."""

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

methods: tuple[Method, ...] = (
    Method(
        "meta_sgd",
        learner=by_gradient_steps(learners.meta_sgd, learned_rate=True),
        network=rating_network,
        tables=item_tables,
        initial=pretrained,
        options=GradientOptions,
        grid=inner_rates,
    ),
)

"""First-order MAML on the two-tower network."""

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
        "fomaml",
        learner=by_gradient_steps(learners.fomaml),
        network=rating_network,
        tables=item_tables,
        initial=pretrained,
        options=GradientOptions,
        grid=inner_rates,
    ),
)

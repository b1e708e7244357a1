"""Parameters that are carried over from a source: users and layers stay, items are new."""

from collections.abc import Callable

import jax.numpy as jnp

from metajax import cross_domain
from metajax.cross_domain.carried_users import carried_users
from metajax.cross_domain.domain_factors import DomainFactors, start_factors
from metajax.cross_domain.transferred_factors import fit_transferred_factors
from metajax.data.dataset import Shapes, TrainingSet
from metajax.methods.method import Method
from metajax.methods.settings import Settings, TwoTowerOptions
from metajax.methods.two_domains import SETTINGS, asked_of_both, from_source_to_target
from metajax.types import Params, SupportModel

__all__ = ["copied_users", "methods", "rating_network_of_both"]


def rating_network_of_both(settings: Settings, shapes: Shapes) -> SupportModel:
    """Builds the model with two hidden layers of the width of the settings."""
    return carried_users(
        shapes.items, settings.options.rank + 1, (settings.options.width, settings.options.width)
    )


def copied_users(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Starts from factors of the source, and items of the target fitted to its users."""
    found = fit_transferred_factors(training, rank=settings.options.rank, seed=settings.seed)

    def start(params: Params) -> Params:
        leaves = (training.item_domain, *found)
        return start_factors(params, DomainFactors(*(jnp.asarray(leaf) for leaf in leaves)))

    return start


methods: tuple[Method, ...] = (
    Method(
        "parameter_transfer",
        from_source_to_target(cross_domain.parameter_transfer),
        rating_network_of_both,
        copied_users,
        asked_of_both,
        settings={**SETTINGS, "updates": 100},
        grid=({}, {"rate": 3e-3}),
        any_support=True,
        two_domains=True,
        options=TwoTowerOptions,
    ),
)

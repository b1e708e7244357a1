"""MAML++ on the two-tower network."""

from dataclasses import dataclass

from metajax import learners
from metajax.fields import Range, bounded
from metajax.methods.identities import item_tables
from metajax.methods.method import Method
from metajax.methods.objective import by_gradient_steps
from metajax.methods.settings import Settings
from metajax.methods.two_tower import (
    GradientOptions,
    inner_rates,
    pretrained,
    rating_network,
)
from metajax.types import MetaLearner, Model

__all__ = ["PlusPlusOptions", "methods"]


@dataclass(frozen=True, kw_only=True)
class PlusPlusOptions(GradientOptions):
    """Options of MAML++."""

    first_order: float = bounded(0.1, least=0, most=1, search=Range(0.0, 0.5))
    """Share of the updates, from the first, with first-order gradients."""
    multi_step: float = bounded(0.5, least=0, most=1, search=Range(0.0, 1.0))
    """Share of the updates, from the first, with a loss after every inner step."""


def _maml_plus_plus(settings: Settings, network: Model) -> MetaLearner:
    options: PlusPlusOptions = settings.options
    build = by_gradient_steps(
        learners.maml_plus_plus,
        learned_rate=True,
        first_order=int(options.first_order * settings.updates),
        multi_step=int(options.multi_step * settings.updates),
    )
    return build(settings, network)


methods: tuple[Method, ...] = (
    Method(
        "maml_plus_plus",
        learner=_maml_plus_plus,
        network=rating_network,
        tables=item_tables,
        initial=pretrained,
        options=PlusPlusOptions,
        grid=inner_rates,
    ),
)

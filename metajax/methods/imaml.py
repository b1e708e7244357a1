"""Implicit MAML on the two-tower network."""

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

__all__ = ["ImplicitOptions", "methods"]


@dataclass(frozen=True, kw_only=True)
class ImplicitOptions(GradientOptions):
    """Options of implicit MAML."""

    proximal: float = bounded(2.0, above=0, search=Range(0.2, 20.0, log=True))
    """Weight of half the squared distance from the meta-parameters. With the sum of squared errors
    as inner loss, 2 is a unit prior at unit noise: half of either is a negative log-likelihood."""


def _imaml(settings: Settings, network: Model) -> MetaLearner:
    build = by_gradient_steps(learners.imaml, proximal=settings.options.proximal)
    return build(settings, network)


methods: tuple[Method, ...] = (
    Method(
        "imaml",
        learner=_imaml,
        network=rating_network,
        tables=item_tables,
        initial=pretrained,
        options=ImplicitOptions,
        settings={"steps": 15},
        grid=inner_rates,
        ranges={"steps": Range(5, 25)},
    ),
)

"""Proto-MAML on the two-tower network: MAML from prototypes of item identities."""

from dataclasses import dataclass

from metajax import learners
from metajax.methods.identities import item_tables
from metajax.methods.method import Method
from metajax.methods.objective import by_gradient_steps
from metajax.methods.settings import Settings
from metajax.methods.two_tower import (
    GradientOptions,
    identities,
    pretrained,
    rating_network,
)
from metajax.types import MetaLearner, Model

__all__ = ["PrototypeOptions", "methods"]


@dataclass(frozen=True, kw_only=True)
class PrototypeOptions(GradientOptions):
    """Options of Proto-MAML."""

    levels: tuple[float, ...] = (-2.0, -1.0, 0.0, 1.0, 2.0)
    """Levels of the rating's residual, in the data's units, with a prototype each."""


def _proto_maml(settings: Settings, network: Model) -> MetaLearner:
    build = by_gradient_steps(learners.proto_maml, embed=identities, levels=settings.options.levels)
    return build(settings, network)


methods: tuple[Method, ...] = (
    Method(
        "proto_maml",
        learner=_proto_maml,
        network=rating_network,
        tables=item_tables,
        initial=pretrained,
        options=PrototypeOptions,
        settings={"inner_rate": 0.02},
        grid=({}, {"inner_rate": 0.005}, {"inner_rate": 0.03}),
    ),
)

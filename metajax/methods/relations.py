"""Relations of users and items that carry over: the network, and what it starts from."""

from collections.abc import Callable

import jax.numpy as jnp

from metajax import cross_domain
from metajax.cross_domain.domain_factors import start_factors
from metajax.cross_domain.relation_network import RelationNetwork, related_domains
from metajax.data.dataset import Shapes, TrainingSet
from metajax.methods.domain_factors import canonical_factors
from metajax.methods.method import Method
from metajax.methods.settings import Settings, TwoTowerOptions
from metajax.methods.two_domains import SETTINGS, asked_of_both, from_source_to_target
from metajax.types import Params, SupportModel

__all__ = ["canonical_relations", "methods", "relation_network"]


def relation_network(settings: Settings, shapes: Shapes) -> SupportModel:
    """Builds the model with one hidden layer of the width of the settings."""
    network = RelationNetwork((settings.options.width,))
    return related_domains(shapes.items, settings.options.rank + 1, network)


def canonical_relations(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Starts from factors in which a direction of one domain meets one of the other.

    A relation is then carried over by how much the two have in common, and the first predictions
    are those of a linear map between the users of the domains.
    """
    found = canonical_factors(training, rank=settings.options.rank, seed=settings.seed)

    def start(params: Params) -> Params:
        transfer = {"kernel": jnp.diag(found.correlation)}
        spread = 0.5 * jnp.log1p(-jnp.square(found.correlation))
        relations = {**params["relations"], "transfer": transfer}
        return {
            **start_factors(params, found.factors),
            "relations": relations,
            "log_spread": spread,
        }

    return start


methods: tuple[Method, ...] = (
    Method(
        "relation_transfer",
        from_source_to_target(cross_domain.relation_transfer),
        relation_network,
        canonical_relations,
        asked_of_both,
        settings={**SETTINGS, "updates": 100},
        grid=({}, {"rate": 3e-3}),
        any_support=True,
        two_domains=True,
        options=TwoTowerOptions,
    ),
)

"""Mapped users of two domains: the network, and what it starts from."""

from collections.abc import Callable
from types import MappingProxyType

import jax.numpy as jnp

from metajax import cross_domain
from metajax.cross_domain.domain_factors import start_factors, two_domains
from metajax.cross_domain.embedding_map import MapOfMean
from metajax.data.dataset import Shapes, TrainingSet
from metajax.methods.domain_factors import canonical_factors
from metajax.methods.method import Method
from metajax.methods.parts import outer_optimizer
from metajax.methods.settings import Settings, TwoTowerOptions
from metajax.types import MetaLearner, Params, SupportModel

__all__ = ["emcdr", "linear_map_of_users", "map_of_users", "mapped_linearly", "methods"]

# The linear map is close to its best from the start, and the more that is asked, the better known
# is where a user lies.
_SETTINGS = MappingProxyType(
    {"rate": 3e-3, "weight_decay": 0.0, "updates": 100, "validate_every": 50, "query": 40}
)


def map_of_users(settings: Settings, shapes: Shapes) -> SupportModel:
    """Builds the two domains with a map of one hidden layer, of twice the width of the users."""
    width = settings.options.rank + 1
    return two_domains(shapes.items, width, MapOfMean(2 * width))


def linear_map_of_users(settings: Settings, shapes: Shapes) -> SupportModel:
    """Builds the two domains with a linear map."""
    return two_domains(shapes.items, settings.options.rank + 1, MapOfMean())


def mapped_linearly(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Starts from factors of each domain and the linear map between their users."""
    found = canonical_factors(training, rank=settings.options.rank, seed=settings.seed)
    along = found.correlation

    def start(params: Params) -> Params:
        linear = {"kernel": jnp.diag(along), "bias": jnp.zeros(len(along))}
        bridge = {"map": {**params["bridge"]["map"], "linear": linear}}
        spread = 0.5 * jnp.log1p(-jnp.square(along))
        return {**start_factors(params, found.factors), "bridge": bridge, "log_spread": spread}

    return start


def emcdr(settings: Settings, network: SupportModel) -> MetaLearner:
    """Builds the learner of the map, by distances of users."""
    outer = outer_optimizer(settings)
    return cross_domain.emcdr(network, outer=outer, microbatch=settings.microbatch)


methods: tuple[Method, ...] = (
    Method(
        "emcdr",
        emcdr,
        map_of_users,
        mapped_linearly,
        settings=_SETTINGS,
        grid=({}, {"rate": 1e-3}),
        any_support=True,
        two_domains=True,
        options=TwoTowerOptions,
    ),
    Method(
        "emcdr_linear",
        emcdr,
        linear_map_of_users,
        mapped_linearly,
        settings=_SETTINGS,
        grid=({}, {"rate": 1e-3}),
        any_support=True,
        two_domains=True,
        options=TwoTowerOptions,
    ),
)
"""Maps of users, of one hidden layer and linear."""

"""The Bayesian ridge of two domains: its prior knows what a user chose in the source."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from metajax import learners
from metajax.baselines.factors import fit_factors
from metajax.cross_domain.choices import fit_choices
from metajax.cross_domain.domains import check_domains
from metajax.cross_domain.informed_ridge_network import (
    InformedRidge,
    Told,
    informed_ridge_network,
    start_told,
)
from metajax.data.dataset import Shapes, TrainingSet
from metajax.methods.method import Method
from metajax.methods.parts import by_one_pass
from metajax.methods.ridge import TABLES, check_rank, started, tastes_of
from metajax.methods.settings import Settings, TwoTowerOptions
from metajax.types import MetaLearner, Model, Params

__all__ = ["informed_ridge", "methods", "network_of", "start"]

# A user's ratings beyond the first few say less than independent ones would.
_POWER = (1.0, 0.7)


def network_of(settings: Settings, shapes: Shapes) -> InformedRidge:
    """Builds the network for `rank` factors, the user's bias, and tastes for attributes."""
    return informed_ridge_network(shapes.items, settings.options.rank + 1, tastes_of(shapes))


def start(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Starts from factors of both domains together, and from what choices in the source tell."""
    check_rank(settings)
    looked_at = check_domains(training) == 0
    # Items of one domain are few: penalties are as if the rank alone decided.
    ridge = 15.0 * settings.options.rank
    factors = fit_factors(
        training.interactions, rank=settings.options.rank, item_ridge=ridge, seed=settings.seed
    )
    choices = fit_choices(training, factors, looked_at)
    covariance = jnp.asarray(choices.covariance, jnp.float32)
    factors = factors._replace(prior_covariance=covariance)
    # In the network a user's prior is a standard normal around what was told.
    turned = np.linalg.inv(np.linalg.cholesky(choices.covariance)).T  # [d + 1, d + 1]
    usual = np.asarray(factors.prior_mean, np.float64)
    told = Told(
        looked_at=jnp.asarray(looked_at, jnp.float32),
        of_item=jnp.asarray(choices.of_item @ turned),
        level=jnp.asarray((choices.level - usual) @ turned),
        unknown=jnp.asarray((choices.unknown - usual) @ turned),
    )
    network_started = started(factors, training)
    of_user = jnp.asarray(choices.of_user @ turned, jnp.float32)

    def begin(params: Params) -> Params:
        network = network_started(params["network"])
        if of_user.size:
            network = {**network, "user_map": {"kernel": of_user}}
        return start_told({**params, "network": network}, told, jnp.array(_POWER))

    return begin


def informed_ridge(settings: Settings, network: InformedRidge) -> MetaLearner:
    """Builds the learner; what was told in closed form stays as it is."""
    tables = (f"network/{name}" for name in TABLES)
    learner = by_one_pass(learners.bayesian_ridge, "told", *tables, prior=network.prior)
    return learner(settings, Model(network.init, network.apply))


methods: tuple[Method, ...] = (
    Method(
        "informed_ridge",
        informed_ridge,
        network_of,
        start,
        settings={
            "rank": 4,
            "weight_decay": 0.0,
            "rate": 3e-4,
            "updates": 200,
            "validate_every": 20,
        },
        grid=({}, {"rank": 8}),
        any_support=True,
        two_domains=True,
        options=TwoTowerOptions,
    ),
)

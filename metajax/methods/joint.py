"""A ridge head across two domains, which starts from the joint prior of a user's latents.

What training adds to the closed form is little, and soon lost again.
"""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
import numpy as np

from metajax import learners
from metajax.cross_domain.joint_factors import fit_joint_factors
from metajax.data.dataset import Shapes, TrainingSet
from metajax.methods.method import Method
from metajax.methods.parts import by_one_pass
from metajax.methods.ridge import TABLES, check_rank
from metajax.methods.settings import Settings, TwoTowerOptions
from metajax.networks import RidgeNetwork, from_linen, initial_evidence
from metajax.types import Model, Params

__all__ = ["methods"]


def _network(settings: Settings, shapes: Shapes) -> Model:
    """Builds the network for `rank` factors and a bias of the user in each domain."""
    return from_linen(RidgeNetwork(shapes.items, 2 * (settings.options.rank + 1)))


def _start(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Starts from joint factors: the first predictions are those of `joint_fold_in`.

    With the prior N(m + W'a, R R') of a user's latents the rating e + x . w is
    e + x . m + (x R) . (R^-1 W'a) + (x R) . z, and z is standard normal.
    """
    check_rank(settings)
    # As in the grid of `joint_fold_in`: penalties go with the rank.
    factors = fit_joint_factors(
        training,
        rank=settings.options.rank,
        item_ridge=15.0 * settings.options.rank,
        seed=settings.seed,
    )
    expected, design, noise, mean, weights, covariance = (
        np.asarray(leaf, np.float64) for leaf in factors
    )
    root = np.linalg.cholesky(covariance)
    user_map = np.linalg.solve(root, weights.T).T
    return partial(
        _started,
        embedding=jnp.asarray(design @ root, jnp.float32),
        bias=jnp.asarray(expected + design @ mean, jnp.float32),
        noise=jnp.asarray(noise.min(), jnp.float32),
        # What is noisier in one domain than in the other.
        spread=jnp.asarray(np.sqrt(noise - noise.min()), jnp.float32),
        user_map=jnp.asarray(user_map, jnp.float32),
    )


def _started(params: Params, *, user_map: jnp.ndarray, **evidence: jnp.ndarray) -> Params:
    params = initial_evidence(params, **evidence)
    return {**params, "user_map": {"kernel": user_map}} if user_map.size else params


methods: tuple[Method, ...] = (
    Method(
        "joint_ridge",
        by_one_pass(learners.bayesian_ridge, *TABLES),
        _network,
        _start,
        settings={"weight_decay": 0.0, "rank": 4, "updates": 40, "validate_every": 20},
        any_support=True,
        two_domains=True,
        options=TwoTowerOptions,
    ),
)

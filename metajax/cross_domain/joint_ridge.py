"""Joint ridge: a ridge head on joint factors of two domains, initially `joint_fold_in`.

Training improves the closed form little, and soon overfits.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from metajax import learners
from metajax.cross_domain.joint_fold_in import fit_joint_factors, joint_fold_in_of
from metajax.cross_domain.tasks import CrossDomainOptions
from metajax.data.dataset import Shapes, TrainingSet
from metajax.fields import Range, bounded
from metajax.methods import Method, Settings, by_one_pass
from metajax.methods.bayesian_ridge import fixed_parameters
from metajax.networks import RidgeNetwork, from_linen, initial_evidence
from metajax.types import Model, Params

__all__ = ["JointRidgeOptions", "methods"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class JointRidgeOptions(CrossDomainOptions):
    """Options of the method `joint_ridge`."""

    rank: int = bounded(4, least=1, search=Range(2, 16))
    """Factors of each domain besides the user's bias."""
    ridge_per_rank: float = bounded(15.0, least=0, search=Range(3.0, 75.0, log=True))
    """Penalty of the item factors, in users, divided by the rank."""
    correlation: float = bounded(0.8, least=0, search=Range(0.3, 0.95))
    """Prior correlation of a user's mean rating in the two domains, < 1."""


def _network(settings: Settings, shapes: Shapes) -> Model:
    return from_linen(RidgeNetwork(shapes.items, 2 * (settings.options.rank + 1)))


def _initial(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    options = settings.options
    factors = fit_joint_factors(
        training,
        rank=options.rank,
        item_ridge=options.ridge_per_rank * options.rank,
        correlation=options.correlation,
        seed=settings.seed,
    )
    found = joint_fold_in_of(factors)
    # The noise of the noisier domain that exceeds the other's is in the items' spread.
    noise = found.noise.min()
    spread = jnp.sqrt(found.noise - noise)

    def initial(params: Params) -> Params:
        params = initial_evidence(
            params, embedding=found.design, bias=found.expected, noise=noise, spread=spread
        )
        has_map = found.user_map is not None and found.user_map.size
        return {**params, "user_map": {"kernel": found.user_map}} if has_map else params

    return initial


methods: tuple[Method, ...] = (
    Method(
        "joint_ridge",
        by_one_pass(learners.bayesian_ridge, *fixed_parameters),
        _network,
        _initial,
        options=JointRidgeOptions,
        settings={"weight_decay": 0.0, "updates": 40, "validate_every": 20},
        any_support=True,
        needs_ratings=True,
        two_domains=True,
    ),
)

"""Recipes of users who are known in one domain and new to another, on factors of both."""

from collections.abc import Callable
from functools import partial
from types import MappingProxyType
from typing import Any

import jax

from metajax import cross_domain
from metajax.cross_domain.adversarial_network import AdversarialModel, start_adversarial
from metajax.cross_domain.adversarial_network import adversarial_network as adversarial
from metajax.cross_domain.gradient_reversal import reversal_schedule
from metajax.cross_domain.shared_and_private_network import SeparationModel, start_separated
from metajax.cross_domain.shared_and_private_network import (
    shared_and_private_network as shared_and_private,
)
from metajax.cross_domain.shared_space_network import shared_space_network as shared_space
from metajax.cross_domain.shared_space_network import start_maps
from metajax.cross_domain.tasks import source_table, with_strangers
from metajax.data.dataset import Shapes, TrainingSet
from metajax.data.sampler import TaskTable
from metajax.methods.domain_factors import canonical_factors
from metajax.methods.method import Method
from metajax.methods.parts import by_one_pass, objectives, outer_optimizer
from metajax.methods.sampling import Sampler, cross_tasks
from metajax.methods.settings import Settings, TwoTowerOptions
from metajax.types import MetaLearner, Params, SupportModel, Task

__all__ = [
    "SETTINGS",
    "adversarial_network",
    "asked_of_both",
    "beside_strangers",
    "common_features",
    "from_source_to_target",
    "methods",
    "separated_features",
    "separated_network",
    "shared_maps",
    "shared_network",
    "told_apart_by_none",
]

SETTINGS = MappingProxyType(
    {"width": 32, "weight_decay": 0.0, "support": 5, "updates": 200, "validate_every": 20}
)
"""What starts at a closed form needs few updates, and is looked at often."""

# Ratings are to be served first, and features that tell nothing of the domain second.
_PEAK = 0.1


def shared_network(settings: Settings, shapes: Shapes) -> SupportModel:
    """Builds one space for both domains, and a predictor with one hidden layer."""
    return shared_space(shapes.items, settings.options.rank + 1, (settings.options.width,))


def shared_maps(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Starts the space where users of both domains are jointly normal."""
    found = canonical_factors(training, rank=settings.options.rank, seed=settings.seed)
    return partial(start_maps, factors=found.factors, correlation=found.correlation)


def adversarial_network(settings: Settings, shapes: Shapes) -> AdversarialModel:
    """Builds extractors, head and discriminator of one hidden layer each."""
    return adversarial(shapes.items, settings.options.rank + 1, settings.options.width)


def common_features(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Starts where users of both domains are jointly normal."""
    found = canonical_factors(training, rank=settings.options.rank, seed=settings.seed)
    return partial(start_adversarial, factors=found.factors, correlation=found.correlation)


def from_source_to_target(
    method: Callable[..., MetaLearner],
) -> Callable[[Settings, Any], MetaLearner]:
    """Is `by_one_pass` for a learner that spends its first updates, here half, in the source."""

    def learner(settings: Settings, network: Any) -> MetaLearner:
        half = max(settings.updates // 2, 1)
        return by_one_pass(method, pretraining=half)(settings, network)

    return learner


def told_apart_by_none(settings: Settings, network: AdversarialModel) -> MetaLearner:
    """Builds the learner; the reversal grows over all updates."""
    return cross_domain.adversarial(
        network,
        objectives[settings.objective].loss,
        outer=outer_optimizer(settings),
        strength=reversal_schedule(settings.updates, peak=_PEAK),
        microbatch=settings.microbatch,
    )


def separated_network(settings: Settings, shapes: Shapes) -> SeparationModel:
    """Builds encoders and heads of one hidden layer each."""
    if settings.options.rank < 2:
        raise ValueError(f"rank must be >= 2 for a private feature, got {settings.options.rank}.")
    return shared_and_private(shapes.items, settings.options.rank + 1, settings.options.width)


def separated_features(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Starts with what the domains have most in common as shared."""
    found = canonical_factors(training, rank=settings.options.rank, seed=settings.seed)
    return partial(start_separated, factors=found.factors, correlation=found.correlation)


def beside_strangers(settings: Settings, shapes: Shapes) -> Sampler:
    """Samples tasks that also show any one user of the source."""
    asked = cross_tasks(settings, shapes)

    def sample(tables: tuple[Any, TaskTable], key: jax.Array) -> Task:
        key, stranger_key = jax.random.split(key)
        tasks = asked.sample(tables[0], key)
        return with_strangers(tasks, tables[1], stranger_key, rows=settings.query)

    def table(training: TrainingSet, *, seed: int) -> tuple[Any, TaskTable]:
        return asked.table(training, seed=seed), source_table(training, seed=seed)

    return Sampler(sample, table)


def asked_of_both(settings: Settings, shapes: Shapes) -> Sampler:
    """Samples tasks that ask for as much of the source as of the target."""
    return cross_tasks(settings, shapes, source_query=settings.query)


methods: tuple[Method, ...] = (
    Method(
        "shared_space",
        by_one_pass(cross_domain.shared_space),
        shared_network,
        shared_maps,
        asked_of_both,
        settings=SETTINGS,
        grid=({}, {"rate": 3e-4}),
        any_support=True,
        two_domains=True,
        options=TwoTowerOptions,
    ),
    Method(
        "adversarial",
        told_apart_by_none,
        adversarial_network,
        common_features,
        beside_strangers,
        settings=SETTINGS,
        grid=({}, {"rate": 3e-4}),
        any_support=True,
        two_domains=True,
        options=TwoTowerOptions,
    ),
    Method(
        "shared_and_private",
        by_one_pass(cross_domain.shared_and_private),
        separated_network,
        separated_features,
        asked_of_both,
        settings=SETTINGS,
        grid=({}, {"rate": 3e-4}),
        any_support=True,
        two_domains=True,
        options=TwoTowerOptions,
    ),
)
"""One space for both domains, features that tell nothing of the domain, and features of each."""

"""Attentive neighbours: a ranker with a memory of training users and linear autoencoders."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial

import jax.numpy as jnp
import numpy as np
import optax

from metajax import learners
from metajax.baselines.ease import inverse_gram
from metajax.baselines.preferences import preference_curve, preferences
from metajax.data.dataset import Shapes, TrainingSet
from metajax.methods.method import Method
from metajax.methods.parts import objectives, outer_optimizer
from metajax.methods.settings import Options, Settings, bounded
from metajax.networks import MemorisedUsers, start_memory, user_memory
from metajax.networks.user_memory import SHARPNESS
from metajax.types import MetaLearner, Params, SupportModel

__all__ = ["NeighbourOptions", "attentive_neighbours", "memorised", "methods", "user_memory_of"]

# Inverting a matrix of the catalogue costs its cube, and keeping two of them 8 bytes its square.
_ITEMS = 20_000


@dataclass(frozen=True, kw_only=True)
class NeighbourOptions(Options):
    """Options of attentive neighbours."""

    memory: int = bounded(1024, least=1)
    """Training users kept; of more, a random sample."""
    bias_rate: float = bounded(0.2, above=0)
    """Learning rate of the items' biases, a share of `rate`: each learns from the few tasks in
    which its item is near the top."""


def user_memory_of(settings: Settings, shapes: Shapes) -> SupportModel:
    """Builds the ranker for the catalogue."""
    if objectives[settings.objective].rating:
        raise ValueError(f"objective must be of an order of items, got {settings.objective!r}.")
    if shapes.items > _ITEMS:
        raise ValueError(
            f"method {settings.method!r} keeps a matrix of items by items: at most {_ITEMS} "
            f"items, got {shapes.items}."
        )
    members = settings.options.memory
    return user_memory(shapes.items, shapes.user_width, members=members, scale=shapes.scale)


def memorised(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Remembers training users and fits the linear autoencoders."""
    log, curve = training.interactions, preference_curve(training.scale)
    users = log.users
    if len(users) > settings.options.memory:
        rng = np.random.default_rng(settings.seed)
        users = np.sort(rng.choice(users, settings.options.memory, replace=False))
    row = np.full(len(log.offsets) - 1, -1)
    row[users] = np.arange(len(users))
    at = row[log.user]
    dense = np.zeros((len(users), len(log.item_ids)), np.float32)
    dense[at[at >= 0], log.item[at >= 0]] = preferences(training, curve)[at >= 0]
    memory = MemorisedUsers(
        user=jnp.asarray(users, jnp.float32),
        present=jnp.ones(len(users)),
        features=jnp.asarray(training.user_features[users]),
        preferences=jnp.asarray(dense),
        inverse=jnp.stack([jnp.asarray(inverse_gram(training, sharpness=s)) for s in SHARPNESS]),
    )
    return partial(start_memory, memory=memory)


def attentive_neighbours(settings: Settings, network: SupportModel) -> MetaLearner:
    """Builds the learner: the memory stays as it is, and items' biases learn slowly."""
    groups = {"memory": "fixed", "item_bias": "slow"}
    optimizers: dict[Hashable, optax.GradientTransformation] = {
        "fixed": optax.set_to_zero(),
        "slow": outer_optimizer(replace(settings, rate=settings.options.bias_rate * settings.rate)),
        "fast": outer_optimizer(replace(settings, weight_decay=0.0)),
    }
    outer = optax.partition(
        optimizers, lambda params: {name: groups.get(name, "fast") for name in params}
    )
    return learners.attentive_neighbours(
        network, objectives[settings.objective].loss, outer=outer, microbatch=settings.microbatch
    )


methods: tuple[Method, ...] = (
    Method(
        "attentive_neighbours",
        attentive_neighbours,
        user_memory_of,
        memorised,
        members=True,
        settings={
            "objective": "ndcg",
            "order": "random",
            "rate": 0.05,
            "weight_decay": 1.0,
            "tasks": 256,
            # Some fifty numbers do not overfit: the last update is the one to keep.
            "updates": 120,
            "validate_every": 120,
        },
        grid=({}, {"order": "time"}),
        options=NeighbourOptions,
    ),
)

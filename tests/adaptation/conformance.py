"""Rows of the conformance suite of adaptations, and shared helpers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.types import Adaptation, Examples, Inputs, MetaLearner, Task

SUPPORT, QUERY, ITEMS = 4, 3, 5


def embed(params, inputs):
    identity = jnp.take(params["item"], inputs.item, axis=0)
    hidden = inputs.user_features @ params["tower"] + inputs.item_features @ params["tower"]
    return jnp.tanh(hidden + identity)


def apply(params, inputs):
    """A network small enough to compile often: two layers, and an identity of each item."""
    return embed(params, inputs) @ params["predictor"]


def examples(rng, n) -> Examples:
    users, items, labels = (jnp.asarray(rng.normal(size=size)) for size in ((n, 2), (n, 2), n))
    inputs = Inputs(users, items, jnp.asarray(rng.integers(0, ITEMS, n)))
    return Examples(inputs, labels, jnp.ones(n, bool))


def task_of(seed) -> Task:
    rng = np.random.default_rng(seed)
    return Task(examples(rng, SUPPORT), examples(rng, QUERY))


class Row(NamedTuple):
    """An adaptation, with what the suite needs."""

    adaptation: Adaptation | MetaLearner
    params: Any
    zero_shot: Callable[..., jax.Array]
    """`zero_shot(params, inputs) -> scores`, what an empty support has to give."""
    adapts: bool = True
    """Whether a support changes the scores."""
    in_order: bool = False
    """Whether the order of the support counts."""
    task_of: Callable[[int], Task] = task_of
    """`task_of(seed) -> task`."""


def some_params():
    rng = np.random.default_rng(1)
    shapes = {"tower": (2, 3), "item": (ITEMS, 3), "predictor": (3,)}
    return {name: jnp.asarray(rng.normal(size=shape)) for name, shape in shapes.items()}


PARAMS, TASK = some_params(), task_of(2)


def drawn(model, spread=0.3, task=TASK):
    """Parameters none of which is zero, as after some training."""
    params = jax.jit(model.init)(jax.random.key(0), task.support.inputs)
    leaves, structure = jax.tree.flatten(params)
    rng = np.random.default_rng(3)
    return structure.unflatten([leaf + spread * rng.normal(size=leaf.shape) for leaf in leaves])


def nothing():
    return TASK.support._replace(mask=jnp.zeros(SUPPORT, bool))

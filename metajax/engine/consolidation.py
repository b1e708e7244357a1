"""Elastic weight consolidation of a model: Fisher information to store, and a penalised method."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax import registry
from metajax.data.dataset import TrainingSet, shapes_of
from metajax.learners import consolidated, fisher_information
from metajax.methods import Method, Settings, objectives
from metajax.methods.method import random_values
from metajax.types import MetaLearner, Params

__all__ = ["consolidated_method", "fisher_of"]

_TASKS = 64


def fisher_of(settings: Settings, training: TrainingSet, params: Params) -> Params:
    """Diagonal Fisher information of at most 64 training tasks: `learners.fisher_information`.

    Args:
        settings: Those of the training.
        training: The training set.
        params: The parameters after it.

    Returns:
        In the shape of the parameters; a scalar 0 in the place of each that has none, such as of
        closed forms, which training does not move.
    """
    few = registry.with_changes(settings, tasks=min(settings.tasks, _TASKS))
    shapes = shapes_of(training)
    sampler = registry.sampler_of(few, shapes)
    # Not the tasks of the updates, which are of other keys.
    key = jax.random.fold_in(jax.random.key(settings.seed), 2**31)
    tasks = sampler.sample(sampler.table(training, seed=settings.seed), key)
    adaptation = registry.learner_of(settings, shapes).adaptation
    loss = objectives[settings.objective].loss
    found = jax.jit(partial(fisher_information, adaptation, loss))(params, tasks)
    return jax.tree.map(lambda leaf: leaf if np.any(leaf) else jnp.zeros(()), found)


def consolidated_method(method: Method, anchor: Params, fisher: Params, strength: float) -> Method:
    """Returns a method whose training is penalised for leaving the parameters of an earlier one.

    `strength / 2 sum_j fisher_j (params_j - anchor_j)^2` is added to the loss.

    Args:
        method: The method.
        anchor: The earlier parameters.
        fisher: From `fisher_of`, over the same items and users as the anchor.
        strength: Weight of the penalty, >= 0.

    Returns:
        The method; its parameters are random at first, for others to take their place.

    Raises:
        ValueError: If `strength` is negative or not finite, or the method cannot be penalised.
    """

    def learner(settings: Settings, network: Any) -> MetaLearner:
        plain = method.learner(settings, network)
        if plain.with_outer is None:
            raise ValueError(f"method {method.name!r} has no outer optimizer that can be changed.")
        around = partial(consolidated, anchor=anchor, fisher=fisher, weight=strength)
        pulled = plain.with_outer(around)
        return plain._replace(init=pulled.init, update=pulled.update)

    # The penalty moves all rows of a table.
    return method._replace(learner=learner, initial=random_values, tables=())

"""The words every part of metajax speaks.

A cold-start method, learned or not, is a pair of pure functions: `adapt` looks at a few
interactions of one user, `predict` scores candidates for that user. Everything else in the
package builds such pairs, trains them, judges them or serves them.

Axes in the docstrings: T tasks, N examples, I items, D features, K list length.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

__all__ = [
    "Adaptation",
    "Examples",
    "Inputs",
    "MetaLearner",
    "MetaState",
    "Model",
    "Params",
    "Task",
]

# Any pytree of arrays.
Params = Any


class Inputs(NamedTuple):
    """What a recommender sees of N interactions before their outcome is known.

    Models and learners take any pytree whose leaves lead with N; this is the one that the
    package's own data, models and baselines share.
    """

    user_features: jax.Array
    """`[N, Du]` encoded attributes of the user of each interaction."""
    item_features: jax.Array
    """`[N, Di]` encoded attributes of the item of each interaction."""
    item: jax.Array
    """`[N]` int32 index of the item in the catalogue."""


class Examples(NamedTuple):
    """A padded set of labelled interactions."""

    inputs: Any
    """A pytree whose leaves lead with N, usually `Inputs`."""
    labels: jax.Array
    """`[N]` what was observed, for instance the rating."""
    mask: jax.Array
    """`[N]` bool, False where the example is padding."""


class Task(NamedTuple):
    """One cold-start problem; a batch of them has a leading axis T on every leaf."""

    support: Examples
    """The few interactions that adaptation may look at."""
    query: Examples
    """The interactions it is judged by."""


class Model(NamedTuple):
    """A network as a pair of pure functions."""

    init: Callable[..., Params]
    """`init(key, inputs) -> params`."""
    apply: Callable[[Params, Any], Any]
    """`apply(params, inputs) -> scores [N]`, or what an adaptation makes scores of."""


class Adaptation(NamedTuple):
    """A cold-start method, written for one task; `jax.vmap` makes the batch.

    What `adapt` returns holds this user's state and nothing that all users share: under `vmap`
    shared parameters never get a task axis, and a service stores as little as possible.
    """

    adapt: Callable[..., Any]
    """`adapt(params, support, key=None) -> adapted`. An empty support is legal."""
    predict: Callable[[Params, Any, Any], jax.Array]
    """`predict(params, adapted, inputs) -> scores [N]`."""
    predict_variance: Callable[[Params, Any, Any], jax.Array] | None = None
    """`predict_variance(params, adapted, inputs) -> [N]`: how far labels are from the scores, as
    the variance of a Gaussian, their noise included. None: the method does not say."""


class MetaState(NamedTuple):
    """All that meta-training carries from one update to the next: a plain pytree."""

    params: Params
    """The meta-parameters."""
    opt_state: optax.OptState
    """State of the outer optimizer."""
    step: jax.Array
    """`[]` int32, the number of updates made."""


class MetaLearner(NamedTuple):
    """An adaptation together with its outer update."""

    init: Callable[..., MetaState]
    """`init(key, tasks) -> state`; of the tasks only shapes and types matter."""
    update: Callable[..., tuple[MetaState, dict[str, jax.Array]]]
    """`update(state, tasks, key=None) -> (state, metrics)`; the caller jits."""
    adapt: Callable[..., Any]
    """As in `Adaptation`."""
    predict: Callable[[Params, Any, Any], jax.Array]
    """As in `Adaptation`."""
    predict_variance: Callable[[Params, Any, Any], jax.Array] | None = None
    """As in `Adaptation`."""

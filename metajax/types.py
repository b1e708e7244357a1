"""The words every part of metajax speaks.

A cold-start method, learned or not, is a pair of pure functions: `adapt` looks at a few
interactions of one user, `predict` scores candidates for that user. Everything else in the
package builds such pairs, trains them, judges them or serves them.

Axes in the docstrings: T tasks, N examples, I items, D features, K list length.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast

import jax
import optax

__all__ = [
    "Adaptation",
    "AmongPrototypes",
    "Evidence",
    "Examples",
    "Gaussian",
    "InHistory",
    "Inputs",
    "Loss",
    "Matched",
    "MetaLearner",
    "MetaState",
    "Model",
    "NodeVectors",
    "Params",
    "Placed",
    "Posterior",
    "SupportModel",
    "Task",
    "UpdateGRU",
]

# Any pytree of arrays.
Params = Any


class Loss(Protocol):
    """A loss of scores against labels: `loss(scores, labels, *, where) -> []`."""

    def __call__(
        self, scores: Any, labels: jax.Array, *, where: jax.Array | None = None
    ) -> jax.Array:
        """Returns the loss `[]`.

        Args:
            scores: `[N]` predictions.
            labels: `[N]` observations.
            where: `[N]` bool, False where an example does not count; None counts all.
        """
        ...


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
    mask: jax.Array = cast(Any, None)
    """`[N]` bool, False where the example is padding; None, the default, where nothing is."""


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


class SupportModel(NamedTuple):
    """A network that reads the support itself, as three pure functions of one task."""

    init: Callable[..., Params]
    """`init(key, inputs) -> params`."""
    encode: Callable[[Params, Examples], Any]
    """`encode(params, support) -> state`."""
    decode: Callable[[Params, Any, Any], Any]
    """`decode(params, state, inputs) -> predictions`."""


class UpdateGRU(NamedTuple):
    """A GRU cell with a linear readout, as pure functions."""

    init: Callable[[jax.Array, int, int], Params]
    """`init(key, features, outputs) -> params`."""
    step: Callable[[Params, jax.Array, jax.Array], jax.Array]
    """`step(params, hidden [..., H], seen [..., features]) -> hidden`."""
    read: Callable[[Params, jax.Array], jax.Array]
    """`read(params, hidden) -> [..., outputs]`: linear, and at first 0."""
    width: int
    """H, the size of the hidden state."""


class Gaussian(NamedTuple):
    """Independent normal distributions of N labels."""

    mean: jax.Array
    """`[N]` the scores."""
    variance: jax.Array
    """`[N]` > 0."""


class Evidence(NamedTuple):
    """Terms of a Bayesian linear regression for N interactions, with F features."""

    expected: jax.Array
    """`[N]` label expected of the average user."""
    design: jax.Array
    """`[N, F]` features, the rows of the design matrix."""
    noise: jax.Array
    """`[N]` variance of the label given the user's coefficients, > 0."""
    power: jax.Array | None = None
    """`[N]` number of equal observations that a label counts as, > 0; None means 1."""


class Posterior(NamedTuple):
    """Gaussian posterior of one user's coefficients, or of many users' along leading axes."""

    mean: Any
    """`[F]`, a JAX array, or a NumPy array on the host."""
    covariance: Any
    """`[F, F]`."""


class Matched(NamedTuple):
    """Queries and keys of N interactions for an `residual_attention` adaptation, with H heads."""

    query: jax.Array
    """`[N, H, D]` query of the interaction as a candidate."""
    key: jax.Array
    """`[N, H, D]` key of the interaction as a support example."""
    prior: jax.Array
    """`[N, H]` logit of the slot that stands for an empty support."""
    score: jax.Array
    """`[N]` the zero-shot score."""
    expected: jax.Array
    """`[N]` label from which residuals are taken."""
    worth: jax.Array
    """`[N]` change of a score per unit of residual."""


class Placed(NamedTuple):
    """Embeddings of N interactions for a `prototypes` adaptation."""

    item: jax.Array
    """`[N, D]` embedding of each item."""
    prior: jax.Array
    """`[N, D]` prototype of the user with an empty support."""
    prior_label: jax.Array
    """`[N]` label of an example that weighs as much as that prior."""
    closeness: jax.Array
    """`[N]` decrease of a score per unit of distance, > 0."""
    bias: jax.Array
    """`[N]` score at distance 0, before scores are bounded."""


class AmongPrototypes(NamedTuple):
    """N interactions and M learned prototypes for a `cosine_prototypes` adaptation."""

    place: jax.Array
    """`[N, D]` embedding of each item, of which only the direction counts."""
    expected: jax.Array
    """`[N]` label without the prototypes."""
    prototype: jax.Array
    """`[M, D]` embeddings of the learned prototypes."""
    log_weight: jax.Array
    """`[M]` log of the weight of each, relative to a support example in its place."""
    value: jax.Array
    """`[N, M]` residual of the user of each interaction at each prototype."""
    sharpness: jax.Array
    """`[]` factor of the cosines, > 0."""
    level_count: jax.Array
    """`[]` number of examples that the prior of the user's mean residual, 0, counts as, > 0."""


class InHistory(NamedTuple):
    """N inputs, each preceded by a part of one history."""

    history: Examples
    """The user's S interactions, oldest first; padding comes last and is 0."""
    seen: jax.Array
    """`[N]` int32 number of interactions that precede each input."""
    inputs: Any
    """The inputs, usually `Inputs`."""


class NodeVectors(NamedTuple):
    """Propagated vectors of a graph of U users and I items."""

    user: jax.Array
    """`[U, D]` users in the graph."""
    item: jax.Array
    """`[I, D]` items."""
    item_bias: jax.Array
    """`[I]` score of an item for everyone."""
    new_user: jax.Array
    """`[D]` a user without interactions."""
    neighbour: jax.Array
    """`[I, D]` message of an item to a user who is not in the graph."""
    power: jax.Array
    """`[]` exponent p of the count: n messages are summed and divided by `n^p`."""

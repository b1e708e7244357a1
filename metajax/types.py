"""Core types: examples, tasks, models, adaptations, meta-learners.

A cold-start method, learned or not, is a pair of pure functions: `adapt` maps a few interactions
of one user to an adapted state, `predict` scores candidates by it.

Axes in the docstrings: T tasks, N examples, I items, D features, K list length.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, cast

import jax
import optax

__all__ = [
    "Adapt",
    "Adaptation",
    "AmongPrototypes",
    "Apply",
    "BipartiteGraph",
    "Choice",
    "Edges",
    "ElementwiseLoss",
    "Evidence",
    "Examples",
    "Expect",
    "Expectation",
    "Gaussian",
    "InHistory",
    "Init",
    "Inputs",
    "Loss",
    "MaskedLoss",
    "Matched",
    "MemberInputs",
    "MetaLearner",
    "MetaState",
    "Model",
    "NodeVectors",
    "Optimizer",
    "Params",
    "Placed",
    "Posterior",
    "Predict",
    "Sampler",
    "Sequences",
    "SupportModel",
    "Task",
    "Update",
    "UpdateGRU",
    "check_model",
    "returning",
]

Params = Any
"""Parameters: any pytree of arrays."""


class Inputs(NamedTuple):
    """Features of N interactions, without their labels.

    Networks and learners take any pytree whose leaves lead with N; this is the one that the
    package's own data, networks and baselines share.
    """

    user_features: jax.Array
    """`[N, Du]` encoded attributes of the user of each interaction."""
    item_features: jax.Array
    """`[N, Di]` encoded attributes of the item of each interaction."""
    item: jax.Array
    """`[N]` int32 index of the item in the catalogue."""
    time: jax.Array | None = None
    """`[N]` seconds since the first interaction of the support; None where they are not known."""


class MemberInputs(NamedTuple):
    """Interactions of a training user, with the user's index and known ratings.

    A network that stores the training users excludes this one by the index, so that it predicts as
    for a new user.
    """

    inputs: Inputs
    """The interactions, or candidates for one."""
    user: jax.Array
    """`[N]` int32 index of the user in the training set."""
    known: jax.Array
    """`[N]` bool, True where the user has rated the item."""
    rating: jax.Array
    """`[N]` float32 that rating; undefined where `known` is False."""


class Sequences(NamedTuple):
    """N item sequences, each with a candidate for its next item."""

    item: jax.Array
    """`[N, L]` int32 items of the user, oldest first; padding comes last and is 0."""
    length: jax.Array
    """`[N]` int32, at most L."""
    target_features: jax.Array
    """`[N, Di]` encoded attributes of the candidate."""


class Edges(NamedTuple):
    """M directed edges between N nodes, in order of their targets.

    Padding lies at the end, between the last node and itself.
    """

    source: jax.Array
    """`[M]` int32 node that a message comes from."""
    target: jax.Array
    """`[M]` int32 node that it goes to, in ascending order."""
    weight: jax.Array
    """`[M]` float32, > 0; 0 in padding."""


class BipartiteGraph(NamedTuple):
    """Graph of users and items; the nodes are the users, then the items."""

    edges: Edges
    """Each of them both ways: node u is user u, node `users + i` is item i."""
    users: int
    """U, with padding."""
    items: int
    """I."""


class Examples(NamedTuple):
    """A padded set of labelled interactions."""

    inputs: Any
    """A pytree whose leaves lead with N, usually `Inputs`."""
    labels: jax.Array
    """`[N]` observed labels, for instance ratings."""
    # An array to whoever reads it: learners replace None before an adaptation sees it.
    mask: jax.Array = cast(Any, None)
    """`[N]` bool, False where the example is padding; None, the default, where nothing is."""


class Task(NamedTuple):
    """One cold-start problem; a batch of them has a leading axis T on every leaf."""

    support: Examples
    """The few interactions to adapt to."""
    query: Examples
    """The held-out interactions to evaluate on."""


class MaskedLoss(Protocol):
    """A loss of scores against labels, over the examples that a mask keeps."""

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


class ElementwiseLoss(Protocol):
    """A loss of each score against its label, such as Optax's; learners average it by the mask."""

    def __call__(self, scores: Any, labels: jax.Array, /) -> jax.Array:
        """Returns a value for each score, `[N]`."""
        ...


Loss = MaskedLoss | ElementwiseLoss
"""The losses that learners take."""


class Expectation(NamedTuple):
    """Joint Gaussian posterior of the expected labels of N candidates, without a label's noise.

    With standard normal numbers z `[F]` and e `[N]`, `mean + root z + sqrt(own) e` is a draw.
    """

    mean: jax.Array
    """`[N]` the scores."""
    root: jax.Array
    """`[N, F]` by what is not known of the user, which candidates share."""
    own: jax.Array
    """`[N]` variance by what is not known of each candidate, >= 0."""


class Init(Protocol):
    """Initialisation of parameters."""

    def __call__(self, key: jax.Array, inputs: Any, /) -> Params:
        """Returns parameters; of the inputs of one task only shapes and types matter."""
        ...


class Apply(Protocol):
    """The scores of a network."""

    def __call__(self, params: Params, inputs: Any, /) -> Any:
        """Returns scores `[N]`, or the tree of arrays that an adaptation takes."""
        ...


class Adapt(Protocol):
    """The adaptation to one task."""

    def __call__(self, params: Params, support: Examples, key: jax.Array | None = None, /) -> Any:
        """Returns the adapted state of the task."""
        ...


class Predict(Protocol):
    """The scores of candidates for an adapted task."""

    def __call__(self, params: Params, adapted: Any, inputs: Any, /) -> Any:
        """Returns scores `[N]`, or the tree of arrays that a loss takes."""
        ...


class Expect(Protocol):
    """The posterior of the expected labels of candidates for an adapted task."""

    def __call__(self, params: Params, adapted: Any, inputs: Any, /) -> Expectation:
        """Returns the posterior, whose mean is `predict`."""
        ...


class Update(Protocol):
    """One step of meta-training."""

    def __call__(
        self, state: "MetaState", tasks: Task, key: jax.Array | None = None, /
    ) -> "tuple[MetaState, dict[str, jax.Array]]":
        """Returns the next state, and scalar metrics `loss` and `gradient_norm`."""
        ...


class Sampler(Protocol):
    """A batch of training tasks, drawn on the device."""

    def __call__(self, table: Any, key: jax.Array, /) -> Task:
        """Returns tasks that lead with T, of the same shapes for every key."""
        ...


Optimizer = optax.GradientTransformation | Callable[[Params], optax.GradientTransformation]
"""An inner optimizer, or a function of the parameters that returns one, for learned rates."""

Choice = str | Sequence[str] | Callable[[str], bool]
"""A choice of parameters by path: shell-style patterns, one or more, or a predicate."""


class Model(NamedTuple):
    """A network as a pair of pure functions."""

    init: Init
    """`init(key, inputs) -> params`."""
    apply: Apply
    """`apply(params, inputs) -> scores [N]`, or the arrays from which an adaptation predicts."""
    broadcasts_user: bool = False
    """True if `apply` takes one user's `user_features` as `[1, Du]` for N items, and computes what
    depends on them alone once: a catalogue is then scored so."""


class Adaptation(NamedTuple):
    """A cold-start method, written for one task; `jax.vmap` makes the batch.

    The adapted state holds no parameters that all users share: under `vmap` these never get a task
    axis, and a service stores as little as possible.
    """

    adapt: Adapt
    """`adapt(params, support, key=None) -> adapted`. An empty support is legal."""
    predict: Predict
    """`predict(params, adapted, inputs) -> scores [N]`."""
    predict_variance: Predict | None = None
    """`predict_variance(params, adapted, inputs) -> [N]`: the variance of a Gaussian label around
    its score, observation noise included. None: the method has no variance."""
    rank: Predict | None = None
    """`rank(params, adapted, inputs) -> [N]`: scores that only order the items, for lists. None:
    `predict` orders them."""
    expectation: Expect | None = None
    """`expectation(params, adapted, inputs) -> Expectation`: the posterior of the expected label,
    whose variance more data remove; that of `predict_variance` has the noise of a single label
    besides. None: the method has none."""


class MetaState(NamedTuple):
    """State of meta-training between two updates: a plain pytree."""

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
    update: Update
    """`update(state, tasks, key=None) -> (state, metrics)`; the caller jits."""
    adaptation: Adaptation
    """The adaptation that serves a user."""
    with_outer: Callable[[Callable[[Any], Any]], "MetaLearner"] | None = None
    """`with_outer(change) -> learner` of the same task losses whose outer optimizer is
    `change(outer)`, such as a penalised one; None: it cannot be changed."""

    @property
    def adapt(self) -> Adapt:
        """The `adapt` of the adaptation."""
        return self.adaptation.adapt

    @property
    def predict(self) -> Predict:
        """The `predict` of the adaptation."""
        return self.adaptation.predict

    @property
    def predict_variance(self) -> Predict | None:
        """The `predict_variance` of the adaptation."""
        return self.adaptation.predict_variance

    @property
    def rank(self) -> Predict | None:
        """The `rank` of the adaptation."""
        return self.adaptation.rank


def check_model(model: Any, contract: type = Model) -> None:
    """Checks that a model has the pure functions that a learner calls.

    Args:
        model: A NamedTuple of functions.
        contract: `Model` or `SupportModel`, whose fields without a default it must have.

    Raises:
        TypeError: If it is none, such as a Linen module that was not wrapped.
    """
    fields, defaults = contract._fields, contract._field_defaults  # type: ignore[attr-defined]
    needed = [name for name in fields if name not in defaults]
    if any(name not in getattr(model, "_fields", ()) for name in needed):
        wrap = "from_linen" if contract is Model else "from_support_module"
        raise TypeError(
            f"model must be a {contract.__name__} of {', '.join(needed)}, got "
            f"{type(model).__name__}; {wrap}(module) makes one of a Linen module."
        )


def returning(network: Callable[..., Any], contract: type) -> Callable[..., Any]:
    """Checks the outputs of a network whenever it is called, that is once a trace.

    Args:
        network: A function that returns arrays.
        contract: The NamedTuple, for instance `Placed`, whose fields they must have.

    Returns:
        The same function; it raises a TypeError if fields are missing.
    """
    needed: tuple[str, ...] = contract._fields  # type: ignore[attr-defined]

    def checked(*args: Any) -> Any:
        outputs = network(*args)
        missing = [name for name in needed if name not in getattr(outputs, "_fields", ())]
        if missing:
            shape = getattr(outputs, "shape", None)
            found = type(outputs).__name__ if shape is None else f"an array of shape {shape}"
            raise TypeError(
                f"the network must return {contract.__name__}, got {found}, "
                f"without {', '.join(missing)}."
            )
        return outputs

    return checked


class SupportModel(NamedTuple):
    """A network with an encoder of the support, as three pure functions of one task."""

    init: Init
    """`init(key, inputs) -> params`."""
    encode: Callable[[Params, Examples], Any]
    """`encode(params, support) -> state`."""
    decode: Predict
    """`decode(params, state, inputs) -> predictions`."""


class UpdateGRU(NamedTuple):
    """A GRU cell with a linear readout, as pure functions."""

    init: Callable[[jax.Array, int, int], Params]
    """`init(key, features, outputs) -> params`."""
    step: Callable[[Params, jax.Array, jax.Array], jax.Array]
    """`step(params, hidden [..., H], inputs [..., features]) -> hidden`."""
    read: Callable[[Params, jax.Array], jax.Array]
    """`read(params, hidden) -> [..., outputs]`: linear, and initially 0."""
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
    """Queries and keys of N interactions for a `residual_attention` adaptation, with H heads."""

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
    gain: jax.Array
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

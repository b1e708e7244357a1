"""Attentive neighbours: a ranker with a memory of training users and linear autoencoders."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax.baselines.baseline import MOST_ITEMS
from metajax.baselines.ease import inverse_gram
from metajax.baselines.preferences import (
    LIKED,
    cooccurrence,
    preference_curve,
    preferences,
    relevant_preference,
)
from metajax.data.dataset import Shapes, TrainingSet
from metajax.fields import Range, bounded
from metajax.learners.outer import meta_learner
from metajax.losses import blanked
from metajax.methods.method import Method
from metajax.methods.objective import objectives, outer_optimizer
from metajax.methods.settings import Options, Settings
from metajax.types import (
    Adaptation,
    Examples,
    Inputs,
    Loss,
    MemberInputs,
    MetaLearner,
    Params,
    SupportModel,
    check_model,
)

__all__ = [
    "MemorisedUsers",
    "NeighbourOptions",
    "Seen",
    "attentive_neighbours",
    "initial_memory",
    "memorised",
    "methods",
    "user_memory",
    "user_memory_of",
]


SHARPNESS = (1.0, 3.0)
"""Exponents of preferences in the item-to-item weights; a large one keeps almost only the best
ratings."""

_RIDGE = 3000.0


class MemorisedUsers(NamedTuple):
    """Memory of the training users by closed forms; it is not trained.

    All leaves are floats, so that parameters which hold them can be differentiated.
    """

    user: jax.Array
    """`[M]` indices of the users in the training set."""
    present: jax.Array
    """`[M]` 1, or 0 in padding."""
    features: jax.Array
    """`[M, Du]` their encoded attributes."""
    preferences: jax.Array
    """`[M, I]` place of each rating on its scale, in [0, 1]; 0 where there is none."""
    inverse: jax.Array
    """`[C, I, I]` `(X'X + ridge)^-1` of all training users' preferences X, to each sharpness."""


class Seen(NamedTuple):
    """State of a new user."""

    features: jax.Array
    """`[Du]` encoded attributes."""
    item: jax.Array
    """`[S]` int32 items of the support; 0 in padding."""
    preference: jax.Array
    """`[S]` place of each rating on its scale; 0 in padding."""
    count: jax.Array
    """`[]` K, the size of the support."""


def user_memory(
    items: int,
    user_width: int,
    *,
    members: int = 1024,
    scale: tuple[float, float] | None = None,
    liked: float = LIKED,
) -> SupportModel:
    """Ranker with a memory of training users, as pure functions.

    Its score of item i for a user with the support S is

        log(p_i) + b_i + sum_c w_c K^g_c sum_(j in S) r_j^c B^c_ji ,
        p_i = e + (1 - t) popularity_i + t sum_m a_m [m likes i] .

    The prior p is the share of similar users who like the item: the attention a of member m is a
    softmax of minus half the squared distance of attributes, each on a learned scale, plus h K^q
    times the similarity of its preferences to those of S. The evidence is that of a linear
    autoencoder B, fitted to preferences r to the power c. Learned are b, and the weights of the
    parts as functions of K; the memory and B come from closed forms (`initial_memory`).

    Args:
        items: I, the size of the catalogue.
        user_width: Du, the number of encoded attributes of a user.
        members: M, capacity of the memory in training users.
        scale: Lowest and highest rating; None for an implicit log, whose labels are in (0, 1].
        liked: Place of a rating on its scale from which on a memorised user likes the item.

    Returns:
        The model. `encode` expects a user's attributes in every row of the support; of an empty
        one in padding. `decode` takes `Inputs` or, of memorised users, `MemberInputs`: these are
        excluded from the memory. Memory is `M I + 2 I^2`.

    References:
        Vinyals et al., Matching Networks for One Shot Learning, NeurIPS 2016, for the attention to
        the memory (there the support, here other users); Steck, Embarrassingly Shallow
        Autoencoders for Sparse Data, WWW 2019, for B. Combining them by weights learned on
        held-out users is stacking: Wolpert, Stacked Generalization, Neural Networks 5, 1992.
    """
    low, high = scale or (0.0, 1.0)

    def preference(rating: jax.Array) -> jax.Array:
        return jnp.clip((rating - low) / (high - low), 0, 1)

    def init(key: jax.Array, inputs: Any) -> Params:
        del key, inputs
        kinds = len(SHARPNESS)
        return {
            "memory": MemorisedUsers(
                user=jnp.full(members, -1.0),
                present=jnp.zeros(members),
                features=jnp.zeros((members, user_width)),
                preferences=jnp.zeros((members, items)),
                inverse=jnp.broadcast_to(jnp.eye(items), (kinds, items, items)),
            ),
            "attributes": jnp.zeros(user_width),
            "similarity": jnp.zeros(2),
            "neighbour_logit": jnp.array(2.0),
            "floor": jnp.array(-5.0),
            "evidence": jnp.stack([jnp.log(jnp.array([60.0, 20.0])), jnp.zeros(kinds)], axis=1),
            "item_bias": jnp.zeros(items),
        }

    def encode(params: Params, support: Examples) -> Seen:
        del params
        # Padding may hold anything, but where there is nothing else it has the attributes.
        shown = support.mask | ~support.mask.any()
        features = jnp.where(shown[:, None], support.inputs.user_features, 0)
        return Seen(
            jnp.sum(features, axis=0) / jnp.sum(shown),
            jnp.where(support.mask, support.inputs.item, 0),
            jnp.where(support.mask, preference(support.labels), 0),
            jnp.sum(support.mask).astype(jnp.float32),
        )

    def decode(params: Params, seen: Seen, inputs: Inputs | MemberInputs) -> jax.Array:
        memory = jax.lax.stop_gradient(params["memory"])
        others, own = memory.present, None
        if isinstance(inputs, MemberInputs):
            others = others * (memory.user != inputs.user[0])
            rated = jnp.where(inputs.known, preference(inputs.rating), 0)
            own = jnp.zeros(items).at[inputs.inputs.item].set(rated)
            inputs = inputs.inputs
        prior = _prior(params, memory, seen, others, liked)
        score = jnp.log(prior) + params["item_bias"] + _evidence(params, memory, seen, own)
        return score[inputs.item]

    return SupportModel(init, encode, decode)


def initial_memory(params: Params, memory: MemorisedUsers) -> Params:
    """Fills the memory, up to its capacity.

    Args:
        params: Parameters of a `user_memory`.
        memory: With at most M users.

    Returns:
        The parameters, changed.

    Raises:
        ValueError: If a shape does not fit.
    """
    blank = params["memory"]
    room = len(blank.user) - len(memory.user)
    if room < 0:
        raise ValueError(f"memory must hold at most {len(blank.user)} users, got {-room} more.")

    def filled(name: str, value: jax.Array, like: jax.Array) -> jax.Array:
        if name != "inverse":
            fill = -1.0 if name == "user" else 0.0
            value = jnp.pad(value, ((0, room), *((0, 0),) * (value.ndim - 1)), constant_values=fill)
        if value.shape != like.shape:
            raise ValueError(f"{name} must have the shape {like.shape}, got {value.shape}.")
        return jnp.asarray(value, jnp.float32)

    named = zip(memory._fields, memory, blank, strict=True)
    return {**params, "memory": MemorisedUsers(*(filled(*leaf) for leaf in named))}


def _prior(
    params: Params, memory: MemorisedUsers, seen: Seen, others: jax.Array, least: float
) -> jax.Array:
    """Returns `[I]` prior probabilities that the user likes each item."""
    liked = (memory.preferences >= least).astype(jnp.float32)  # [M, I]
    popularity = others @ liked / jnp.maximum(jnp.sum(others), 1)
    # An item that few like is more informative about its users.
    rarity = jnp.log(jnp.sum(memory.present) / (1 + jnp.sum(liked, axis=0)))
    # As if every user had ten more items that no other has: shrinks short histories.
    length = jnp.sqrt(jnp.sum(memory.preferences**2, axis=1) + 10)  # [M]
    weight = jnp.maximum(rarity, 0.1)[seen.item] * seen.preference  # [S]
    shared = memory.preferences[:, seen.item] @ weight / length  # [M]
    distance = jnp.square(memory.features - seen.features[None]) @ jnp.exp(params["attributes"])
    logits = _by_count(params["similarity"], seen.count) * shared - 0.5 * distance
    attention = jax.nn.softmax(jnp.where(others > 0, logits, -1e9))
    share = jax.nn.sigmoid(params["neighbour_logit"])
    return jnp.exp(params["floor"]) + (1 - share) * popularity + share * (attention @ liked)


def _evidence(
    params: Params, memory: MemorisedUsers, seen: Seen, own: jax.Array | None
) -> jax.Array:
    """Returns `[I]` scores of the support by the autoencoders, `own` preferences left out."""
    total = jnp.zeros(memory.preferences.shape[1])
    for sharpness, inverse, weight in zip(
        SHARPNESS, memory.inverse, params["evidence"], strict=True
    ):
        diagonal = jnp.diagonal(inverse)
        rows = inverse[seen.item]  # [S, I]
        if own is not None:
            # Sherman and Morrison: the inverse without one of the rows of X.
            x = own**sharpness
            pull = inverse @ x
            pull_scaled = pull / (1 - x @ pull)
            rows += pull[seen.item][:, None] * pull_scaled[None]
            diagonal += pull * pull_scaled
        self = seen.item[:, None] == jnp.arange(len(diagonal))[None]
        scores = seen.preference**sharpness @ jnp.where(self, 0, -rows / diagonal[None])
        total += _by_count(weight, seen.count) * scores
    return total


def _by_count(weight: jax.Array, count: jax.Array) -> jax.Array:
    """Returns exp(a) K^b of the weight (a, b)."""
    return jnp.exp(weight[0]) * jnp.maximum(count, 1) ** weight[1]


def attentive_neighbours(
    model: SupportModel,
    loss: Loss,
    *,
    outer: optax.GradientTransformation,
    microbatch: int | None = None,
) -> MetaLearner:
    """Attentive neighbours: scores by attention to similar training users and item-to-item weights.

    Train it on `data.sample_catalogue_tasks(members=True)`: the model stores the training
    users, and predicts for each of them as for a new user.

    A model serves the order of supports it was trained in. On MovieLens-100K one of random supports
    is ahead of the best tuned of popularity, ItemKNN, EASE and their blends in random order by .010
    to .017 NDCG@10 at 0, 3, 5 and 10 interactions, and .10 behind them at 5 first in time; one of
    first supports is ahead first in time by .008 to .016 from 1 on, by the natural reading. No
    model was ahead in both (benchmarks/README.md).

    Args:
        model: The memory, a `user_memory`; padding is passed as it is.
        loss: `loss(scores, labels, *, where) -> []`, of the query, for instance
            `losses.approximate_ndcg`.
        outer: Optax optimizer of the parameters. The memory has no gradient and must not
            decay.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner.
    """
    check_model(model, SupportModel)

    def adapt(params: Params, support: Examples, key: jax.Array | None = None) -> Any:
        del key
        # The inputs of padding stay: of an empty support they hold the user's attributes.
        return model.encode(params, support._replace(mask=blanked(support).mask))

    return meta_learner(model, Adaptation(adapt, model.decode), loss, outer, microbatch=microbatch)


@dataclass(frozen=True, kw_only=True)
class NeighbourOptions(Options):
    """Options of attentive neighbours."""

    memory: int = bounded(1024, least=1)
    """Training users kept; of more, a random sample."""
    bias_rate: float = bounded(0.2, above=0, search=Range(0.02, 1.0, log=True))
    """Learning rate of the items' biases, a share of `rate`: each learns from the few tasks in
    which its item is near the top."""


def user_memory_of(settings: Settings, shapes: Shapes) -> SupportModel:
    """Builds the ranker for the catalogue."""
    if objectives[settings.objective].rating:
        raise ValueError(f"objective must be of an order of items, got {settings.objective!r}.")
    return user_memory(
        shapes.items,
        shapes.user_width,
        members=settings.options.memory,
        scale=shapes.scale,
        # A small tolerance: the place of a rating on its scale is rounded to float32.
        liked=relevant_preference(shapes.scale, shapes.threshold) - 1e-5,
    )


def memorised(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Stores training users and fits the linear autoencoders."""
    log, curve = training.interactions, preference_curve(training.scale)
    users = log.users

    def inverse(sharpness: float) -> np.ndarray:
        products = cooccurrence(training, preference_curve(training.scale, sharpness=sharpness))
        return inverse_gram(products, ridge=_RIDGE)

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
        inverse=jnp.stack([jnp.asarray(inverse(s)) for s in SHARPNESS]),
    )
    return partial(initial_memory, memory=memory)


def _learner(settings: Settings, network: SupportModel) -> MetaLearner:
    """Builds the learner: the memory is fixed, and items' biases learn slowly."""
    groups = {"memory": "fixed", "item_bias": "slow"}
    optimizers: dict[Hashable, optax.GradientTransformation] = {
        "fixed": optax.set_to_zero(),
        "slow": outer_optimizer(replace(settings, rate=settings.options.bias_rate * settings.rate)),
        "fast": outer_optimizer(replace(settings, weight_decay=0.0)),
    }
    outer = optax.partition(
        optimizers, lambda params: {name: groups.get(name, "fast") for name in params}
    )
    return attentive_neighbours(
        network, objectives[settings.objective].loss, outer=outer, microbatch=settings.microbatch
    )


methods: tuple[Method, ...] = (
    Method(
        "attentive_neighbours",
        _learner,
        user_memory_of,
        memorised,
        members=True,
        most_items=MOST_ITEMS,
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
        ranges={"rate": Range(1e-3, 0.3, log=True)},
        options=NeighbourOptions,
    ),
)
"""With the default, random supports, it serves users whose known items are any of theirs; of users
who have just arrived, known by their first items, `order="time"`."""

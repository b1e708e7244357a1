"""Experts that order items: statistics, content, similar users and item-to-item weights.

Each is a closed form that fits on the host and scores candidates for one user by several columns,
which a gate (`metajax.hybrid.ranking`) weighs. No column says how often an item lies among a user's
first ones.
"""

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.baselines import Baseline
from metajax.baselines.attribute_factors import (
    landmarks_of,
    unrated_by_attributes,
    with_attributes,
)
from metajax.baselines.baseline import observed
from metajax.baselines.ease import autoencoder_weights
from metajax.baselines.factors import Factors, fit_factors
from metajax.baselines.preferences import (
    PreferenceCurve,
    cooccurrence,
    has_grades,
    liked_counts,
    preference_curve,
    preferences,
    relevant_preference,
    support_preferences,
)
from metajax.data.dataset import Shapes, TrainingSet
from metajax.data.interactions import select_rows
from metajax.types import Examples, Inputs, Params

__all__ = [
    "Expert",
    "ItemScores",
    "Shared",
    "members_of",
    "memory_of",
    "of_method",
    "trimmed",
]

MOST_WEIGHED = 6_000
"""Items among which there are weights of every kind: in a larger catalogue those that most users
have. Nine tables of this size, and what it takes to fit them, are 1.7 GB, and the time of the five
inverses of a fit grows with the cube."""

MOST_TOLD = 16
"""Items in `Places` beside the J."""

_MOST_MEMBERS, _STEP = 2048, 16
# Preferences that are remembered, of all members.
_MOST_PREFERENCES = 1 << 27
_FIRST = 10
_LONGEST = 200


class Shared:
    """Statistics of a training set that several experts share, each computed once."""

    def __init__(self, training: TrainingSet) -> None:
        self.training = training

    @cached_property
    def new(self) -> np.ndarray:
        """`[C]` items without interactions that are new, of which their attributes tell something.

        Where the training set does not tell and less than twice as many items have no interaction
        as have one, they are the tail of the catalogue, which nobody wanted; else most are new. In
        a log with fewer interactions than items most had no chance yet, and none is.
        """
        count, new = self.training.interactions.item_counts, self.training.new_items
        if new is None:
            many = np.sum(count == 0) > 2 * np.sum(count == 1) and np.sum(count) >= len(count)
            new = np.full(len(count), many)
        described = np.ptp(self.training.item_features, axis=0).any()
        return np.flatnonzero(new & (count == 0) & described)

    @cached_property
    def factors(self) -> tuple[Factors, np.ndarray]:
        """Item factors with users integrated out, and standard deviations of new items' biases.

        Vectors of items with few ratings, and all of new ones, are predicted from attributes.
        """
        own = fit_factors(self.training.interactions)
        found, doubt = with_attributes(own, self.training)
        known = np.ones(len(doubt), bool)
        known[self.new] = False
        unwanted = known & (self.training.interactions.item_counts == 0)
        vectors = jnp.where(unwanted[:, None], own.item_factors, found.item_factors)
        bias = jnp.where(unwanted, own.item_bias, found.item_bias)
        return found._replace(item_bias=bias, item_factors=vectors), np.where(known, 0, doubt)

    @cached_property
    def _by_attributes(self) -> dict[bool, Callable[[np.ndarray], np.ndarray]]:
        """From values `[n, V]` of the items with interactions to those of the unrated ones."""
        count = self.training.interactions.item_counts
        return {
            rated: unrated_by_attributes(self.training.item_features, weight)
            for rated, weight in ((False, (count > 0).astype(np.float64)), (True, count))
        }

    def filled(self, values: np.ndarray, *, rated: bool = False) -> np.ndarray:
        """Predicts rows `[I, ...]` of new items from the others by their attributes.

        Args:
            values: Those of all items.
            rated: True where each interaction counts alike, as predicted ratings are judged; False
                where each item does: what orders items would lift a new one as if it were as
                popular as what most people have.
        """
        if not len(self.new):
            return values
        count = self.training.interactions.item_counts
        found, known = np.array(values), values[count > 0]
        flat = self._by_attributes[rated](known.reshape(len(known), -1))
        flat = flat[np.isin(np.flatnonzero(count == 0), self.new)]
        found[self.new] = flat.reshape(len(self.new), *values.shape[1:])
        return found

    @cached_property
    def members(self) -> np.ndarray:
        """`[M]` the users that are remembered: nearly all, or `members_of` at random."""
        users = self.training.interactions.users
        # Logs of about the same size share compiled programs.
        most = members_of(len(self.training.interactions.item_ids))
        room = min(len(users) // _STEP * _STEP, most) or min(len(users), most)
        if room == len(users):
            return users
        return np.sort(np.random.default_rng(0).choice(users, room, replace=False))

    @cached_property
    def of_members(self) -> np.ndarray:
        """`[R]` bool, interactions of the members."""
        log = self.training.interactions
        known = np.zeros(len(log.user_ids), bool)
        known[self.members] = True
        return known[log.user]

    @cached_property
    def met(self) -> np.ndarray:
        """`[J]` items that a member has and some more, ascending; all items of a small catalogue.

        All, too, where new items are expected to be liked.
        """
        log = self.training.interactions
        items = len(log.item_ids)
        if items <= MOST_WEIGHED or len(self.new):
            return np.arange(items)
        unmet = np.ones(items, bool)
        unmet[log.item[self.of_members]] = False
        room = _room_of(items, np.sum(~unmet))
        return np.sort(np.argsort(unmet, kind="stable")[:room])

    @cached_property
    def preferences(self) -> np.ndarray:
        """`[M, J]` float32 preferences of the members for `met`, 0 where there are none."""
        log, rows = self.training.interactions, self.of_members
        member = np.searchsorted(self.members, log.user[rows])
        dense = np.zeros((len(self.members), len(self.met)), np.float32)
        value = preferences(self.training, preference_curve(self.training.scale))
        dense[member, np.searchsorted(self.met, log.item[rows])] = value[rows]
        return dense

    @cached_property
    def liked(self) -> float:
        """Preference from which on an item counts as liked, less a tolerance of rounding."""
        return relevant_preference(self.training.scale, self.training.threshold) - 1e-5

    @cached_property
    def turns(self) -> np.ndarray | None:
        """`[R]` how many interactions of the same user precede each; None in a log without times.

        Ties of time are broken at random.
        """
        log = self.training.interactions
        if not log.timed:
            return None
        ties = np.random.default_rng(0).random(len(log.item))
        order = np.lexsort((ties, log.time, log.user))
        turn = np.empty(len(order), np.int64)
        turn[order] = np.arange(len(order)) - np.repeat(log.offsets[:-1], log.user_counts)
        return turn

    @cached_property
    def people(self) -> int:
        """Number of users with an interaction."""
        return len(self.training.interactions.users)

    @cached_property
    def weighed(self) -> np.ndarray:
        """`[N]` items among which there are weights: all, or `MOST_WEIGHED` that most users have.

        Where fewer have any interaction, new items follow.
        """
        count = self.training.interactions.item_counts
        if len(count) <= MOST_WEIGHED:
            return np.arange(len(count))
        later = np.ones(len(count), bool)
        later[self.new] = False
        return np.sort(np.lexsort((later, -count))[:MOST_WEIGHED])

    def among(self, items: np.ndarray) -> "Shared":
        """Statistics of some items alone, whose places in users' histories stay what they are.

        Args:
            items: `[N]` ascending.
        """
        training, log = self.training, self.training.interactions
        place = np.full(len(log.item_ids), -1, log.item.dtype)
        place[items] = np.arange(len(items))
        rows = place[log.item] >= 0
        own = select_rows(log, rows)
        own = own._replace(item=place[own.item], item_ids=log.item_ids[items])
        new = np.zeros(len(log.item_ids), bool)
        new[self.new] = True
        domain = None if training.item_domain is None else training.item_domain[items]
        found = Shared(
            training._replace(
                interactions=own,
                item_features=training.item_features[items],
                item_domain=domain,
                new_items=new[items],
            )
        )
        found.turns = None if self.turns is None else self.turns[rows]
        found.people = self.people
        return found


class Places(NamedTuple):
    """J of the I items of a catalogue, ascending."""

    place: jax.Array
    """`[I]` int32 place of each item among the J, J where it is none of them."""
    told: jax.Array
    """`[J + R]` int32 the J items and the first of the others, up to 16, ascending."""


def _places(items: np.ndarray, catalogue: int) -> Places | None:
    """Returns the places of J items; None where they are all items."""
    if len(items) == catalogue:
        return None
    place = np.full(catalogue, len(items), np.int32)
    place[items] = np.arange(len(items))
    others = np.flatnonzero(place == len(items))[:MOST_TOLD]
    told = np.sort(np.concatenate([items, others])).astype(np.int32)
    return Places(jnp.asarray(place), jnp.asarray(told))


class ItemScores(NamedTuple):
    """Scores of all I items by C columns, of which only J items may have scores of their own."""

    values: jax.Array
    """`[C, I]`, or `[C, J + 1]`: of the J items, and last of all others."""
    places: Places | None = None
    """Of the J; None: they are all items."""

    def of(self, item: jax.Array) -> jax.Array:
        """Returns `[N, C]` scores of `[N]` items."""
        return self.values[:, item if self.places is None else self.places.place[item]].T


class Expert(NamedTuple):
    """A closed form that scores candidates by one column or several."""

    columns: tuple[str, ...]
    """Name of each column."""
    fit: Callable[[Shared], Params]
    """`fit(shared) -> params`, on the host."""
    adapt: Callable[[Params, Examples], Any]
    """`adapt(params, support) -> state` of one user."""
    scores: Callable[[Params, Any, Inputs], jax.Array]
    """`scores(params, state, inputs) -> [N, len(columns)]`."""
    rates: Callable[[Params, Any, Inputs], jax.Array] | None = None
    """`rates(params, state, inputs) -> [N]` ratings of one that predicts them; None of others."""
    everywhere: Callable[[Params, Any], ItemScores] | None = None
    """`everywhere(params, state)`: `scores` of all items, of one that reads only which they are."""


def _of_items(
    columns: tuple[str, ...],
    fit: Callable[[Shared], Params],
    adapt: Callable[[Params, Examples], Any],
    everywhere: Callable[[Params, Any], ItemScores],
) -> Expert:
    """Makes an expert that reads only which items they are."""

    def scores(params: Params, state: Any, inputs: Inputs) -> jax.Array:
        return everywhere(params, state).of(inputs.item)

    return Expert(columns, fit, adapt, scores, everywhere=everywhere)


def members_of(items: int) -> int:
    """Returns the number of users that can be remembered: 2048, and fewer beyond 65,000 items."""
    return min(_MOST_MEMBERS, max(_MOST_PREFERENCES // items, 1))


def memory_of(shapes: Shapes) -> tuple[float, float]:
    """Estimates the memory of experts and of the tables of items, of a log without new items.

    Args:
        shapes: Of a training set, with its own numbers of users and interactions.

    Returns:
        Bytes of what is fitted, which serving holds, and the most there are at once while it is
        fitted, these included.
    """
    items, users = shapes.items, max(shapes.users, 1)
    weighed = float(min(items, MOST_WEIGHED)) ** 2
    members = min(members_of(items), users)
    table = float(members * _room_of(items, _expected_met(items, members * shapes.rows / users)))
    described = float(items * shapes.item_width)
    kept = 6 * table + 2 * len(_KINDS) * weighed + 4 * described + 40 * items
    most = [
        # Preferences, what is expected, and copies of them.
        14 * table,
        # Weights so far, two Gram matrices, the last weights, and four tables of an inverse.
        10 * table + (2 * len(_KINDS) + 7 * 4) * weighed,
        # Axes of attributes, in float64.
        kept + 5 * 8 * described,
    ]
    if shapes.scale is not None and shapes.item_width:
        # Factors of items by their attributes.
        most.append(kept + 5 * 8.0 * items * landmarks_of(items))
    return kept, max(most)


def _expected_met(items: int, interactions: float) -> float:
    """Returns how many of the items so many interactions are of, were each drawn at random."""
    return items * -float(np.expm1(-interactions / items))


def _room_of(items: int, met: float) -> int:
    """Returns the number of columns of members, as `Shared.met`."""
    if items <= MOST_WEIGHED:
        return items
    # In sixteenths of the catalogue, so that logs of about the same size share programs.
    step = -(-items // 16)
    return min(-int(-met // step) * step, items)


def of_method(method: Baseline, **settings: Any) -> Expert:
    """Makes an expert of a closed form, or of any method with `fit` and `adaptation`.

    Args:
        method: The method; its order of the items is the column.
        **settings: Passed to its `fit`.

    Returns:
        An expert of one column with the method's name, which predicts ratings where the method
        does.
    """
    rule = method.adaptation
    rank = rule.rank or rule.predict

    def scores(params: Params, state: Any, inputs: Inputs) -> jax.Array:
        return rank(params, state, inputs)[:, None]

    return Expert(
        (method.name,),
        lambda shared: method.fit(shared.training, **settings),
        lambda params, support: rule.adapt(params, support),
        scores,
        rule.predict if method.predicts_ratings else None,
    )


# Below this share an item counts as never seen: a logarithm without it would send rare items to the
# top wherever two logarithms have weights of opposite signs.
_FLOOR = 0.005


def _log_share(count: np.ndarray, users: int) -> np.ndarray:
    return np.log(_FLOOR + count / max(users, 1))


def _fit_statistics(shared: Shared) -> jax.Array:
    """Returns `[I, 3]`: log shares of users who like and who have the item, and of its likers."""
    log = shared.training.interactions
    users = len(log.users)
    counts = np.stack([liked_counts(shared.training), log.item_counts], axis=1)
    # Counts are predicted, not their logarithms, so that the columns of an item agree.
    like, have = np.maximum(shared.filled(counts.astype(np.float64)), 0).T
    # As if one interaction more were liked and one not: in a small log nothing may be.
    rate = (like.sum() + 1) / (have.sum() + 2)
    approval = np.log((like + 10 * rate) / (have + 10))
    table = (_log_share(like, users), _log_share(have, users), approval)
    return jnp.asarray(np.stack(table, axis=1), jnp.float32)


_statistics = _of_items(
    ("popularity", "reach", "approval"),
    _fit_statistics,
    lambda params, support: (),
    lambda params, state: ItemScores(params.T),
)


class _Content(NamedTuple):
    """Scaling of D content features, by which they are compared."""

    centre: jax.Array
    """`[D]` mean of the catalogue."""
    curve: PreferenceCurve
    """Preference of a rating."""


def _fit_content(shared: Shared) -> _Content:
    features = np.asarray(shared.training.item_features, np.float64)
    centre = jnp.asarray(features.mean(axis=0), jnp.float32)
    return _Content(centre, preference_curve(shared.training.scale))


def _profile(params: _Content, support: Examples) -> jax.Array:
    """Returns `[D]` sum of the features of the support, weighted by preference."""
    _, weight = support_preferences(params.curve, support)
    return weight @ (support.inputs.item_features - params.centre)


def _near(params: _Content, profile: jax.Array, inputs: Inputs) -> jax.Array:
    """Returns `[N, 1]` cosines of the items' features and the profile, 0 without one."""
    x = inputs.item_features - params.centre
    sizes = jnp.linalg.norm(x, axis=1) * jnp.linalg.norm(profile)
    return (x @ profile / jnp.where(sizes > 1e-9, sizes, jnp.inf))[:, None]


# As `baselines.content_profile`, without its ties.
_content = Expert(("content profile",), _fit_content, _profile, _near)


class _Members(NamedTuple):
    """The remembered training users, and the J items that are told apart by them."""

    preferences: jax.Array
    """`[M, J]` float16 in [0, 1]."""
    likes: jax.Array
    """`[M, J]` float32, as a product over the whole of it would first convert it; 1 for a liked
    item; of an item without interactions, what is expected."""
    features: jax.Array
    """`[M, Du]` encoded attributes."""
    length: jax.Array
    """`[M]` norm of the preferences, as if ten more items were known of each."""
    rarity: jax.Array
    """`[J]` logarithm of the inverse share of users who like it, at least .1."""
    share: jax.Array
    """`[J]` share of members who like it."""
    curve: PreferenceCurve
    """Preference of a rating."""
    places: Places | None
    """As in `ItemScores`; of other items no member has any."""


class _Seen(NamedTuple):
    """A new user's support."""

    item: jax.Array
    """`[S]` places of the items."""
    preference: jax.Array
    """`[S]` in [0, 1]; 0 in padding, and of an item that no member has."""
    count: jax.Array
    """`[]` its size."""
    features: jax.Array
    """`[Du]` encoded attributes."""


# Sharpness of the attention to users of similar taste, and its share of the distance of attributes.
_ATTENTION = ((6.0, 0.1), (15.0, 0.1), (0.0, 0.3))


def _fit_members(shared: Shared) -> _Members:
    dense = shared.preferences
    likes = (dense >= shared.liked).astype(np.float32)
    liked = np.sum(likes, axis=0)
    # A weight may be negative, a share not.
    expected = np.maximum(shared.filled(likes.T).T, 0)
    del likes
    # One member at a time: the squares of all would be as large as the preferences.
    length = np.sqrt(np.array([np.sum(own**2) for own in dense]) + 10)
    array = partial(jnp.asarray, dtype=jnp.float32)
    return _Members(
        jnp.asarray(dense, jnp.float16),
        array(expected),
        array(shared.training.user_features[shared.members]),
        array(length),
        array(np.maximum(np.log(len(dense) / (1 + liked)), 0.1)),
        array(np.mean(expected, axis=0)),
        preference_curve(shared.training.scale),
        _places(shared.met, len(shared.training.interactions.item_ids)),
    )


def _known(
    places: Places | None, items: int, item: jax.Array
) -> tuple[jax.Array, jax.Array | float]:
    """Returns `[S]` places of items among some, and 1 for each that is among them, or else 0."""
    if places is None:
        return item, 1.0
    item = places.place[item]
    return jnp.minimum(item, items - 1), item < items


def _seen(params: _Members, support: Examples) -> _Seen:
    item, preference = support_preferences(params.curve, support)
    _, _, present = observed(support)
    item, known = _known(params.places, params.likes.shape[1], item)
    preference = preference * known
    # The user's attributes stand in every row, padded ones too.
    return _Seen(item, preference, jnp.sum(present), support.inputs.user_features[0])


def _by_members(params: _Members, seen: _Seen) -> ItemScores:
    """Returns log shares of similar users who like an item, by three columns."""
    weight = params.rarity[seen.item] * seen.preference
    had = params.preferences[:, seen.item].astype(jnp.float32)  # [M, S]
    shared = had @ weight / params.length  # [M]
    shared = shared / jnp.sqrt(jnp.maximum(seen.count, 1))
    distance = jnp.sum(jnp.square(params.features - seen.features), axis=1)
    logits = jnp.stack([taste * shared - near / 2 * distance for taste, near in _ATTENTION])
    attention = jax.nn.softmax(logits, axis=1)  # [3, M]
    share = 0.2 * params.share + 0.8 * attention @ params.likes  # [3, J]
    if params.places is not None:
        share = jnp.pad(share, ((0, 0), (0, 1)))
    return ItemScores(jnp.log(_FLOOR + share), params.places)


_neighbours = _of_items(
    ("similar users", "most similar users", "users of similar attributes"),
    _fit_members,
    _seen,
    _by_members,
)


class _Weights(NamedTuple):
    """Weights from each item of the support to each candidate, among N items."""

    weights: jax.Array
    """`[C, N, N]` float16."""
    curve: PreferenceCurve
    """Preference of a rating."""
    kinds: jax.Array | None = None
    """`[C]` int32 places of the weights among all kinds; None: they are all of them."""
    places: Places | None = None
    """As in `ItemScores`, of the N."""


# (column, sharpness of the preferences that its weights are multiplied by)
_KINDS = (
    ("EASE", 1.0),
    ("EASE of favourites", 3.0),
    ("denoising EASE", 1.0),
    ("strongly denoising EASE", 1.0),
    ("strongly denoising EASE of favourites", 3.0),
    ("ItemKNN", 1.0),
    ("ItemKNN of favourites", 3.0),
    ("next item", 3.0),
    ("after the first items", 0.0),
)


def _fit_item_to_item(shared: Shared) -> _Weights:
    chosen = shared.weighed
    items, places = len(chosen), _places(chosen, len(shared.training.interactions.item_ids))
    if places is not None:
        shared = shared.among(chosen)
    found = np.empty((len(_KINDS), items, items), np.float16)
    for kind, weights in enumerate(_item_weights(shared)):
        found[kind] = shared.filled(weights.T).T
    curve = preference_curve(shared.training.scale)
    return _Weights(jnp.asarray(found), curve, places=places)


def _item_weights(shared: Shared) -> Iterator[np.ndarray]:
    """Yields the weights `[I, I]` of `_KINDS`, one at a time."""
    training = shared.training
    plain = sharp = cooccurrence(training, preference_curve(training.scale))
    if has_grades(training):
        sharp = cooccurrence(training, preference_curve(training.scale, sharpness=3.0))
    yield autoencoder_weights(plain, ridge=3000.0)
    yield autoencoder_weights(sharp, ridge=10000.0)
    yield autoencoder_weights(plain, ridge=5.0, dropout=0.8)
    weights = autoencoder_weights(plain, ridge=5.0, dropout=0.95)
    yield weights
    if sharp is not plain:
        weights = autoencoder_weights(sharp, ridge=5.0, dropout=0.95)
    yield weights
    del weights
    yield _cosines(plain, 50.0)
    yield _cosines(sharp, 200.0)
    yield _following(shared)
    yield _lifts(shared)


def _cosines(gram: np.ndarray, shrinkage: float) -> np.ndarray:
    """Returns `[I, I]` shrunk cosines of items' columns of preferences, 0 on the diagonal."""
    norm = np.sqrt(np.diagonal(gram))
    cosine = gram / (norm[:, None] * norm + np.float32(shrinkage))
    np.fill_diagonal(cosine, 0)
    return cosine


def _following(shared: Shared, shrinkage: float = 100.0) -> np.ndarray:
    """Returns `[I, I]` shrunk cosines of pairs of which the first came earlier; 0 without times.

    Of a long history the first 200 interactions count.
    """
    log, turns = shared.training.interactions, shared.turns
    items = len(log.item_ids)
    pairs = np.zeros((items, items), np.float32)
    if turns is None:
        return pairs
    weight = preferences(shared.training, preference_curve(shared.training.scale, sharpness=3.0))
    for user in log.users:
        rows = slice(log.offsets[user], log.offsets[user + 1])
        early = turns[rows] < _LONGEST
        item, turn, value = log.item[rows][early], turns[rows][early], weight[rows][early]
        earlier = turn[:, None] < turn
        pairs[np.ix_(item, item)] += earlier * (value[:, None] * value)
    norm = np.sqrt(np.bincount(log.item, weight**2, items))
    return pairs / (norm[:, None] * norm + shrinkage)


def _lifts(shared: Shared, strength: float = 20.0) -> np.ndarray:
    """Returns `[I, I]` by how much an item among a user's first raises the share who like another.

    The share is of what users like beyond their first ten interactions, so that lying among them
    counts neither for nor against an item. 0 without times.
    """
    from scipy import sparse  # Takes a tenth of a second, and only a fit needs it.

    log, turns = shared.training.interactions, shared.turns
    items, users = len(log.item_ids), log.users
    if turns is None:
        return np.zeros((items, items), np.float32)
    row = np.searchsorted(users, log.user)
    like = preferences(shared.training, preference_curve(shared.training.scale)) >= shared.liked
    first = turns < _FIRST
    before, after = (
        sparse.csr_array(
            (np.ones(part.sum(), np.float32), (row[part], log.item[part])), (len(users), items)
        )
        for part in (first, like & ~first)
    )
    lift = (before.T @ after).toarray()
    share = after.sum(axis=0) / shared.people
    return (lift + strength * share) / (before.sum(axis=0)[:, None] + strength) - share


def _adapt_item_to_item(params: _Weights, support: Examples) -> tuple[jax.Array, jax.Array]:
    """Returns `[S]` places of the items, and `[C, S]` their preferences to each kind's power."""
    item, preference = support_preferences(params.curve, support)
    _, _, present = observed(support)
    item, known = _known(params.places, params.weights.shape[1], item)
    present = present * known
    powers = jnp.array([sharpness for _, sharpness in _KINDS])
    if params.kinds is not None:
        powers = powers[params.kinds]
    return item, present * preference ** powers[:, None]


def _by_items(params: _Weights, state: tuple[jax.Array, jax.Array]) -> ItemScores:
    item, preference = state
    # One kind at a time: all at once would hold C S N numbers for every user of a batch.
    rows = [
        liking @ params.weights[kind, item].astype(jnp.float32)
        for kind, liking in enumerate(preference)
    ]
    if params.kinds is None:
        table = jnp.stack(rows)
    else:
        table = jnp.zeros((len(_KINDS), params.weights.shape[2]))
        for kind, row in zip(params.kinds, rows, strict=True):
            table = table.at[kind].set(row)
    if params.places is not None:
        table = jnp.pad(table, ((0, 0), (0, 1)))
    return ItemScores(table, params.places)


_item_to_item = _of_items(
    tuple(name for name, _ in _KINDS), _fit_item_to_item, _adapt_item_to_item, _by_items
)

EXPERTS = (_statistics, _content, _neighbours, _item_to_item)
"""Those that order the items of any log."""


def trimmed(expert: Expert, params: Params, speaking: np.ndarray) -> Params:
    """Drops weights between items of columns that are multiplied by 0.

    Args:
        expert: The expert.
        params: Its parameters, with all weights.
        speaking: `[len(expert.columns)]` bool, False for a column whose scores count for nothing.

    Returns:
        Parameters by which such columns are 0, and the others what they were.
    """
    if expert is not _item_to_item:
        return params
    kinds = np.flatnonzero(speaking)
    return params._replace(weights=params.weights[kinds], kinds=jnp.asarray(kinds, jnp.int32))

"""Scores of a whole catalogue for new users, in compiled calls."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax import metrics
from metajax.runs.recommender import Recommender, Seen
from metajax.types import Adaptation, Examples, Inputs, Params, Predict

__all__ = [
    "Ranked",
    "Scored",
    "check_finite",
    "expert_parts",
    "ranked_items",
    "score_all",
    "scored_at_once",
]

NOT_FINITE = "the adapted model predicts NaN: these ratings drove it out of range"
"""The error of scores that are not finite."""

ROUNDING = 1e-5
"""Least change of a score, relative to its size, that is no rounding."""

# Users in one call, and scores of users and items on the host: half a gigabyte of three arrays.
_MOST_USERS, _HOST_SCORES = 256, 2**25

# Scores of users and items in memory at once: hidden layers multiply it by their width.
_SCORES = 2**16


class Scored(NamedTuple):
    """Scores of all items for B users or more, on the device; of ratings in standardised units."""

    scores: Any
    """`[B, I]` predictions."""
    deviations: Any
    """`[B, I]` their standard deviations; 0 of a method that predicts none."""
    ranks: Any
    """`[B, I]` scores that order the items."""
    doubts: Any
    """`[B, I]` standard deviations of the expected ratings, without the noise of a single one; of a
    method without `Adaptation.expectation` those of ratings."""


class Ranked(NamedTuple):
    """The first k of the items that B users may be shown."""

    items: Any
    """`[B, k]` int32 indices, best first; -1 where no item is left."""
    scores: Any
    """`[B, k]`."""
    variances: Any
    """`[B, k]`; 0 of a method that predicts none."""
    finite: Any
    """`[B]` bool: all scores that order the catalogue are, and those of these items."""
    asked: Any
    """`[B, k]` scores of k items that were asked for."""


def scored_at_once(items: int) -> int:
    """Returns how many users to score in one call, so that the scores fit the host's memory.

    Args:
        items: Size of the catalogue.
    """
    return max(1, min(_MOST_USERS, _HOST_SCORES // items))


def check_finite(scores: np.ndarray) -> None:
    """Refuses scores of which one is not finite.

    Raises:
        ValueError: If one is NaN or infinite.
    """
    if not np.isfinite(scores).all():
        raise ValueError(f"{NOT_FINITE}.")


def score_all(
    recommender: Recommender,
    seen: Sequence[Seen],
    least: int = 0,
    *,
    doubts: bool = False,
) -> Scored:
    """Scores all items for some users in one compiled call.

    Args:
        recommender: A trained method.
        seen: Of each user; their number is padded to a power of two.
        least: Rows that each support is padded to, at least.
        doubts: True for `Scored.doubts`, which only exploration asks for; False: deviations.

    Returns:
        The scores, padded too, which are not finite where the ratings drove the method out of
        range.
    """
    adaptation = recommender.adaptation
    if not recommender.predicts_ratings:
        adaptation = adaptation._replace(predict_variance=None, expectation=None)
    if not doubts:
        adaptation = adaptation._replace(expectation=None)
    return _scores(
        adaptation,
        recommender.params,
        recommender.catalogue.item_features,
        _padded_users(seen, least),
    )


def ranked_items(
    recommender: Recommender,
    seen: Sequence[Seen],
    allowed: np.ndarray,
    top: int,
    asked: Sequence[int] = (),
    least: int = 0,
) -> Ranked:
    """Ranks the items that may be recommended to some users in one compiled call.

    Args:
        recommender: A trained method.
        seen: Of B users; their own items are left out.
        allowed: `[I]` bool, the items that may be recommended.
        top: Number of items, which is rounded up.
        asked: At most `top` places in the catalogue whose scores are asked for.
        least: Rows that each support is padded to, at least.

    Returns:
        Of each user the first items, and the scores that were asked for, padded by others and by
        users; on the device, which may still be at work.
    """
    adaptation = recommender.adaptation._replace(expectation=None)
    if not recommender.predicts_ratings:
        adaptation = adaptation._replace(predict_variance=None)
    # Few lengths are ever compiled.
    length = min(_padded(top, 16), len(allowed))
    places = np.zeros(length, np.int32)
    places[: len(asked)] = asked
    return _best_items(
        adaptation,
        recommender.params,
        jnp.asarray(recommender.catalogue.item_features),
        _padded_users(seen, least),
        allowed,
        places,
    )


def expert_parts(recommender: Recommender, seen: Seen, parts: Predict) -> np.ndarray:
    """Returns the parts of E experts of all items' scores for one user, `[I, E]` float64.

    Args:
        recommender: A trained method.
        seen: Of the user.
        parts: `Blend.parts` of the method.
    """
    user = tuple(array[0] for array in _padded_users([seen]))
    features = jnp.asarray(recommender.catalogue.item_features)
    found = _parts(recommender.adaptation, parts, recommender.params, features, user)
    return np.asarray(found, np.float64)


def _padded_users(seen: Sequence[Seen], least: int = 0) -> tuple[np.ndarray, ...]:
    """Returns attributes, items, labels and mask of users, whose number is a power of two."""
    size = _padded(max(least, max(len(one.items) for one in seen)), 4)
    batch = _padded(len(seen), 1)
    items, labels = np.zeros((batch, size), np.int32), np.zeros((batch, size), np.float32)
    mask = np.zeros((batch, size), bool)
    features = np.zeros((batch, len(seen[0].features)), np.float32)
    for n, one in enumerate(seen):
        known = slice(0, len(one.items))
        items[n, known], labels[n, known], mask[n, known] = one.items, one.labels, True
        features[n] = one.features
    return features, items, labels, mask


def _padded(size: int, least: int) -> int:
    """Rounds a size up, so that few sizes are ever compiled."""
    return max(least, 1 << max(size - 1, 0).bit_length())


def _adapted(
    adaptation: Adaptation, params: Params, item_features: jax.Array, user: tuple[jax.Array, ...]
) -> tuple[Any, Inputs]:
    """Adapts to attributes, items, labels and mask of one user; returns all items as inputs too."""
    features, items, labels, mask = user

    def inputs(items: jax.Array) -> Inputs:
        repeated = jnp.broadcast_to(features, (len(items), len(features)))
        return Inputs(repeated, item_features[items], items)

    adapted = adaptation.adapt(params, Examples(inputs(items), labels, mask))
    return adapted, inputs(jnp.arange(len(item_features)))


@functools.partial(jax.jit, static_argnames=("adaptation", "parts"))
def _parts(
    adaptation: Adaptation, parts: Predict, params: Params, item_features: jax.Array, user: Any
) -> jax.Array:
    """Parts of E experts of the scores of all items for one user, `[I, E]`."""
    return parts(params, *_adapted(adaptation, params, item_features, user))


@functools.partial(jax.jit, static_argnames="adaptation")
def _best_items(
    adaptation: Adaptation,
    params: Params,
    item_features: jax.Array,
    users: Any,
    allowed: Any,
    asked: Any,
) -> Ranked:
    """Orders the items `[I]` that are allowed and not in the support, for B users.

    As many are returned as there are items `[k]` whose scores are asked for. What is not an order
    is computed of these two groups of items alone.
    """
    allowed, asked, top = jnp.asarray(allowed), jnp.asarray(asked), len(asked)

    def one(user: tuple[jax.Array, ...]) -> Ranked:
        _, known, _, mask = user
        adapted, catalogue = _adapted(adaptation, params, item_features, user)
        ranks = (adaptation.rank or adaptation.predict)(params, adapted, catalogue)
        items = metrics.top_items(ranks, k=top, where=allowed.at[known].min(~mask))
        chosen = jnp.concatenate([items, asked])
        some = jax.tree.map(lambda leaf: leaf[chosen], catalogue)
        scores = ranks[chosen] if adaptation.rank is None else None
        scores, variances, _ = _predicted(adaptation, params, adapted, some, scores)
        finite = jnp.all(jnp.isfinite(ranks)) & jnp.all(jnp.isfinite(scores[:top]))
        return Ranked(items, scores[:top], variances[:top], finite, scores[top:])

    return _mapped(one, users, len(item_features))


@functools.partial(jax.jit, static_argnames="adaptation")
def _scores(adaptation: Adaptation, params: Params, item_features: Any, users: Any) -> Scored:
    """Scores of all items for B users, a power of two, as of `score_all`."""
    item_features = jnp.asarray(item_features)

    def one(user: tuple[jax.Array, ...]) -> Scored:
        adapted, catalogue = _adapted(adaptation, params, item_features, user)
        scores, variances, expectation = _predicted(adaptation, params, adapted, catalogue)
        ranks = scores
        if adaptation.rank is not None:
            ranks = adaptation.rank(params, adapted, catalogue)
        doubts = variances
        if expectation is not None:
            _, root, own = expectation
            doubts = jnp.sum(root * root, axis=-1) + own
        return Scored(scores, jnp.sqrt(variances), ranks, jnp.sqrt(doubts))

    return _mapped(one, users, len(item_features))


def _predicted(
    adaptation: Adaptation,
    params: Params,
    adapted: Any,
    inputs: Inputs,
    scores: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, Any]:
    """Scores of some items for one user, unless they are given, variances and expected ratings.

    The variances are 0 and the expectation None of a method that predicts none.
    """
    if scores is None:
        scores = adaptation.predict(params, adapted, inputs)
    variances, expectation = jnp.zeros_like(scores), None
    if adaptation.predict_variance is not None:
        variances = adaptation.predict_variance(params, adapted, inputs)
    if adaptation.expectation is not None:
        expectation = adaptation.expectation(params, adapted, inputs)
    return scores, variances, expectation


def _mapped(one: Callable[[Any], Any], users: Any, items: int) -> Any:
    """Applies a function of one user to B users, as many at a time as memory should hold."""
    most = 1 << max(_SCORES // items, 1).bit_length() - 1
    return jax.lax.map(one, users, batch_size=min(most, len(users[0])))

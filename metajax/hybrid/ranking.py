"""The ranking head: experts' scores under a gate.

A score is the sum of the experts' columns, each in its standard deviation, times weights that
depend on the number of interactions, and on whether they look like the first ones of somebody who
has just arrived or like any of a long history (`metajax.hybrid.arrival`): each of the two has
weights of its own, which maximise a smooth NDCG of users whom the experts have not seen.

Of few users little is learned: a gate that does not beat a fixed schedule of popularity, content
and neighbours on users it was not fitted to, by a 95 % interval over users, is replaced by it.
"""

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax.data.dataset import room
from metajax.hybrid.arrival import KNOTS
from metajax.hybrid.experts import ItemScores, Places
from metajax.hybrid.rating import blended
from metajax.losses import approximate_ndcg

__all__ = [
    "Lists",
    "RankingHead",
    "candidates",
    "expert_weights",
    "fit_blends",
    "fit_ranking_head",
    "is_schedule",
    "merged",
]

# A NumPy or a JAX array.
Array = Any

_CONSTANT_STEPS, _STEPS, _PER_DISPATCH = 500, 300, 100
_BATCH = 256
_RATE, _FINE_RATE = 0.05, 0.02


SCHEDULE: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "popularity": (1.0, 1.0, 1.0, 1.0, 1.0),
        "content profile": (0.0, 0.08, 0.15, 0.2, 0.25),
        "ItemKNN": (0.0, 0.15, 0.3, 0.4, 0.5),
    }
)
"""Weights of columns in their standard deviations at each knot, where a gate cannot be learned: of
nine on validation users of folds 0 to 3 of MovieLens-100K, of which the first 100, 1,000 and 3,000
events were known, the best that was ahead of popularity at every number in both orders."""


class RankingHead(NamedTuple):
    """The gate, of E columns and G knots."""

    scale: jax.Array
    """`[E]` standard deviation of each column; infinite for one that is left out."""
    weights: jax.Array
    """`[2, G, E]` for supports of any of a user's interactions, and of the first ones."""


class Lists(NamedTuple):
    """Lists of L candidates for T held-out users at one number of interactions."""

    scores: Array
    """`[T, L, E]` float16 columns of the experts."""
    relevant: Array
    """`[T, L]` bool, False where `mask` is."""
    mask: Array
    """`[T, L]` bool, False for what was shown and for copies."""
    pooled: Array
    """`[T, L]` bool, the rest of the pool: in P1 no candidates."""
    reach: Array
    """`[T, 2]` share of the best DCG that the candidates allow, by the natural reading and by P1; 0
    where nothing is relevant."""
    count: Array
    """`[T]` interactions shown."""
    first: Array
    """`[T]` probability that they are the first ones, as in `arrival.arrived`."""
    user: Array
    """`[T]` int32 who."""


def candidates(
    scores: Sequence[ItemScores], blends: jax.Array, always: jax.Array, each: int
) -> tuple[jax.Array, jax.Array]:
    """Selects the best candidates by each column and by each of some blends of them.

    A gate that is fitted to lists does not see what it lifts from outside them: the best by an
    earlier gate, of other users, are its hard negatives.

    Args:
        scores: Of all items, by E columns together; some of them of all items one by one.
        blends: `[B, E]` weights.
        always: `[P]` items that are selected for every user.
        each: Number of the best of each column and blend, at most 16.

    Returns:
        `[P + (E + B) each]` items, and bool that is False for all copies of an item but one.
    """
    ends = np.cumsum([len(part.values) for part in scores])
    if all(part.places is None for part in scores):
        total = blends @ jnp.concatenate([part.values for part in scores])
    else:
        pairs = zip(scores, jnp.split(blends, ends[:-1], axis=1), strict=True)
        total = reduce(
            jnp.add, (_everywhere(own @ part.values, part.places) for part, own in pairs)
        )
    best = [_best(part, each).ravel() for part in (*scores, ItemScores(total))]
    item = jnp.sort(jnp.concatenate([always, *best]))
    return item, jnp.concatenate([jnp.ones(1, bool), item[1:] != item[:-1]])


def _everywhere(values: jax.Array, places: Places | None) -> jax.Array:
    return values if places is None else values[:, places.place]


def _best(scores: ItemScores, each: int) -> jax.Array:
    """Returns `[C, each]` the best by each column, the first of equals."""
    values, places = scores
    if places is None:
        return jax.lax.top_k(values, min(each, values.shape[1]))[1]
    # Of the items that have one score in common the first ones are enough.
    told = values[:, places.place[places.told]]
    return places.told[jax.lax.top_k(told, min(each, told.shape[1]))[1]]


def expert_weights(head: RankingHead, count: jax.Array, first: jax.Array) -> jax.Array:
    """Returns `[E]` weights of the columns; `first` is the probability of `arrival.arrived`."""
    return blended(head.weights, count, first) / head.scale


def fit_ranking_head(
    lists: Lists,
    names: Sequence[str],
    *,
    without: Sequence[str] = (),
    constant: bool = False,
    seed: int = 0,
) -> tuple[RankingHead, dict[str, float]]:
    """Fits the gate, drops experts that do not help, and replaces a gate that does not.

    Popularity stays, as it alone orders items for somebody of whom nothing is known.

    Args:
        lists: Of held-out users, at every knot.
        names: Name of each column.
        without: Names of columns that are left out.
        constant: True for weights that are the same at every number of interactions from one on.
        seed: Of the minibatches.

    Returns:
        The gate; and the NDCG@10 on halves of the users that it was not fitted to: of the schedule,
        of the best weights that are the same at every number of interactions, of the gate, and of
        the better of the two without each expert, those left out that were found not to help.
    """
    scale = _scales(lists)
    scale[[at for at, name in enumerate(names) if name in without]] = np.inf
    schedule = _scheduled(names, scale)
    if constant:
        schedule = schedule._replace(weights=_tied(schedule.weights))
    users = np.unique(lists.user)
    inside = np.isin(lists.user, np.random.default_rng(seed).permutation(users)[: len(users) // 2])
    halves = [(_part(lists, side), _part(lists, ~side)) for side in (inside, ~inside)]
    halves = [pair for pair in halves if all(len(half.count) for half in pair)]
    if not halves:
        return schedule, {}
    helds = [held for _, held in halves]
    blends = [_fitted(scale, seen, seed) for seen, _ in halves]
    gates = (
        []
        if constant
        else [
            _fitted(scale, seen, seed, start=start)
            for (seen, _), start in zip(halves, blends, strict=True)
        ]
    )

    def reached(found: Sequence[jax.Array], left_out: Sequence[int] = ()) -> list[np.ndarray]:
        kept = scale.copy()
        kept[list(left_out)] = np.inf
        return [_reached(kept, *pair) for pair in zip(found, helds, strict=True)]

    default = [_reached(schedule.scale, schedule.weights, held) for held in helds]
    figures = {"schedule": _ndcg(default), "constant blend": _ndcg(reached(blends))}
    found = blends
    if gates:
        figures["gate"] = _ndcg(reached(gates))
        if figures["gate"] > figures["constant blend"]:
            found = gates
    best = max(figures["constant blend"], figures.get("gate", 0.0))
    if np.isfinite(schedule.scale).any() and not _ahead(reached(found), default, helds):
        return schedule, figures
    dropped: list[int] = []
    for column in np.flatnonzero(np.isfinite(scale)).tolist():
        left = _ndcg(reached(found, [*dropped, column]))
        figures[f"without {names[column]}"] = left
        # Where nothing is shown yet popularity alone gives an order.
        if left >= best and names[column] != "popularity":
            dropped.append(column)
            best = left
    figures["without all that do not help"] = best
    scale[dropped] = np.inf
    weights = _fitted(scale, lists, seed)
    if found is gates:
        weights = _fitted(scale, lists, seed, start=weights)
    return RankingHead(jnp.asarray(scale, jnp.float32), weights), figures


def _scheduled(names: Sequence[str], scale: np.ndarray) -> RankingHead:
    """Returns the schedule of those of its columns that are there."""
    weights, kept = np.zeros((2, len(KNOTS), len(names))), np.full(len(names), np.inf)
    for at, name in enumerate(names):
        if name in SCHEDULE and np.isfinite(scale[at]):
            weights[:, :, at], kept[at] = SCHEDULE[name], scale[at]
    return RankingHead(jnp.asarray(kept, jnp.float32), jnp.asarray(weights, jnp.float32))


def is_schedule(head: RankingHead, names: Sequence[str]) -> bool:
    """True if the gate is the fixed schedule, as where it could not be learned.

    Args:
        head: The gate.
        names: Name of each column.
    """
    expected = _scheduled(names, np.asarray(head.scale))
    same = (np.array_equal(own, other) for own, other in zip(head, expected, strict=True))
    return all(same)


def _ahead(
    found: Sequence[np.ndarray], default: Sequence[np.ndarray], lists: Sequence[Lists]
) -> bool:
    """True if the lower end of a 95 % t interval over users of the mean difference is above 0."""
    from scipy.special import stdtrit  # Takes a tenth of a second, and only a fit needs it.

    difference = np.concatenate(
        [np.nansum(a - b, axis=0) for a, b in zip(found, default, strict=True)]
    )
    user = np.unique(np.concatenate([part.user for part in lists]), return_inverse=True)[1]
    total = np.bincount(user, difference)
    error = np.std(total, ddof=1) / np.sqrt(len(total))
    return bool(np.mean(total) > stdtrit(len(total) - 1, 0.975) * error)


def fit_blends(kinds: Sequence[Lists], start: np.ndarray) -> np.ndarray:
    """Fits rough gates, whose blends of the columns are those of `candidates`.

    Args:
        kinds: Lists for supports of any interactions, and of the first ones.
        start: `[2, G, E]` blends to begin with; where all are 0 the fit begins anew.

    Returns:
        `[2, G, E]` weights of the columns for each kind, at every knot.
    """
    told = [lists._replace(first=np.full_like(lists.first, n)) for n, lists in enumerate(kinds)]
    lists = merged(told)
    scale = _scales(lists)
    weights = jnp.asarray(start * np.where(np.isfinite(scale), scale, 0), jnp.float32)
    if not start.any():
        weights = _fitted(scale, lists, 0)
    return np.asarray(_fitted(scale, lists, 0, start=weights) / scale)


def merged(lists: Sequence[Lists]) -> Lists:
    """Concatenates lists."""
    leaves = zip(*lists, strict=True)
    return Lists(*(np.concatenate([np.asarray(leaf) for leaf in group]) for group in leaves))


def _part(lists: Lists, rows: np.ndarray) -> Lists:
    return Lists(*(leaf[rows] for leaf in lists))


def _scales(lists: Lists) -> np.ndarray:
    """Returns `[E]` standard deviations of the columns, infinite of one that hardly varies."""
    some = lists.count > 0
    # Where nobody has two interactions there are empty supports alone.
    shown = lists.scores[lists.mask & (some if some.any() else ~some)[:, None]]
    deviation = np.std(shown.astype(np.float32), axis=0)
    return np.where(np.nan_to_num(deviation) > 1e-4, deviation, np.inf)


def _scores(scale: jax.Array, weights: jax.Array, lists: Lists) -> jax.Array:
    def one(scores: jax.Array, count: jax.Array, first: jax.Array) -> jax.Array:
        return scores.astype(jnp.float32) @ (blended(weights, count, first) / scale)

    return jax.vmap(one)(lists.scores, lists.count, lists.first)


_jitted_scores = jax.jit(_scores)


@partial(jax.jit, static_argnames=("constant", "size"))
def _trained(
    scale: jax.Array,
    weights: jax.Array,
    state: optax.OptState,
    lists: Lists,
    count: jax.Array,
    keys: jax.Array,
    constant: bool,
    size: int,
) -> tuple[jax.Array, optax.OptState]:
    """Makes updates on `size` of the first `count` lists each; the rest is padding."""
    optimizer = _optimizer(constant=constant)

    def loss(weights: jax.Array, batch: Lists, key: jax.Array) -> jax.Array:
        scores = _scores(scale, _tied(weights) if constant else weights, batch)
        # By either reading of a list, as both are asked for.
        pooled = jax.random.bernoulli(key, shape=batch.count.shape)
        mask = batch.mask & ~(batch.pooled & pooled[:, None])
        lost = jax.vmap(lambda s, y, m: approximate_ndcg(s, y, where=m))(
            scores, (batch.relevant & mask).astype(jnp.float32), mask
        )
        return jnp.mean(jnp.where(pooled, batch.reach[:, 1], batch.reach[:, 0]) * lost)

    def step(
        carry: tuple[Any, optax.OptState], key: jax.Array
    ) -> tuple[tuple[Any, optax.OptState], None]:
        weights, state = carry
        row_key, reading_key = jax.random.split(key)
        rows = jax.random.randint(row_key, (size,), 0, count)
        batch = jax.tree.map(lambda leaf: leaf[rows], lists)
        gradient = jax.grad(loss)(weights, batch, reading_key)
        change, state = optimizer.update(gradient, state)
        return (optax.apply_updates(weights, change), state), None

    return jax.lax.scan(step, (weights, state), keys)[0]


def _tied(weights: jax.Array) -> jax.Array:
    """Replaces the weights from one interaction on by their mean."""
    return weights.at[:, 1:].set(jnp.mean(weights[:, 1:], axis=1, keepdims=True))


def _optimizer(*, constant: bool) -> optax.GradientTransformation:
    if constant:
        return optax.adam(optax.cosine_decay_schedule(_RATE, _CONSTANT_STEPS))
    return optax.adam(optax.cosine_decay_schedule(_FINE_RATE, _STEPS))


def _fitted(
    scale: np.ndarray, lists: Lists, seed: int, *, start: jax.Array | None = None
) -> jax.Array:
    """Returns weights `[2, G, E]` of the columns in their standard deviation.

    Without a start they are the same at every number of interactions from one on; those are where
    weights of each number start: from afar they may end where no relevant item is near the top.
    """
    constant = start is None
    if start is None:
        # The first column, popularity, begins with its own scale.
        first = float(scale[0]) if np.isfinite(scale[0]) else 0.0
        start = jnp.zeros((2, len(KNOTS), len(scale))).at[:, :, 0].set(first)
    weights, state = start, _optimizer(constant=constant).init(start)
    # Parts, halves and all of the users share a program where their numbers are about the same.
    count = len(lists.count)
    size = min(_BATCH, count)
    padded = jax.tree.map(lambda leaf: jnp.asarray(_with_room(leaf)), lists)
    steps = _CONSTANT_STEPS if constant else _STEPS
    for keys in jax.random.split(jax.random.key(seed), (steps // _PER_DISPATCH, _PER_DISPATCH)):
        weights, state = _trained(
            jnp.asarray(scale), weights, state, padded, count, keys, constant, size
        )
    return _tied(weights) if constant else weights


def _with_room(rows: np.ndarray) -> np.ndarray:
    """Pads rows by zeros to a power of two."""
    padded = np.zeros((room(len(rows)), *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return padded


def _reached(scale: np.ndarray | jax.Array, weights: jax.Array, lists: Lists) -> np.ndarray:
    """Returns `[2, T]` NDCG@10 by both readings, NaN of users to whom nothing is relevant."""
    gains = 1 / np.log2(2.0 + np.arange(10))
    scores = np.asarray(_jitted_scores(jnp.asarray(scale), weights, lists))
    found = []
    for reading, mask in enumerate((lists.mask, lists.mask & ~lists.pooled)):
        masked, relevant = np.where(mask, scores, -np.inf), lists.relevant & mask
        top = np.argpartition(-masked, min(10, masked.shape[1] - 1), axis=1)[:, :10]
        place = np.argsort(-np.take_along_axis(masked, top, axis=1), axis=1, kind="stable")
        hit = np.take_along_axis(relevant, np.take_along_axis(top, place, axis=1), axis=1)
        ideal = np.cumsum(gains)[np.clip(relevant.sum(axis=1), 1, 10) - 1]
        reach = lists.reach[:, reading]
        reached = reach * (hit @ gains[: hit.shape[1]]) / ideal
        found.append(np.where(reach > 0, reached, np.nan))
    return np.stack(found)


def _ndcg(halves: Sequence[np.ndarray]) -> float:
    """Returns the mean of both readings and of the halves of the users."""
    counts = [np.maximum(np.sum(np.isfinite(half), axis=1), 1) for half in halves]
    sums = [np.nansum(half, axis=1) for half in halves]
    return float(np.mean([total / count for total, count in zip(sums, counts, strict=True)]))

"""The one harness that judges every cold-start method, learned or not.

For each cold user the method adapts to the first K supports and scores the whole catalogue; errors
and ranking metrics reduce on the device to a few numbers per user, from which
`evaluation.statistics` makes figures with intervals. What would flatter a method is an error here:
leaks, constant predictions, NaN, an order of items that tells which are popular.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax import metrics
from metajax.data.cold_tasks import ColdTasks
from metajax.data.leakage import check_tasks
from metajax.types import Adaptation, Examples, Inputs, MetaLearner, Params

__all__ = [
    "Batch",
    "ConstantPredictionsError",
    "Evaluation",
    "NonFinitePredictionsError",
    "PerUser",
    "batches",
    "check_constant",
    "check_finite",
    "concatenate",
    "evaluate",
    "measure",
]


class PerUser(NamedTuple):
    """What the harness measured of T users at each of `len(ks)` support sizes, on the host."""

    user: np.ndarray
    """`[T]` int64 user indices."""
    run: np.ndarray
    """`[T]` int32 which of the concatenated evaluations the row comes from."""
    squared_error: np.ndarray
    """`[K, T]` sum over the query, predictions clipped to the scale."""
    absolute_error: np.ndarray
    """`[K, T]` sum over the query, predictions clipped to the scale."""
    count: np.ndarray
    """`[K, T]` length of the query."""
    within_50: np.ndarray
    """`[K, T]` ratings of the query inside the central 50 % of what was predicted; 0 where the
    method predicts no variance."""
    within_90: np.ndarray
    """`[K, T]` the same of the central 90 %."""
    ndcg: np.ndarray
    """`[K, T]` binary NDCG of the list; 0 where the query has nothing relevant."""
    precision: np.ndarray
    """`[K, T]` precision of the list."""
    recall: np.ndarray
    """`[K, T]` recall of the list."""
    hit: np.ndarray
    """`[K, T]` 1 if the first recommendation is relevant."""
    has_relevant: np.ndarray
    """`[K, T]` bool, False where ranking metrics are undefined and must be left out."""
    top_items: np.ndarray
    """`[K, T, length]` int32 recommended items, best first; -1 where none is left."""


class Evaluation(NamedTuple):
    """How one method did; `metajax.evaluation.intervals` makes figures of it."""

    method: str
    """Its name in tables."""
    ks: tuple[int, ...]
    """The support sizes."""
    items: int
    """Size of the catalogue."""
    rating: bool
    """Whether its scores were judged as ratings."""
    ranking: bool
    """Whether its scores were judged as a ranking."""
    variance: bool
    """Whether it predicts variances, and they were judged."""
    per_user: PerUser
    """The measurements."""


def evaluate(
    adaptation: Adaptation | MetaLearner,
    params: Params,
    tasks: ColdTasks,
    user_features: np.ndarray,
    item_features: np.ndarray,
    *,
    scale: tuple[float, float] | None,
    method: str = "method",
    ks: Sequence[int] = (0, 1, 3, 5, 10),
    rating: bool = True,
    ranking: bool = True,
    relevant: float | None = None,
    length: int = 10,
    allow_constant: bool = False,
    key: jax.Array | None = None,
    chunk: int = 64,
    seed: int = 0,
) -> Evaluation:
    """Judges a method on cold users.

    All support sizes and all users run through one compiled program, which is kept for the next
    call with the same adaptation and shapes. Items that are not in the support of size K are
    candidates; what is relevant among them comes from the query alone.

    Args:
        adaptation: The method; of a learner, its `adapt` and `predict`.
        params: What it learned.
        tasks: The cold users, as from `splits.cold_user_tasks`.
        user_features: `[U, Du]` encoded attributes of all users.
        item_features: `[I, Di]` encoded attributes of all items.
        scale: Lowest and highest rating; None for an implicit log, where every query item is
            relevant and there are no ratings to judge.
        method: Its name, for tables and errors.
        ks: Support sizes, each at most the pool.
        rating: Judge the scores as ratings.
        ranking: Judge the scores as a ranking of all items but the support; if not, only the
            queries are scored.
        relevant: Lowest rating of a relevant item; None means three quarters up the scale, which
            is 4 of 1 to 5.
        length: Length of the recommended list.
        allow_constant: Accept rating predictions that are the same everywhere, for a global mean.
        key: For methods that draw; each user gets a key of their own, the same at every K.
        chunk: Users a step; what they need on the device is about `chunk * I * (Du + Di)` floats.
        seed: Seed of the order of the catalogue, which decides between equal scores.

    Returns:
        The measurements per user, on the host.

    Raises:
        ValueError: If an argument is out of range or does not fit the others.
        LeakageError: If a query item is in the support.
        NonFinitePredictionsError: If a score is NaN or infinite.
        ConstantPredictionsError: If nearly all users' scores are constant over the items and a
            ranking is asked, or all scores are the same and that is not allowed.
    """
    for name, value in (("length", length), ("chunk", chunk)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}.")
    ks = tuple(ks)
    _check_arguments(tasks, user_features, item_features, scale, ks, rating)
    check_tasks(tasks)
    items, users = len(item_features), len(tasks.user)
    chunk = min(chunk, users)
    order = np.random.default_rng(seed).permutation(items).astype(np.int32)
    low, high = scale or (-np.inf, np.inf)
    if scale is None:
        relevant = -np.inf
    elif relevant is None:
        relevant = low + 0.75 * (high - low)
    judge = partial(
        measure,
        Adaptation(adaptation.adapt, adaptation.predict, adaptation.predict_variance),
        params,
        jnp.asarray(item_features),
        jnp.asarray(order),
        low=low,
        high=high,
        relevant=relevant,
        key=key,
        length=length,
    )
    judged = [
        judge(batch, np.int32(tasks.given + k))
        for batch in batches(tasks, user_features, order, chunk, ranking=ranking)
        for k in ks
    ]
    # Dicts of [C, ...], K by K within a chunk, to one of [K, T, ...]; the padded tail goes.
    merged = jax.tree.map(
        lambda *leaves: np.stack(
            [np.concatenate(leaves[i :: len(ks)])[:users] for i in range(len(ks))]
        ),
        *jax.device_get(judged),
    )
    lowest, highest = merged.pop("lowest"), merged.pop("highest")
    check_finite(method, ks, tasks.user, merged.pop("finite"))
    check_constant(
        method, ks, lowest, highest, ranking=ranking, rating=rating and not allow_constant
    )
    count = np.broadcast_to(np.diff(tasks.query_offsets), (len(ks), users))
    run = np.zeros(users, np.int32)
    per_user = PerUser(user=tasks.user, run=run, count=count, **merged)
    variance = rating and adaptation.predict_variance is not None
    return Evaluation(method, ks, items, rating, ranking, variance, per_user)


def concatenate(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Joins the folds or repetitions of one method; runs are numbered in the order given.

    Args:
        evaluations: At least one, alike in all but the measurements.

    Returns:
        An evaluation of all their users. Who occurs in several runs stays one user.

    Raises:
        ValueError: If there is none, or they differ in something but the measurements.
    """
    if not evaluations:
        raise ValueError("evaluations must hold at least one, got none.")
    first = evaluations[0]
    runs, start = [], 0
    for evaluation in evaluations:
        if evaluation[:-1] != first[:-1]:
            raise ValueError(
                f"evaluations must be alike, got {first[:-1]} and {evaluation[:-1]} (method, ks, "
                "items, rating, ranking, variance)."
            )
        runs.append(evaluation.per_user._replace(run=evaluation.per_user.run + start))
        start = runs[-1].run.max() + 1
    fields = {
        name: np.concatenate([getattr(run, name) for run in runs], int(name not in ("user", "run")))
        for name in PerUser._fields
    }
    return first._replace(per_user=PerUser(**fields))


def _check_arguments(
    tasks: ColdTasks,
    user_features: np.ndarray,
    item_features: np.ndarray,
    scale: tuple[float, float] | None,
    ks: tuple[int, ...],
    rating: bool,
) -> None:
    pool = tasks.support_item.shape[1] - tasks.given
    if not len(tasks.user):
        raise ValueError("tasks must hold at least one user, got none.")
    if not ks or not all(0 <= k <= pool for k in ks):
        raise ValueError(f"ks must be support sizes in [0, {pool}] (the pool), got {ks}.")
    if rating and scale is None:
        raise ValueError("rating needs a scale: pass rating=False for an implicit log.")
    highest_item = max(tasks.query_item.max(initial=0), tasks.support_item.max(initial=0))
    for name, table, last in (
        ("user_features", user_features, tasks.user.max()),
        ("item_features", item_features, highest_item),
    ):
        if np.ndim(table) != 2 or len(table) <= last:
            raise ValueError(
                f"{name} must be a table with more than {last} rows, got shape {np.shape(table)}."
            )


# The central 50 % and 90 % of a Gaussian end so many standard deviations from its mean.
_CENTRAL = {50: 0.6744898, 90: 1.6448536}


class Batch(NamedTuple):
    """C users; N columns: the catalogue in shuffled order, or the queries if nothing is ranked."""

    user: jax.Array
    """`[C]` index."""
    features: jax.Array
    """`[C, Du]` encoded attributes."""
    support_item: jax.Array
    """`[C, P]` items of the pool."""
    support_column: jax.Array
    """`[C, P]` where they lie in the shuffled catalogue."""
    support_rating: jax.Array
    """`[C, P]` their ratings."""
    support_mask: jax.Array
    """`[C, P]` bool, False where the pool is shorter."""
    candidate: jax.Array | None
    """`[C, N]` items, padded with 0; None for the whole catalogue."""
    rating: jax.Array
    """`[C, N]` ratings; 0 where not in the query."""
    in_query: jax.Array
    """`[C, N]` bool."""


@partial(jax.jit, static_argnames=("adaptation", "length"))
def measure(
    adaptation: Adaptation,
    params: Params,
    item_features: jax.Array,
    order: jax.Array,
    batch: Batch,
    k: jax.Array,
    *,
    low: float,
    high: float,
    relevant: float,
    key: jax.Array | None,
    length: int,
) -> dict[str, jax.Array]:
    """Adapts to each user's first k supports, scores, and reduces the scores to figures.

    Args:
        adaptation: The method.
        params: What it learned.
        item_features: `[I, Di]` encoded attributes.
        order: `[I]` int32 the shuffled catalogue.
        batch: C users.
        k: `[]` the support size.
        low: Lowest rating; predictions are clipped to it.
        high: Highest rating.
        relevant: Lowest rating of a relevant item.
        key: For methods that draw, or None.
        length: Of the recommended list.

    Returns:
        `[C, ...]` figures by the names of `evaluation.PerUser`, and what guards ask: the lowest and
        highest score, and whether all are finite.

    Raises:
        ValueError: If predict does not return one score a candidate.
    """
    items, pool = len(order), batch.support_item.shape[1]
    shuffled = item_features[order]

    def judge_one(user: Batch) -> dict[str, jax.Array]:
        def repeat(rows: int) -> jax.Array:
            return jnp.broadcast_to(user.features, (rows, *user.features.shape))

        mask = user.support_mask & (jnp.arange(pool) < k)
        item = user.support_item
        inputs = Inputs(repeat(pool), item_features[item], item)
        own_key = None if key is None else jax.random.fold_in(key, user.user)
        adapted = adaptation.adapt(params, Examples(inputs, user.support_rating, mask), own_key)
        asked = Inputs(repeat(items), shuffled, order)
        if user.candidate is not None:
            own = user.candidate
            asked = Inputs(repeat(len(own)), item_features[own], own)
        scores = adaptation.predict(params, adapted, asked)
        if scores.shape != asked.item.shape:
            raise ValueError(
                f"predict must return scores [{len(asked.item)}], got {list(scores.shape)}."
            )

        finite = jnp.all(jnp.isfinite(scores))
        deviation = jnp.full(len(scores), -1.0)
        if adaptation.predict_variance is not None:
            deviation = jnp.sqrt(adaptation.predict_variance(params, adapted, asked))
            finite &= jnp.all(jnp.isfinite(deviation))
        off = jnp.where(user.in_query, jnp.abs(scores - user.rating), jnp.inf)
        error = jnp.where(user.in_query, jnp.clip(scores, low, high) - user.rating, 0)
        gains = user.in_query & (user.rating >= relevant)
        ranked = _unranked(length)
        seen = user.in_query
        if user.candidate is None:
            # One past the end is dropped: what is masked out excludes nothing.
            column = jnp.where(mask, user.support_column, items)
            left = jnp.ones(items, bool).at[column].set(False, mode="drop")
            ranked, seen = _ranked(scores, gains, left, order, length), jnp.ones(items, bool)
        return {
            "squared_error": jnp.sum(jnp.square(error)),
            "absolute_error": jnp.sum(jnp.abs(error)),
            **{f"within_{q}": jnp.sum(off <= z * deviation) for q, z in _CENTRAL.items()},
            **ranked,
            "has_relevant": jnp.any(gains),
            "lowest": jnp.min(scores, where=seen, initial=jnp.inf),
            "highest": jnp.max(scores, where=seen, initial=-jnp.inf),
            "finite": finite,
        }

    return jax.vmap(judge_one)(batch)


def _ranked(
    scores: jax.Array, gains: jax.Array, left: jax.Array, order: jax.Array, length: int
) -> dict[str, jax.Array]:
    top = metrics.top_items(scores, k=length, where=left)
    return {
        "ndcg": metrics.ndcg(scores, gains, k=length, where=left),
        "precision": metrics.precision(scores, gains, k=length, where=left),
        "recall": metrics.recall(scores, gains, k=length, where=left),
        "hit": metrics.hit_rate(scores, gains, k=1, where=left),
        "top_items": jnp.where(top < 0, -1, order[top]),
    }


def _unranked(length: int) -> dict[str, jax.Array]:
    nothing = dict.fromkeys(("ndcg", "precision", "recall", "hit"), jnp.zeros(()))
    return {**nothing, "top_items": jnp.full(length, -1)}


def batches(
    tasks: ColdTasks, user_features: np.ndarray, order: np.ndarray, chunk: int, *, ranking: bool
) -> Iterator[Batch]:
    """Lays cold users out in batches of one shape.

    Args:
        tasks: The cold users.
        user_features: `[U, Du]` encoded attributes.
        order: `[I]` int32 the shuffled catalogue.
        chunk: C, the users of a batch; the last one is filled with copies of the last user.
        ranking: Whether all items are candidates, or those of the query alone.

    Yields:
        The batches.
    """
    items, users = len(order), len(tasks.user)
    column = np.argsort(order).astype(np.int32)
    # Queries are padded to a power of two, so that folds share a program.
    longest = int(np.diff(tasks.query_offsets).max(initial=1))
    width = items if ranking else 1 << (longest - 1).bit_length()
    for start in range(0, users, chunk):
        t = np.minimum(np.arange(start, start + chunk), users - 1)
        rating, in_query = np.zeros((chunk, width), np.float32), np.zeros((chunk, width), bool)
        candidate = np.zeros((chunk, width), np.int32)
        for row, task in enumerate(t):
            query = slice(*tasks.query_offsets[task : task + 2])
            item = tasks.query_item[query]
            place = column[item] if ranking else np.arange(len(item))
            candidate[row, place] = item
            rating[row, place], in_query[row, place] = tasks.query_rating[query], True
        columns: Any = (
            tasks.user[t].astype(np.int32),
            np.asarray(user_features)[tasks.user[t]],
            tasks.support_item[t],
            column[tasks.support_item[t]],
            tasks.support_rating[t],
            tasks.support_mask[t],
            None if ranking else candidate,
            rating,
            in_query,
        )
        yield Batch(*jax.tree.map(jnp.asarray, columns))


# A list counts as constant if its scores differ by less than this share of their size; ranking
# fails if this share of the users has such a list.
_FLAT, _NEARLY_ALL = 1e-6, 0.95


class ConstantPredictionsError(ValueError):
    """The scores do not tell the items apart, so there is nothing to judge."""


class NonFinitePredictionsError(ValueError):
    """The scores hold NaN or infinity."""


def check_finite(method: str, ks: tuple[int, ...], users: np.ndarray, finite: np.ndarray) -> None:
    """Raises if a score was NaN or infinite.

    Args:
        method: Its name in the error.
        ks: The support sizes.
        users: `[T]` user indices.
        finite: `[K, T]` bool, False where a user's scores are not all finite.

    Raises:
        NonFinitePredictionsError: With the first support size and user.
    """
    if not finite.all():
        at, t = np.argwhere(~finite)[0]
        raise NonFinitePredictionsError(
            f"{method} predicts NaN or infinity at K={ks[at]}, first for user index {users[t]} "
            f"({(~finite[at]).sum()} of {len(users)} users)."
        )


def check_constant(
    method: str,
    ks: tuple[int, ...],
    lowest: np.ndarray,
    highest: np.ndarray,
    *,
    ranking: bool,
    rating: bool,
) -> None:
    """Raises if scores do not tell the items apart.

    Args:
        method: Its name in the error.
        ks: The support sizes.
        lowest: `[K, T]` each user's lowest score of an item.
        highest: `[K, T]` each user's highest score.
        ranking: Refuse constant lists of nearly all users (95 %).
        rating: Refuse one score for all users and items.

    Raises:
        ConstantPredictionsError: With the first support size.
    """
    for at, k in enumerate(ks):
        low, high = lowest[at], highest[at]
        flat = high - low <= _FLAT * np.maximum(np.abs(low), np.abs(high))
        if ranking and flat.mean() >= _NEARLY_ALL:
            raise ConstantPredictionsError(
                f"{method} predicts the same for every item at K={k} for {flat.sum()} of "
                f"{len(flat)} users: it has no ranking (pass ranking=False to judge ratings only)."
            )
        if rating and high.max() - low.min() <= _FLAT * max(abs(high.max()), abs(low.min())):
            raise ConstantPredictionsError(
                f"{method} predicts {low.min():g} for every user and item at K={k} (pass "
                "allow_constant=True if that is meant)."
            )

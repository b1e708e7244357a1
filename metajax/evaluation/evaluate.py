"""The one harness that judges every cold-start method, learned or not.

For each cold user the method adapts to the first K supports and scores the whole catalogue; errors
and ranking metrics reduce on the device to a few numbers per user, from which
`evaluation.statistics` makes figures with intervals. What would flatter a method is an error here:
leaks, constant predictions, NaN, an order of items that tells which are popular.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.data.cold_tasks import ColdTasks
from metajax.data.leakage import check_tasks
from metajax.evaluation import guards, scoring
from metajax.types import Adaptation, MetaLearner, Params

__all__ = [
    "Evaluation",
    "PerUser",
    "concatenate",
    "evaluate",
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
    """How one method did; `metajax.evaluation.statistics` makes figures of it."""

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
        scoring.measure,
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
        for batch in scoring.batches(tasks, user_features, order, chunk, ranking=ranking)
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
    guards.check_finite(method, ks, tasks.user, merged.pop("finite"))
    guards.check_constant(
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

"""Evaluation of a cold-start method, learned or not, on users with K interactions as support.

For each cold user the method adapts to the first K supports and scores the whole catalogue; the
metrics of `evaluation.metrics` reduce the scores on the device to a few numbers per user, from
which `evaluation.intervals` makes figures with intervals.

The rest of a user's pool, which a larger K would show, is neither a hit nor a miss: it is no
candidate, so that the query is the same at every K and nothing is gained by predicting which items
fall into a pool. In the natural reading of the same scores that rest is asked for as well.

Evaluation refuses leaks, constant
predictions and NaN, and shuffles the catalogue, whose order may follow popularity:
published results of cold-start methods have turned out to be a constant or a random order.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax import metrics as list_metrics
from metajax.data.labels import Labels
from metajax.data.leakage import check_tasks
from metajax.data.splits import ColdTasks
from metajax.evaluation.metrics import Metric, in_unit_of_log, scaled_values, table_with
from metajax.types import Adaptation, Examples, Inputs, MetaLearner, Params

__all__ = [
    "ConstantPredictionsError",
    "Evaluation",
    "NonFinitePredictionsError",
    "NothingRelevantError",
    "PerUser",
    "concatenate",
    "evaluate",
    "natural_reading",
]


class PerUser(NamedTuple):
    """Measurements of T users at each of `len(ks)` support sizes, on the host."""

    user: np.ndarray
    """`[T]` int64 user indices."""
    run: np.ndarray
    """`[T]` int32 which of the concatenated evaluations the row comes from."""
    count: np.ndarray
    """`[K, T]` length of the query."""
    has_relevant: np.ndarray
    """`[K, T]` bool, False where metrics of an order are undefined and must be left out."""
    top_items: np.ndarray
    """`[K, T, length]` int32 recommended items, best first; -1 where none is left."""
    values: dict[str, np.ndarray]
    """By the name of each metric that has a function, `[K, T]` what it returned."""


class Evaluation(NamedTuple):
    """The measurements of one method, from which `evaluation.intervals` computes figures."""

    method: str
    """Its name in tables."""
    ks: tuple[int, ...]
    """The support sizes."""
    items: int
    """Size of the catalogue."""
    metrics: tuple[Metric, ...]
    """The metrics measured, with the length of the list in their names."""
    per_user: PerUser
    """The measurements."""
    natural: PerUser | None = None
    """The rankings of the same scores by the natural reading, where it was asked for: candidates
    are all items but the support of size K, and everything that the user has beyond it is asked
    for, the rest of the pool included. Its values are those of metrics of an order."""


def natural_reading(evaluation: Evaluation) -> Evaluation | None:
    """Returns the evaluation of rankings that ask for all of a pool but the support; or None."""
    if evaluation.natural is None:
        return None
    metrics = tuple(m for m in evaluation.metrics if m.needs in ("order", "lists"))
    return evaluation._replace(metrics=metrics, per_user=evaluation.natural, natural=None)


def evaluate(
    adaptation: Adaptation | MetaLearner,
    params: Params,
    tasks: ColdTasks,
    user_features: np.ndarray,
    item_features: np.ndarray,
    *,
    scale: tuple[float, float] | None,
    labels: Labels | None = None,
    method: str = "method",
    ks: Sequence[int] = (0, 1, 3, 5, 10),
    rating: bool = True,
    ranking: bool = True,
    natural: bool = False,
    relevant: float | None = None,
    length: int = 10,
    metrics: Sequence[Callable[..., jax.Array] | Metric] = (),
    allow_constant: bool = False,
    key: jax.Array | None = None,
    chunk: int = 64,
    seed: int = 0,
) -> Evaluation:
    """Judges a method on cold users.

    All support sizes and all users run through two compiled programs: one for scores, which is kept
    for the next call with the same adaptation and shapes, and one for metrics, of any method.
    Candidates are the items that are not in the pool; what is relevant among them comes from the
    query alone.

    Args:
        adaptation: The method, or a learner. Lists are ordered by its `rank`, if it has one.
        params: Its parameters.
        tasks: The cold users, as from `splits.cold_user_tasks`.
        user_features: `[U, Du]` encoded attributes of all users.
        item_features: `[I, Di]` encoded attributes of all items.
        scale: Lowest and highest rating; None for an implicit log, where there are no ratings to
            judge.
        labels: How the labels of tasks were standardised, `Split.labels`: errors are in the unit of
            the log. None means that they are in it.
        method: Its name, for tables and errors.
        ks: Support sizes, each at most the pool.
        rating: Judge the scores as ratings.
        ranking: Judge the scores as a ranking of all items but the pool; if not, only the
            queries are scored.
        natural: Judge the ranking by the natural reading as well, `Evaluation.natural`.
        relevant: Lowest rating of a relevant item; None means three quarters up the scale, which
            is 4 of 1 to 5, and in an implicit log every interaction.
        length: Length of the recommended list.
        metrics: Metrics of one's own in addition to `evaluation.metrics.table`: a function like
            those of `metajax.metrics`, `(scores, labels, *, k, where) -> []`, or a `Metric`.
        allow_constant: Accept rating predictions that are the same everywhere, for a global mean;
            and of `tasks.candidates` scores that are, whose order is drawn.
        key: For methods that draw; each user gets a key of their own, the same at every K.
        chunk: Most users a step, fewer where a ranking of them all would have more than 32 million
            scores; what they need on the device is about `chunk * I * (Du + Di)` floats.
        seed: Seed of the order of the catalogue, which decides between equal scores.

    Returns:
        The measurements per user, on the host.

    Example:
        >>> from metajax import baselines, metrics
        >>> from metajax.data import load
        >>> from metajax.evaluation import prepare, summarise
        >>> split = prepare("P1", load("synthetic"), fold=0, seed=0)
        >>> seen, rule = split.training, baselines.popularity
        >>> measured = evaluate(
        ...     rule.adaptation, rule.fit(seen), split.test["random"],
        ...     seen.user_features, seen.item_features,
        ...     scale=seen.scale, rating=False, metrics=[metrics.auc],
        ... )
        >>> {"ndcg@10", "hr@1", "auc"} <= set(summarise(measured))
        True

    Raises:
        ValueError: If an argument is out of range or does not fit the others.
        LeakageError: If a query item is in the support.
        NothingRelevantError: If a ranking is judged and nobody has a relevant item in the query.
        NonFinitePredictionsError: If a score is NaN or infinite.
        ConstantPredictionsError: If nearly all users' scores are constant over the items and a
            ranking is evaluated, or all scores are the same and that is not allowed.
    """
    for name, value in (("length", length), ("chunk", chunk)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}.")
    ks = tuple(ks)
    _check_arguments(tasks, user_features, item_features, scale, ks, rating)
    check_tasks(tasks)
    items, users = len(item_features), len(tasks.user)
    chunk = min(chunk, users)
    if ranking:
        chunk = max(1, min(chunk, _SCORES // items))
    order = np.random.default_rng(seed).permutation(items).astype(np.int32)
    low, high = scale or (-np.inf, np.inf)
    if relevant is None:
        relevant = -np.inf if scale is None else low + 0.75 * (high - low)
    if ranking and not (tasks.query_rating >= relevant).any():
        raise NothingRelevantError(
            f"{method} cannot be judged by a ranking: nobody has a relevant item in the query, no "
            f"label reaches {relevant:g} (--relevant)."
        )
    measured = {
        "ratings": rating,
        "variance": rating and adaptation.predict_variance is not None,
        "order": ranking,
        "lists": ranking,
        "clock": False,
    }
    selected = tuple(
        metric for metric in table_with(metrics, length=length) if measured[metric.needs]
    )
    at_once = _users_at_once(chunk, items) if ranking else chunk
    score = partial(
        _scored,
        Adaptation(
            adaptation.adapt,
            adaptation.predict,
            adaptation.predict_variance,
            adaptation.rank if ranking else None,
        ),
        params,
        jnp.asarray(item_features),
        jnp.asarray(order),
        key=key,
        at_once=at_once,
    )
    measure = partial(
        _measured,
        low=low,
        high=high,
        relevant=relevant,
        among=None if tasks.candidates is None else jnp.asarray(tasks.candidates[order]),
        length=length,
        metrics=tuple(in_unit_of_log(metric, _map_of(labels)) for metric in selected),
        natural=natural and ranking,
        at_once=at_once,
    )

    def judge(batch: _Batch, k: np.int32) -> dict[str, Any]:
        return measure(score(batch, k), jnp.asarray(order), batch, k)

    judged = []
    for batch in _batches(tasks, user_features, order, chunk, ranking=ranking):
        # No more than two batches at a time: each is as wide as the catalogue.
        jax.block_until_ready(judged[-1:])
        judged += [judge(batch, np.int32(tasks.given + k)) for k in ks]
    # Dicts of [C, ...], K by K within a chunk, to one of [K, T, ...]; the padded tail goes.
    merged = jax.tree.map(
        lambda *leaves: np.stack(
            [np.concatenate(leaves[i :: len(ks)])[:users] for i in range(len(ks))]
        ),
        *jax.device_get(judged),
    )
    of_scores, of_ratings = merged.pop("range_of_scores"), merged.pop("range_of_ratings")
    _check_finite(method, ks, tasks.user, merged.pop("finite"))
    # Of some items alone, such as new ones, a method may know nothing.
    if ranking and not (allow_constant and tasks.candidates is not None):
        _check_ordered(method, ks, *of_scores)
    if rating and not allow_constant:
        _check_varied(method, ks, *of_ratings)
    count = np.broadcast_to(np.diff(tasks.query_offsets), (len(ks), users))
    run = np.zeros(users, np.int32)
    by_rest = merged.pop("natural", None)
    if by_rest is not None:
        pool = tasks.support_mask.sum(axis=1)
        shown = np.minimum(tasks.given + np.array(ks)[:, None], pool)
        by_rest = PerUser(user=tasks.user, run=run, count=count + pool - shown, **by_rest)
    if labels is not None:
        merged["values"] = scaled_values(merged["values"], selected, labels.unit)
    per_user = PerUser(user=tasks.user, run=run, count=count, **merged)
    return Evaluation(method, ks, items, selected, per_user, by_rest)


def concatenate(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Joins the folds or repetitions of one method; runs are numbered in the order given.

    Args:
        evaluations: At least one, alike in all but the measurements and the support sizes.

    Returns:
        An evaluation of all their users, at the support sizes that any of them has; at one that a
        run does not have its users do not count. Who occurs in several runs stays one user.

    Raises:
        ValueError: If there is none, or they differ in method, items or metrics.
    """
    if not evaluations:
        raise ValueError("evaluations must hold at least one, got none.")
    first = evaluations[0]
    for evaluation in evaluations:
        if _described(evaluation) != _described(first):
            raise ValueError(
                "evaluations must be alike in method, items and metrics, got "
                f"{_described(first)} and {_described(evaluation)}."
            )
    ks = tuple(sorted({k for evaluation in evaluations for k in evaluation.ks}))
    natural = [_at(ks, e.ks, e.natural) for e in evaluations if e.natural is not None]
    return first._replace(
        ks=ks,
        per_user=_concatenated([_at(ks, e.ks, e.per_user) for e in evaluations]),
        natural=_concatenated(natural) if natural else None,
    )


def _at(ks: tuple[int, ...], own: tuple[int, ...], found: PerUser) -> PerUser:
    """Extends measurements to further support sizes, at which no user counts."""
    if own == ks:
        return found
    rows = [ks.index(k) for k in own]

    def extended(array: np.ndarray, nothing: int = 0) -> np.ndarray:
        whole = np.full((len(ks), *array.shape[1:]), nothing, array.dtype)
        whole[rows] = array
        return whole

    return found._replace(
        count=extended(found.count),
        has_relevant=extended(found.has_relevant),
        top_items=extended(found.top_items, -1),
        values={name: extended(value) for name, value in found.values.items()},
    )


def _concatenated(parts: Sequence[PerUser]) -> PerUser:
    runs, start = [], 0
    for part in parts:
        runs.append(part._replace(run=part.run + start))
        start = runs[-1].run.max() + 1

    def joined(name: str, axis: int) -> np.ndarray:
        return np.concatenate([getattr(run, name) for run in runs], axis)

    return PerUser(
        user=joined("user", 0),
        run=joined("run", 0),
        count=joined("count", 1),
        has_relevant=joined("has_relevant", 1),
        top_items=joined("top_items", 1),
        values={
            name: np.concatenate([run.values[name] for run in runs], 1) for name in runs[0].values
        },
    )


def _described(evaluation: Evaluation) -> str:
    names = ", ".join(metric.name for metric in evaluation.metrics)
    also = "" if evaluation.natural is None else ", also by the natural reading"
    return f"{evaluation.method} of {evaluation.items} items ({names}){also}"


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


# Most scores in a step, and those from which on a step takes some of its users at a time, with so
# many scores: hidden layers of more of them fit no cache, and are memory that the system has to
# clear each time.
_SCORES, _WIDE, _AT_ONCE = 1 << 25, 1 << 18, 1 << 16


def _users_at_once(chunk: int, items: int) -> int:
    if chunk * items <= _WIDE:
        return chunk
    # A power of two, so that no part is left over of a full step.
    return min(chunk, 1 << (max(_AT_ONCE // items, 1).bit_length() - 1))


class _Batch(NamedTuple):
    """C users; N columns: the catalogue in shuffled order, or the queries if nothing is ranked."""

    user: jax.Array
    """`[C]` index."""
    features: jax.Array
    """`[C, Du]` encoded attributes."""
    support_item: jax.Array
    """`[C, P]` items of the pool."""
    support_column: jax.Array
    """`[C, P]` their positions in the shuffled catalogue."""
    support_rating: jax.Array
    """`[C, P]` their ratings."""
    support_mask: jax.Array
    """`[C, P]` bool, False where the pool is shorter."""
    support_time: jax.Array | None
    """`[C, P]` seconds since the first; None without times."""
    candidate: jax.Array | None
    """`[C, N]` items, padded with 0; None for the whole catalogue."""
    rating: jax.Array
    """`[C, N]` ratings; 0 where not in the query."""
    in_query: jax.Array
    """`[C, N]` bool."""


class _Scores(NamedTuple):
    """Scores of the N candidates of C users."""

    ratings: jax.Array
    """`[C, N]` by `predict`."""
    ranking: jax.Array | None
    """`[C, N]` by `rank`; None where there is none, and the ratings order."""
    deviation: jax.Array | None
    """`[C, N]` standard deviations by `predict_variance`; None where there is none."""


@partial(jax.jit, static_argnames=("adaptation", "at_once"))
def _scored(
    adaptation: Adaptation,
    params: Params,
    item_features: jax.Array,
    order: jax.Array,
    batch: _Batch,
    k: jax.Array,
    *,
    key: jax.Array | None,
    at_once: int,
) -> _Scores:
    """Adapts to each user's first k supports and scores the candidates.

    Args:
        adaptation: The method.
        params: Its parameters.
        item_features: `[I, Di]` encoded attributes.
        order: `[I]` int32 the shuffled catalogue.
        batch: C users.
        k: `[]` the support size.
        key: For methods that draw, or None.
        at_once: Users whose scores are computed at once.

    Raises:
        ValueError: If predict or rank does not return one score a candidate.
    """
    pool = batch.support_item.shape[1]
    shuffled = item_features[order]

    def score_one(user: _Batch) -> _Scores:
        def repeat(rows: int) -> jax.Array:
            return jnp.broadcast_to(user.features, (rows, *user.features.shape))

        mask = user.support_mask & (jnp.arange(pool) < k)
        item = user.support_item
        inputs = Inputs(repeat(pool), item_features[item], item, user.support_time)
        own_key = None if key is None else jax.random.fold_in(key, user.user)
        adapted = adaptation.adapt(params, Examples(inputs, user.support_rating, mask), own_key)
        queried = Inputs(repeat(len(order)), shuffled, order)
        if user.candidate is not None:
            own = user.candidate
            queried = Inputs(repeat(len(own)), item_features[own], own)
        ratings, scores = adaptation.predict(params, adapted, queried), None
        if adaptation.rank is not None:
            scores = adaptation.rank(params, adapted, queried)
        for name, found in (("predict", ratings), ("rank", scores)):
            if found is not None and found.shape != queried.item.shape:
                raise ValueError(
                    f"{name} must return scores [{len(queried.item)}], got {list(found.shape)}."
                )
        deviation = None
        if adaptation.predict_variance is not None:
            deviation = jnp.sqrt(adaptation.predict_variance(params, adapted, queried))
        return _Scores(ratings, scores, deviation)

    return _each(score_one, batch, at_once=at_once)


def _each(function: Callable[[Any], Any], users: Any, *, at_once: int) -> Any:
    """Maps over C users, so many at once."""
    if at_once == len(jax.tree.leaves(users)[0]):
        return jax.vmap(function)(users)
    return jax.lax.map(function, users, batch_size=at_once)


# Apart from the scores, so that all methods share a program.
@partial(jax.jit, static_argnames=("length", "metrics", "natural", "at_once"))
def _measured(
    scores: _Scores,
    order: jax.Array,
    batch: _Batch,
    k: jax.Array,
    *,
    low: float,
    high: float,
    relevant: float,
    among: jax.Array | None,
    length: int,
    metrics: tuple[Metric, ...],
    natural: bool,
    at_once: int,
) -> dict[str, Any]:
    """Reduces scores to figures.

    Args:
        scores: Of the batch.
        order: `[I]` int32 the shuffled catalogue.
        batch: C users.
        k: `[]` the support size.
        low: Lowest rating; predictions are clipped to it.
        high: Highest rating.
        relevant: Lowest rating of a relevant item.
        among: `[I]` bool, the candidates in shuffled order; None means all.
        length: Of the recommended list.
        metrics: Those to measure.
        natural: True to measure the ranking by the natural reading as well.
        at_once: Users that are measured at once.

    Returns:
        `[C, ...]` figures by the names of `evaluation.PerUser`, under `natural` those of the
        natural reading, and for the checks the lowest and highest score and rating, and whether
        all are finite.
    """
    items, pool = len(order), batch.support_item.shape[1]
    every = jnp.ones(items, bool) if among is None else among

    def measure_one(given: tuple[_Scores, _Batch]) -> dict[str, Any]:
        (ratings, ranking, deviation), user = given
        scores = ratings if ranking is None else ranking
        mask = user.support_mask & (jnp.arange(pool) < k)
        finite = jnp.all(jnp.isfinite(scores)) & jnp.all(jnp.isfinite(ratings))
        if deviation is not None:
            finite &= jnp.all(jnp.isfinite(deviation))
        gains = user.in_query & (user.rating >= relevant)
        seen = user.in_query if user.candidate is not None else every

        def columns(mask: jax.Array) -> jax.Array:
            # One past the end, which is dropped: what is masked out changes nothing.
            return jnp.where(mask, user.support_column, items)

        def without(mask: jax.Array) -> jax.Array:
            return every.at[columns(mask)].set(False, mode="drop")

        def best(left: jax.Array) -> jax.Array:
            top = list_metrics.top_items(scores, k=length, where=left)
            return jnp.where(top < 0, -1, order[top])

        def value(
            metric: Metric, function: Callable[..., jax.Array], gains: jax.Array, left: jax.Array
        ) -> jax.Array:
            options: dict[str, Any] = {} if metric.k is None else {"k": metric.k}
            predicted, labels, kept = ratings, user.rating, user.in_query
            if metric.needs == "ratings":
                predicted = jnp.clip(ratings, low, high)
            elif metric.needs == "variance":
                options["deviation"] = deviation
            else:
                predicted, labels, kept = scores, jnp.where(gains, 1.0, 0.0), left
            found = function(predicted, labels, where=kept, **options)
            if jnp.shape(found) != ():
                raise ValueError(
                    f"metric {metric.name} must return a number, got shape {jnp.shape(found)}."
                )
            return found

        def figures(metrics: Sequence[Metric], gains: jax.Array, left: jax.Array) -> dict[str, Any]:
            return {
                "values": {
                    m.name: value(m, m.function, gains, left)
                    for m in metrics
                    if m.function is not None
                },
                "top_items": best(left) if user.candidate is None else jnp.full(length, -1),
                "has_relevant": jnp.any(gains),
            }

        left = user.in_query if user.candidate is not None else without(user.support_mask)
        found = figures(metrics, gains, left)
        if natural:
            of_order = [metric for metric in metrics if metric.needs == "order"]
            rest = columns(user.support_mask & ~mask)
            liked = gains.at[rest].set(user.support_rating >= relevant, mode="drop")
            found["natural"] = figures(of_order, liked, without(mask))
        return {
            **found,
            "range_of_scores": _range(scores, seen),
            "range_of_ratings": _range(ratings, seen),
            "finite": finite,
        }

    return _each(measure_one, (scores, batch), at_once=at_once)


def _range(scores: jax.Array, where: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the lowest and the highest score."""
    lowest = jnp.min(scores, where=where, initial=jnp.inf)
    return lowest, jnp.max(scores, where=where, initial=-jnp.inf)


def _map_of(labels: Labels | None) -> Labels:
    """Returns the map alone, by which programs are cached."""
    return Labels() if labels is None else labels._replace(liked=Labels().liked)


def _batches(
    tasks: ColdTasks, user_features: np.ndarray, order: np.ndarray, chunk: int, *, ranking: bool
) -> Iterator[_Batch]:
    """Lays cold users out in batches of one shape.

    Args:
        tasks: The cold users.
        user_features: `[U, Du]` encoded attributes.
        order: `[I]` int32 the shuffled catalogue.
        chunk: C, the users of a batch; the last one is filled with copies of the last user.
        ranking: True if all items are candidates, False for those of the query alone.

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
            None if tasks.support_time is None else tasks.support_time[t],
            None if ranking else candidate,
            rating,
            in_query,
        )
        yield _Batch(*jax.tree.map(jnp.asarray, columns))


# A list counts as constant if its scores differ by less than this share of their size; ranking
# fails if this share of the users has such a list.
_FLAT, _NEARLY_ALL = 1e-6, 0.95


class ConstantPredictionsError(ValueError):
    """The scores are the same for all items."""


class NothingRelevantError(ValueError):
    """Nobody has a relevant item in the query, so that no ranking can be judged."""


class NonFinitePredictionsError(ValueError):
    """The scores hold NaN or infinity."""


def _check_finite(method: str, ks: tuple[int, ...], users: np.ndarray, finite: np.ndarray) -> None:
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


def _check_ordered(
    method: str, ks: tuple[int, ...], lowest: np.ndarray, highest: np.ndarray
) -> None:
    """Raises if nearly all users' scores (95 %) are constant over the items.

    Args:
        method: Its name in the error.
        ks: The support sizes.
        lowest: `[K, T]` each user's lowest score of an item.
        highest: `[K, T]` each user's highest score.

    Raises:
        ConstantPredictionsError: With the first support size.
    """
    for k, low, high in zip(ks, lowest, highest, strict=True):
        flat = high - low <= _FLAT * np.maximum(np.abs(low), np.abs(high))
        if flat.mean() >= _NEARLY_ALL:
            raise ConstantPredictionsError(
                f"{method} predicts the same for every item at K={k} for {flat.sum()} of "
                f"{len(flat)} users: it has no ranking (pass ranking=False to judge ratings only)."
            )


def _check_varied(
    method: str, ks: tuple[int, ...], lowest: np.ndarray, highest: np.ndarray
) -> None:
    """Raises if one rating is predicted for all users and items; arguments as above."""
    for k, low, high in zip(ks, lowest, highest, strict=True):
        if high.max() - low.min() <= _FLAT * max(abs(high.max()), abs(low.min())):
            raise ConstantPredictionsError(
                f"{method} predicts {low.min():g} for every user and item at K={k} (pass "
                "allow_constant=True if that is intended)."
            )

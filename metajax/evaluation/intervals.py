"""Figures with bootstrap intervals, from the measurements of each user.

Every metric but coverage is a ratio of two sums over users (its square root for RMSE), so one
matrix product of resampled counts with per-user terms bootstraps all metrics and support sizes at
once. Users are resampled, not ratings, and a user in several runs is drawn as a whole.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from metajax.evaluation.evaluate import Evaluation
from metajax.evaluation.metrics import Metric, is_known
from metajax.evaluation.records import Kind, Record

__all__ = [
    "Interval",
    "interval",
    "metrics_of",
    "paired_difference",
    "paired_differences",
    "records_of",
    "resampled_sums",
    "summarise",
]


class Interval(NamedTuple):
    """A value and its 95 % percentile bootstrap interval, at each support size."""

    mean: np.ndarray
    """`[K]` the value on the users as they are."""
    low: np.ndarray
    """`[K]` 2.5th percentile over resamples."""
    high: np.ndarray
    """`[K]` 97.5th percentile over resamples."""


def metrics_of(evaluation: Evaluation) -> tuple[Metric, ...]:
    """Returns the metrics that the evaluation has, in the order of tables.

    Metrics of an order average the users who have something relevant in their query; where no user
    has, they are undefined and the evaluation does not have them.
    """
    ranked = evaluation.per_user.has_relevant.any()
    return tuple(m for m in evaluation.metrics if m.needs != "order" or ranked)


def summarise(evaluation: Evaluation) -> dict[str, np.ndarray]:
    """Reduces an evaluation to its figures.

    Args:
        evaluation: Of one run, or of several concatenated.

    Returns:
        By the name of each of `metrics_of`, `[K]` values; 0 at a support size at which no user
        counts. Coverage is the share of the catalogue in the lists of a run, averaged over runs.
    """
    figures = {}
    for metric in metrics_of(evaluation):
        if metric.function is None:
            figures[metric.name] = _coverage(evaluation)
        else:
            sums = (term.sum(1) for term in _terms(evaluation, metric))
            figures[metric.name] = _value(metric, *sums)
    return figures


def interval(
    evaluation: Evaluation,
    metric: str,
    *,
    resamples: int = 10_000,
    seed: int = 0,
    cluster: np.ndarray | None = None,
) -> Interval:
    """Bootstraps one metric over users.

    Args:
        evaluation: Of one run, or of several concatenated.
        metric: Name of one of `metrics_of`, except coverage, which resampling would bias downwards.
        resamples: Number of bootstrap samples, at least 1.
        seed: Seed of the resampling.
        cluster: `[T]` what is drawn as a whole; None means the user.

    Returns:
        The value with its interval.

    Raises:
        ValueError: If the metric is unknown, or `resamples` or `cluster` does not fit.

    References:
        Efron and Tibshirani, An introduction to the bootstrap, Chapman & Hall 1993, section 13.3.
    """
    entry = _entry(evaluation, metric)
    terms = _terms(evaluation, entry)
    sums = resampled_sums(terms, _cluster(evaluation, cluster), resamples, seed)
    return _interval(_value(entry, *(t.sum(1) for t in terms)), _value(entry, *sums))


def paired_difference(
    a: Evaluation,
    b: Evaluation,
    metric: str,
    *,
    resamples: int = 10_000,
    seed: int = 0,
    cluster: np.ndarray | None = None,
) -> Interval:
    """Bootstraps `metric(a) - metric(b)` over users, who are the same in both.

    Args:
        a: A method.
        b: Another method, judged on the same tasks; usually the best simple baseline.
        metric: As in `interval`; for errors a negative difference is in favour of `a`.
        resamples: Number of bootstrap samples, at least 1.
        seed: Seed of the resampling.
        cluster: `[T]` what is drawn as a whole; None means the user.

    Returns:
        The difference with its interval: an interval without 0 is a difference beyond chance.

    Raises:
        ValueError: As in `interval`, or if the two were not judged on the same tasks.
    """
    pairs = [(b, metric)]
    return paired_differences(a, pairs, resamples=resamples, seed=seed, cluster=cluster)[0]


def paired_differences(
    a: Evaluation,
    pairs: Sequence[tuple[Evaluation, str]],
    *,
    resamples: int = 10_000,
    seed: int = 0,
    cluster: np.ndarray | None = None,
) -> list[Interval]:
    """Bootstraps `paired_difference` of one method to several others, with the same draws.

    Args:
        a: A method.
        pairs: Another method and the metric they are compared by.
        resamples: Number of bootstrap samples, at least 1.
        seed: Seed of the resampling.
        cluster: `[T]` what is drawn as a whole; None means the user.

    Returns:
        A difference for each pair.

    Raises:
        ValueError: As `paired_difference`.
    """
    terms, entries = [], [_entry(a, metric) for _, metric in pairs]
    for (b, metric), entry in zip(pairs, entries, strict=True):
        _check_paired(a, b)
        terms += [*_terms(a, entry), *_terms(b, _entry(b, metric))]
    sums = resampled_sums(terms, _cluster(a, cluster), resamples, seed)
    found = []
    for n, metric in enumerate(entries):
        point, drawn = ([t.sum(1) for t in terms[4 * n : 4 * n + 4]], sums[4 * n : 4 * n + 4])
        found.append(
            _interval(
                _value(metric, *point[:2]) - _value(metric, *point[2:]),
                _value(metric, *drawn[:2]) - _value(metric, *drawn[2:]),
            )
        )
    return found


def records_of(
    evaluation: Evaluation,
    *,
    kind: Kind,
    protocol: str,
    order: str,
    seeds: Sequence[int],
    resamples: int = 10_000,
    seed: int = 0,
) -> list[Record]:
    """Lists every figure of an evaluation.

    Args:
        evaluation: Of one run, or of several concatenated.
        kind: Baseline or learned method.
        protocol: Protocol of the tasks, for instance "P1".
        order: Order of the supports, for instance "random".
        seeds: The seeds of the runs.
        resamples: Number of bootstrap samples, at least 1.
        seed: Seed of the resampling.

    Returns:
        A record for each metric and K; coverage has no interval. A figure about no user has no
        record.

    Raises:
        ValueError: If `resamples` is below 1.
    """
    records = []
    terms = {m.name: _terms(evaluation, m) for m in metrics_of(evaluation) if m.function}
    flat = [term for pair in terms.values() for term in pair]
    sums = iter(resampled_sums(flat, _cluster(evaluation, None), resamples, seed))
    users, means = evaluation.per_user.user, summarise(evaluation)
    for metric in metrics_of(evaluation):
        mean = means[metric.name]
        # Coverage: every user counts, and no interval.
        bounds = [(None, None)] * len(mean)
        counts = [len(np.unique(users[row > 0])) for row in evaluation.per_user.count]
        if metric.name in terms:
            _, low, high = _interval(mean, _value(metric, next(sums), next(sums)))
            bounds = zip(low.tolist(), high.tolist(), strict=True)
            counts = [len(np.unique(users[row > 0])) for row in terms[metric.name][1]]
        columns = zip(evaluation.ks, mean.tolist(), bounds, counts, strict=True)
        records += [
            Record(
                method=evaluation.method,
                kind=kind,
                protocol=protocol,
                order=order,
                k=k,
                metric=metric.name,
                mean=value,
                low=low,
                high=high,
                seeds=tuple(map(int, seeds)),
                users=count,
                better=None if is_known(metric.name) else metric.better,
            )
            for k, value, (low, high), count in columns
            if count
        ]
    return records


def _entry(evaluation: Evaluation, name: str) -> Metric:
    known = {m.name: m for m in metrics_of(evaluation) if m.function is not None}
    if name not in known:
        raise ValueError(f"metric must be one of {', '.join(known)}, got {name!r}.")
    return known[name]


def _terms(evaluation: Evaluation, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    # [K, T] numerators and denominators, whose sums over users the metric divides.
    user = evaluation.per_user
    weights = user.has_relevant if metric.needs == "order" else user.count
    values = user.values[metric.name].astype(np.float64)
    return metric.pooling.terms(values, weights.astype(np.float64))


def _check_paired(a: Evaluation, b: Evaluation) -> None:
    if a.ks != b.ks:
        raise ValueError(f"a and b must have the same ks, got {a.ks} and {b.ks}.")
    for field in ("user", "run", "count", "has_relevant"):
        if not np.array_equal(getattr(a.per_user, field), getattr(b.per_user, field)):
            raise ValueError(
                f"a and b must be judged on the same tasks, in the same order: {a.method} and "
                f"{b.method} differ in {field}."
            )


def _value(metric: Metric, numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    ratio = numerator / np.where(denominator > 0, denominator, 1)
    return metric.pooling.finish(ratio)


def _interval(mean: np.ndarray, replicates: np.ndarray) -> Interval:
    return Interval(mean, *np.percentile(replicates, (2.5, 97.5), axis=0))


def _cluster(evaluation: Evaluation, cluster: np.ndarray | None) -> np.ndarray:
    users = evaluation.per_user.user
    if cluster is None:
        return users
    if np.shape(cluster) != users.shape:
        raise ValueError(f"cluster must be [{len(users)}], got shape {np.shape(cluster)}.")
    return cluster


def _coverage(evaluation: Evaluation) -> np.ndarray:
    # [K]; a set per run on the host, as lists are short. Of runs that have the support size.
    lists, run = evaluation.per_user.top_items, evaluation.per_user.run
    counted = evaluation.per_user.count > 0
    seen = [
        [np.unique(at[run == r]) for r in np.unique(run[users])]
        for at, users in zip(lists, counted, strict=True)
    ]
    shares = [np.mean([(ids >= 0).sum() for ids in at]) if at else 0.0 for at in seen]
    return np.array(shares) / evaluation.items


# Resamples a matrix product: 500 rows of 943 users are 4 MB.
_ROWS = 500

# Draws of at most so many numbers are kept for the next call.
_KEPT = 1 << 26


def resampled_sums(
    terms: Sequence[np.ndarray], cluster: np.ndarray, resamples: int, seed: int
) -> list[np.ndarray]:
    """Sums terms over bootstrap samples of the users.

    Args:
        terms: Of each `[K, T]` numbers, a column a user.
        cluster: `[T]` what is drawn as a whole.
        resamples: Number of bootstrap samples, at least 1.
        seed: Of the draws.

    Returns:
        For each term `[resamples, K]` sums.

    Raises:
        ValueError: If `resamples` is below 1.
    """
    if resamples < 1:
        raise ValueError(f"resamples must be >= 1, got {resamples}.")
    names, index = np.unique(cluster, return_inverse=True)
    n, k = len(names), terms[0].shape[0] if terms else 0
    sums = np.zeros((n, len(terms) * k))
    if terms:
        np.add.at(sums, index, np.concatenate(terms).T)
    drawn, start = np.empty((resamples, len(terms) * k)), 0
    draw = _kept_counts if n * resamples <= _KEPT else _counts
    for counts in draw(n, resamples, seed):
        drawn[start : start + len(counts)] = counts.astype(np.float64) @ sums
        start += len(counts)
    return np.split(drawn, len(terms), axis=1) if terms else []


def _counts(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yields counts of the draws of each of n, `[rows, n]`, a few resamples at a time."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _ROWS):
        rows = min(_ROWS, resamples - start)
        draws = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        counts = np.bincount(draws.ravel(), minlength=rows * n).reshape(rows, n)
        yield counts.astype(np.min_scalar_type(n))


@functools.lru_cache(maxsize=2)
def _kept_counts(n: int, resamples: int, seed: int) -> tuple[np.ndarray, ...]:
    # A table needs the same draws for each of its methods.
    return tuple(_counts(n, resamples, seed))

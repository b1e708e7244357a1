"""The table of metrics: name, function, better direction, inputs, pooling, printing.

All that depends on a metric reads its entry, so that adding one is one entry. A metric is a
function of one list, as in `metajax.metrics`; `jax.vmap` makes the batch. A metric of one's own is
such a function, or a `Metric`, and is passed to `evaluate(metrics=[...])` or
`compare(metrics=[...])`.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax import metrics
from metajax.data.labels import Labels

__all__ = [
    "Better",
    "Metric",
    "Pooling",
    "badness",
    "better_way",
    "in_unit_of_log",
    "is_cost",
    "is_known",
    "metric_of",
    "named",
    "pooled",
    "pooled_root",
    "scaled_values",
    "table",
    "table_with",
    "target",
    "title_of",
    "user_mean",
]

Better = Literal["lower", "higher"] | float
"""Which values of a metric are better, or the ideal one."""


class Pooling(NamedTuple):
    """Pooling over users: the ratio of two sums over users, or its square root."""

    terms: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    """`terms(values, weights) -> (numerators, denominators)`, all `[K, T]`. Weights are the users'
    numbers of ratings; of a metric of an order 1 where something is relevant to the user, or 0."""
    finish: Callable[[np.ndarray], np.ndarray] = np.positive
    """Applied to the ratio."""


def _sums(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values, weights


def _of_each_user(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values * (weights > 0), (weights > 0) * 1.0


def _mean_of_each_user(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values / np.maximum(weights, 1), (weights > 0) * 1.0


def _root_of_each_user(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, counted = _mean_of_each_user(values, weights)
    return np.sqrt(mean), counted


user_mean = Pooling(_of_each_user)
"""The mean over the users of whom it is defined."""
pooled = Pooling(_sums)
"""Sums over a user's ratings, divided by the number of all ratings."""
pooled_root = Pooling(_sums, np.sqrt)
"""The square root of `pooled`."""
_MEANS, _ROOTS = Pooling(_mean_of_each_user), Pooling(_root_of_each_user)


class Metric(NamedTuple):
    """An entry of the table."""

    name: str
    """Its name in records; `@k` at the end stands for the length of the list, as in `ndcg@k`."""
    function: Callable[..., jax.Array] | None
    """Of one user, `[]`; None where it is measured otherwise. Its arguments depend on
    `needs`."""
    needs: Literal["ratings", "variance", "order", "lists", "clock"] = "order"
    """`ratings`: `function(scores, labels, where=)`, predictions clipped to the scale and the
    ratings of the query. `variance`: `function(scores, labels, deviation=, where=)`, predictions
    with their standard deviation. `order`: `function(scores, labels, k=, where=)`, all candidates,
    labels 1 where relevant, `k` unless it is None. `lists`: the recommended lists. `clock`: what
    serving costs."""
    better: Better = "higher"
    """Direction that is better, or the ideal value."""
    pooling: Pooling = user_mean
    """The pooling of users' figures."""
    title: str = ""
    """Its name in print, without the `@`; empty means the name."""
    form: str = ".3f"
    """Format specification of a figure."""
    k: int | None = None
    """Length of the list that the function is given; of a name in `@k` that of the evaluation."""
    degree: int | None = None
    """Power of the unit of labels that figures are in, for a function of differences alone: 2 of
    squared errors. It is given standardised labels, so that no unit is too small or too large for
    float32; others are given labels in the unit of the log."""


def _squared_error(scores: jax.Array, labels: jax.Array, *, where: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(jnp.where(where, scores - labels, 0)))


def _absolute_error(scores: jax.Array, labels: jax.Array, *, where: jax.Array) -> jax.Array:
    return jnp.sum(jnp.abs(jnp.where(where, scores - labels, 0)))


def _within(end: float) -> Callable[..., jax.Array]:
    def within(
        scores: jax.Array, labels: jax.Array, *, deviation: jax.Array, where: jax.Array
    ) -> jax.Array:
        off = jnp.where(where, jnp.abs(scores - labels), jnp.inf)
        return jnp.sum(off <= end * deviation)

    return within


table: tuple[Metric, ...] = (
    # Pooled over all ratings, then the mean over users.
    Metric("rmse", _squared_error, "ratings", "lower", pooled_root, "RMSE", degree=2),
    Metric("mae", _absolute_error, "ratings", "lower", pooled, "MAE", degree=1),
    Metric("mse", _squared_error, "ratings", "lower", pooled, "MSE", degree=2),
    Metric("rmse_user", _squared_error, "ratings", "lower", _ROOTS, "RMSE per user", degree=2),
    Metric("mae_user", _absolute_error, "ratings", "lower", _MEANS, "MAE per user", degree=1),
    # The central 50 % and 90 % of a Gaussian end so many standard deviations from its mean.
    Metric("within@50", _within(0.6744898), "variance", 0.5, pooled, degree=0),
    Metric("within@90", _within(1.6448536), "variance", 0.9, pooled, degree=0),
    Metric("ndcg@k", metrics.ndcg, title="NDCG"),
    Metric("precision@k", metrics.precision),
    Metric("recall@k", metrics.recall),
    Metric("hr@1", metrics.hit_rate, title="HR", k=1),
    Metric("coverage@k", None, "lists"),
    Metric("adapt_us", None, "clock", "lower", title="adaptation, µs a user", form=".3g"),
    Metric("state_bytes", None, "clock", "lower", title="state, bytes a user", form=",.0f"),
)
"""All metrics, in the order of tables."""


def metric_of(function: Callable[..., jax.Array] | Metric) -> Metric:
    """Makes an entry of a ranking metric from a function like those of `metajax.metrics`.

    Args:
        function: `function(scores, labels, *, k, where) -> []`, higher is better; without `k` it
            is called without. A `Metric` is returned as it is.

    Returns:
        The entry, by the function's name, and `@k` where it takes `k`.

    Raises:
        TypeError: If it is no function with a name.

    Example:
        >>> metric_of(metrics.auc).name, metric_of(metrics.hit_rate).name
        ('auc', 'hit_rate@k')
    """
    if isinstance(function, Metric):
        return function
    name = getattr(function, "__name__", None)
    if not callable(function) or name is None:
        raise TypeError(f"a metric must be a named function or a Metric, got {function!r}.")
    return Metric(name + ("@k" if "k" in inspect.signature(function).parameters else ""), function)


def table_with(
    own: Sequence[Callable[..., jax.Array] | Metric], *, length: int
) -> tuple[Metric, ...]:
    """Returns the table followed by metrics of one's own, for lists of one length.

    Args:
        own: As in `metric_of`.
        length: Of the recommended lists; it takes the place of `@k`.

    Returns:
        The entries under the names that records have.

    Raises:
        TypeError: As `metric_of`.
        ValueError: If two have the same name, or one of one's own has no function.
    """
    found: list[Metric] = []
    for metric in (*table, *map(metric_of, own)):
        if metric.function is None and len(found) >= len(table):
            raise ValueError(f"metrics must have a function, got none for {metric.name!r}.")
        if metric.name.endswith("@k"):
            metric = metric._replace(name=f"{metric.name[:-1]}{length}", k=length)
        if metric.name in [other.name for other in found]:
            raise ValueError(f"metrics must have names of their own, got {metric.name!r} twice.")
        found.append(metric)
    return tuple(found)


@functools.cache
def in_unit_of_log(metric: Metric, labels: Labels) -> Metric:
    """Returns a metric of ratings as a function of standardised labels and predictions.

    Args:
        metric: An entry.
        labels: How labels were standardised.

    Returns:
        The entry; its function maps what it is given to the unit of the log, up to a factor and a
        shift where the metric has a `degree`. The same object for the same arguments, as programs
        are cached by it.
    """
    function = metric.function
    if function is None or metric.needs not in ("ratings", "variance") or labels == Labels():
        return metric
    if metric.degree == 0 or (metric.degree is not None and labels.transform == "none"):
        return metric
    mapped = labels.outside_on_device if metric.degree is None else labels.relative

    def in_unit(scores: jax.Array, actual: jax.Array, **options: jax.Array) -> jax.Array:
        if "deviation" in options:
            ends = mapped(scores + options["deviation"]), mapped(scores - options["deviation"])
            options["deviation"] = jnp.abs(ends[0] - ends[1]) / 2
        return function(mapped(scores), mapped(actual), **options)

    return metric._replace(function=in_unit)


def scaled_values(
    values: Mapping[str, np.ndarray], metrics: Sequence[Metric], unit: float
) -> dict[str, np.ndarray]:
    """Returns users' figures in the unit of the log.

    Args:
        values: By the names of metrics, figures of standardised labels.
        metrics: The metrics.
        unit: The size of a standardised unit.

    Returns:
        The figures, in float64 where they have the unit of labels or a power of it.
    """
    degrees = {metric.name: metric.degree for metric in metrics}
    return {
        name: value * np.float64(unit) ** degree if (degree := degrees[name]) else value
        for name, value in values.items()
    }


def is_known(name: str) -> bool:
    """Returns True for a metric of the table, by its name in records."""
    return _known(name) is not None


def named(name: str, better: Better | None = None) -> Metric:
    """Returns the entry of a metric by its name in records.

    Args:
        name: As in records: `rmse`, `ndcg@10`.
        better: Of a metric that is not in the table; None means higher.

    Returns:
        The entry, under the name given; of a metric that is not in the table one without a
        function.
    """
    unknown = Metric(name, None, better="higher" if better is None else better)
    return (_known(name) or unknown)._replace(name=name)


def _known(name: str) -> Metric | None:
    names = (name, f"{name.partition('@')[0]}@k")
    return next((metric for metric in table if metric.name in names), None)


def target(metric: Metric) -> float | None:
    """Returns the ideal value of a calibration metric: of `within@50`, .5."""
    return None if isinstance(metric.better, str) else metric.better


def badness(metric: Metric, value: Any) -> Any:
    """Returns how bad a figure, or an array of figures, is: the better method's is lower."""
    if not isinstance(metric.better, str):
        return abs(value - metric.better)
    return value if metric.better == "lower" else -value


def better_way(metric: Metric) -> str:
    """Returns "lower is better" and the like."""
    if isinstance(metric.better, str):
        return f"{metric.better} is better"
    return f"{metric.better:g} is right"


def is_cost(metric: Metric) -> bool:
    """Returns True for a cost of serving."""
    return metric.needs == "clock"


def title_of(metric: Metric) -> str:
    """Returns a metric's name in print: NDCG@10 for `ndcg@10`."""
    stem, at, length = metric.name.partition("@")
    return f"{metric.title or stem}{at}{length}"

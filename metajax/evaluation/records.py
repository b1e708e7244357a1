"""What the figures of a run say: who is best, and whether learning beat the simple baselines.

A record is one figure: a mapping with the keys `method`, `kind` ("baseline" or "learned"),
`protocol`, `order`, `k` (interactions seen), `metric`, `mean`, `low`, `high` (95 % interval; both
None where there is none, as for coverage) and `seeds`. Where the method was compared user by user
it also has `difference` (method minus baseline), `difference_low`, `difference_high` and
`best_baseline`, the baseline's name. Of users who are known in another domain it has the same to a
method that does not look there, under `no_transfer_difference` and `no_transfer`. A metric may have
records of learned methods only, or of baselines only: it is shown, and nothing is compared.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

__all__ = [
    "Comparison",
    "Record",
    "Verdict",
    "badness",
    "best",
    "better_way",
    "by_quadrant",
    "compare",
    "compare_all",
    "distinct",
    "headline",
    "is_cost",
    "lower_is_better",
    "metric_name",
    "negative_transfer",
    "order_name",
    "select",
    "target",
    "validate",
    "verdict_of",
]


Record = Mapping[str, Any]
Verdict = Literal["better", "worse", "tie", "untested"]

_REQUIRED = ("method", "kind", "protocol", "order", "k", "metric", "mean", "low", "high", "seeds")
_KINDS = ("baseline", "learned")
_ERRORS = ("rmse", "mae", "mse")
_COSTS = {"adapt_us": "adaptation, µs a user", "state_bytes": "state, bytes a user"}
_ORDERS = {
    "random": "random order",
    "time": "first in time",
    "target": "new to the target",
    "warm_user_warm_item": "warm users, warm items",
    "cold_user_warm_item": "cold users, warm items",
    "warm_user_cold_item": "warm users, cold items",
    "cold_user_cold_item": "cold users, cold items",
}


class Comparison(NamedTuple):
    """The best learned method against the best simple baseline in one setting."""

    learned: Record
    """The best learned method's record."""
    baseline: Record
    """The best simple baseline's record."""
    difference: float
    """Learned minus baseline, in the metric's unit."""
    interval: tuple[float, float] | None
    """95 % interval of the paired difference; None where nothing was paired."""
    verdict: Verdict
    """Better or worse only where the interval leaves out 0."""


def validate(records: Iterable[Record]) -> list[Record]:
    """Returns the records as a list, or says what is wrong with them.

    Raises:
        ValueError: If there are none, a key is missing, a kind unknown, a number not finite, or
            two records describe the same figure.
    """
    records = list(records)
    if not records:
        raise ValueError("records must hold at least one figure, got none.")
    seen = set()
    for n, record in enumerate(records):
        for key in _REQUIRED:
            if key not in record:
                raise ValueError(f"records[{n}] must have the key {key!r}, got {sorted(record)}.")
        if record["kind"] not in _KINDS:
            raise ValueError(f"records[{n}] kind must be one of {_KINDS}, got {record['kind']!r}.")
        numbers = ["mean"]
        if record["low"] is not None or record["high"] is not None:
            numbers += ["low", "high"]
        for name in ("difference", "no_transfer_difference"):
            if record.get(name) is not None:
                numbers += [name, f"{name}_low", f"{name}_high"]
        for key in numbers:
            if record.get(key) is None or not math.isfinite(record[key]):
                raise ValueError(f"records[{n}] {key} must be finite, got {record.get(key)}.")
        figure = tuple(record[key] for key in ("protocol", "order", "metric", "k", "method"))
        if figure in seen:
            raise ValueError(f"records must be unique, got {figure} twice.")
        seen.add(figure)
    return records


def select(records: Iterable[Record], **wanted: Any) -> list[Record]:
    """Keeps the records with these values: `select(records, metric="rmse", k=5)`."""
    return [r for r in records if all(r[key] == value for key, value in wanted.items())]


def distinct(records: Iterable[Record], key: str) -> list[Any]:
    """Lists the values of a key, in the order of their first occurrence; `k` is sorted."""
    values = list(dict.fromkeys(record[key] for record in records))
    return sorted(values) if key == "k" else values


def lower_is_better(metric: str) -> bool:
    """Tells errors (`rmse`, `mae_user`, ...) and costs from measures of a ranking."""
    return metric.lower().startswith(_ERRORS) or metric in _COSTS


def target(metric: str) -> float | None:
    """Returns the value that is right, of a metric of calibration: of `within@50`, .5."""
    stem, _, percent = metric.partition("@")
    return float(percent) / 100 if stem == "within" else None


def badness(metric: str, value: Any) -> Any:
    """Returns how bad a figure, or an array of figures, is: the better method's is lower."""
    right = target(metric)
    if right is not None:
        return abs(value - right)
    return value if lower_is_better(metric) else -value


def better_way(metric: str) -> str:
    """Says which way is better."""
    right = target(metric)
    if right is not None:
        return f"{right:g} is right"
    return "lower is better" if lower_is_better(metric) else "higher is better"


def is_cost(metric: str) -> bool:
    """Tells what serving a user costs (`adapt_us`, `state_bytes`) from how well it serves."""
    return metric in _COSTS


def by_quadrant(order: str) -> bool:
    """Tells panels of who and what is cold from panels of an order of the support."""
    return order.startswith(("warm_user", "cold_user"))


def metric_name(metric: str) -> str:
    """Writes a metric as people do: `ndcg@10` is NDCG@10, `hr@1` HR@1, `precision@10` as it is."""
    if metric in _COSTS:
        return _COSTS[metric]
    stem, *rest = metric.replace("_", " per ", 1).split("@")
    short = stem.split(" ")[0]
    if short in (*_ERRORS, "ndcg", "hr", "map", "mrr"):
        stem = stem.replace(short, short.upper(), 1)
    return "@".join([stem, *rest])


def order_name(order: str) -> str:
    """Writes the order of the support as people do."""
    return _ORDERS.get(order, order)


def best(records: Sequence[Record]) -> Record:
    """Returns the record with the best mean of records of one metric; the first one in a tie."""
    return min(records, key=lambda record: badness(record["metric"], record["mean"]))


def compare(records: Sequence[Record]) -> Comparison | None:
    """Compares the best learned method with the best simple baseline.

    Args:
        records: Records of one protocol, order, metric and k.

    Returns:
        The comparison; None where there is no learned method or no baseline. It is untested where
        the method was not paired, or was paired with a baseline that has no record here.
    """
    learned, baselines = select(records, kind="learned"), select(records, kind="baseline")
    if not learned or not baselines:
        return None
    method, baseline = best(learned), best(baselines)
    paired = select(baselines, method=method.get("best_baseline", baseline["method"]))
    if method.get("difference") is None or not paired:
        return Comparison(method, baseline, method["mean"] - baseline["mean"], None, "untested")
    interval = method["difference_low"], method["difference_high"]
    return Comparison(method, paired[0], method["difference"], interval, verdict_of(method))


def verdict_of(record: Record) -> Verdict:
    """Says what the paired difference of a record shows: untested where there is none."""
    if record.get("difference") is None:
        return "untested"
    low, high = record["difference_low"], record["difference_high"]
    if low > 0 or high < 0:
        return "better" if (high < 0) == lower_is_better(record["metric"]) else "worse"
    return "tie"


def compare_all(records: Sequence[Record], metrics: Sequence[str], k: int = 5) -> list[Comparison]:
    """Compares in every protocol and order, metric by metric.

    Args:
        records: Any records.
        metrics: Which metrics, in which order.
        k: Interactions seen; where both were not measured at it, the nearest at which they were.

    Returns:
        One comparison for each setting that has a learned method and a baseline.
    """
    comparisons = []
    for metric in metrics:
        for protocol in distinct(records, "protocol"):
            for order in distinct(records, "order"):
                panel = select(records, protocol=protocol, order=order, metric=metric)
                at_sizes = [compare(select(panel, k=n)) for n in distinct(panel, "k")]
                found = [comparison for comparison in at_sizes if comparison is not None]
                if found:
                    comparisons.append(min(found, key=lambda c: abs(c.learned["k"] - k)))
    return comparisons


def headline(comparisons: Sequence[Comparison]) -> str:
    """Says in one sentence where learning won, tied and lost, under the first protocol there is."""
    if not comparisons:
        return "No learned method was compared with a simple baseline."
    protocol = comparisons[0].learned["protocol"]
    comparisons = [c for c in comparisons if c.learned["protocol"] == protocol]
    methods = {c.learned["method"] for c in comparisons}
    name = methods.pop() if len(methods) == 1 else "the best learned method"
    phrases = {
        "better": "beats the best simple baseline on",
        "tie": "shows no clear difference from the best simple baseline on",
        "worse": "loses to the best simple baseline on",
        "untested": "was not compared user by user on",
    }
    clauses = []
    for verdict, phrase in phrases.items():
        settings = [c.learned for c in comparisons if c.verdict == verdict]
        if settings:
            clauses.append(f"{phrase} {_listed(_settings(settings))}")
    seen = sorted({c.learned["k"] for c in comparisons})
    interactions = _listed([str(k) for k in seen], "or")
    noun = "interaction" if seen == [1] else "interactions"
    return f"With {interactions} {noun} seen, {name} {_listed(clauses)}."


def _settings(records: Sequence[Record]) -> list[str]:
    by_orders: dict[str, list[str]] = {}
    for metric in distinct(records, "metric"):
        orders = distinct(select(records, metric=metric), "order")
        phrase = " and ".join(order_name(order) for order in orders)
        by_orders.setdefault(phrase, []).append(metric_name(metric))
    return [f"{_listed(metrics)} ({orders})" for orders, metrics in by_orders.items()]


def _listed(items: Sequence[str], word: str = "and") -> str:
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {word} {items[-1]}"


def negative_transfer(records: Iterable[Record], *, metric: str = "rmse") -> list[str]:
    """Warns of methods that are worse than those that do not look at the other domain.

    Args:
        records: As in `evaluation.records`; what counts is their `no_transfer_difference`.
        metric: Which figures to look at.

    Returns:
        A sentence for each method and protocol with a support size at which the whole 95 %
        interval of the paired difference is on the wrong side of 0.

    Example:
        >>> record = {
        ...     "method": "pooled", "protocol": "shuffled", "metric": "rmse", "k": 0,
        ...     "no_transfer": "item_mean", "no_transfer_difference": 0.02,
        ...     "no_transfer_difference_low": 0.01, "no_transfer_difference_high": 0.03,
        ... }
        >>> negative_transfer([record])  # doctest: +NORMALIZE_WHITESPACE
        ['Negative transfer: pooled is worse than no transfer under shuffled, in RMSE by 0.0200
          [0.0100, 0.0300] at K = 0 (item_mean).']
    """
    bad = "low" if lower_is_better(metric) else "high"
    sign = 1 if lower_is_better(metric) else -1
    found = [
        record
        for record in select(records, metric=metric)
        if sign * record.get(f"no_transfer_difference_{bad}", 0.0) > 0
    ]
    sentences = []
    for protocol in distinct(found, "protocol"):
        under = select(found, protocol=protocol)
        for method in distinct(under, "method"):
            at = ", ".join(_said(record, sign) for record in select(under, method=method))
            sentences.append(
                f"Negative transfer: {method} is worse than no transfer under {protocol}, in "
                f"{metric_name(metric)} by {at}."
            )
    return sentences


def _said(record: Record, sign: int) -> str:
    """Writes by how much a method is worse, at one support size."""
    difference = "no_transfer_difference"
    low, high = sorted(sign * record[f"{difference}_{end}"] for end in ("low", "high"))
    return (
        f"{sign * record[difference]:.4f} [{low:.4f}, {high:.4f}] at K = {record['k']} "
        f"({record['no_transfer']})"
    )

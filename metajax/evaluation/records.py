"""Figures as typed records: JSON, tables, and the best learned method against the best baseline."""

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from metajax.display import Html, grid
from metajax.evaluation.metrics import Better, Metric, badness, better_way, named, title_of
from metajax.fields import rounded

if TYPE_CHECKING:
    import polars

__all__ = [
    "Comparison",
    "Kind",
    "Record",
    "Verdict",
    "best",
    "by_quadrant",
    "compare",
    "compare_all",
    "distinct",
    "from_json",
    "headline",
    "interval_of",
    "negative_transfer",
    "order_name",
    "reference",
    "select",
    "to_csv",
    "to_html",
    "to_json",
    "to_polars",
    "validate",
    "verdict_of",
]

Kind = Literal["baseline", "learned"]
Verdict = Literal["better", "worse", "tie", "untested"]

_ORDERS = {
    "random": "random order",
    "time": "first in time",
    "target": "new to the target",
    "warm_user_warm_item": "warm users, warm items",
    "cold_user_warm_item": "cold users, warm items",
    "warm_user_cold_item": "warm users, cold items",
    "cold_user_cold_item": "cold users, cold items",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One figure of one method.

    A metric may have records of learned methods only, or of baselines only: it is shown, and
    nothing is compared.

    Raises:
        ValueError: If the kind is unknown, or a number is not finite.
    """

    method: str
    """Its name."""
    protocol: str
    """Protocol of the tasks, for instance "P1"."""
    order: str
    """Order of the supports, or which users and items are cold."""
    k: int
    """Interactions seen."""
    metric: str
    """Its name, as in `evaluation.metrics.table`."""
    mean: float
    """The figure."""
    low: float | None
    """Lower end of its 95 % interval; None where it has none, as coverage."""
    high: float | None
    """Upper end."""
    seeds: tuple[int, ...]
    """The repetitions behind it."""
    users: int | None = None
    """Number of users."""
    best_baseline: str | None = None
    """The baseline that the method was compared with user by user."""
    difference: float | None = None
    """Method minus baseline, in the metric's unit; None where nothing was paired."""
    difference_low: float | None = None
    """Lower end of its 95 % interval."""
    difference_high: float | None = None
    """Upper end."""
    no_transfer: str | None = None
    """Across domains: the best method that uses the target domain alone."""
    no_transfer_difference: float | None = None
    """Method minus that one."""
    no_transfer_difference_low: float | None = None
    """Lower end of its 95 % interval."""
    no_transfer_difference_high: float | None = None
    """Upper end."""
    kind: Kind
    """Baseline or learned method."""
    better: Better | None = None
    """Of a metric that is not in the table: which way is better, or the ideal value."""
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Further columns of a study, such as its pair of domains; keys of their own in JSON."""

    def __post_init__(self):
        """Refuses invalid kinds and figures."""
        if self.kind not in ("baseline", "learned"):
            raise ValueError(f"kind must be baseline or learned, got {self.kind!r}.")
        numbers = ["mean"]
        if self.low is not None or self.high is not None:
            numbers += ["low", "high"]
        for name in ("difference", "no_transfer_difference"):
            if getattr(self, name) is not None:
                numbers += [name, f"{name}_low", f"{name}_high"]
        for name in numbers:
            value = getattr(self, name)
            if value is None or not math.isfinite(value):
                raise ValueError(f"{name} must be finite, got {value}.")

    @property
    def entry(self) -> Metric:
        """The metric's entry in the table."""
        return named(self.metric, self.better)

    @property
    def learned(self) -> bool:
        """True of a learned method."""
        return self.kind == "learned"


_FIELDS = {field.name: field for field in dataclasses.fields(Record) if field.name != "facts"}
_ALWAYS = ("low", "high")


def to_json(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Returns records as `json.dump` takes them; fields that do not apply have no key."""
    rows = []
    for record in records:
        row = {name: getattr(record, name) for name in _FIELDS}
        row = {key: value for key, value in row.items() if value is not None or key in _ALWAYS}
        rows.append({**row, "seeds": list(record.seeds), **record.facts})
    return rows


def from_json(rows: Iterable[Mapping[str, Any]]) -> list[Record]:
    """Reads records from the output of `to_json`; other keys become `facts`.

    Raises:
        ValueError: If there is none, a key is missing, a value is no figure's, or two describe the
            same figure.
    """
    needed = [n for n, field in _FIELDS.items() if field.default is dataclasses.MISSING]
    records = []
    for n, row in enumerate(rows):
        for key in needed:
            if key not in row:
                raise ValueError(f"records[{n}] must have the key {key!r}, got {sorted(row)}.")
        values = {key: value for key, value in row.items() if key in _FIELDS}
        values["seeds"] = tuple(row["seeds"])
        facts = {key: value for key, value in row.items() if key not in _FIELDS}
        try:
            records.append(Record(**values, facts=facts))
        except ValueError as error:
            raise ValueError(f"records[{n}] {error}") from None
    return validate(records)


def to_csv(records: Iterable[Record]) -> str:
    """Returns records as a table in CSV: a column a field, empty where it does not apply."""
    rows = to_json(records)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows({**row, "seeds": " ".join(map(str, row["seeds"]))} for row in rows)
    return text.getvalue()


def to_polars(records: Iterable[Record]) -> "polars.DataFrame":
    """Returns records as a Polars frame: a column a field, null where it does not apply.

    Raises:
        ImportError: If the extra `cli` is not installed.
    """
    try:
        import polars
    except ImportError as error:
        raise ImportError("frames need polars: pip install 'metajax[cli]'.") from error
    return polars.DataFrame(to_json(records), infer_schema_length=None)


def to_html(records: Iterable[Record], metrics: Sequence[str] | None = None) -> Html:
    """Lays out records for a notebook: for each setting a table of methods by interactions seen.

    Args:
        records: The figures.
        metrics: Metrics to show; None means RMSE and NDCG@10, or the first metric that there is.

    Returns:
        Tables with the means, the best of each column in bold, and for learned methods the paired
        difference to the best baseline: + where it is better and - where it is worse, by a 95 %
        interval without 0.

    Raises:
        ValueError: If there are no records, or none of a metric.
    """
    records = validate(records)
    known = distinct(records, "metric")
    if metrics is None:
        metrics = [metric for metric in ("rmse", "ndcg@10") if metric in known] or known[:1]
    found = []
    for metric in metrics:
        of_metric = select(records, metric=metric)
        if not of_metric:
            raise ValueError(f"metrics must be among the records' {known}, got {metric!r}.")
        for protocol in distinct(of_metric, "protocol"):
            for order in distinct(of_metric, "order"):
                panel = select(of_metric, protocol=protocol, order=order)
                if panel:
                    found.append(_panel(panel))
    return Html("".join(found))


_MARKS = {"better": " +", "worse": " \u2212"}


def _panel(records: Sequence[Record]) -> Html:
    """Lays out the records of one protocol, metric and order."""
    ks, entry = distinct(records, "k"), records[0].entry
    tops = {k: best(select(records, k=k)).mean for k in ks}
    at = {(record.method, record.k): record for record in records}
    methods = distinct(records, "method")

    def cell(method: str, k: int) -> str:
        record = at.get((method, k))
        if record is None:
            return ""
        return rounded(record.mean, entry.form) + _MARKS.get(verdict_of(record), "")

    def leads(row: int, column: int) -> bool:
        record = at.get((methods[row], ks[column - 1])) if column else None
        return record is not None and record.mean == tops[ks[column - 1]]

    setting = f"{order_name(records[0].order)}, protocol {records[0].protocol}"
    return grid(
        ["method", *(f"K = {k}" for k in ks)],
        [[method, *(cell(method, k) for k in ks)] for method in methods],
        caption=f"{title_of(entry)}, {setting} ({better_way(entry)})",
        bold=leads,
    )


class Comparison(NamedTuple):
    """The best learned method against the best baseline in one setting."""

    learned: Record
    """The best learned method's record."""
    baseline: Record
    """The best baseline's record."""
    difference: float
    """Learned minus baseline, in the metric's unit."""
    interval: tuple[float, float] | None
    """95 % interval of the paired difference; None where nothing was paired."""
    verdict: Verdict
    """Better or worse only where the interval leaves out 0."""


def validate(records: Iterable[Record]) -> list[Record]:
    """Returns the records as a list.

    Raises:
        ValueError: If there are none, or two describe the same figure.
    """
    records, seen = list(records), set()
    if not records:
        raise ValueError("records must hold at least one figure, got none.")
    for record in records:
        figure = (record.protocol, record.order, record.metric, record.k, record.method)
        # A study of several pairs of domains has as many figures of one method.
        figure += tuple(map(str, record.facts.values()))
        if figure in seen:
            raise ValueError(f"records must be unique, got {figure} twice.")
        seen.add(figure)
    return records


def select(records: Iterable[Record], **wanted: Any) -> list[Record]:
    """Keeps the records with these values: `select(records, metric="rmse", k=5)`."""
    return [r for r in records if all(getattr(r, key) == value for key, value in wanted.items())]


def distinct(records: Iterable[Record], key: str) -> list[Any]:
    """Lists the values of a field, in the order of their first occurrence; `k` is sorted."""
    values = list(dict.fromkeys(getattr(record, key) for record in records))
    return sorted(values) if key == "k" else values


def by_quadrant(order: str) -> bool:
    """Returns True for panels of warm and cold users and items, False for orders of supports."""
    return order.startswith(("warm_user", "cold_user"))


def order_name(order: str) -> str:
    """Returns the title of an order of the supports, or of a panel."""
    return _ORDERS.get(order, order)


def best(records: Sequence[Record]) -> Record:
    """Returns the record with the best mean of records of one metric; the first one in a tie."""
    return min(records, key=lambda record: badness(record.entry, record.mean))


def compare(records: Sequence[Record]) -> Comparison | None:
    """Compares the best learned method with the best baseline.

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
    paired = select(baselines, method=method.best_baseline or baseline.method)
    if method.difference is None or not paired:
        return Comparison(method, baseline, method.mean - baseline.mean, None, "untested")
    return Comparison(method, paired[0], method.difference, interval_of(method), verdict_of(method))


def interval_of(record: Record) -> tuple[float, float] | None:
    """Returns the 95 % interval of the difference to the best baseline, where it was paired."""
    low, high = record.difference_low, record.difference_high
    return None if low is None or high is None else (low, high)


def verdict_of(record: Record) -> Verdict:
    """Returns the verdict of a record's paired difference: untested where there is none."""
    interval = interval_of(record)
    if interval is None:
        return "untested"
    low, high = interval
    if low > 0 or high < 0:
        return "better" if (high < 0) == (record.entry.better == "lower") else "worse"
    return "tie"


def compare_all(records: Sequence[Record], metrics: Sequence[str], k: int = 5) -> list[Comparison]:
    """Compares in every protocol and order, metric by metric.

    Args:
        records: Any records.
        metrics: Names of the metrics, in order.
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
                    comparisons.append(min(found, key=lambda c: abs(c.learned.k - k)))
    return comparisons


def headline(comparisons: Sequence[Comparison]) -> str:
    """Summary of the comparisons of the first protocol in one sentence, which names baselines."""
    if not comparisons:
        return "No learned method was compared with a baseline."
    protocol = comparisons[0].learned.protocol
    comparisons = [c for c in comparisons if c.learned.protocol == protocol]
    methods = {c.learned.method for c in comparisons}
    name = methods.pop() if len(methods) == 1 else "the best learned method"
    phrases = {
        "better": "beats",
        "tie": "shows no clear difference from",
        "worse": "loses to",
        "untested": "was not compared user by user with",
    }
    clauses = []
    for verdict, phrase in phrases.items():
        by_baseline: dict[str, list[Record]] = {}
        for found in comparisons:
            if found.verdict == verdict:
                by_baseline.setdefault(found.baseline.method, []).append(found.learned)
        if by_baseline:
            of_each = [f"{b} on {_listed(_settings(rows))}" for b, rows in by_baseline.items()]
            clauses.append(f"{phrase} {_listed(of_each)}")
    seen = sorted({c.learned.k for c in comparisons})
    interactions = _listed([str(k) for k in seen], "or")
    noun = "interaction" if seen == [1] else "interactions"
    return f"With {interactions} {noun} seen, {name} {_listed(clauses)}."


def reference(records: Iterable[Record]) -> str:
    """Names the baseline that differences are to: the only one, or the best of so many."""
    names = distinct(select(records, kind="baseline"), "method")
    if len(names) < 2:
        return names[0] if names else "the best baseline"
    return f"the best of {len(names)} baselines"


def _settings(records: Sequence[Record]) -> list[str]:
    by_orders: dict[str, list[str]] = {}
    for metric in distinct(records, "metric"):
        orders = distinct(select(records, metric=metric), "order")
        phrase = " and ".join(order_name(order) for order in orders)
        by_orders.setdefault(phrase, []).append(title_of(named(metric)))
    return [f"{_listed(metrics)} ({orders})" for orders, metrics in by_orders.items()]


def _listed(items: Sequence[str], word: str = "and") -> str:
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {word} {items[-1]}"


def negative_transfer(
    records: Iterable[Record], *, metrics: Sequence[str] = ("rmse", "ndcg@10")
) -> list[str]:
    """Warns of methods that are worse than the best method of the target domain alone.

    Args:
        records: Any; what counts is their `no_transfer_difference`.
        metrics: Names of the metrics that count.

    Returns:
        A sentence for each method, protocol and metric with a support size at which the whole 95 %
        interval of the paired difference is on the wrong side of 0.

    Example:
        >>> record = Record(
        ...     method="pooled", kind="baseline", protocol="shuffled", order="target", k=0,
        ...     metric="rmse", mean=1.02, low=1.0, high=1.04, seeds=(0,), no_transfer="item_mean",
        ...     no_transfer_difference=0.02, no_transfer_difference_low=0.01,
        ...     no_transfer_difference_high=0.03,
        ... )
        >>> negative_transfer([record])  # doctest: +NORMALIZE_WHITESPACE
        ['Negative transfer: pooled is worse than no transfer under shuffled, in RMSE by 0.0200
          [0.0100, 0.0300] at K = 0 (item_mean).']
    """
    worse: dict[tuple[str, str, str], list[str]] = {}
    for r in records:
        # The natural reading is of the same scores.
        if r.metric not in metrics or r.protocol.endswith("-natural"):
            continue
        sign = 1 if r.entry.better == "lower" else -1
        ends = (r.no_transfer_difference_low, r.no_transfer_difference_high)
        if r.no_transfer_difference is None or None in ends:
            continue
        low, high = sorted(sign * end for end in ends if end is not None)
        if low > 0:
            worse.setdefault((r.protocol, r.method, r.metric), []).append(
                f"{sign * r.no_transfer_difference:.4f} [{low:.4f}, {high:.4f}] at K = {r.k} "
                f"({r.no_transfer})"
            )
    return [
        f"Negative transfer: {method} is worse than no transfer under {protocol}, in "
        f"{title_of(named(metric))} by {', '.join(at)}."
        for (protocol, method, metric), at in worse.items()
    ]

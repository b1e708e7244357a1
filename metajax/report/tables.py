"""Records laid out as rows of methods and columns of support sizes, for a page or a terminal."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from metajax.baselines import WeightTable
from metajax.characters import visible
from metajax.evaluation.metrics import badness, better_way, is_cost, named, target, title_of
from metajax.evaluation.records import (
    Record,
    best,
    distinct,
    interval_of,
    order_name,
    reference,
    select,
    validate,
    verdict_of,
)
from metajax.fields import rounded

__all__ = [
    "WEIGHT",
    "caption_of",
    "legible",
    "panels_of",
    "percent",
    "printed",
    "service_of",
    "signed",
    "table_of",
    "terminal_table",
    "weight_lines",
    "weight_tables",
]


def legible(records: Iterable[Record]) -> list[Record]:
    """Validates records, and writes out control characters in their names.

    Raises:
        ValueError: As `validate`.
    """
    names = ("method", "metric", "best_baseline", "no_transfer", "protocol")
    found = []
    for record in validate(records):
        texts = {name: getattr(record, name) for name in names}
        texts = {name: text for name, text in texts.items() if text and visible(text) != text}
        changed: Any = {name: visible(text) for name, text in texts.items()}
        found.append(dataclasses.replace(record, **changed) if changed else record)
    return found


def panels_of(records: Sequence[Record]) -> list[list[Record]]:
    """Groups by protocol, metric and order."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        setting = (record.protocol, record.metric, record.order)
        groups.setdefault(setting, []).append(record)
    return list(groups.values())


def caption_of(record: Record) -> dict[str, str]:
    """Names the panel that a record belongs to, in whole and in parts."""
    metric = title_of(record.entry)
    setting = f"{order_name(record.order)}, protocol {record.protocol}"
    return {
        "caption": f"{metric}, {setting}",
        "metric": metric,
        "setting": setting,
        "better": better_way(record.entry),
    }


def table_of(records: Sequence[Record]) -> dict[str, Any]:
    """Lays out a panel: learned methods below the baselines, each group from worst to best.

    Args:
        records: Of one protocol, metric and order.

    Returns:
        The `caption_of` it, the sizes `ks`, and `rows` of a method, whether it is learned, and
        a cell for each size; None where it was not measured.
    """
    ks = distinct(records, "k")
    tops = {k: best(select(records, k=k)).mean for k in ks}
    metric = records[0].entry
    by_method = {
        method: sorted(select(records, method=method), key=lambda record: record.k)
        for method in distinct(records, "method")
    }
    # From worst to best at the last K.
    ordered = sorted(
        by_method.items(),
        key=lambda item: (item[1][0].kind == "learned", -badness(metric, item[1][-1].mean)),
    )
    rows = []
    for method, of_method in ordered:
        at = {record.k: record for record in of_method}
        cells = [_cell(at[k], tops[k]) if k in at else None for k in ks]
        rows.append({"method": method, "learned": of_method[0].kind == "learned", "cells": cells})
    return {**caption_of(records[0]), "ks": ks, "rows": rows}


def service_of(records: Sequence[Record]) -> dict[str, Any]:
    """Lays out calibration and cost, a row a method, the cheapest first.

    Args:
        records: Any; what counts is the first protocol and order that a cost was measured in.

    Returns:
        `setting`, `columns` (names and which way is better) and `rows` of a method, whether it is
        learned, and texts. No rows where no cost was measured.
    """
    costs = [record for record in records if is_cost(record.entry)]
    if not costs:
        return {"setting": "", "columns": [], "rows": []}
    about = {name: getattr(costs[0], name) for name in ("protocol", "order", "k")}
    here = select(records, **about)
    entries = [named(metric) for metric in distinct(here, "metric")]
    shown = [entry for entry in entries if is_cost(entry) or target(entry) is not None]
    by_method = {
        method: {record.metric: record.mean for record in select(here, method=method)}
        for method in distinct(select(costs, **about), "method")
    }
    kinds = {record.method: record.kind for record in here}
    cheapest = sorted(by_method.items(), key=lambda item: item[1].get("adapt_us", 0.0))
    return {
        "setting": f"{caption_of(costs[0])['setting']}, K = {about['k']}",
        "columns": [(title_of(metric), better_way(metric)) for metric in shown],
        "rows": [
            {
                "method": method,
                "learned": kinds[method] == "learned",
                "cells": [
                    format(found[metric.name], metric.form) if metric.name in found else "–"
                    for metric in shown
                ],
            }
            for method, found in cheapest
        ],
    }


def printed(record: Record, value: float | None = None) -> str:
    """Formats a record's mean, or another value of its metric, by the metric's entry."""
    return rounded(record.mean if value is None else value, record.entry.form)


def _cell(record: Record, top: float) -> dict[str, Any]:
    itself = record.best_baseline == record.method
    interval = None if itself else interval_of(record)
    low, high = map(signed, interval) if interval else ("", "")
    difference = record.difference if interval else None
    ends = (record.low, record.high)
    return {
        "mean": printed(record),
        "interval": "" if None in ends else f"[{', '.join(printed(record, e) for e in ends)}]",
        "difference": "" if difference is None else signed(difference),
        "difference_low": low,
        "difference_high": high,
        "difference_interval": f"[{low}, {high}]" if interval else "",
        "best": record.mean == top,
        "verdict": verdict_of(record),
    }


def signed(value: float) -> str:
    """Writes a difference with its sign."""
    return f"{value:+.4f}".replace("-", "\u2212")


_KINDS = {
    "any": "any of a user's interactions",
    "first": "a user's first interactions",
}
WEIGHT = (
    "An expert's weight at K interactions is the change of the score that orders the list when the "
    "expert's own score rises by one standard deviation, as a share of such changes of all "
    "experts; a negative one lowers the score. Between these K weights are interpolated, beyond "
    "the last they stay."
)
"""Meaning of the weights of `weight_tables`."""


def weight_tables(weights: WeightTable) -> list[dict[str, Any]]:
    """Lays out the weights of experts, a table for each kind of support.

    Args:
        weights: As of `Blend.weights`.

    Returns:
        For each kind its `caption`, the sizes `ks`, and `rows` of an `expert` and its `cells`, the
        weights in percent, the expert with most weight at any size first.
    """
    tables = []
    for kind, experts in weights.items():
        ks = sorted({k for by_number in experts.values() for k in by_number})
        ordered = sorted(experts.items(), key=lambda item: -max(map(abs, item[1].values())))
        rows = [
            {"expert": visible(name), "cells": [percent(by_number.get(k, 0.0)) for k in ks]}
            for name, by_number in ordered
        ]
        tables.append({"caption": _KINDS.get(kind, kind), "ks": ks, "rows": rows})
    return tables


def weight_lines(weights: WeightTable, most: int = 3) -> list[str]:
    """Writes the experts with most weight as lines of text.

    Args:
        weights: As of `Blend.weights`.
        most: Number of experts at each number of interactions.

    Returns:
        A line for each number of interactions of each kind of support, under a line that says what
        they are; none where there are no weights.
    """
    if not weights:
        return []
    lines = [
        f"Experts that order the items, of {_number_of(weights)} those with most weight: the "
        "change of the score per standard deviation of the expert's own, as a share of such "
        "changes of all; a negative one lowers it."
    ]
    for kind, experts in weights.items():
        lines.append(f"  {_KINDS.get(kind, kind)}")
        for k in sorted({k for by_number in experts.values() for k in by_number}):
            at = {name: by_number.get(k, 0.0) for name, by_number in experts.items()}
            leading = sorted(at.items(), key=lambda item: -abs(item[1]))[:most]
            said = [f"{visible(name)} {percent(share)}" for name, share in leading if share]
            lines.append(f"    K={k:<3} {', '.join(said)}")
    return lines


def _number_of(weights: WeightTable) -> int:
    return len({name for experts in weights.values() for name in experts})


def percent(share: float) -> str:
    """Writes a share in percent.

    Example:
        >>> percent(0.256), percent(-0.004)
        ('26 %', '0 %')
    """
    return f"{round(100 * share)} %".replace("-", "\u2212")


_METRICS = ("rmse", "ndcg@10")

# An interval in one line does not fit; rounded to three digits it may seem to touch 0.
_DIFFERENCE_LINES = {
    "vs best baseline": "difference",
    "       95 % from": "difference_low",
    "              to": "difference_high",
}


def terminal_table(
    records: Iterable[Record], metrics: Sequence[str] | None = None, *, brief: bool = False
) -> Any:
    """Lays out the figures for a terminal, or for a log where there is none.

    Args:
        records: The figures.
        metrics: Metrics to show; those without records are left out. None means RMSE and
            NDCG@10, or the first metric that there is.
        brief: One line a method: instead of the differences a mark behind the mean of a learned
            method, + where it is better than the best baseline and - where it is worse,
            by an interval without 0.

    Returns:
        A Rich renderable: for each setting a table of methods by interactions seen, with the
        mean, the best one in bold; below it, where it was measured, the paired difference to the
        best baseline and the ends of its 95 % interval. Five sizes fit in 80 columns.

    Raises:
        ValueError: If there are no records, two describe the same figure, or no metric has any.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    records = legible(records)
    known = distinct(records, "metric")
    if metrics is not None:
        metrics = [visible(metric) for metric in metrics]
    else:
        metrics = [metric for metric in _METRICS if metric in known] or known[:1]
    shown = [panel for metric in metrics for panel in panels_of(select(records, metric=metric))]
    if not shown:
        raise ValueError(f"metrics must be among the records' {known}, got {list(metrics)}.")
    tables = []
    for panel in shown:
        content = table_of(panel)
        title = f"{content['caption']} ({content['better']})"
        table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
        table.add_column("method", no_wrap=True)
        for k in content["ks"]:
            table.add_column(f"K={k}", justify="right", min_width=len("+0.0000 "), no_wrap=True)
        for row in content["rows"]:
            name = Text(row["method"], style="bold" if row["learned"] else "")
            means = [
                Text(_mean(cell, brief), style="bold" if cell and cell["best"] else "")
                for cell in row["cells"]
            ]
            table.add_row(name, *means)
            if not brief and any(cell and cell["difference"] for cell in row["cells"]):
                for label, part in _DIFFERENCE_LINES.items():
                    table.add_row(label, *(cell[part] if cell else "" for cell in row["cells"]))
        tables += [Text(title, style="italic"), table]
    if brief:
        tables.append(Text(f"+ better, - worse than {reference(records)} (95 % interval)"))
    return Group(*tables)


def _mean(cell: dict[str, Any] | None, brief: bool) -> str:
    if cell is None:
        return ""
    return cell["mean"] + ({"better": "+", "worse": "-"}.get(cell["verdict"], " ") if brief else "")

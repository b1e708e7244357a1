"""A run's figures for people: one page to look at, one curve for a README, one table to print.

The input is always the same list of records, described in `metajax.comparisons`.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from metajax import figures, svg
from metajax.comparisons import (
    Comparison,
    Record,
    badness,
    best,
    better_way,
    compare_all,
    distinct,
    headline,
    metric_name,
    order_name,
    select,
    validate,
)

__all__ = ["html", "support_size_curve", "terminal_table"]

_METRICS = ("rmse", "ndcg@10")
_BADGES = {
    "better": "better",
    "tie": "no clear difference",
    "worse": "worse",
    "untested": "not compared user by user",
}

# An interval in one line does not fit; rounded to three digits it may seem to touch 0.
_DIFFERENCE_LINES = {
    "  vs best simple": "difference",
    "       95 % from": "difference_low",
    "              to": "difference_high",
}


def html(
    records: Iterable[Record],
    *,
    title: str = "Cold-start report",
    run_facts: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    metrics: Sequence[str] = _METRICS,
) -> str:
    """Writes one self-contained page: a headline, curves, paired differences, all tables.

    Args:
        records: The figures, as described in `metajax.comparisons`.
        title: Heading of the page.
        run_facts: What the run was: data, date, machine, settings.
        notes: Sentences to print below, one a paragraph.
        metrics: Which metrics are drawn; all are in the tables.

    Returns:
        The text of an HTML file. It loads nothing and runs no script.

    Raises:
        ValueError: If there are no records, or one is incomplete.
        ImportError: If the extra `cli` is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ImportError("the report needs jinja2: pip install 'metajax[cli]'.") from error
    records = validate(records)
    drawn = [metric for metric in metrics if select(records, metric=metric)]
    drawn = drawn or distinct(records, "metric")[:1]
    comparisons = compare_all(records, drawn)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = resources.files("metajax").joinpath("report.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        title=title,
        headline=headline(comparisons),
        cards=[_card(comparison) for comparison in comparisons],
        candidates=len(distinct(select(records, kind="learned"), "method")),
        figures=_panels(records, drawn),
        tables=[_table(panel) for panel in _split(records)],
        facts={str(key): str(value) for key, value in (run_facts or {}).items()},
        notes=[notes] if isinstance(notes, str) else list(notes),
        seeds=sorted({seed for record in records for seed in record["seeds"]}),
        colours=svg.COLOURS,
        hues=figures.method_colours(records),
    )


def support_size_curve(
    records: Iterable[Record],
    path: str | os.PathLike[str],
    metrics: Sequence[str] = _METRICS,
) -> None:
    """Writes the curves of metric against interactions seen to an SVG file.

    Its background is light, so that it reads on dark pages too.

    Args:
        records: The figures of one protocol; of several, the first one's are drawn.
        path: The file to write.
        metrics: One row of panels each.

    Raises:
        ValueError: If there are no records, one is incomplete, or a metric has none.
        ImportError: If the extra `cli` is not installed.
    """
    records = validate(records)
    records = select(records, protocol=records[0]["protocol"])
    for metric in metrics:
        if not select(records, metric=metric):
            known = distinct(records, "metric")
            raise ValueError(f"metrics must be among the records' {known}, got {metric!r}.")
    Path(path).write_text(figures.curve_grid(records, metrics) + "\n", encoding="utf-8")


def terminal_table(records: Iterable[Record], metrics: Sequence[str] | None = None) -> Any:
    """Lays out the figures for a terminal, or for a log where there is none.

    Args:
        records: The figures, as described in `metajax.comparisons`.
        metrics: Which metrics to show; those without records are left out. None means RMSE and
            NDCG@10, or the first metric that there is.

    Returns:
        A Rich renderable: for each setting a table of methods by interactions seen, with the
        mean, the best one in bold; below it, where it was measured, the paired difference to the
        best simple baseline and the ends of its 95 % interval. Five sizes fit in 80 columns.

    Raises:
        ValueError: If there are no records, one is incomplete, or no metric has any.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    records = validate(records)
    known = distinct(records, "metric")
    if metrics is None:
        metrics = [metric for metric in _METRICS if metric in known] or known[:1]
    shown = [panel for metric in metrics for panel in _split(select(records, metric=metric))]
    if not shown:
        raise ValueError(f"metrics must be among the records' {known}, got {list(metrics)}.")
    tables = []
    for panel in shown:
        content = _table(panel)
        title = f"{content['caption']} ({content['better']})"
        table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
        table.add_column("method", no_wrap=True)
        for k in content["ks"]:
            table.add_column(f"K={k}", justify="right", min_width=len("+0.0000 "), no_wrap=True)
        for row in content["rows"]:
            name = Text(row["method"], style="bold" if row["learned"] else "")
            means = [
                Text(cell["mean"] if cell else "", style="bold" if cell and cell["best"] else "")
                for cell in row["cells"]
            ]
            table.add_row(name, *means)
            if any(cell and cell["difference"] for cell in row["cells"]):
                for label, part in _DIFFERENCE_LINES.items():
                    table.add_row(label, *(cell[part] if cell else "" for cell in row["cells"]))
        tables += [Text(title, style="italic"), table]
    return Group(*tables)


def _split(records: Sequence[Record]) -> list[list[Record]]:
    """Groups by protocol, metric and order."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        setting = (record["protocol"], record["metric"], record["order"])
        groups.setdefault(setting, []).append(record)
    return list(groups.values())


def _panels(records: Sequence[Record], metrics: Sequence[str]) -> list[dict[str, Any]]:
    colours = figures.method_colours(records)
    panels = []
    for metric in metrics:
        for n, panel in enumerate(_split(select(records, metric=metric))):
            name = f"{metric.replace('@', '-')}-{n}"
            curve, off_scale = figures.curve_panel(panel, f"curve-{name}", colours)
            paired = [r for r in panel if r.get("difference") is not None]
            paired = select(paired, kind="learned") or paired
            panels.append(
                {
                    **_caption(panel[0]),
                    "curve": curve,
                    "off_scale": off_scale,
                    "difference": paired
                    and figures.difference_panel(paired, f"difference-{name}", colours),
                    "methods": [
                        (method, colours.get(method, "plain"))
                        for method in distinct(paired, "method")
                    ],
                }
            )
    return panels


def _caption(record: Record) -> dict[str, str]:
    metric = metric_name(record["metric"])
    setting = f"{order_name(record['order'])}, protocol {record['protocol']}"
    return {
        "caption": f"{metric}, {setting}",
        "metric": metric,
        "setting": setting,
        "better": better_way(record["metric"]),
    }


def _card(comparison: Comparison) -> dict[str, str]:
    learned, baseline = comparison.learned, comparison.baseline
    interval = comparison.interval
    return {
        **_caption(learned),
        "verdict": comparison.verdict,
        "badge": _BADGES[comparison.verdict],
        "method": learned["method"],
        "mean": f"{learned['mean']:.3f}",
        "baseline": baseline["method"],
        "baseline_mean": f"{baseline['mean']:.3f}",
        "difference": _signed(comparison.difference),
        "interval": f"{_signed(interval[0])} to {_signed(interval[1])}" if interval else "",
        "k": str(learned["k"]),
    }


def _table(records: Sequence[Record]) -> dict[str, Any]:
    ks = distinct(records, "k")
    tops = {k: best(select(records, k=k))["mean"] for k in ks}
    metric = records[0]["metric"]
    by_method = {
        method: sorted(select(records, method=method), key=lambda record: record["k"])
        for method in distinct(records, "method")
    }
    # Learned methods below the baselines, each group from worst to best at its last K.
    ordered = sorted(
        by_method.items(),
        key=lambda item: (item[1][0]["kind"] == "learned", -badness(metric, item[1][-1]["mean"])),
    )
    rows = []
    for method, of_method in ordered:
        at = {record["k"]: record for record in of_method}
        cells = [_cell(at[k], tops[k]) if k in at else None for k in ks]
        rows.append(
            {"method": method, "learned": of_method[0]["kind"] == "learned", "cells": cells}
        )
    return {**_caption(records[0]), "ks": ks, "rows": rows}


def _cell(record: Record, top: float) -> dict[str, Any]:
    itself = record.get("best_baseline") == record["method"]
    paired = record.get("difference") is not None and not itself
    low, high = (_signed(record[f"difference_{end}"]) if paired else "" for end in ("low", "high"))
    return {
        "mean": f"{record['mean']:.3f}",
        "interval": _interval(record["low"], record["high"]),
        "difference": _signed(record["difference"]) if paired else "",
        "difference_low": low,
        "difference_high": high,
        "difference_interval": f"[{low}, {high}]" if paired else "",
        "best": record["mean"] == top,
    }


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "\u2212")

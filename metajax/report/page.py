"""The report of a run: an HTML page, and the support-size curve as an SVG file.

The input is a list of records, as of `evaluation.compare`.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from metajax.baselines import WeightTable
from metajax.characters import visible
from metajax.display import Html
from metajax.evaluation.metrics import is_cost
from metajax.evaluation.records import (
    Comparison,
    Record,
    by_quadrant,
    compare_all,
    distinct,
    headline,
    reference,
    select,
)
from metajax.report import plots
from metajax.report.tables import (
    WEIGHT,
    caption_of,
    legible,
    panels_of,
    printed,
    service_of,
    signed,
    table_of,
    terminal_table,
    weight_tables,
)
from metajax.report.templates import rendered

__all__ = ["html", "support_size_curve", "terminal_table"]

_METRICS = ("rmse", "ndcg@10")
_BADGES = {
    "better": "better",
    "tie": "no clear difference",
    "worse": "worse",
    "untested": "not compared user by user",
}


def html(
    records: Iterable[Record],
    *,
    title: str = "Cold-start report",
    run_facts: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    metrics: Sequence[str] = _METRICS,
    tables: Sequence[str] | None = None,
    about: Mapping[str, str] = MappingProxyType({}),
    advice: Sequence[str] = (),
    learning: tuple[str, Sequence[tuple[int, float]]] | None = None,
    examples: Sequence[Mapping[str, Any]] = (),
    weights: WeightTable = MappingProxyType({}),
    subject: str = "learned method",
) -> Html:
    """Writes one self-contained page: a headline, curves, paired differences, all tables.

    Of more than four learned methods the curves show the four that rank best.

    Args:
        records: Figures, as of `evaluation.compare`.
        title: Heading of the page.
        run_facts: Facts of the run: data, date, machine, settings.
        notes: Sentences to print below, one a paragraph.
        metrics: Metrics to draw.
        tables: Metrics of the tables; None means all.
        about: Sentences about methods, by name.
        advice: Sentences about which method to take.
        learning: Name of a validation loss, and updates with the loss after them.
        examples: Users with lists `shown`, `recommended` (pairs of a title and True where it was
            liked later) and `liked`.
        weights: Weights of a method's experts, as of `Blend.weights`.
        subject: Noun for the methods that are compared with baselines.

    Returns:
        The text of an HTML file, which loads nothing and runs no script; a notebook shows it in a
        frame.

    Raises:
        ValueError: If there are no records, or two describe the same figure.
        ImportError: If the extra `cli` is not installed.
    """
    records, metrics = legible(records), [visible(metric) for metric in metrics]
    drawn = [metric for metric in metrics if select(records, metric=metric)]
    drawn = drawn or distinct(records, "metric")[:1]
    comparisons = compare_all(records, drawn)
    tabled = [record for record in records if not is_cost(record.entry)]
    if tables is not None:
        tables = [visible(metric) for metric in tables]
        tabled = [record for record in tabled if record.metric in tables]
    colours = plots.method_colours(records)
    page = rendered(
        "page.html.j2",
        title=title,
        headline=headline(comparisons),
        reference=reference(records),
        subject=visible(subject),
        cards=[_card(comparison) for comparison in comparisons],
        candidates=len(distinct(select(records, kind="learned"), "method")),
        paired=plots.is_paired(records),
        figures=_panels(records, drawn, colours),
        sides=_sides(records, drawn, colours),
        tables=[table_of(panel) for panel in panels_of(tabled)],
        service=service_of(records),
        facts={str(key): str(value) for key, value in (run_facts or {}).items()},
        about={name: about[name] for name in distinct(records, "method") if about.get(name)},
        advice=list(advice),
        learning=learning and plots.learning_panel(*learning, "learning"),
        examples=list(examples),
        weights=weight_tables(weights),
        weight=WEIGHT,
        notes=[notes] if isinstance(notes, str) else list(notes),
        seeds=sorted({seed for record in records for seed in record.seeds}),
        colours=plots.COLOURS,
        hues=colours,
    )
    return Html(page)


def support_size_curve(
    records: Iterable[Record],
    path: str | os.PathLike[str],
    metrics: Sequence[str] = _METRICS,
) -> None:
    """Writes the curves of metric against interactions seen to an SVG file.

    Its background is light, so that it is readable on dark pages too.

    Args:
        records: The figures of one protocol; of several, the first one's are drawn.
        path: The file to write.
        metrics: One row of panels each.

    Raises:
        ValueError: If there are no records, two describe the same figure, or a metric has none.
        ImportError: If the extra `cli` is not installed.
    """
    records, metrics = legible(records), [visible(metric) for metric in metrics]
    records = select(records, protocol=records[0].protocol)
    for metric in metrics:
        if not select(records, metric=metric):
            known = distinct(records, "metric")
            raise ValueError(f"metrics must be among the records' {known}, got {metric!r}.")
    Path(path).write_text(plots.curve_grid(records, metrics) + "\n", encoding="utf-8")


def _panels(
    records: Sequence[Record], metrics: Sequence[str], colours: dict[str, str]
) -> list[dict[str, Any]]:
    """Draws curves and paired differences of every order of the support."""
    panels = []
    for m, metric in enumerate(metrics):
        for n, panel in enumerate(panels_of(select(records, metric=metric))):
            # Not the metric's name: it may hold anything, and two may differ in a mark only.
            name = f"{m}-{n}"
            paired = [r for r in panel if r.difference is not None]
            paired = select(paired, kind="learned") or paired
            if len(distinct(paired, "method")) > len(colours):
                paired = [r for r in paired if r.method in colours]
            curve, off_scale, drawn = "", "", False
            if not by_quadrant(panel[0].order):
                curve, off_scale = plots.curve_panel(panel, f"curve-{name}", colours)
                drawn = plots.is_paired(panel)
            panels.append(
                {
                    **caption_of(panel[0]),
                    "curve": curve,
                    "off_scale": off_scale,
                    # A curve of differences has their intervals.
                    "difference": paired
                    and not drawn
                    and plots.difference_panel(paired, f"difference-{name}", colours),
                    "methods": [
                        (method, colours.get(method, "plain"))
                        for method in distinct(paired, "method")
                    ],
                }
            )
    return panels


def _sides(
    records: Sequence[Record], metrics: Sequence[str], colours: dict[str, str]
) -> dict[str, list[dict[str, Any]]]:
    """Draws all methods side by side: by quadrant, and at the first recommendation."""
    quadrants = [
        panel
        for metric in metrics
        for panel in panels_of(select(records, metric=metric))
        if by_quadrant(panel[0].order)
    ]
    first = panels_of(select(records, metric="hr@1"))
    chosen = {"Warm and cold users, warm and cold items": (quadrants, -1)}
    # With one learned method its curve shows the same.
    if len(distinct(select(records, kind="learned"), "method")) > 1:
        chosen["First recommendation to a new user"] = (first, 0)
    sides: dict[str, list[dict[str, Any]]] = {}
    for s, (heading, (panels, at)) in enumerate(chosen.items()):
        for n, panel in enumerate(panels):
            shown = select(panel, k=distinct(panel, "k")[at])
            shown = [record for record in shown if record.low is not None]
            if shown:
                name = f"side-{s}-{n}"
                drawn, left = plots.interval_panel(shown, name, colours)
                about = {**caption_of(shown[0]), "k": shown[0].k, "drawn": drawn, "left": left}
                sides.setdefault(heading, []).append(about)
    return sides


def _card(comparison: Comparison) -> dict[str, str]:
    learned, baseline = comparison.learned, comparison.baseline
    interval = comparison.interval
    return {
        **caption_of(learned),
        "verdict": comparison.verdict,
        "badge": _BADGES[comparison.verdict],
        "method": learned.method,
        "mean": printed(learned),
        "baseline": baseline.method,
        "baseline_mean": printed(baseline),
        "difference": signed(comparison.difference),
        "interval": f"{signed(interval[0])} to {signed(interval[1])}" if interval else "",
        "k": str(learned.k),
    }

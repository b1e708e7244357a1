"""Figures of intervals: differences to the best baseline, and methods side by side, as SVG text."""

from collections.abc import Sequence
from typing import Any

from metajax.evaluation.comparisons import (
    Record,
    badness,
    distinct,
    lower_is_better,
    metric_name,
    select,
)
from metajax.report import svg
from metajax.report.figures import panel_title

__all__ = ["difference_panel", "interval_panel"]

_WIDTH = 440  # pixels, as a panel of curves
_ROW = 19  # pixels of a method
_KEPT = 8  # baselines that are drawn, the best


def difference_panel(records: Sequence[Record], name: str, colours: dict[str, str]) -> str:
    """Draws the paired differences to the best simple baseline, with their 95 % intervals.

    Args:
        records: Records of one protocol, order and metric, each with a `difference`.
        name: Prefix of the element ids, unique in the page.
        colours: What `method_colours` gave for all records.

    Returns:
        The `<svg>` element.
    """
    words = " ".join(
        f"{r['method']} at K = {r['k']}: {r['difference']:+.4f}, "
        f"{r['difference_low']:+.4f} to {r['difference_high']:+.4f}."
        for r in records
    )
    title = f"{panel_title(records[0])}: paired differences to the best simple baseline"
    height = 75 + len(distinct(records, "k")) * (14 + 13 * len(distinct(records, "method")))
    with svg.figure(_WIDTH, height) as figure:
        _draw_differences(figure.subplots(), records, colours)
        return svg.inline(figure, name, title, words)


def interval_panel(
    records: Sequence[Record], name: str, colours: dict[str, str]
) -> tuple[str, str]:
    """Draws methods side by side, the best on top, each with its 95 % interval.

    Args:
        records: Records of one protocol, order, metric and k, with intervals.
        name: Prefix of the element ids, unique in the page.
        colours: What `figures.method_colours` gave for all records.

    Returns:
        The `<svg>` element, and a sentence on baselines that are left out, or "".
    """
    metric = records[0]["metric"]
    ordered = sorted(records, key=lambda record: badness(metric, record["mean"]))
    left = select(ordered, kind="baseline")[_KEPT:]
    shown = [record for record in ordered if record not in left]
    title = f"{panel_title(records[0])} at K = {records[0]['k']}, method by method"
    words = " ".join(
        f"{r['method']}: {r['mean']:.3f}, {r['low']:.3f} to {r['high']:.3f}." for r in shown
    )
    with svg.figure(_WIDTH, 56 + _ROW * len(shown)) as figure:
        _draw_intervals(figure.subplots(), shown, colours)
        drawn = svg.inline(figure, name, title, words)
    names = ", ".join(f"{r['method']} ({r['mean']:.3f})" for r in left)
    return drawn, f"Not drawn: {names}." if left else ""


def _draw_intervals(axes: Any, records: Sequence[Record], colours: dict[str, str]) -> None:
    for y, record in enumerate(records):
        learned = record["kind"] == "learned"
        role = colours.get(record["method"], "ink" if learned else "plain")
        colour, width = svg.LIGHT[role], 2.4 if learned else 1.4
        interval = [record["low"], record["high"]]
        axes.plot(interval, [y, y], color=colour, lw=width, solid_capstyle="round")
        axes.plot([record["mean"]], [y], "o", color=colour, ms=6 if learned else 4)
    axes.set_ylim(len(records) - 0.4, -0.6)
    axes.set_yticks(range(len(records)), [record["method"] for record in records])
    for label, record in zip(axes.get_yticklabels(), records, strict=True):
        learned = record["kind"] == "learned"
        role = colours.get(record["method"], "ink" if learned else "muted")
        label.set(color=svg.LIGHT[role], weight="bold" if learned else "normal", size=11)
    axes.locator_params(axis="x", nbins=5)
    metric = records[0]["metric"]
    axes.set_xlabel(f"{metric_name(metric)}, 95 % interval over users", labelpad=6)
    svg.style(axes, "x")
    svg.inset(axes, left=165, right=18, top=8, bottom=42)


def _draw_differences(axes: Any, records: Sequence[Record], colours: dict[str, str]) -> None:
    ks, methods = distinct(records, "k"), distinct(records, "method")
    for record in records:
        shift = (methods.index(record["method"]) - (len(methods) - 1) / 2) * 0.7 / len(methods)
        colour = svg.LIGHT[colours.get(record["method"], "plain")]
        y = ks.index(record["k"]) + shift
        interval = [record["difference_low"], record["difference_high"]]
        axes.plot(interval, [y, y], color=colour, lw=2.2, solid_capstyle="round")
        axes.plot([record["difference"]], [y], "o", color=colour, ms=6)
    for n in range(1, len(ks)):
        axes.axhline(n - 0.5, color=svg.LIGHT["grid"], lw=1)
    axes.axvline(0, color=svg.LIGHT["ink"], lw=1.2, zorder=1)
    axes.set_ylim(len(ks) - 0.5, -0.5)
    axes.set_yticks(range(len(ks)), [f"K = {k}" for k in ks])
    # As much room for losing as for winning.
    reach = max(map(abs, axes.get_xlim()))
    axes.set_xlim(-reach, reach)
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:+.3f}".replace("-", "\u2212") if x else "0")
    svg.style(axes, "x")
    words = ["better", "worse"] if lower_is_better(records[0]["metric"]) else ["worse", "better"]
    for x, side, text in ((0, "left", f"← {words[0]}"), (1, "right", f"{words[1]} →")):
        axes.annotate(
            text, (x, 0), (0, -24), xycoords="axes fraction", textcoords="offset points",
            ha=side, va="top", color=svg.LIGHT["muted"],
        )  # fmt: skip
    svg.inset(axes, left=58, right=20, top=10, bottom=48)

"""Curves and intervals of records as SVG: small, readable by screen readers, reproducible."""

import contextlib
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any, NamedTuple

import numpy as np

from metajax.evaluation.metrics import badness, better_way, named, title_of
from metajax.evaluation.records import Record, best, distinct, order_name, select
from metajax.report.tables import printed, signed

__all__ = [
    "COLOURS",
    "LIGHT",
    "canvas",
    "curve_grid",
    "curve_panel",
    "difference_panel",
    "document",
    "inline",
    "interval_panel",
    "is_paired",
    "learning_panel",
    "lines_panel",
    "method_colours",
    "panel_title",
    "style",
]


_WIDTH, _HEIGHT = 440, 330  # pixels of a panel; narrow, so that its text is legible on a phone
_LONGEST = 31  # letters of a method in a legend
_FAVOURED = 4  # baselines that the vertical scale makes room for
_FEATURED = 4  # learned methods that are drawn: as many as there are colours
_RANKED_BY = ("rmse", "ndcg@10")
_DASHES = [
    "-", (0, (5, 2)), (0, (1.5, 1.8)), (0, (7, 2, 1.5, 2)), (0, (3, 1.5)), (0, (9, 2)),
    (0, (6, 1.5, 1, 1.5, 1, 1.5)), (0, (1, 4)),
]  # fmt: skip


class _Curve(NamedTuple):
    """One method in one panel."""

    method: str
    records: list[Record]
    """By increasing k."""
    learned: bool
    colour: str
    dash: Any
    shaded: bool


def method_colours(records: Sequence[Record]) -> dict[str, str]:
    """Assigns colours to the learned methods that are drawn, the same in every figure of a page.

    There are four colours. Of more methods those are drawn that are best, by their mean rank in the
    panels of each metric; the others are in the tables alone.
    """
    learned = select(records, kind="learned")
    featured = _featured(learned) if len(distinct(learned, "method")) > _FEATURED else learned
    return {method: f"learned-{n}" for n, method in enumerate(distinct(featured, "method"))}


def _featured(learned: Sequence[Record]) -> list[Record]:
    ranks: dict[str, dict[str, list[int]]] = {}  # by metric, then by method
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in learned:
        if record.metric in _RANKED_BY:
            key = tuple(getattr(record, name) for name in ("metric", "protocol", "order", "k"))
            groups.setdefault(key, []).append(record)
    for (metric, *_), group in groups.items():
        group.sort(key=lambda record: badness(record.entry, record.mean))
        for place, record in enumerate(group):
            ranks.setdefault(metric, {}).setdefault(record.method, []).append(place)
    orders = [
        sorted(found, key=lambda method: sum(found[method]) / len(found[method]))
        for found in ranks.values()
    ]
    # The best of each metric in turn.
    turns = [m for turn in itertools.zip_longest(*orders) for m in turn if m is not None]
    best_of = list(dict.fromkeys(turns))[:_FEATURED]
    return [record for record in learned if record.method in best_of]


def curve_panel(records: Sequence[Record], name: str, colours: dict[str, str]) -> tuple[str, str]:
    """Draws one metric against the number of interactions seen.

    Where methods were paired with the best baseline of each size, the curves are differences to it:
    intervals of levels are many times wider than what there is to see between methods.

    Args:
        records: Records of one protocol, order and metric.
        name: Prefix of the element ids, unique in the page.
        colours: `method_colours` of all records.

    Returns:
        The `<svg>` element, and a sentence on methods that lie off the scale, or "".
    """
    title = f"{panel_title(records[0])} against interactions seen"
    description, paired = _description(records), is_paired(records)
    if paired:
        title = f"{title}: differences to the best baseline"
        description = " ".join([description, *map(_said, select(records, kind="learned"))])
        records = _differences(records)
    with canvas(_WIDTH, _HEIGHT, constrained=True) as figure:
        off_scale = _draw_curves(figure.subplots(), _curves(records, colours), paired=paired)
        return inline(figure, name, title, description), off_scale


def is_paired(records: Iterable[Record]) -> bool:
    """Returns True if a record has a paired difference."""
    return any(record.difference is not None for record in records)


def _differences(records: Sequence[Record]) -> list[Record]:
    """Subtracts the best baseline of each size; intervals are those of the paired differences."""
    found = []
    for k in distinct(records, "k"):
        at_size = select(records, k=k)
        baselines = select(at_size, kind="baseline")
        for record in at_size:
            if record.difference is not None:
                low, high = record.difference_low, record.difference_high
                found.append(replace(record, mean=record.difference, low=low, high=high))
            elif baselines:
                mean = record.mean - best(baselines).mean
                found.append(replace(record, mean=mean, low=None, high=None))
    return found


def learning_panel(measure: str, points: Sequence[tuple[int, float]], name: str) -> str:
    """Draws the validation loss of a training.

    Args:
        measure: Name of the loss.
        points: Updates and the loss after them.
        name: Prefix of the element ids, unique in the page.

    Returns:
        The `<svg>` element.
    """
    steps, losses = zip(*points, strict=True)
    at = int(np.argmin(losses))
    title = f"Validation {measure} by update"
    description = f"Lowest, {losses[at]:.4f}, at update {steps[at]}; {losses[-1]:.4f} at the last."
    with canvas(_WIDTH, _HEIGHT, constrained=True) as figure:
        axes = figure.subplots()
        colour = LIGHT["learned-0"]
        axes.plot(steps, losses, color=colour, lw=2, marker="o", ms=4)
        axes.plot([steps[at]], [losses[at]], "o", color=colour, ms=9)
        axes.annotate(
            f"{losses[at]:.4f} at {steps[at]}", (steps[at], losses[at]), (0, 10),
            textcoords="offset points", ha="center", color=LIGHT["ink"],
        )  # fmt: skip
        axes.margins(0.08, 0.15)
        axes.locator_params(nbins=6)
        axes.ticklabel_format(useOffset=False)
        axes.set_xlabel(f"update; {measure} of the validation users", labelpad=7)
        style(axes, "y")
        return inline(figure, name, title, description)


def lines_panel(
    curves: Mapping[str, Sequence[float]],
    name: str,
    *,
    title: str,
    along: str,
    hues: Mapping[str, str],
    start: int = 0,
) -> str:
    """Draws curves of numbers one after the other.

    Args:
        curves: Points by the name of each curve.
        name: Prefix of the element ids, unique in the page.
        title: Title of the figure.
        along: Label of the horizontal axis.
        hues: Names of colours, of `COLOURS`, by curve; the others are grey and dashed.
        start: Number of the first point.

    Returns:
        The `<svg>` element.
    """
    said = [f"{label}: {points[0]:.3g} to {points[-1]:.3g}." for label, points in curves.items()]
    with canvas(_WIDTH, _HEIGHT, constrained=True) as figure:
        axes = figure.subplots()
        grey = [label for label in curves if label not in hues]
        for label, points in curves.items():
            x = range(start, start + len(points))
            if label in hues:
                axes.plot(x, points, color=LIGHT[hues[label]], lw=2.4, zorder=3)
                continue
            dash = _DASHES[1 + grey.index(label) % (len(_DASHES) - 1)]
            axes.plot(x, points, color=LIGHT["plain"], lw=1.1, ls=dash, label=_shortened(label))
        axes.margins(0.02, 0.08)
        axes.locator_params(nbins=6)
        axes.set_xlabel(along, labelpad=7)
        style(axes, "y")
        if grey:
            legend = axes.legend(frameon=False, fontsize=9, handlelength=2.4)
            for text in legend.get_texts():
                text.set_color(LIGHT["muted"])
        return inline(figure, name, title, " ".join(said))


def curve_grid(records: Sequence[Record], metrics: Sequence[str]) -> str:
    """Draws all curves, a row for each metric and a column for each order, as one SVG file.

    Args:
        records: Records of one protocol.
        metrics: The rows.

    Returns:
        The text of an SVG file with a light background.
    """
    orders, colours = distinct(records, "order"), method_colours(records)
    panels = [
        [select(records, metric=metric, order=order) for order in orders] for metric in metrics
    ]
    names = ", ".join(title_of(named(metric)) for metric in metrics)
    description = " ".join(_description(panel) for row in panels for panel in row if panel)
    with canvas(_WIDTH * len(orders), _HEIGHT * len(metrics), constrained=True) as figure:
        grid = figure.subplots(len(metrics), len(orders), squeeze=False)
        for axes, panel in zip(grid.flat, itertools.chain(*panels), strict=True):
            if panel:
                axes.set_title(
                    panel_title(panel[0]), loc="left", pad=12, color=LIGHT["ink"], weight="bold"
                )
                _draw_curves(axes, _curves(panel, colours))
            else:
                axes.set_axis_off()
        return document(figure, "curve", f"{names} against interactions seen", description)


def _curves(records: Sequence[Record], colours: dict[str, str]) -> list[_Curve]:
    """Lists the methods of a panel from the back to the front, each group by its last figure."""
    metric = records[0].entry
    curves = []
    for kind in ("learned", "baseline"):
        methods = [
            sorted(select(records, kind=kind, method=method), key=lambda record: record.k)
            for method in distinct(select(records, kind=kind), "method")
        ]
        methods.sort(key=lambda found: badness(metric, found[-1].mean))
        for place, found in enumerate(methods):
            method, learned = found[0].method, kind == "learned"
            if learned and method not in colours:
                continue
            role = colours.get(method, "plain" if place else "best-baseline")
            dash = "-" if learned else _DASHES[place % len(_DASHES)]
            curves.append(_Curve(method, found, learned, LIGHT[role], dash, place == 0))
    return curves[::-1]


def _draw_curves(axes: Any, curves: list[_Curve], *, paired: bool = False) -> str:
    low, high = _scale(curves)
    shown, off_scale = [], []
    for curve in curves:
        x, last = [record.k for record in curve.records], curve.records[-1]
        means = [record.mean for record in curve.records]
        if not any(low <= mean <= high for mean in means):
            figure = signed(last.mean) if paired else printed(last)
            off_scale.append(f"{curve.method} ({figure} at K = {last.k})")
            continue
        shown.append(curve)
        wide, size, front = (2.8, 5.5, 4) if curve.learned else (1.2, 2.6, 3)
        axes.plot(
            x, means, color=curve.colour, ls=curve.dash, lw=wide, marker="o", ms=size, zorder=front,
            label=_shortened(curve.method),
        )  # fmt: skip
        bounded = all(record.low is not None for record in curve.records)
        if paired and curve.learned and bounded:
            axes.vlines(
                x, [record.low for record in curve.records],
                [record.high for record in curve.records], color=curve.colour, lw=1.6, zorder=front,
            )  # fmt: skip
        elif not paired and curve.shaded and bounded:
            bounds = [[getattr(record, end) for record in curve.records] for end in ("low", "high")]
            axes.fill_between(x, *bounds, color=curve.colour, alpha=0.13, lw=0)
    ks = sorted({record.k for curve in curves for record in curve.records})
    axes.set_ylim(low, high)
    axes.set_xlim(ks[0] - 0.02 * ks[-1], ks[-1] * 1.02 or 1)
    axes.set_xticks(_apart(ks))
    axes.locator_params(axis="y", nbins=6)
    # As many digits as the ticks need: 1.025 is not 1.03.
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    digits = next(n for n in (2, 3, 4) if n == 4 or all(_has_digits(t, n) for t in ticks))
    form = f"{'+' if paired else ''}.{digits}f"
    axes.yaxis.set_major_formatter(
        lambda value, _: format(value, form).replace("-", "\u2212") if value or not paired else "0"
    )
    if paired:
        axes.axhline(0, color=LIGHT["ink"], lw=1.2, zorder=1)
    axes.set_xlabel("interactions seen, K", labelpad=7)
    style(axes, "y")
    _legend(axes, shown)
    return f"Off the scale: {', '.join(off_scale)}." if off_scale else ""


def _has_digits(value: float, digits: int) -> bool:
    return abs(value - round(value, digits)) < 1e-9


def _scale(curves: list[_Curve]) -> tuple[float, float]:
    """Fits the learned methods and the best baselines; a far one must not flatten the rest."""
    baselines = [curve for curve in curves if not curve.learned]
    fitted = [curve for curve in curves if curve.learned] + baselines[-_FAVOURED:]
    values = [record.mean for curve in fitted for record in curve.records]
    for curve in curves:
        if curve.shaded or curve.learned:
            ends = [getattr(record, end) for record in curve.records for end in ("low", "high")]
            values += [end for end in ends if end is not None]
    room = 0.05 * (max(values) - min(values)) or 0.01
    return min(values) - room, max(values) + room


def _legend(axes: Any, curves: list[_Curve]) -> None:
    """Lists the methods right of the curves, from top to bottom as the curves end."""
    order = np.argsort([-curve.records[-1].mean for curve in curves], kind="stable")
    lines = axes.get_lines()
    legend = axes.legend(
        handles=[lines[n] for n in order], loc="center left", bbox_to_anchor=(1.0, 0.5),
        frameon=False, labelcolor="linecolor", fontsize=11, labelspacing=0.25, handlelength=2.4,
    )  # fmt: skip
    for text, n in zip(legend.get_texts(), order, strict=True):
        text.set_weight("bold" if curves[n].learned else "normal")


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def _apart(ks: list[int]) -> list[int]:
    """Leaves out ticks whose labels would overlap."""
    kept = ks[:1]
    for k in ks[1:]:
        if k - kept[-1] >= 0.06 * (ks[-1] - ks[0]):
            kept.append(k)
    return kept


def panel_title(record: Record) -> str:
    """Names a panel by its metric and order."""
    setting = f"{title_of(record.entry)}, {order_name(record.order)}"
    return f"{setting} ({better_way(record.entry)})"


def _description(records: Sequence[Record]) -> str:
    last = select(records, k=distinct(records, "k")[-1])
    top = best(last)
    return (
        f"{title_of(top.entry)}, {order_name(top.order)}: at K = {top.k} "
        f"the best of {len(last)} methods is {top.method} with {printed(top)}."
    )


_WIDTH = 440  # pixels, as a panel of curves
_ROW = 19  # pixels of a method
_KEPT = 8  # baselines that are drawn, the best


def difference_panel(records: Sequence[Record], name: str, colours: dict[str, str]) -> str:
    """Draws the paired differences to the best baseline, with their 95 % intervals.

    Args:
        records: Records of one protocol, order and metric, each with a `difference`.
        name: Prefix of the element ids, unique in the page.
        colours: `method_colours` of all records.

    Returns:
        The `<svg>` element.
    """
    description = " ".join(map(_said, records))
    title = f"{panel_title(records[0])}: paired differences to the best baseline"
    height = 75 + len(distinct(records, "k")) * (14 + 13 * len(distinct(records, "method")))
    with canvas(_WIDTH, height, constrained=True) as figure:
        _draw_differences(figure.subplots(), records, colours)
        return inline(figure, name, title, description)


def interval_panel(
    records: Sequence[Record], name: str, colours: dict[str, str]
) -> tuple[str, str]:
    """Draws methods side by side, the best on top, each with its 95 % interval.

    Args:
        records: Records of one protocol, order, metric and k, with intervals.
        name: Prefix of the element ids, unique in the page.
        colours: `method_colours` of all records.

    Returns:
        The `<svg>` element, and a sentence on baselines that are left out, or "".
    """
    ordered = sorted(records, key=lambda record: badness(record.entry, record.mean))
    left = select(ordered, kind="baseline")[_KEPT:]
    shown = [record for record in ordered if record not in left]
    title = f"{panel_title(records[0])} at K = {records[0].k}, method by method"
    description = " ".join(
        f"{r.method}: {printed(r)}, {printed(r, r.low)} to {printed(r, r.high)}." for r in shown
    )
    with canvas(_WIDTH, 56 + _ROW * len(shown), constrained=True) as figure:
        _draw_intervals(figure.subplots(), shown, colours)
        drawn = inline(figure, name, title, description)
    names = ", ".join(f"{r.method} ({printed(r)})" for r in left)
    return drawn, f"Not drawn: {names}." if left else ""


def _said(record: Record) -> str:
    if record.difference is None:
        return f"{record.method} at K = {record.k}: not compared user by user."
    return (
        f"{record.method} at K = {record.k}: {record.difference:+.4f}, "
        f"{record.difference_low:+.4f} to {record.difference_high:+.4f}."
    )


def _draw_intervals(axes: Any, records: Sequence[Record], colours: dict[str, str]) -> None:
    for y, record in enumerate(records):
        learned = record.kind == "learned"
        role = colours.get(record.method, "ink" if learned else "plain")
        colour, width = LIGHT[role], 2.4 if learned else 1.4
        interval = [record.low, record.high]
        axes.plot(interval, [y, y], color=colour, lw=width, solid_capstyle="round")
        axes.plot([record.mean], [y], "o", color=colour, ms=6 if learned else 4)
    axes.set_ylim(len(records) - 0.4, -0.6)
    axes.set_yticks(range(len(records)), [record.method for record in records])
    for label, record in zip(axes.get_yticklabels(), records, strict=True):
        learned = record.kind == "learned"
        role = colours.get(record.method, "ink" if learned else "muted")
        label.set(color=LIGHT[role], weight="bold" if learned else "normal", size=11)
    axes.locator_params(axis="x", nbins=5)
    metric = records[0].entry
    axes.set_xlabel(f"{title_of(metric)}, 95 % interval over users", labelpad=6)
    style(axes, "x")


def _draw_differences(axes: Any, records: Sequence[Record], colours: dict[str, str]) -> None:
    ks, methods = distinct(records, "k"), distinct(records, "method")
    for record in records:
        shift = (methods.index(record.method) - (len(methods) - 1) / 2) * 0.7 / len(methods)
        colour = LIGHT[colours.get(record.method, "plain")]
        y = ks.index(record.k) + shift
        interval = [record.difference_low, record.difference_high]
        axes.plot(interval, [y, y], color=colour, lw=2.2, solid_capstyle="round")
        axes.plot([record.difference], [y], "o", color=colour, ms=6)
    for n in range(1, len(ks)):
        axes.axhline(n - 0.5, color=LIGHT["grid"], lw=1)
    axes.axvline(0, color=LIGHT["ink"], lw=1.2, zorder=1)
    axes.set_ylim(len(ks) - 0.5, -0.5)
    axes.set_yticks(range(len(ks)), [f"K = {k}" for k in ks])
    # As much room for losing as for winning.
    reach = max(map(abs, axes.get_xlim()))
    axes.set_xlim(-reach, reach)
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:+.3f}".replace("-", "\u2212") if x else "0")
    style(axes, "x")
    labels = ["better", "worse"] if records[0].entry.better == "lower" else ["worse", "better"]
    for x, side, text in ((0, "left", f"← {labels[0]}"), (1, "right", f"{labels[1]} →")):
        axes.annotate(
            text, (x, 0), (0, -24), xycoords="axes fraction", textcoords="offset points",
            ha=side, va="top", color=LIGHT["muted"],
        )  # fmt: skip


# Name of the CSS variable: (light, dark). Learned methods have Okabe and Ito's hues, which stay
# apart for colour-blind eyes; baselines are greys that differ in their dashes.
COLOURS = {
    "surface": ("#fdfdfb", "#191b1f"),
    "ink": ("#1d2126", "#eceef0"),
    "muted": ("#5d666f", "#a3acb5"),
    "grid": ("#e3e5e7", "#33383e"),
    "best-baseline": ("#3d454d", "#d0d6dc"),
    "plain": ("#717a83", "#8f99a3"),
    "learned-0": ("#c24e00", "#ff8a3d"),
    "learned-1": ("#0072b2", "#56b4e9"),
    "learned-2": ("#00805e", "#2fd0a5"),
    "learned-3": ("#a8457f", "#ee9fcb"),
}
"""Colours of pages by name, on light and on dark."""
LIGHT = {name: light for name, (light, _) in COLOURS.items()}
"""Those on light."""

_SETTINGS = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's font
    "svg.hashsalt": "metajax",
    "text.parse_math": False,
    "font.size": 12,
}
_NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


@contextlib.contextmanager
def canvas(width: int, height: int, *, constrained: bool = False) -> Iterator[Any]:
    """Makes a Matplotlib figure of so many pixels, with default settings.

    Args:
        width: In pixels.
        height: In pixels.
        constrained: True for Matplotlib's constrained layout.

    Yields:
        The figure.

    Raises:
        ImportError: If Matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise ImportError("figures need matplotlib: pip install 'metajax[cli]'.") from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        layout = ConstrainedLayoutEngine(w_pad=10 / 72, h_pad=10 / 72) if constrained else None
        # SVG counts 72 pixels to the inch.
        yield Figure(figsize=(width / 72, height / 72), frameon=False, layout=layout)


def style(axes: Any, direction: str) -> None:
    """Leaves of the frame only the grid lines along one direction, "x" or "y"."""
    axes.set_facecolor("none")
    for side in axes.spines:
        axes.spines[side].set_visible(False)
    axes.grid(axis=direction, color=LIGHT["grid"], lw=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=LIGHT["muted"], pad=6)
    axes.xaxis.label.set_color(LIGHT["muted"])


def inline(drawn: Any, name: str, title: str, description: str) -> str:
    """Writes a figure as an element of a page that defines `COLOURS` as CSS variables.

    Args:
        drawn: The figure.
        name: Prefix of the element ids, unique in the page.
        title: Its title.
        description: Text alternative of the figure.

    Returns:
        The `<svg>` element.
    """
    svg = _element(drawn, name, title, description)
    for role, light in LIGHT.items():
        svg = svg.replace(light, f"var(--{role})")
    return svg


def document(drawn: Any, name: str, title: str, description: str) -> str:
    """Writes a figure as an SVG file with a light background; arguments as in `inline`."""
    opening, body = _element(drawn, name, title, description).split(">", 1)
    ground = f'<rect width="100%" height="100%" rx="8" fill="{LIGHT["surface"]}"/>'
    return f"{opening} {_NAMESPACES}>{ground}{body}"


def _element(drawn: Any, name: str, title: str, description: str) -> str:
    text = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    drawn.savefig(text, format="svg", metadata=nothing)
    svg = text.getvalue()
    box = svg.split('viewBox="', 1)[1].split('"', 1)[0]
    body = svg[svg.index(">", svg.index("<svg")) + 1 :].strip()
    body = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", body, flags=re.DOTALL)
    # Ids are unique in a figure, not in a page of several.
    body = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", body)
    body = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", body)
    return (
        f'<svg viewBox="{box}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-desc">{escape(description)}</desc>{body}'
    )

"""The curves and the intervals of a run's records, as SVG text."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from metajax.evaluation.comparisons import (
    Record,
    badness,
    best,
    better_way,
    distinct,
    metric_name,
    order_name,
    select,
)
from metajax.report import svg

__all__ = ["curve_grid", "curve_panel", "method_colours", "panel_title"]

_WIDTH, _HEIGHT = 440, 330  # pixels of a panel; narrow, so that its text is legible on a phone
_LETTER = 7.4  # pixels, a generous mean
_LONGEST = 22  # letters of a label
_FAVOURED = 4  # baselines that the vertical scale makes room for
_FEATURED = 4  # learned methods that are drawn: as many as there are colours
_RANKED_BY = ("rmse", "ndcg@10")
_DASHES = ["-", (0, (5, 2)), (0, (1.5, 1.8)), (0, (7, 2, 1.5, 2)), (0, (3, 1.5))]


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
    """Gives the learned methods that are drawn a colour's name, the same in every figure of a page.

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
        if record["metric"] in _RANKED_BY:
            key = tuple(record[name] for name in ("metric", "protocol", "order", "k"))
            groups.setdefault(key, []).append(record)
    for (metric, *_), group in groups.items():
        group.sort(key=lambda record: badness(metric, record["mean"]))
        for place, record in enumerate(group):
            ranks.setdefault(metric, {}).setdefault(record["method"], []).append(place)
    orders = [
        sorted(found, key=lambda method: sum(found[method]) / len(found[method]))
        for found in ranks.values()
    ]
    # The best of each metric in turn.
    turns = [m for turn in itertools.zip_longest(*orders) for m in turn if m is not None]
    best_of = list(dict.fromkeys(turns))[:_FEATURED]
    return [record for record in learned if record["method"] in best_of]


def curve_panel(records: Sequence[Record], name: str, colours: dict[str, str]) -> tuple[str, str]:
    """Draws one metric against the number of interactions seen.

    Args:
        records: Records of one protocol, order and metric.
        name: Prefix of the element ids, unique in the page.
        colours: What `method_colours` gave for all records.

    Returns:
        The `<svg>` element, and a sentence on methods that lie off the scale, or "".
    """
    title = f"{panel_title(records[0])} against interactions seen"
    with svg.figure(_WIDTH, _HEIGHT) as figure:
        off_scale = _draw_curves(figure.subplots(), _curves(records, colours))
        return svg.inline(figure, name, title, _words(records)), off_scale


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
    names = ", ".join(metric_name(metric) for metric in metrics)
    words = " ".join(_words(panel) for row in panels for panel in row if panel)
    with svg.figure(_WIDTH * len(orders), _HEIGHT * len(metrics)) as figure:
        grid = figure.subplots(len(metrics), len(orders), squeeze=False)
        for axes, panel in zip(grid.flat, itertools.chain(*panels), strict=True):
            if panel:
                axes.set_title(
                    panel_title(panel[0]),
                    loc="left",
                    x=-0.12,
                    y=1.05,
                    color=svg.LIGHT["ink"],
                    weight="bold",
                )
                _draw_curves(axes, _curves(panel, colours))
            else:
                axes.set_axis_off()
        return svg.document(figure, "curve", f"{names} against interactions seen", words)


def _curves(records: Sequence[Record], colours: dict[str, str]) -> list[_Curve]:
    """Lists the methods of a panel from the back to the front, each group by its last figure."""
    metric = records[0]["metric"]
    curves = []
    for kind in ("learned", "baseline"):
        methods = [
            sorted(select(records, kind=kind, method=method), key=lambda record: record["k"])
            for method in distinct(select(records, kind=kind), "method")
        ]
        methods.sort(key=lambda found: badness(metric, found[-1]["mean"]))
        for place, found in enumerate(methods):
            method, learned = found[0]["method"], kind == "learned"
            if learned and method not in colours:
                continue
            role = colours.get(method, "plain" if place else "rival")
            dash = "-" if learned else _DASHES[place % len(_DASHES)]
            curves.append(_Curve(method, found, learned, svg.LIGHT[role], dash, place == 0))
    return curves[::-1]


def _draw_curves(axes: Any, curves: list[_Curve]) -> str:
    low, high = _scale(curves)
    shown, off_scale = [], []
    for curve in curves:
        x, last = [record["k"] for record in curve.records], curve.records[-1]
        means = [record["mean"] for record in curve.records]
        if not any(low <= mean <= high for mean in means):
            off_scale.append(f"{curve.method} ({last['mean']:.3f} at K = {last['k']})")
            continue
        shown.append(curve)
        wide, size, front = (2.8, 5.5, 4) if curve.learned else (1.2, 2.6, 3)
        axes.plot(
            x, means, color=curve.colour, ls=curve.dash, lw=wide, marker="o", ms=size, zorder=front
        )
        if curve.shaded and all(record["low"] is not None for record in curve.records):
            bounds = [[record[end] for record in curve.records] for end in ("low", "high")]
            axes.fill_between(x, *bounds, color=curve.colour, alpha=0.13, lw=0)
    ks = sorted({record["k"] for curve in curves for record in curve.records})
    axes.set_ylim(low, high)
    axes.set_xlim(ks[0] - 0.02 * ks[-1], ks[-1] * 1.02 or 1)
    axes.set_xticks(_apart(ks))
    axes.locator_params(axis="y", nbins=6)
    # As many digits as tell the ticks apart exactly: 1.025 is not 1.03.
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    digits = next(n for n in (2, 3, 4) if n == 4 or all(_has_digits(t, n) for t in ticks))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.{digits}f}")
    axes.set_xlabel("interactions seen, K", labelpad=7)
    svg.style(axes, "y")
    letters = min(max((len(curve.method) for curve in shown), default=0), _LONGEST)
    svg.inset(axes, left=48, right=letters * _LETTER + 24, top=12, bottom=46)
    _label_ends(axes, shown, low, high)
    return f"Off the scale: {', '.join(off_scale)}." if off_scale else ""


def _has_digits(value: float, digits: int) -> bool:
    return abs(value - round(value, digits)) < 1e-9


def _scale(curves: list[_Curve]) -> tuple[float, float]:
    """Fits the learned methods and the best baselines; a far one must not flatten the rest."""
    baselines = [curve for curve in curves if not curve.learned]
    fitted = [curve for curve in curves if curve.learned] + baselines[-_FAVOURED:]
    values = [record["mean"] for curve in fitted for record in curve.records]
    for curve in curves:
        if curve.shaded:
            ends = [record[end] for record in curve.records for end in ("low", "high")]
            values += [end for end in ends if end is not None]
    room = 0.05 * (max(values) - min(values)) or 0.01
    return min(values) - room, max(values) + room


def _label_ends(axes: Any, curves: list[_Curve], low: float, high: float) -> None:
    """Writes each method's name at the end of its curve, far enough apart to be read."""
    pixels = axes.get_position().height * axes.figure.get_figheight() * 72
    curves = sorted(curves, key=lambda curve: curve.records[-1]["mean"])
    ends = [min(max(curve.records[-1]["mean"], low), high) for curve in curves]
    heights = _spread(ends, 15 / pixels * (high - low), low, high)
    left, right = axes.get_xlim()
    start = right + 0.05 * (right - left)
    for curve, end, y in zip(curves, ends, heights, strict=True):
        text = curve.method
        if len(text) > _LONGEST:
            text = text[: _LONGEST - 1] + "…"
        weight = "bold" if curve.learned else "normal"
        axes.text(start, y, text, va="center_baseline", color=curve.colour, weight=weight)
        lead = ([curve.records[-1]["k"], start - 0.01 * (right - left)], [end, y])
        axes.plot(*lead, color=curve.colour, lw=0.6, alpha=0.55, clip_on=False)


def _spread(values: list[float], gap: float, low: float, high: float) -> list[float]:
    """Moves sorted values as little as needed until each is a gap above the one before.

    Less a gap for each value before it, the problem is isotonic regression: neighbours out of
    order are pooled at their mean.
    """
    pools: list[list[float]] = []
    for n, value in enumerate(values):
        pools.append([value - n * gap])
        while len(pools) > 1 and _mean(pools[-2]) >= _mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    ceiling = high - (len(values) - 1) * gap
    flat = [max(min(_mean(pool), ceiling), low) for pool in pools for _ in pool]
    return [value + n * gap for n, value in enumerate(flat)]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _apart(ks: list[int]) -> list[int]:
    """Leaves out ticks whose labels would run into each other."""
    kept = ks[:1]
    for k in ks[1:]:
        if k - kept[-1] >= 0.06 * (ks[-1] - ks[0]):
            kept.append(k)
    return kept


def panel_title(record: Record) -> str:
    """Names a panel by its metric and order."""
    setting = f"{metric_name(record['metric'])}, {order_name(record['order'])}"
    return f"{setting} ({better_way(record['metric'])})"


def _words(records: Sequence[Record]) -> str:
    last = select(records, k=distinct(records, "k")[-1])
    top = best(last)
    return (
        f"{metric_name(top['metric'])}, {order_name(top['order'])}: at K = {top['k']} "
        f"the best of {len(last)} methods is {top['method']} with {top['mean']:.3f}."
    )

"""Figure of `inner_loop_cost`: the ratio to a plain supervised step along one axis."""

from typing import Any

from metajax.report.plots import LIGHT, canvas, document, style

__all__ = ["draw"]

_HUES = {"plain": LIGHT["plain"], "factored": LIGHT["learned-1"], "auto": LIGHT["learned-0"]}
_DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 3)))
_WIDTH, _HEIGHT, _LEGEND = 380, 340, 180  # pixels of a panel, and of the legend


def draw(records: list[dict[str, Any]]) -> str:
    """Draws a panel for each width, along the axis that takes most values.

    What else varies is held at its first value. The grey band ends at the arithmetic floor of an
    exact meta-step, `(2.3 k S + Q) / (S + Q)` plain steps: a gradient and its way back for each of
    k inner steps, a plain one for the query.

    Args:
        records: From `inner_loop_cost`.

    Returns:
        An SVG file's text.

    Raises:
        ValueError: If nothing was measured.
    """
    records = [record for record in records if record["median_ms"] is not None]
    if not records:
        raise ValueError("records must hold a cell that was measured, got none.")
    values = {axis: sorted({r[axis] for r in records}) for axis in ("steps", "tasks", "support")}
    along = max(values, key=lambda axis: len(values[axis]))
    held = {axis: found[0] for axis, found in values.items() if axis != along}
    records = [r for r in records if all(r[axis] == value for axis, value in held.items())]
    widths = sorted({record["width"] for record in records})
    adjoints = list(dict.fromkeys(record["adjoint"] for record in records))
    highest = max(record["ratio_to_plain"] for record in records) * 1.4

    across = _WIDTH * len(widths) + _LEGEND
    lines: list[Any] = []
    with canvas(across, _HEIGHT) as drawn:
        for n, width in enumerate(widths):
            axes = drawn.add_subplot(1, len(widths), n + 1)
            style(axes, "y")
            axes.set_yscale("log")
            axes.set_xscale("log")
            shown = values[along]
            axes.set_xticks(shown, [str(value) for value in shown])
            axes.minorticks_off()
            axes.set_ylim(0.5, highest)
            ticks = [t for t in (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if t <= highest]
            axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.set_title(f"H = {width}", loc="left", fontsize=13, color=LIGHT["ink"])
            axes.set_xlabel(along)
            here = [record for record in records if record["width"] == width]
            floor = {record[along]: _floor(record) for record in here}
            if len(floor) > 1:
                axes.fill_between(
                    sorted(floor), 0.5, [floor[x] for x in sorted(floor)], color=LIGHT["grid"], lw=0
                )
            for form, hue in _HUES.items():
                for adjoint, dash in zip(adjoints, _DASHES, strict=False):
                    points = sorted(
                        (r[along], r["ratio_to_plain"])
                        for r in here
                        if (r["form"], r["adjoint"]) == (form, adjoint)
                    )
                    if points:
                        axes.plot(
                            *zip(*points, strict=True),
                            color=hue,
                            ls=dash,
                            lw=2,
                            marker="o",
                            ms=4,
                            label=f"{form}, {adjoint}",
                        )
            if n == 0:
                axes.set_ylabel("times a plain supervised step")
                lines = axes.get_lines()
        drawn.legend(
            handles=lines, loc="center right", frameon=False, fontsize=10, labelcolor=LIGHT["ink"]
        )
        drawn.subplots_adjust(70 / across, 0.16, 1 - _LEGEND / across, 0.9, 0.2)
        words = f"Ratio of a meta-step to a plain supervised step by {along}, " + ", ".join(
            f"{axis} {value}" for axis, value in held.items()
        )
        return document(drawn, "cost", "What the inner loop costs", words)


def _floor(record: dict[str, Any]) -> float:
    support, query = record["support"], record["query"]
    return (2.3 * record["steps"] * support + query) / (support + query)

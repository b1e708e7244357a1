"""Outcomes as lines of text, and as one page of HTML with curves; the page loads nothing."""

from collections.abc import Sequence
from html import escape

from metajax.characters import visible
from metajax.serving.outcomes import BANDS, ArmOutcome, Share, label_of

__all__ = ["lines_of", "page_of"]

_COLOURS = ("#1f5fbf", "#b5460f", "#1c7a3c", "#7a3fb0", "#8a6d00", "#a01d5e")
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 640, 280, 50, 15, 45

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem 1rem .3rem 0; border-top: 1px solid #8886; }
.scroll { overflow-x: auto; }
svg { max-width: 100%; height: auto; background: #fff; border-radius: .4rem; }
"""


def lines_of(found: Sequence[ArmOutcome]) -> list[str]:
    """Lines for a terminal.

    Args:
        found: As of `outcomes.summary`.
    """
    lines = []
    for one in found:
        lines += [
            f"{visible(one.name)}: {one.lists:,} lists, {one.users:,} users with a record",
            *(f"  {label:<34} {text}" for label, text in _facts(one)),
        ]
        if one.by_known:
            lines.append("  success by number of interactions")
        for band in one.by_known:
            bar = "█" * round(20 * band.share.value)
            lines.append(f"    {band.label:<12} {bar:<20} {_text(band.share)}")
    return lines


def page_of(found: Sequence[ArmOutcome], title: str) -> str:
    """One page of HTML.

    Args:
        found: As of `outcomes.summary`.
        title: Name of the log.
    """
    labels = [label for label, _ in _facts(found[0])]
    head = "".join(f"<th scope=col>{escape(label)}</th>" for label in labels)
    rows = "".join(
        f"<tr><th scope=row>{_html(one.name)}</th><td>{one.lists:,}</td><td>{one.users:,}</td>"
        + "".join(f"<td>{escape(text)}</td>" for _, text in _facts(one))
        + "</tr>"
        for one in found
    )
    bands = "".join(
        f"<tr><th scope=row>{_html(one.name)}</th><td>{escape(band.label)}</td>"
        f"<td>{escape(_text(band.share))}</td><td>{band.share.count:,}</td></tr>"
        for one in found
        for band in one.by_known
    )
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Outcomes</title><style>{_STYLE}</style></head><body><h1>Outcomes</h1>"
        f"<p>Log {_html(title)}. Shares with 95 % intervals; users are resampled as a whole.</p>"
        f"<h2>Success by number of interactions</h2>{_curves(found)}"
        f"<h2>Arms</h2><div class=scroll><table><thead><tr><th scope=col>arm</th>"
        f"<th scope=col>lists</th><th scope=col>users</th>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
        f"<h2>The same as a table</h2><div class=scroll><table><thead><tr><th scope=col>arm</th>"
        f"<th scope=col>interactions</th><th scope=col>success</th><th scope=col>lists</th></tr>"
        f"</thead><tbody>{bands}</tbody></table></div></body></html>\n"
    )


def _facts(one: ArmOutcome) -> list[tuple[str, str]]:
    covered = f"{one.items:,} items"
    if one.coverage is not None:
        covered += f", {100 * one.coverage:.1f} % of the catalogue"
    other = "no lists of other arms"
    if one.off_policy is not None:
        off = one.off_policy
        other = f"{_text(off.value)} from {off.lists:,} lists, {off.ess:,.0f} effective"
        other += f"; {off.note}" if off.note else ""
    return [
        ("success of a list", _text(one.success)),
        ("success of the first position", _text(one.at_first)),
        ("the same, from other arms", other),
        ("success of a user's first list", _text(one.first)),
        ("back after 1 day", f"{_text(one.day)} of {one.day.count:,} users"),
        ("back after 7 days", f"{_text(one.week)} of {one.week.count:,} users"),
        ("coverage", covered),
    ]


def _text(share: Share) -> str:
    if not share.count:
        return "unknown"
    return f"{100 * share.value:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f})"


def _html(text: str) -> str:
    return f'<bdi dir="auto">{escape(visible(text))}</bdi>'


def _curves(found: Sequence[ArmOutcome]) -> str:
    """Success against number of interactions, a curve an arm."""
    arms = [one for one in found if one.by_known]
    if not arms:
        return "<p>No list of this log tells from how many interactions it was drawn.</p>"
    labels = [label_of(low, high) for low, high in BANDS]
    top = max(band.share.high for one in arms for band in one.by_known) or 1.0
    inner = _WIDTH - _LEFT - 20

    def y(share: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - share / top)

    parts = []
    for n in range(5):
        share = top * n / 4
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - 20}" y1="{y(share):.1f}" y2="{y(share):.1f}" '
            f'stroke="#ccc"/><text x="{_LEFT - 6}" y="{y(share) + 4:.1f}" text-anchor="end">'
            f"{100 * share:.0f} %</text>"
        )
    for n, label in enumerate(labels):
        parts.append(
            f'<text x="{_LEFT + inner * (n + 0.5) / len(labels):.1f}" y="{_HEIGHT - 24}" '
            f'text-anchor="middle">{label}</text>'
        )
    parts.append(
        f'<text x="{_LEFT + inner / 2}" y="{_HEIGHT - 6}" text-anchor="middle">'
        "items that the user had met</text>"
    )
    for n, one in enumerate(arms):
        colour, points = _COLOURS[n % len(_COLOURS)], []
        for band in one.by_known:
            x = _LEFT + inner * (labels.index(band.label) + 0.5) / len(labels) + 6 * n
            points.append(f"{x:.1f},{y(band.share.value):.1f}")
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y(band.share.low):.1f}" '
                f'y2="{y(band.share.high):.1f}" stroke="{colour}" stroke-width="2"/>'
                f'<circle cx="{x:.1f}" cy="{y(band.share.value):.1f}" r="4" fill="{colour}"/>'
            )
        parts.append(
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}"/>'
            f'<text x="{_LEFT + 10}" y="{_TOP + 14 * (n + 1)}" fill="{colour}">'
            f"{escape(visible(one.name))[:60]}</text>"
        )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'aria-label="Success by number of interactions; the same figures are in the table below" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="#222">{"".join(parts)}</svg>'
    )

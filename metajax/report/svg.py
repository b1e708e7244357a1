"""Matplotlib's figures as SVG text: small, readable by screen readers, the same bytes each time.

Inside a page each colour is a CSS variable, so a figure follows the page into the dark; in a file
of its own it is the light theme's value on a light background. Needs the extra `cli`.
"""

import contextlib
import io
import re
from collections.abc import Iterator
from html import escape
from typing import Any

__all__ = ["COLOURS", "LIGHT", "document", "figure", "inline", "inset", "style"]

# Name of the CSS variable: (light, dark). Learned methods have Okabe and Ito's hues, which stay
# apart for colour-blind eyes; baselines are greys told apart by their dashes and labels.
COLOURS = {
    "surface": ("#fdfdfb", "#191b1f"),
    "ink": ("#1d2126", "#eceef0"),
    "muted": ("#5d666f", "#a3acb5"),
    "grid": ("#e3e5e7", "#33383e"),
    "rival": ("#3d454d", "#d0d6dc"),
    "plain": ("#717a83", "#8f99a3"),
    "learned-0": ("#c24e00", "#ff8a3d"),
    "learned-1": ("#0072b2", "#56b4e9"),
    "learned-2": ("#00805e", "#2fd0a5"),
    "learned-3": ("#a8457f", "#ee9fcb"),
}
LIGHT = {name: light for name, (light, _) in COLOURS.items()}

_SETTINGS = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's font
    "svg.hashsalt": "metajax",
    "text.parse_math": False,
    "font.size": 12,
}
_TITLE = 34  # pixels above the axes for a panel's title
_NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


@contextlib.contextmanager
def figure(width: int, height: int) -> Iterator[Any]:
    """Gives a Matplotlib figure of so many pixels, free of the machine's own settings.

    Raises:
        ImportError: If Matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("figures need matplotlib: pip install 'metajax[cli]'.") from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        # SVG counts 72 pixels to the inch.
        yield Figure(figsize=(width / 72, height / 72), frameon=False)


def style(axes: Any, direction: str) -> None:
    """Leaves of the frame only the grid lines along one direction, "x" or "y"."""
    axes.set_facecolor("none")
    for side in axes.spines:
        axes.spines[side].set_visible(False)
    axes.grid(axis=direction, color=LIGHT["grid"], lw=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=LIGHT["muted"], pad=6)
    axes.xaxis.label.set_color(LIGHT["muted"])


def inset(axes: Any, *, left: float, right: float, top: float, bottom: float) -> None:
    """Insets the axes by so many pixels in their cell of the figure."""
    cell = axes.get_subplotspec()
    rows, columns = cell.get_gridspec().nrows, cell.get_gridspec().ncols
    width, height = axes.figure.get_size_inches() * 72
    if axes.get_title(loc="left"):
        top += _TITLE
    x = cell.colspan.start * width / columns + left
    y = (rows - 1 - cell.rowspan.start) * height / rows + bottom
    extent = (width / columns - left - right, height / rows - top - bottom)
    axes.set_position((x / width, y / height, extent[0] / width, extent[1] / height))


def inline(drawn: Any, name: str, title: str, words: str) -> str:
    """Writes a figure as an element of a page that defines `COLOURS` as CSS variables.

    Args:
        drawn: The figure.
        name: Prefix of the element ids, unique in the page.
        title: What it shows.
        words: What it says, for those who do not see it.

    Returns:
        The `<svg>` element.
    """
    svg = _element(drawn, name, title, words)
    for role, light in LIGHT.items():
        svg = svg.replace(light, f"var(--{role})")
    return svg


def document(drawn: Any, name: str, title: str, words: str) -> str:
    """Writes a figure as an SVG file with a light background; arguments as in `inline`."""
    opening, body = _element(drawn, name, title, words).split(">", 1)
    ground = f'<rect width="100%" height="100%" rx="8" fill="{LIGHT["surface"]}"/>'
    return f"{opening} {_NAMESPACES}>{ground}{body}"


def _element(drawn: Any, name: str, title: str, words: str) -> str:
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
        f'<desc id="{name}-desc">{escape(words)}</desc>{body}'
    )

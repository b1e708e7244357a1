"""HTML tables and progress bars for notebooks.

Values of this package that are worth looking at have a method `_repr_html_`, which Jupyter calls.
"""

import contextlib
import html
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from metajax import steps
from metajax.characters import visible

__all__ = ["Html", "facts", "grid", "progress"]


class Html(str):
    """HTML that a notebook renders; a whole page in a frame of its own.

    Example:
        >>> Html("<b>5</b>")._repr_html_()
        '<b>5</b>'
    """

    def _repr_html_(self) -> str:
        if not self.lstrip()[:9].lower().startswith("<!doctype"):
            return str(self)
        style = "width: 100%; height: 40em; border: 1px solid #8884"
        # Nothing in the page may run a script, or reach the notebook around it.
        return f'<iframe sandbox srcdoc="{html.escape(self, quote=True)}" style="{style}"></iframe>'


def grid(
    header: Sequence[Any],
    rows: Sequence[Sequence[Any]],
    *,
    caption: str = "",
    bold: Callable[[int, int], bool] = lambda row, column: False,
) -> Html:
    """Lays out a table.

    Args:
        header: n names of columns.
        rows: m rows of n cells; texts are escaped.
        caption: A line above it; empty: none.
        bold: `bold(row, column)`, True for cells in bold.

    Returns:
        The table.

    Raises:
        ValueError: If a row has another number of cells than the header.

    Example:
        >>> grid(["K", "RMSE"], [[5, "<.97"]])
        '<table><thead><tr><th>K</th><th>RMSE</th></tr></thead><tbody><tr><td>5</td><td>&lt;.97</td></tr></tbody></table>'
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"rows must have {len(header)} cells each, got {len(row)}.")
    titled = f"<caption>{_text(caption)}</caption>" if caption else ""
    head = "".join(f"<th>{_text(cell)}</th>" for cell in header)
    lines = []
    for r, row in enumerate(rows):
        cells = [
            f"<td><b>{_text(cell)}</b></td>" if bold(r, c) else f"<td>{_text(cell)}</td>"
            for c, cell in enumerate(row)
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    body = "".join(lines)
    return Html(f"<table>{titled}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def facts(title: str, about: Mapping[str, Any]) -> Html:
    """Lays out a table of two columns: names and values, under a title.

    Args:
        title: The kind of value.
        about: Facts by name; those that are None or empty are left out.

    Example:
        >>> facts("Model", {"items": 1682, "scale": None})
        '<table><caption>Model</caption><tbody><tr><th>items</th><td>1,682</td></tr></tbody></table>'
    """
    lines = [
        f"<tr><th>{_text(name)}</th><td>{_text(_formatted(value))}</td></tr>"
        for name, value in about.items()
        if value is not None and not (hasattr(value, "__len__") and not len(value))
    ]
    caption = f"<caption>{_text(title)}</caption>"
    return Html(f"<table>{caption}<tbody>{''.join(lines)}</tbody></table>")


def _formatted(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {_formatted(of)}" for name, of in value.items())
    if isinstance(value, bool) or not isinstance(value, int):
        return str(value)
    return f"{value:,}"


def _text(value: Any) -> str:
    return html.escape(visible(value))


# Outputs of a notebook, and lines of a log, a second.
_NOTEBOOK, _LOG = 4.0, 0.2


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[..., None]]:
    """Shows the progress of the work inside: in a notebook in one output, updated in place.

    In a notebook it changes four times a second at most, and elsewhere a line goes to standard
    error every five seconds at most; one more at the end of long work.

    Args:
        what: Name of the work.

    Yields:
        `tell(stage)`, for the names of stages and for rows of training: what functions of this
        package take as `begin`, `on_stage` or `on_row`. Steps of closed forms are told without it.

    Example:
        >>> with progress("Fitting") as tell:
        ...     tell("choosing the setting")  # solver.train("ml-100k", begin=tell, on_row=tell)
    """
    began = time.monotonic()
    stage, work, last, shown = "", "", began, False
    share: float | None = None
    handle: Any = None

    def show(*, end: bool = False) -> None:
        nonlocal last, handle, shown
        now = time.monotonic()
        display = _display_of_notebook()
        wait = 1 / (_LOG if display is None else _NOTEBOOK)
        if not end and now - last < wait:
            return
        last, shown = now, True
        said = ", ".join(part for part in (f"{what}: {stage}" if stage else what, work) if part)
        if end:
            said = f"{what}: done in {now - began:.0f} s"
        if display is None:
            print(visible(said), file=sys.stderr, flush=True)
            return
        bar = "" if share is None or end else f"<progress value='{share:.3f}'></progress> "
        line = Html(f"{bar}<span>{_text(said)}</span>")
        if handle is None:
            handle = display(line, display_id=True)
        else:
            handle.update(line)

    def on_step(name: str, done: int, total: int) -> None:
        nonlocal work, share
        work, share = f"{name} {done}/{total}", done / max(total, 1)
        show()

    def tell(told: Any) -> None:
        nonlocal stage, work, share
        if isinstance(told, str):
            stage, work, share = told, "", None
        else:
            step, loss = getattr(told, "step", None), getattr(told, "loss", None)
            work = "" if step is None else f"update {step:,}"
            work += "" if loss is None else f", loss {float(loss):.4f}"
        show()

    with steps.listening(on_step):
        yield tell
    if shown:
        show(end=True)


def _display_of_notebook() -> Any:
    """Returns IPython's `display` where a notebook runs this, else None."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    return sys.modules["IPython.display"].display

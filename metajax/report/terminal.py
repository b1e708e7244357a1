"""Figures as tables for a terminal, or for a log where there is none."""

from collections.abc import Iterable, Sequence
from typing import Any

from metajax.evaluation.comparisons import Record, distinct, select, validate
from metajax.report.tabulation import panels_of, table_of

__all__ = ["terminal_table"]

_METRICS = ("rmse", "ndcg@10")

# An interval in one line does not fit; rounded to three digits it may seem to touch 0.
_DIFFERENCE_LINES = {
    "  vs best simple": "difference",
    "       95 % from": "difference_low",
    "              to": "difference_high",
}


def terminal_table(
    records: Iterable[Record], metrics: Sequence[str] | None = None, *, brief: bool = False
) -> Any:
    """Lays out the figures for a terminal, or for a log where there is none.

    Args:
        records: The figures, as described in `metajax.evaluation.comparisons`.
        metrics: Which metrics to show; those without records are left out. None means RMSE and
            NDCG@10, or the first metric that there is.
        brief: One line a method: instead of the differences a mark behind the mean of a learned
            method, + where it is better than the best simple baseline and - where it is worse,
            by an interval without 0.

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
        tables.append(Text("+ better, - worse than the best simple baseline (95 % interval)"))
    return Group(*tables)


def _mean(cell: dict[str, Any] | None, brief: bool) -> str:
    if cell is None:
        return ""
    return cell["mean"] + ({"better": "+", "worse": "-"}.get(cell["verdict"], " ") if brief else "")

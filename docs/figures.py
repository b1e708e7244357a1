"""Figures of the benchmarks for pages: read from benchmarks/results, never typed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metajax.display import grid as table

__all__ = ["RESULTS", "at", "interval", "read", "signed", "style", "table"]

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"


def read(name: str) -> list[dict[str, Any]]:
    """Reads the records of a benchmark."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def at(records: Sequence[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    """Returns the one record with these values.

    Raises:
        LookupError: If there is none, or there are several.
    """
    found = [r for r in records if all(r.get(name) == value for name, value in wanted.items())]
    if len(found) != 1:
        raise LookupError(f"{len(found)} records are of {wanted}.")
    return found[0]


def interval(record: dict[str, Any], form: str = ".3f") -> str:
    """Writes a mean with its 95 % interval."""
    ends = (record["mean"], record["low"], record["high"])
    return "{} [{}, {}]".format(*(format(end, form) for end in ends))


def signed(record: dict[str, Any], form: str = "+.3f") -> str:
    """Writes a paired difference with its 95 % interval."""
    names = ("difference", "difference_low", "difference_high")
    text = "{} [{}, {}]".format(*(format(record[name], form) for name in names))
    return text.replace("-", "\u2212")


def style() -> None:
    """Sets plots to be legible on light and dark pages."""
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {
            "figure.figsize": (7.0, 3.2),
            "figure.facecolor": "white",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "legend.frameon": False,
            "svg.fonttype": "path",
        }
    )

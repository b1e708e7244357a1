"""Pages and tables of a simulation of a system's first days.

The input is a list of records, as of `exploration.first_days`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from metajax.report import plots
from metajax.report.tables import signed
from metajax.report.templates import rendered

__all__ = ["days_page", "days_table"]

Records = Sequence[Mapping[str, Any]]

# Name of a column, True where higher is better, and digits.
_COLUMNS = {
    "regret": ("regret", False, 2),
    "success": ("success", True, 3),
    "first_success": ("first item", True, 3),
    "retention": ("stay", True, 3),
    "stayed_success": ("until they leave", True, 2),
    "coverage": ("new items shown", True, 2),
}
_STARTS = {
    "data": "A model fitted to earlier users",
    "content": "A catalogue with content features, no data",
    "nothing": "A bare catalogue, no data",
}
_CURVES = {
    "regret": ("Regret by round", "round", "lower is better"),
    "success": ("Share of successes by number of items seen", "items seen", "higher is better"),
    "staying": ("Users who stay", "items seen", "higher is better"),
}
# The policies that have a colour come first.
_COLOURED = ("item_thompson", "linear_thompson", "epsilon_greedy", "greedy")
_LEGEND = (
    "Regret: reward lost to the best possible, a policy that knows the mean reward of every user "
    "and item, summed over the rounds. Success: share of the items shown that were a success; "
    "first item: of each user's first. Stay: probability to be there at the end, where the "
    "experience q starts at .5, moves by .3 towards each success or failure, and a user leaves "
    "after an item with the hazard .2 (1 - q)^2; until they leave: expected number of successes "
    "before that. New items shown: share that at least one user in a hundred was shown. Below a "
    "mean: the difference to {reference} on the same users, with its 95 % interval; an interval "
    "without 0 is marked."
)


def _starts(records: Records) -> list[tuple[str, str]]:
    if not records:
        raise ValueError("records must be one or more, got none.")
    return list(dict.fromkeys((r["data"], r["start"]) for r in records))


def _of(records: Records, part: tuple[str, str]) -> list[Mapping[str, Any]]:
    return [r for r in records if (r["data"], r["start"]) == part]


def _policies(records: Records) -> list[str]:
    """Lists policies by their regret, the lowest first."""
    regret = {r["policy"]: r["mean"] for r in records if r.get("metric") == "regret"}
    return sorted(regret, key=lambda name: regret[name])


def _cells(records: Records, policy: str) -> list[dict[str, Any]]:
    cells = []
    for metric, (_, higher, digits) in _COLUMNS.items():
        of_metric = {r["policy"]: r for r in records if r.get("metric") == metric}
        record = of_metric.get(policy)
        if record is None:
            cells.append({"mean": "\u2013", "difference": "", "best": False, "verdict": ""})
            continue
        means = [r["mean"] for r in of_metric.values()]
        best = record["mean"] == (max(means) if higher else min(means))
        cell = {"mean": format(record["mean"], f".{digits}f"), "best": best}
        cell |= {"difference": "", "interval": "", "verdict": ""}
        if "difference" in record:
            low, high = record["difference_low"], record["difference_high"]
            clear = "better" if (low > 0) == higher else "worse"
            cell["difference"] = signed(record["difference"])
            cell["interval"] = f"{signed(low)} to {signed(high)}"
            cell["verdict"] = clear if low > 0 or high < 0 else ""
        cells.append(cell)
    return cells


def _columns(records: Records) -> list[str]:
    known = {r.get("metric") for r in records}
    return [name for metric, (name, _, _) in _COLUMNS.items() if metric in known]


def days_table(records: Records) -> Any:
    """Lays out a simulation for a terminal.

    Args:
        records: As of `exploration.first_days`.

    Returns:
        A Rich renderable: for each start a table of policies, the lowest regret first. Behind a
        mean a mark, + where the policy is better than the reference by an interval without 0, -
        where it is worse.

    Raises:
        ValueError: If there are no records.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    marks = {"better": "+", "worse": "-"}
    found: list[Any] = []
    for part in _starts(records):
        own = _of(records, part)
        table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
        table.add_column("policy", no_wrap=True)
        columns = _columns(own)
        for name in columns:
            table.add_column(f" {name}", justify="right")
        for policy in _policies(own):
            cells = _cells(own, policy)[: len(columns)]
            texts = [
                Text(c["mean"] + marks.get(c["verdict"], " "), style="bold" if c["best"] else "")
                for c in cells
            ]
            table.add_row(policy, *texts)
        found += [Text(f"{part[0]}: {_STARTS[part[1]]}", style="italic"), table]
    reference = next((r["reference"] for r in records if "reference" in r), None)
    if reference:
        found.append(Text(f"+ better, - worse than {reference} on the same users (95 % interval)"))
    return Group(*found)


def days_page(
    records: Records,
    *,
    title: str = "The first days of a system",
    facts: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Writes one self-contained page: a headline, curves and a table of each start.

    Args:
        records: As of `exploration.first_days`.
        title: Heading of the page.
        facts: Facts of the run.
        notes: Sentences to print below, one a paragraph.

    Returns:
        The text of an HTML file. It loads nothing and runs no script.

    Raises:
        ValueError: If there are no records.
        ImportError: If the extra `cli` is not installed.
    """
    parts = []
    for n, part in enumerate(_starts(records)):
        own = _of(records, part)
        policies = _policies(own)
        coloured = [name for name in _COLOURED if name in policies]
        coloured += [name for name in policies if name not in coloured]
        hues = {name: f"learned-{place}" for place, name in enumerate(coloured[:4])}
        figures = []
        for curve, (heading, along, better) in _CURVES.items():
            points = {r["policy"]: r["points"] for r in own if r.get("curve") == curve}
            drawn = plots.lines_panel(
                {name: points[name] for name in policies if points.get(name)},
                f"days-{n}-{curve}",
                title=heading,
                along=along,
                hues=hues,
                start=1,
            )
            figures.append({"title": heading, "better": better, "drawn": drawn})
        columns, users = _columns(own), max(r.get("users", 0) for r in own)
        parts.append(
            {
                "heading": f"{part[0]}: {_STARTS[part[1]]}",
                "about": f"{users:,} users; policies by their regret.",
                "figures": figures,
                "hues": list(hues.items()),
                "columns": columns,
                "rows": [
                    {"policy": name, "cells": _cells(own, name)[: len(columns)]}
                    for name in policies
                ],
            }
        )
    reference = next((r["reference"] for r in records if "reference" in r), "the reference")
    return rendered(
        "days.html.j2",
        title=title,
        headline=_headline(records),
        parts=parts,
        legend=_LEGEND.format(reference=reference),
        notes=list(notes),
        facts={str(key): str(value) for key, value in (facts or {}).items()},
        colours=plots.COLOURS,
    )


def _headline(records: Records) -> str:
    said = []
    for part in _starts(records):
        regret = {r["policy"]: r for r in _of(records, part) if r.get("metric") == "regret"}
        best = min(regret.values(), key=lambda record: record["mean"])
        reference = regret.get(best.get("reference", ""))
        if reference is None or not reference["mean"] > 0:
            said.append(f"{part[1]}: {best['policy']} loses least")
            continue
        share = 1 - best["mean"] / reference["mean"]
        clear = "" if best["difference_high"] < 0 else ", no clear difference"
        said.append(
            f"{part[1]}: {best['policy']} loses {share:.0%} less than {best['reference']}{clear}"
        )
    return "; ".join(said) + "."

"""What finished cells say together: every figure, with intervals and differences."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metajax.evaluation.cells import Cell, Outcome
from metajax.evaluation.evaluate import concatenate
from metajax.evaluation.negative_transfer import negative_transfer
from metajax.evaluation.tables import Judged, table

__all__ = ["Compared", "compared"]


class Compared(NamedTuple):
    """What a comparison found."""

    records: list[dict[str, Any]]
    """Every figure, as in `metajax.evaluation.comparisons`."""
    notes: list[str]
    """A sentence for each cell in which a method could not be judged, and for each method that
    another domain has misled."""


def compared(outcomes: Mapping[Cell, Outcome]) -> Compared:
    """Joins the cells of each method and lists what they found.

    Args:
        outcomes: Of every cell that was asked for.

    Returns:
        The figures of the methods that could be judged in all their cells, and notes.
    """
    notes = [
        f"Left out: {cell.method} under {cell.protocol}, fold {cell.fold}, seed {cell.seed}: "
        f"{outcome.left_out}"
        for cell, outcome in outcomes.items()
        if outcome.left_out
    ]
    records: list[dict[str, Any]] = []
    for protocol in dict.fromkeys(cell.protocol for cell in outcomes):
        of_protocol = {c: o for c, o in outcomes.items() if c.protocol == protocol}
        seeds = sorted({cell.seed for cell in of_protocol})
        by_method: dict[str, list[Outcome]] = {}
        for cell, outcome in of_protocol.items():
            by_method.setdefault(cell.method, []).append(outcome)
        # A method that failed somewhere has not been asked what the others were.
        whole = {
            name: all_ for name, all_ in by_method.items() if not any(o.left_out for o in all_)
        }
        judged = [_joined(found) for found in whole.values()]
        if judged:
            records += table(judged, protocol=protocol, seeds=seeds)
            for name, found in whole.items():
                records += _costs(name, found, protocol, seeds)
    return Compared(records, notes + negative_transfer(records))


def _joined(found: Sequence[Outcome]) -> Judged:
    panels = found[0].by_order
    return Judged(
        found[0].kind,
        {panel: concatenate([outcome.by_order[panel] for outcome in found]) for panel in panels},
    )


def _costs(
    name: str, found: Sequence[Outcome], protocol: str, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """Lists what serving a user costs, the median over cells."""
    order, evaluation = next(iter(found[0].by_order.items()))
    costs = [outcome.cost for outcome in found if outcome.cost is not None]
    if not costs:
        return []
    figures = {
        "adapt_us": float(np.median([cost.adapt_us for cost in costs])),
        "state_bytes": float(np.median([cost.state_bytes for cost in costs])),
    }
    return [
        {
            "method": name,
            "kind": found[0].kind,
            "protocol": protocol,
            "order": order,
            "k": evaluation.ks[-1],
            "metric": metric,
            "mean": value,
            "low": None,
            "high": None,
            "seeds": list(seeds),
        }
        for metric, value in figures.items()
    ]

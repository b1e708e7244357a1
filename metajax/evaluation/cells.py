"""A cell of a comparison, one method on one fold, and the folder of finished cells.

FOLDER/experiment.json   which data
FOLDER/cells/            a file for each finished cell: NumPy's `.npz` and its sha256
FOLDER/report.json, report.html

A long comparison that is killed resumes where it stopped: a cell whose file is there is finished.
The name of the file holds a digest of all that the figures depend on, so that a cell of other
settings is another cell.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metajax import checkpoint
from metajax.evaluation.cost import Cost
from metajax.evaluation.evaluate import Evaluation, PerUser
from metajax.evaluation.metrics import Metric, table_with
from metajax.evaluation.records import Kind

__all__ = [
    "Cell",
    "Outcome",
    "cell_file",
    "open_folder",
    "read_cell",
    "write_cell",
]


_SIZE = 32  # bytes of a digest


class Cell(NamedTuple):
    """A method on a fold of a protocol."""

    method: str
    """Its name."""
    protocol: str
    """One of `protocols`."""
    fold: int
    """Number of the fold, or draw."""
    seed: int
    """Number of the repetition."""


class Outcome(NamedTuple):
    """Measurements of a cell."""

    kind: Kind
    """Baseline or learned method."""
    by_order: Mapping[str, Evaluation]
    """By panel, the measurements; none where the method was left out."""
    settings: Mapping[str, Mapping[str, Any]]
    """By panel, the settings chosen on the validation users."""
    cost: Cost | None
    """The cost of serving a user, where it was measured."""
    left_out: str
    """The error of a method that cannot be judged; else empty."""


def cell_file(folder: Path, cell: Cell, conditions: Mapping[str, Any]) -> Path:
    """Returns the file of a cell.

    Args:
        folder: Of the cells.
        cell: The cell.
        conditions: All that its figures depend on, as JSON would hold it.

    Returns:
        The file, which may not exist.
    """
    text = json.dumps(conditions, sort_keys=True, default=list)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return folder / f"{cell.protocol}-seed{cell.seed}-fold{cell.fold}-{cell.method}-{digest}.npz"


def write_cell(path: Path, outcome: Outcome) -> None:
    """Writes a finished cell in one step.

    Raises:
        OSError: If it cannot be written.
    """
    facts = outcome._asdict()
    facts["by_order"] = {
        panel: evaluation._asdict()
        | {"metrics": [metric.name for metric in evaluation.metrics], "per_user": None}
        for panel, evaluation in outcome.by_order.items()
    }
    facts["settings"] = {panel: dict(chosen) for panel, chosen in outcome.settings.items()}
    facts["cost"] = outcome.cost and outcome.cost._asdict()
    arrays: dict[str, Any] = {"facts": np.array(json.dumps(facts))}
    for panel, evaluation in outcome.by_order.items():
        *fields, values = evaluation.per_user
        names = PerUser._fields[:-1]
        arrays |= {f"{panel}/{n}": field for n, field in zip(names, fields, strict=True)}
        arrays |= {f"{panel}/values/{n}": array for n, array in values.items()}
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    # NumPy's own sums do not cover every byte.
    checkpoint.write_file(path, content.getvalue() + _digest(content.getvalue()))


def read_cell(path: Path, metrics: Sequence[Metric] = ()) -> Outcome | None:
    """Reads a cell.

    Args:
        path: Its file.
        metrics: Metrics of one's own that it was measured by.

    Returns:
        The measurements; None where the cell is not finished, or its file is damaged.
    """
    try:
        written = path.read_bytes()
        held, digest = written[:-_SIZE], written[-_SIZE:]
        if _digest(held) != digest:
            return None
        with np.load(io.BytesIO(held), allow_pickle=False) as content:
            facts = json.loads(str(content["facts"]))
            by_order = {
                panel: _evaluation(found, panel, content, metrics)
                for panel, found in facts.pop("by_order").items()
            }
        cost = facts.pop("cost")
        return Outcome(**facts, by_order=by_order, cost=cost and Cost(**cost))
    except (OSError, KeyError, TypeError, ValueError):
        return None


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _evaluation(
    found: dict[str, Any], panel: str, content: Mapping[str, Any], own: Sequence[Metric]
) -> Evaluation:
    fields = {name: content[f"{panel}/{name}"] for name in PerUser._fields[:-1]}
    length = fields["top_items"].shape[-1]
    table = {metric.name: metric for metric in table_with(own, length=length)}
    metrics = tuple(table[name] for name in found["metrics"])
    values = {m.name: content[f"{panel}/values/{m.name}"] for m in metrics if m.function}
    found |= {"ks": tuple(found["ks"]), "metrics": metrics}
    return Evaluation(**found | {"per_user": PerUser(**fields, values=values)})


_NAME = "experiment.json"


def open_folder(folder: Path, data: Mapping[str, Any]) -> Path:
    """Makes the folder of a comparison, or checks that it is one of the same data.

    Args:
        folder: New, empty, or that of an earlier comparison.
        data: `data.dataset.fingerprint` of the data.

    Returns:
        The folder of the finished cells.

    Raises:
        ValueError: If something else is there, or a comparison of other data.
        OSError: If it cannot be written.
    """
    cells = folder / "cells"
    if folder.is_dir() and any(folder.iterdir()):
        try:
            found = json.loads((folder / _NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise ValueError(
                f"{folder}: holds no comparison; give a new or an empty folder."
            ) from None
        if found != {"data": dict(data)}:
            raise ValueError(f"{folder}: holds a comparison on other data; give another folder.")
    cells.mkdir(parents=True, exist_ok=True)
    checkpoint.write_file(folder / _NAME, json.dumps({"data": dict(data)}, indent=1) + "\n")
    return cells

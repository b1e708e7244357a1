"""One method on one fold: what was measured, in a file that is whole or not there.

A file is NumPy's `.npz` and its sha256.

A long comparison that is killed goes on where it stopped: a cell whose file is there is finished.
The name of the file holds a digest of all that the figures depend on, so that a cell of other
settings is another cell.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from metajax import checkpoint
from metajax.evaluation.cost import Cost
from metajax.evaluation.evaluate import Evaluation, PerUser

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
    """Which method, on which part of the data."""

    method: str
    """Its name."""
    protocol: str
    """One of `protocols`."""
    fold: int
    """Which fold, or draw."""
    seed: int
    """Which repetition."""


class Outcome(NamedTuple):
    """What came of a cell."""

    kind: Literal["baseline", "learned"]
    """Whether the method is one of those to beat."""
    by_order: Mapping[str, Evaluation]
    """By panel, the measurements; none where the method was left out."""
    settings: Mapping[str, Mapping[str, Any]]
    """By panel, what was chosen on the validation users."""
    cost: Cost | None
    """What serving a user costs, where it was measured."""
    left_out: str
    """Why there is nothing to judge; empty where there is."""


def cell_file(folder: Path, cell: Cell, conditions: Mapping[str, Any]) -> Path:
    """Returns where a cell is kept.

    Args:
        folder: Of the cells.
        cell: Which.
        conditions: All that its figures depend on, as JSON would hold it.

    Returns:
        The file, which need not be there.
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
        panel: evaluation._asdict() | {"per_user": None}
        for panel, evaluation in outcome.by_order.items()
    }
    facts["settings"] = {panel: dict(chosen) for panel, chosen in outcome.settings.items()}
    facts["cost"] = outcome.cost and outcome.cost._asdict()
    arrays = {
        f"{panel}/{name}": array
        for panel, evaluation in outcome.by_order.items()
        for name, array in evaluation.per_user._asdict().items()
    }
    content = io.BytesIO()
    np.savez_compressed(content, facts=np.array(json.dumps(facts)), **arrays)
    # NumPy's own sums do not cover every byte.
    checkpoint.write_file(path, content.getvalue() + _digest(content.getvalue()))


def read_cell(path: Path) -> Outcome | None:
    """Reads a cell; None where it is not finished, or its file is damaged."""
    try:
        written = path.read_bytes()
        held, digest = written[:-_SIZE], written[-_SIZE:]
        if _digest(held) != digest:
            return None
        with np.load(io.BytesIO(held), allow_pickle=False) as content:
            facts = json.loads(str(content["facts"]))
            by_order = {
                panel: _evaluation(found, panel, content)
                for panel, found in facts.pop("by_order").items()
            }
        cost = facts.pop("cost")
        return Outcome(**facts, by_order=by_order, cost=cost and Cost(**cost))
    except (OSError, KeyError, TypeError, ValueError):
        return None


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _evaluation(found: dict[str, Any], panel: str, content: Mapping[str, Any]) -> Evaluation:
    found["per_user"] = PerUser(**{name: content[f"{panel}/{name}"] for name in PerUser._fields})
    found["ks"] = tuple(found["ks"])
    return Evaluation(**found)


_NAME = "experiment.json"


def open_folder(folder: Path, data: Mapping[str, Any]) -> Path:
    """Makes the folder of a comparison, or makes sure that it is one of the same data.

    Args:
        folder: New, empty, or that of an earlier comparison.
        data: What `data.dataset.fingerprint` says of the data.

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

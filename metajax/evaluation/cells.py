"""A cell of a comparison, one method on one fold, and the folder of finished cells.

FOLDER/experiment.json   which data
FOLDER/cells/            a file for each finished cell: NumPy's `.npz` and its sha256
FOLDER/report.json, report.html; report.sha256
FOLDER/lock              the process that compares, while it does

A long comparison that is killed resumes where it stopped: a cell whose file is there is finished.
The name of the file holds a digest of all that the figures depend on, so that a cell of other
settings is another cell.
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metajax import files, locks, storage
from metajax.evaluation.cost import Cost
from metajax.evaluation.evaluate import Evaluation, PerUser
from metajax.evaluation.metrics import Metric, table_with
from metajax.evaluation.records import Kind

__all__ = [
    "Cell",
    "Outcome",
    "bytes_of",
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
    one_model: Mapping[str, Evaluation]
    """By panel, those of one setting for all panels; none where it was not asked for, or is what
    each panel chose."""
    settings: Mapping[str, Mapping[str, Any]]
    """By panel, the settings chosen on users held out."""
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
    storage.write_file(path, bytes_of(outcome))


def bytes_of(outcome: Outcome) -> bytes:
    """Returns the content of the file of a finished cell."""
    facts, arrays = outcome._asdict(), {}
    for field in _JUDGED:
        judged: Mapping[str, Evaluation] = getattr(outcome, field)
        facts[field] = {
            panel: evaluation._asdict()
            | {"metrics": [m.name for m in evaluation.metrics], "per_user": None, "natural": None}
            for panel, evaluation in judged.items()
        }
        for panel, evaluation in judged.items():
            arrays |= _arrays(f"{field}/{panel}", evaluation.per_user)
            if evaluation.natural is not None:
                arrays |= _arrays(f"{field}/{panel}/{_NATURAL}", evaluation.natural)
    facts["settings"] = {panel: dict(chosen) for panel, chosen in outcome.settings.items()}
    facts["cost"] = outcome.cost and outcome.cost._asdict()
    content = io.BytesIO()
    np.savez_compressed(content, facts=np.array(json.dumps(facts)), **arrays)
    # NumPy's own sums do not cover every byte.
    return content.getvalue() + _digest(content.getvalue())


def read_cell(path: Path, metrics: Sequence[Metric] = ()) -> Outcome | None:
    """Reads a cell.

    Args:
        path: Its file.
        metrics: Metrics of one's own that it was measured by.

    Returns:
        The measurements; None where the cell is not finished, or its file is damaged.
    """
    try:
        written = files.read_bytes(path)
        held, digest = written[:-_SIZE], written[-_SIZE:]
        if _digest(held) != digest:
            return None
        with np.load(io.BytesIO(held), allow_pickle=False) as content:
            facts = json.loads(str(content["facts"]))
            for field in _JUDGED:
                facts[field] = {
                    panel: _evaluation(found, f"{field}/{panel}", content, metrics)
                    for panel, found in facts[field].items()
                }
        facts["cost"] = facts["cost"] and Cost(**facts["cost"])
        return Outcome(**facts)
    except (OSError, KeyError, TypeError, ValueError):
        return None


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _evaluation(
    found: dict[str, Any], prefix: str, content: Mapping[str, Any], own: Sequence[Metric]
) -> Evaluation:
    length = content[f"{prefix}/top_items"].shape[-1]
    table = {metric.name: metric for metric in table_with(own, length=length)}
    metrics = tuple(table[name] for name in found["metrics"])
    found |= {"ks": tuple(found["ks"]), "metrics": metrics}
    found["per_user"] = _per_user(prefix, content, metrics)
    if f"{prefix}/{_NATURAL}/user" in content:
        of_order = [metric for metric in metrics if metric.needs == "order"]
        found["natural"] = _per_user(f"{prefix}/{_NATURAL}", content, of_order)
    return Evaluation(**found)


# The fields of an outcome that hold measurements.
_JUDGED = ("by_order", "one_model")

# Beside the names of `PerUser`, the folder of the natural reading's arrays.
_NATURAL = "natural"


def _arrays(prefix: str, per_user: PerUser) -> dict[str, np.ndarray]:
    *fields, values = per_user
    named = dict(zip(PerUser._fields[:-1], fields, strict=True))
    named |= {f"values/{name}": array for name, array in values.items()}
    return {f"{prefix}/{name}": array for name, array in named.items()}


def _per_user(prefix: str, content: Mapping[str, Any], metrics: Sequence[Metric]) -> PerUser:
    fields = {name: content[f"{prefix}/{name}"] for name in PerUser._fields[:-1]}
    values = {m.name: content[f"{prefix}/values/{m.name}"] for m in metrics if m.function}
    return PerUser(**fields, values=values)


_NAME = "experiment.json"


@contextlib.contextmanager
def open_folder(folder: Path, data: Mapping[str, Any]) -> Iterator[Path]:
    """Makes the folder of a comparison, or checks that it is one of the same data, and locks it.

    Args:
        folder: New, empty, or that of an earlier comparison.
        data: `data.dataset.fingerprint` of the data.

    Yields:
        The folder of the finished cells.

    Raises:
        ValueError: If something else is there, or a comparison of other data.
        LockedError: If another process compares in it.
        OSError: If it cannot be written.
    """
    facts = json.dumps({"data": dict(data)}, indent=1) + "\n"
    _check_folder(folder, facts)
    storage.make_folder(folder)
    with locks.locked(folder):
        storage.remove_leftovers(folder)
        _check_folder(folder, facts)
        storage.write_file(folder / _NAME, facts)
        cells = folder / "cells"
        storage.make_folder(cells)
        storage.remove_leftovers(cells)
        yield cells


def _check_folder(folder: Path, facts: str) -> None:
    path = folder / _NAME
    if path.is_file():
        if path.read_bytes() != facts.encode():
            raise ValueError(f"{path}: a comparison on other data; give another folder.")
    elif folder.is_dir() and any(map(_is_foreign, folder.iterdir())):
        raise ValueError(f"{folder}: holds no comparison; give a new or an empty folder.")


def _is_foreign(path: Path) -> bool:
    """False for what a killed comparison, or one that could not be written, may have left."""
    return path.name != "lock" and not path.name.startswith(f"{_NAME}.")

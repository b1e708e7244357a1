"""What all folders of runs have in common: metrics as JSON lines, and checkpoints."""

import json
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from metajax import checkpoint
from metajax.training import Progress

__all__ = [
    "CHECKPOINTS",
    "GRAPH",
    "SETTINGS",
    "last_good",
    "read_json",
    "recorded",
    "restored",
    "warn_of_damage",
]

CHECKPOINTS = "checkpoints"
GRAPH = "graph.json"
"""Of runs on a graph alone."""
SETTINGS = "settings.json"


def recorded(
    folder: Path,
    progress: Progress,
    steps: Iterable[tuple[Progress, Any]],
    *,
    on_row: Callable[[Any], None] = lambda row: None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Progress, bool]:
    """Trains, and writes metrics and checkpoints as it goes.

    Args:
        folder: Of the run.
        progress: Where training begins.
        steps: What training yields: the progress, and a NamedTuple with `step` and `validation`,
            None where it was not time to look. A checkpoint is written where it was.
        on_row: Called with each row.
        stop: Asked after each row; if it says so the run is saved and left.

    Returns:
        The last progress, and whether training has come to its end.

    Raises:
        DivergedError: As training does; what was saved before stays.
        CheckpointError: If a checkpoint cannot be written; older ones stay.
        OSError: If the metrics cannot be written.
        ValueError: If there are metrics already, which are of no run.
    """
    metrics = folder / "metrics.jsonl"
    _cut(metrics, int(progress.state.step))
    latest = progress
    for latest, row in steps:
        with metrics.open("a") as file:
            file.write(json.dumps(row._asdict()) + "\n")
        stopped = stop()
        if row.validation is not None or stopped:
            checkpoint.save(folder / CHECKPOINTS, row.step, latest)
        on_row(row)
        if stopped:
            return latest, False
    return latest, True


def warn_of_damage(step: int, reason: str) -> None:
    """Warns of a damaged checkpoint that was passed over."""
    warnings.warn(f"checkpoint of update {step} is damaged and left out: {reason}", stacklevel=2)


def restored(
    folder: Path, like: Progress, *, on_skip: Callable[[int, str], None] = warn_of_damage
) -> Progress:
    """Reads the last good checkpoint of a run.

    Args:
        folder: Of the run.
        like: As in `checkpoint.restore`, what its settings say.
        on_skip: Called with the step and the reason for each damaged checkpoint passed over.

    Returns:
        The progress it holds.

    Raises:
        CheckpointError: If there is none.
        ValueError: If the settings have been changed since.
    """
    try:
        return checkpoint.restore(folder / CHECKPOINTS, like, on_skip=on_skip)[1]
    except ValueError as error:
        raise ValueError(f"{folder / SETTINGS}: do not fit the checkpoint: {error}") from None


def last_good(folder: Path) -> str:
    """Says which checkpoint a run can be resumed from."""
    found = checkpoint.steps(folder / CHECKPOINTS)
    if not found:
        return "There is no checkpoint yet."
    return f"The last good checkpoint is of update {found[-1]}, in {folder / CHECKPOINTS}."


def read_json(path: Path) -> Any:
    """Reads a file of a run.

    Raises:
        ValueError: If it cannot be read; names it.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None


def _cut(metrics: Path, step: int) -> None:
    """Drops the rows after a step: a run that was killed has written past its checkpoint."""
    lines = metrics.read_text().splitlines(keepends=True) if metrics.exists() else []
    # A killed run may also have left half a line.
    whole = [line for line in lines if line.endswith("\n")]
    try:
        kept = [line for line in whole if json.loads(line)["step"] <= step]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{metrics}: not the metrics of a run: {error}") from None
    checkpoint.write_file(metrics, "".join(kept))

"""The fit of a closed form in steps that can be shown, stopped and resumed.

Each setting of the grid is fitted to the training users and judged on the validation users; the one
with the lowest loss is fitted again, to both. It chooses what `tuning.tuned` chooses with one model
for all panels.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from metajax import parameters
from metajax.baselines import Baseline
from metajax.baselines.preferences import first_equal
from metajax.data.splits import Split
from metajax.evaluation.tuning import fits, trial_losses
from metajax.training import Progress

__all__ = ["Trial", "Trials", "begin_fit", "fit_on", "steps_of"]


class Trials(NamedTuple):
    """The settings tried so far."""

    step: np.ndarray
    """`[]` int32, the number of steps done, of `steps_of`."""
    losses: np.ndarray
    """`[G]` float64 validation losses of the grid; NaN where not measured yet."""


class Trial(NamedTuple):
    """Record of one step."""

    step: int
    """Steps done so far."""
    validation: float | None
    """Validation loss; None of the last step, and where it cannot be measured."""
    settings: Mapping[str, Any]
    """The settings that were fitted."""


def steps_of(baseline: Baseline) -> int:
    """Returns the number of steps: one a setting where there are several, and the last fit."""
    return len(baseline.grid) + 1 if len(baseline.grid) > 1 else 1


def begin_fit(baseline: Baseline) -> Progress:
    """Returns the progress before the first step.

    Its `best` is bytes, `parameters.to_bytes`, which are empty until the last step.

    Raises:
        ValueError: If the grid is empty.
    """
    if not baseline.grid:
        raise ValueError(f"grid must hold at least one setting, got none for {baseline.name}.")
    losses = np.full(len(baseline.grid), np.nan)
    return Progress(_state(0, losses), b"", _array(np.inf), _whole(0))


def fit_on(
    baseline: Baseline, split: Split, progress: Progress
) -> Iterator[tuple[Progress, Trial]]:
    """Tunes a closed form on a fold's validation users, and fits it to them as well.

    Args:
        baseline: The method.
        split: The fold.
        progress: From `begin_fit`, or a later one.

    Yields:
        After each step the progress and what was done.
    """
    trials: Any = progress.state
    last, losses = steps_of(baseline), trials.losses
    step = int(progress.state.step)
    equal = first_equal(baseline.grid, baseline.of_grades, split.final)
    while step < last - 1:
        settings, loss = baseline.grid[step], float(losses[equal[step]])
        if equal[step] == step:
            loss = float(np.mean(list(trial_losses(baseline, split, settings).values())))
        losses = losses.copy()
        losses[step], step = np.nan_to_num(loss, nan=np.inf), step + 1
        if losses[step - 1] < progress.best_loss:
            progress = progress._replace(best_loss=_array(loss), best_step=_whole(step))
        progress = progress._replace(state=_state(step, losses))
        yield progress, Trial(step, loss if math.isfinite(loss) else None, settings)
    if step < last:
        # Not measured is highest; of equal losses the earliest counts.
        at = int(np.argmin(np.nan_to_num(losses, nan=np.inf)))
        settings = baseline.grid[at]
        (params,) = fits(baseline, split.final, [settings])
        best = parameters.to_bytes(params)
        progress = progress._replace(state=_state(last, losses), best=best)
        yield progress, Trial(last, None, settings)


def _state(step: int, losses: np.ndarray) -> Any:
    # In place of the state of a learner.
    return Trials(_whole(step), losses)


def _array(value: float) -> Any:
    return np.array(value, np.float64)


def _whole(value: int) -> Any:
    return np.array(value, np.int32)

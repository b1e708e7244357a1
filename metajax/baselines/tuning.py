"""Choosing a baseline's settings on validation users."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from metajax.baselines.base import Baseline
from metajax.data.dataset import TrainingSet
from metajax.types import Params

__all__ = ["tune"]


def tune(
    baseline: Baseline,
    training: TrainingSet,
    score: Callable[[Baseline, Params], float],
) -> tuple[Mapping[str, Any], Params]:
    """Fits every setting of the baseline's grid and keeps the best.

    Fit again with the returned settings on training and validation users before the test.

    Args:
        baseline: What to tune.
        training: The training users, without those that `score` judges by.
        score: `score(baseline, params)`, lower is better, for instance the RMSE of the
            validation users.

    Returns:
        The settings with the lowest score, the earliest of the grid where it ties, and the
        parameters fitted with them.

    Raises:
        ValueError: If a score is NaN.
    """
    best: tuple[float, Mapping[str, Any], Params] | None = None
    for settings in baseline.grid:
        params = baseline.fit(training, **settings)
        value = float(score(baseline, params))
        if np.isnan(value):
            raise ValueError(f"score must be a number, got nan for {baseline.name} {settings}.")
        if best is None or value < best[0]:
            best = value, settings, params
    if best is None:
        raise ValueError(f"grid must hold at least one setting, got none for {baseline.name}.")
    return best[1:]

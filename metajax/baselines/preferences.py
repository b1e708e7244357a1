"""Preferences of the ranking baselines: ratings mapped to [0, 1], popularity, co-occurrence.

A preference is the rating's place on the scale, 0 at the lowest and 1 at the highest, to a power.
Labels of an implicit log, in (0, 1], are preferences as they are.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.baselines.baseline import observed
from metajax.data.dataset import TrainingSet
from metajax.types import Examples

__all__ = [
    "LIKED",
    "PreferenceCurve",
    "cooccurrence",
    "first_equal",
    "has_grades",
    "liked_counts",
    "preference_curve",
    "preferences",
    "relevant_preference",
    "support_preferences",
    "tie_break",
]

LIKED = 0.75 - 1e-5
"""Preference from which on an item counts as liked: four stars of five, up to rounding."""

# Users expanded to dense rows at a time.
_CHUNK = 512
# Multiplications of a dense product in the time of one of a sparse product.
_SPARSE = 200


class PreferenceCurve(NamedTuple):
    """Preference as a function of the rating: `(intercept + slope * rating)^sharpness`."""

    intercept: jax.Array
    """`[]` with the slope it maps the scale to [0, 1]."""
    slope: jax.Array
    """`[]` in an implicit log 1, and the intercept is 0."""
    sharpness: jax.Array
    """`[]` 1 is linear; the higher, the more only the best ratings count."""


def preference_curve(
    scale: tuple[float, float] | None, *, sharpness: float = 1.0
) -> PreferenceCurve:
    """Returns the curve that fits a scale.

    Args:
        scale: Lowest and highest legal rating; None for an implicit log.
        sharpness: Exponent, > 0.

    Returns:
        The curve.

    Raises:
        ValueError: If the scale's lower end is not below its upper end, or the sharpness is not
            positive.

    Example:
        >>> [float(leaf) for leaf in preference_curve((1.0, 5.0))]
        [-0.25, 0.25, 1.0]
    """
    if not sharpness > 0:
        raise ValueError(f"sharpness must be > 0, got {sharpness}.")
    intercept, slope = 0.0, 1.0
    if scale is not None:
        low, high = scale
        if not low < high:
            raise ValueError(f"scale must run from low to high, got {scale}.")
        intercept, slope = -low / (high - low), 1 / (high - low)
    return PreferenceCurve(*(jnp.asarray(v, jnp.float32) for v in (intercept, slope, sharpness)))


def relevant_preference(scale: tuple[float, float] | None, threshold: float) -> float:
    """Returns the preference from which on an item is relevant, in [0, 1]: .75 by default.

    Args:
        scale: Lowest and highest legal rating; None for an implicit log.
        threshold: Lowest rating of a relevant item, `TrainingSet.threshold`.
    """
    low, high = scale or (0.0, 1.0)
    return min(max((threshold - low) / (high - low), 0.0), 1.0)


def preferences(training: TrainingSet, curve: PreferenceCurve) -> np.ndarray:
    """Returns the preference of every training interaction, `[R]` float32."""
    intercept, slope, sharpness = (np.asarray(leaf) for leaf in curve)
    return np.clip(intercept + slope * training.interactions.rating, 0, 1) ** sharpness


def has_grades(training: TrainingSet) -> bool:
    """Returns whether preferences differ; in a log of mere clicks all are 1, to any power."""
    return bool((preferences(training, preference_curve(training.scale)) != 1).any())


def first_equal(
    settings: Sequence[Mapping[str, Any]], of_grades: Sequence[str], training: TrainingSet
) -> list[int]:
    """Finds settings that fit the same because the log has no grades.

    Args:
        settings: Those to be tried.
        of_grades: As in `Baseline`.
        training: The log.

    Returns:
        For each setting the place of the first that is equal to it, often its own.
    """
    if of_grades and not has_grades(training):
        settings = [
            {name: value for name, value in setting.items() if name not in of_grades}
            for setting in settings
        ]
    return [settings.index(setting) for setting in settings]


def support_preferences(curve: PreferenceCurve, support: Examples) -> tuple[jax.Array, jax.Array]:
    """Returns `[N]` items of a support and `[N]` preferences; padding has preference 0."""
    item, rating, present = observed(support)
    place = jnp.clip(curve.intercept + curve.slope * rating, 0, 1)
    return item, present * place**curve.sharpness


def liked_counts(training: TrainingSet, *, least: float | None = None) -> np.ndarray:
    """Counts how many users like each item, `[I]` float32.

    Args:
        training: The training users' log, the scale and what is relevant.
        least: The preference from which on a rating counts, in [0, 1]: .75 is four stars of
            five, 0 counts every interaction; None counts what is relevant.

    Returns:
        The counts.

    Raises:
        ValueError: If `least` is outside [0, 1].
    """
    if least is None:
        least = relevant_preference(training.scale, training.threshold)
    if not 0 <= least <= 1:
        raise ValueError(f"least must be in [0, 1], got {least}.")
    log = training.interactions
    # A small tolerance: the place of a rating on its scale is rounded to float32.
    liked = preferences(training, preference_curve(training.scale)) >= least - 1e-5
    return np.bincount(log.item[liked], minlength=len(log.item_ids)).astype(np.float32)


def tie_break(training: TrainingSet) -> jax.Array:
    """Returns popularity scaled to at most 1e-4, `[I]`: it decides only where scores tie."""
    liked = liked_counts(training)
    return jnp.asarray(1e-4 * liked / max(liked.max(), 1), jnp.float32)


def cooccurrence(
    training: TrainingSet, curve: PreferenceCurve, items: slice = slice(None)
) -> np.ndarray:
    """Multiplies the users' preferences of some items with those of all, `[n, I]`: `X[:, n]' X`.

    Args:
        training: The training users' log.
        curve: From ratings to preferences.
        items: The rows wanted, so that a large catalogue need not be held whole.

    Returns:
        float32 products, summed over users.
    """
    log, weight = training.interactions, preferences(training, curve)
    users = log.users
    user = np.searchsorted(users, log.user)
    catalogue = len(log.item_ids)
    if _SPARSE * np.sum(log.user_counts.astype(np.float64) ** 2) < len(users) * catalogue**2:
        from scipy.sparse import csr_array  # Takes a tenth of a second, and not all need it.

        shape = len(users), catalogue
        table = csr_array((weight.astype(np.float32), (user, log.item)), shape)
        return (table.transpose().tocsr()[items] @ table).toarray()
    product = np.zeros((len(range(*items.indices(catalogue))), catalogue), np.float32)
    for first in range(0, len(users), _CHUNK):
        begin, end = np.searchsorted(user, [first, first + _CHUNK])
        dense = np.zeros((min(_CHUNK, len(users) - first), catalogue), np.float32)
        dense[user[begin:end] - first, log.item[begin:end]] = weight[begin:end]
        product += dense[:, items].T @ dense
    return product

"""What the ranking baselines count: how much a rating says that the user likes the item.

A rating counts by its place on the scale, 0 at the lowest and 1 at the highest; in an implicit
log every interaction counts 1.
"""

import jax
import jax.numpy as jnp
import numpy as np

from metajax.base import Examples
from metajax.baselines.base import observed
from metajax.data.dataset import TrainingSet
from metajax.data.interactions import user_of_row

__all__ = [
    "cooccurrence",
    "liked_counts",
    "preference_line",
    "preferences",
    "support_preference",
    "tie_break",
]

# Users expanded to dense rows at a time.
_CHUNK = 512


def preference_line(scale: tuple[float, float] | None) -> np.ndarray:
    """Returns `[2]` intercept and slope of the preference as a function of the rating.

    Raises:
        ValueError: If the scale's lower end is not below its upper end.

    Example:
        >>> preference_line((1.0, 5.0)).tolist(), preference_line(None).tolist()
        ([-0.25, 0.25], [1.0, 0.0])
    """
    if scale is None:
        return np.array([1, 0], np.float32)
    low, high = scale
    if not low < high:
        raise ValueError(f"scale must run from low to high, got {scale}.")
    return np.array([-low / (high - low), 1 / (high - low)], np.float32)


def preferences(training: TrainingSet) -> np.ndarray:
    """Returns the preference of every training interaction, `[R]` float32."""
    intercept, slope = preference_line(training.scale)
    return intercept + slope * training.interactions.rating


def support_preference(line: jax.Array, support: Examples) -> tuple[jax.Array, jax.Array]:
    """Returns `[N]` items of a support and `[N]` preferences; padding has preference 0."""
    item, rating, present = observed(support)
    return item, present * (line[0] + line[1] * rating)


def liked_counts(training: TrainingSet, *, least: float = 0.75) -> np.ndarray:
    """Counts how many users like each item, `[I]` float32.

    Args:
        training: The training users' log and the scale.
        least: The preference from which on a rating counts, in [0, 1]: .75 is four stars of
            five, 0 counts every interaction.

    Returns:
        The counts.

    Raises:
        ValueError: If `least` is outside [0, 1].
    """
    if not 0 <= least <= 1:
        raise ValueError(f"least must be in [0, 1], got {least}.")
    log = training.interactions
    # A hair of tolerance: the place of a rating on its scale is rounded to float32.
    liked = preferences(training) >= least - 1e-5
    return np.bincount(log.item[liked], minlength=len(log.item_ids)).astype(np.float32)


def tie_break(training: TrainingSet) -> jax.Array:
    """Returns popularity scaled to at most 1e-4, `[I]`: it decides only where scores tie."""
    liked = liked_counts(training)
    return jnp.asarray(1e-4 * liked / max(liked.max(), 1), jnp.float32)


def cooccurrence(training: TrainingSet, items: slice = slice(None)) -> np.ndarray:
    """Multiplies the users' preferences of some items with those of all, `[n, I]`: `X[:, n]' X`.

    Args:
        training: The training users' log and the scale.
        items: The rows wanted, so that a large catalogue need not be held whole.

    Returns:
        float32 products, summed over users.
    """
    log, weight = training.interactions, preferences(training)
    users = np.flatnonzero(np.diff(log.offsets))
    user = np.searchsorted(users, user_of_row(log))
    catalogue = len(log.item_ids)
    product = np.zeros((len(range(*items.indices(catalogue))), catalogue), np.float32)
    for first in range(0, len(users), _CHUNK):
        begin, end = np.searchsorted(user, [first, first + _CHUNK])
        dense = np.zeros((min(_CHUNK, len(users) - first), catalogue), np.float32)
        dense[user[begin:end] - first, log.item[begin:end]] = weight[begin:end]
        product += dense[:, items].T @ dense
    return product

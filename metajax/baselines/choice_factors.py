"""Item vectors of an implicit log: leading directions of who chose what, and log popularity."""

import numpy as np

from metajax.baselines.preferences import liked_counts, preference_curve
from metajax.baselines.sparse import orthogonal_iteration, preference_matrix
from metajax.data.dataset import TrainingSet

__all__ = ["choice_factors"]

_SWEEPS = 10


def choice_factors(
    training: TrainingSet, *, width: int, length: float = 0.3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and biases of items by the leading directions of the users' choices.

    Ratings of which all are equal have no factors; what an implicit log tells is who chose what.
    With R the preferences, each divided by the roots of the sums of its user and of its item, the
    vectors span the leading right singular vectors of R, found by orthogonal iteration. They
    start where a new user's vector is 0: scores are then the logarithm of popularity, whose softmax
    is how often each item is chosen.

    Args:
        training: The training users' log.
        width: D, number of directions, >= 1; those beyond the number of items are 0.
        length: Root of the mean square of an entry, > 0.
        seed: Of the random initial directions.

    Returns:
        `[I, D]` float32 vectors, and `[I]` float32 biases, 0 for the most popular item.

    Raises:
        ValueError: If there is no interaction.

    References:
        Shen et al., How Powerful is Graph Convolution for Recommendation?, CIKM 2021, section 4,
        for the normalised matrix and its leading directions; Halko, Martinsson and Tropp, Finding
        Structure with Randomness, SIAM Review 2011, algorithm 4.4.
    """
    log = training.interactions
    if not len(log.item):
        raise ValueError("training must have at least one interaction, got none.")
    items = len(log.item_ids)
    table = preference_matrix(training, preference_curve(training.scale)).astype(np.float64)
    by_user, by_item = table.sum(axis=1), table.sum(axis=0)
    table.data /= np.sqrt(np.repeat(by_user, np.diff(table.indptr)) * by_item[table.indices])
    kept = min(width, items)
    start = np.random.default_rng(seed).normal(size=(items, kept))
    vectors = orthogonal_iteration(table, start, sweeps=_SWEEPS)
    vectors = length * np.sqrt(items) * np.pad(vectors, ((0, 0), (0, width - kept)))
    popularity = np.log1p(liked_counts(training))
    return vectors.astype(np.float32), (popularity - popularity.max()).astype(np.float32)

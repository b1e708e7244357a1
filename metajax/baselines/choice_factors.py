"""Item vectors of an implicit log: leading directions of who chose what, and log popularity."""

import numpy as np

from metajax.baselines.preferences import liked_counts, preference_curve, preferences
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
    items, users = len(log.item_ids), len(log.user_ids)
    weight = preferences(training, preference_curve(training.scale)).astype(np.float64)
    by_user = np.bincount(log.user, weight, users)
    by_item = np.bincount(log.item, weight, items)
    weight = weight / np.sqrt(by_user[log.user] * by_item[log.item])
    order = np.argsort(log.item, kind="stable")
    user, present = log.user, np.flatnonzero(log.item_counts)
    item_starts = np.concatenate([[0], np.cumsum(log.item_counts[present])[:-1]])
    user_starts = log.offsets[log.users]
    kept = min(width, items)
    vectors = np.random.default_rng(seed).normal(size=(items, kept))
    for _ in range(_SWEEPS):
        tastes = np.zeros((users, kept))
        tastes[log.users] = np.add.reduceat(weight[:, None] * vectors[log.item], user_starts)
        swept = np.zeros((items, kept))
        swept[present] = np.add.reduceat((weight[:, None] * tastes[user])[order], item_starts)
        vectors = np.linalg.qr(swept)[0]
    vectors = length * np.sqrt(items) * np.pad(vectors, ((0, 0), (0, width - kept)))
    popularity = np.log1p(liked_counts(training))
    return vectors.astype(np.float32), (popularity - popularity.max()).astype(np.float32)

"""Users drawn with replacement, many times over, and what sums over them come to."""

import functools
from collections.abc import Iterator, Sequence

import numpy as np

__all__ = ["resampled_sums"]

# Resamples a matrix product: 500 rows of 943 users are 4 MB.
_ROWS = 500

# Draws of at most so many numbers are kept for the next call.
_KEPT = 1 << 26


def resampled_sums(
    terms: Sequence[np.ndarray], cluster: np.ndarray, resamples: int, seed: int
) -> list[np.ndarray]:
    """Sums terms over users, of whom as many are drawn with replacement as there are.

    Args:
        terms: Of each `[K, T]` numbers, a column a user.
        cluster: `[T]` what is drawn as a whole.
        resamples: How often to draw, at least 1.
        seed: Of the draws.

    Returns:
        For each term `[resamples, K]` sums.

    Raises:
        ValueError: If `resamples` is below 1.
    """
    if resamples < 1:
        raise ValueError(f"resamples must be >= 1, got {resamples}.")
    names, index = np.unique(cluster, return_inverse=True)
    n, k = len(names), terms[0].shape[0] if terms else 0
    sums = np.zeros((n, len(terms) * k))
    if terms:
        np.add.at(sums, index, np.concatenate(terms).T)
    drawn, start = np.empty((resamples, len(terms) * k)), 0
    draw = _kept_counts if n * resamples <= _KEPT else _counts
    for counts in draw(n, resamples, seed):
        drawn[start : start + len(counts)] = counts.astype(np.float64) @ sums
        start += len(counts)
    return np.split(drawn, len(terms), axis=1) if terms else []


def _counts(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yields how often each of n is drawn, `[rows, n]`, a few resamples at a time."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _ROWS):
        rows = min(_ROWS, resamples - start)
        draws = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        counts = np.bincount(draws.ravel(), minlength=rows * n).reshape(rows, n)
        yield counts.astype(np.min_scalar_type(n))


@functools.lru_cache(maxsize=2)
def _kept_counts(n: int, resamples: int, seed: int) -> tuple[np.ndarray, ...]:
    # A table asks for the same draws for each of its methods.
    return tuple(_counts(n, resamples, seed))

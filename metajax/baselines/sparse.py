"""Sparse linear algebra of the item baselines: preferences, nearest items, leading directions.

Nothing here holds a table of items by items or of users by items.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from metajax.baselines.preferences import PreferenceCurve, preferences
from metajax.data.dataset import TrainingSet

__all__ = ["leading_directions", "nearest_items", "orthogonal_iteration", "preference_matrix"]

# Multiplications of one block of a sparse product, whose result has at most as many entries.
_PRODUCTS = 1 << 25
# Entries of a dense block of users.
_ENTRIES = 1 << 25
# Directions beyond those asked for, and products with the matrix, of a truncated decomposition.
_EXTRA, _SWEEPS = 64, 8


def preference_matrix(training: TrainingSet, curve: PreferenceCurve) -> Any:
    """Returns the preferences of the users with an interaction, a CSR array `[n, I]` float32."""
    from scipy import sparse  # Takes a tenth of a second, and only a fit needs it.

    log = training.interactions
    offsets = log.offsets[np.append(log.users, len(log.user_ids))]
    weight = preferences(training, curve).astype(np.float32)
    return sparse.csr_array((weight, log.item, offsets), (len(log.users), len(log.item_ids)))


def nearest_items(
    table: Any,
    similarity: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    *,
    most: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Finds each item's nearest others by a function of their co-occurrence.

    Rows of `table' table` are made in blocks of bounded size. Memory is `I most`; time is the sum
    of the squared numbers of items of the users.

    Args:
        table: CSR array `[U, I]` of weights of users and items.
        similarity: `similarity(product, item, other) -> [n]` of n co-occurrences, their item and
            the other one.
        most: n, items kept of each, >= 1; no more than the others there are.

    Returns:
        `[I, n]` int32 nearest items, and `[I, n]` float32 similarities: 0, and any item, where
        fewer co-occur.
    """
    catalogue = table.shape[1]
    kept = max(1, min(most, catalogue - 1))
    nearest = np.zeros((catalogue, kept), np.int32)
    found = np.zeros((catalogue, kept), np.float32)
    by_item = table.transpose().tocsr()
    # Row i costs the items of its users.
    cost = by_item.sign() @ np.diff(table.indptr).astype(np.float64)
    for rows in _blocks(cost, _PRODUCTS):
        product = by_item[rows] @ table
        ends = product.indptr
        item = np.repeat(np.arange(rows.start, rows.stop), np.diff(ends))
        value = similarity(product.data, item, product.indices)
        value = np.where(product.indices == item, 0, value)
        for row in range(rows.stop - rows.start):
            own = slice(ends[row], ends[row + 1])
            near, values = product.indices[own], value[own]
            if len(values) > kept:
                best = np.argpartition(-values, kept - 1)[:kept]
                near, values = near[best], values[best]
            nearest[rows.start + row, : len(near)] = near
            found[rows.start + row, : len(near)] = values
    return nearest, found


def leading_directions(matrix: Any, rank: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truncated singular value decomposition, by randomised subspace iteration.

    Memory is a few times `I (rank + 64)`, whatever the number of users; time is 9 products of the
    matrix and its transpose with as many vectors. The last directions are approximate where
    singular values lie close to each other.

    Args:
        matrix: CSR array `[U, I]` M.
        rank: k, number of directions, >= 1; no more than items.
        seed: Of the random initial directions.

    Returns:
        `[k]` float32 squared singular values, largest first, and `[I, k]` float32 right singular
        vectors; both 0 beyond the rank of M.

    References:
        Halko, Martinsson and Tropp, Finding Structure with Randomness, SIAM Review 2011, algorithms
        4.4 and 5.3.
    """
    items = matrix.shape[1]
    start = np.random.default_rng(seed).standard_normal(
        (items, min(rank + _EXTRA, items)), dtype=np.float32
    )
    vectors = orthogonal_iteration(matrix, start, sweeps=_SWEEPS)
    gram = vectors.T @ _twice(matrix, vectors)
    square, rotation = np.linalg.eigh((gram + gram.T).astype(np.float64) / 2)
    order = np.argsort(-square)[: min(rank, items)]
    square = square[order]
    present = square > _noise(vectors) * square[0]
    vectors = vectors @ (rotation[:, order] * present).astype(np.float32)
    return np.where(present, square, 0).astype(np.float32), vectors


def orthogonal_iteration(matrix: Any, vectors: np.ndarray, *, sweeps: int) -> np.ndarray:
    """Multiplies vectors by M'M and makes them orthonormal, several times.

    Args:
        matrix: CSR array `[U, I]` M.
        vectors: `[I, k]` initial vectors.
        sweeps: Number of products, >= 1.

    Returns:
        `[I, k]` orthonormal vectors near the span of the leading right singular vectors; those
        beyond the rank of M are 0.
    """
    for _ in range(sweeps):
        vectors = _orthonormal(_twice(matrix, vectors))
    return vectors


def _twice(matrix: Any, vectors: np.ndarray) -> np.ndarray:
    """Returns `M'(M vectors)`, in blocks of users."""
    product = np.zeros_like(vectors)
    step = max(_ENTRIES // max(vectors.shape[1], 1), 1)
    for first in range(0, matrix.shape[0], step):
        part = matrix[first : first + step]
        product += part.transpose() @ (part @ vectors)
    return product


def _orthonormal(vectors: np.ndarray) -> np.ndarray:
    # By the Gram matrix: less memory than Householder's reflections, and since one product with a
    # matrix of such a spectrum makes orthonormal vectors only a little skew, as exact here.
    for _ in range(2):
        square, rotation = np.linalg.eigh((vectors.T @ vectors).astype(np.float64))
        present = square > _noise(vectors) * square[-1]
        scale = np.where(present, np.maximum(square, 1e-300), np.inf) ** -0.5
        vectors = vectors @ (rotation * scale).astype(vectors.dtype)
    return vectors


def _noise(vectors: np.ndarray) -> float:
    """Returns the share of the largest square below which a square is rounding."""
    return 10 * float(np.finfo(vectors.dtype).eps)


def _blocks(cost: np.ndarray, most: float) -> Iterator[slice]:
    """Cuts rows into blocks whose costs sum to at most `most`, of one row at least."""
    total = np.cumsum(cost)
    start = 0
    while start < len(cost):
        done = total[start - 1] if start else 0.0
        stop = max(int(np.searchsorted(total, done + most, side="right")), start + 1)
        yield slice(start, stop)
        start = stop

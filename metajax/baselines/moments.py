"""Sums over the users and over the items of a log, from which Gaussian models are fitted."""

from typing import NamedTuple

import numpy as np

from metajax.data.interactions import Interactions, user_of_row
from metajax.gaussian import Statistics, second_moments
from metajax.types import Posterior

__all__ = ["Layout", "item_regressions", "layouts", "segment_moments", "user_statistics"]

# Rows of the log expanded at a time, so that memory does not grow with the log.
_CHUNK = 1 << 16


class Layout(NamedTuple):
    """The log as segments: by user it points at items, by item at users."""

    order: np.ndarray | slice
    """What sorts the log's columns by segment."""
    other: np.ndarray
    """`[R]` index at the other end, in that order."""
    offsets: np.ndarray
    """`[S + 1]` where segments begin and end; none is empty."""
    present: np.ndarray
    """`[S]` index of each segment's user or item."""


def layouts(interactions: Interactions) -> tuple[Layout, Layout]:
    """Lays a log out by user and by item; who has no row has no segment."""
    counts = np.diff(interactions.offsets)
    users = np.flatnonzero(counts)
    user = np.searchsorted(users, user_of_row(interactions))
    order = np.argsort(interactions.item, kind="stable")
    item_counts = np.bincount(interactions.item, minlength=len(interactions.item_ids))
    items = np.flatnonzero(item_counts)
    return (
        Layout(slice(None), interactions.item, _ends(counts[users]), users),
        Layout(order, user[order], _ends(item_counts[items]), items),
    )


def user_statistics(by_user: Layout, factors: np.ndarray, residual: np.ndarray) -> Statistics:
    """Returns the statistics of S users' rows (x, residual), x = [1, item vector] `[d + 1]`."""
    x = np.insert(factors, 0, 1.0, axis=1)
    gram, cross = segment_moments(by_user, x[:, :, None] * x[:, None, :], x, residual)
    return Statistics(gram, cross, float(np.sum(residual**2)), len(residual))


def segment_moments(
    layout: Layout, second: np.ndarray, first: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sums over each user what is known of their items, or over each item what of its users.

    Args:
        layout: The log, of S segments and R rows.
        second: `[n, w, w]` symmetric matrices of those at the other end.
        first: `[n, w]` vectors of those at the other end.
        weight: `[R]` what a row's vector is multiplied by, in the order of the log.

    Returns:
        `[S, w, w]` sums of the matrices and `[S, w]` of the weighted vectors.
    """
    moment, cross = _segment_sums(layout, _packed(second), first, weight)
    return _unpacked(moment, first.shape[1]), cross


def item_regressions(
    by_item: Layout,
    latents: Posterior,
    target: np.ndarray,
    ridge: np.ndarray,
    items: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Regresses `target - user bias` on t = [1, user factors] for every item, in expectation.

    Args:
        by_item: The log, of S users and R rows.
        latents: Posteriors of the users' biases and factors, mean `[S, d + 1]`.
        target: `[R]` what is explained, in the order of the log.
        ridge: `[d + 1, d + 1]` penalty of an item's bias and vector.
        items: I.

    Returns:
        `[I]` biases and `[I, d]` vectors, 0 for an item without rows.
    """
    latent, second = latents.mean, second_moments(latents)
    width = latent.shape[1]
    t = np.insert(latent[:, 1:], 0, 1.0, axis=1)
    bias_moment = np.insert(second[:, 1:, 0], 0, latent[:, 0], axis=1)
    second[:, 0, :] = second[:, :, 0] = t
    table = np.concatenate([_packed(second), bias_moment], axis=1)
    sums, response = _segment_sums(by_item, table, t, target)
    gram = _unpacked(sums[:, :-width], width) + ridge
    solution = np.linalg.solve(gram, (response - sums[:, -width:])[:, :, None])[:, :, 0]
    regression = np.zeros((items, width))
    regression[by_item.present] = solution
    return regression[:, 0], regression[:, 1:]


def _ends(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)])


def _segment_sums(
    layout: Layout, table: np.ndarray, weighted: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sums rows `table[other]` and `weight * weighted[other]` over every segment."""
    weight = weight[layout.order]
    sums, weighted_sums = [], []
    starts, ends = layout.offsets[:-1], layout.offsets[1:]
    first = 0
    while first < len(starts):
        last = max(first + 1, int(np.searchsorted(ends, starts[first] + _CHUNK, side="right")))
        rows = slice(starts[first], ends[last - 1])
        begin = starts[first:last] - starts[first]
        other = layout.other[rows]
        sums.append(np.add.reduceat(table[other], begin))
        weighted_sums.append(np.add.reduceat(weighted[other] * weight[rows, None], begin))
        first = last
    return np.concatenate(sums), np.concatenate(weighted_sums)


def _packed(matrices: np.ndarray) -> np.ndarray:
    """Keeps the upper triangles of `[n, w, w]` symmetric matrices, `[n, w (w + 1) / 2]`."""
    rows, columns = np.triu_indices(matrices.shape[-1])
    return matrices[:, rows, columns]


def _unpacked(triangles: np.ndarray, width: int) -> np.ndarray:
    rows, columns = np.triu_indices(width)
    matrices = np.empty((len(triangles), width, width))
    matrices[:, rows, columns] = matrices[:, columns, rows] = triangles
    return matrices

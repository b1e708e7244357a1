"""Factors of an implicit log by alternating least squares, with fold-in of new users."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.baselines.baseline import Baseline, check_positive
from metajax.baselines.preferences import (
    PreferenceCurve,
    preference_curve,
    support_preferences,
    tie_break,
)
from metajax.baselines.sparse import preference_matrix
from metajax.data.dataset import Shapes, TrainingSet
from metajax.fields import Range
from metajax.types import Adaptation, Examples, Inputs

__all__ = ["ImplicitFactors", "baselines", "fit_implicit_factors", "implicit_als"]

# Steps of conjugate gradients of a half-sweep, and interactions whose vectors a thread holds: a few
# megabytes, which a cache holds.
_STEPS, _ROWS = 3, 1 << 13


class ImplicitFactors(NamedTuple):
    """Item vectors, and the sufficient statistics of the catalogue for a new user's vector."""

    vectors: jax.Array
    """`[I, k]` item vectors Y."""
    gram: jax.Array
    """`[k, k]` `unobserved Y'Y`."""
    ridge: jax.Array
    """`[]` ridge."""
    everything: jax.Array
    """`[]` `unobserved I`, the weight of the catalogue."""
    prior: jax.Array
    """`[I]` popularity, far below any other difference: it decides where scores tie."""
    curve: PreferenceCurve
    """Preference of a rating."""


def fit_implicit_factors(
    training: TrainingSet,
    *,
    rank: int = 128,
    unobserved: float = 0.1,
    ridge: float = 0.003,
    sweeps: int = 12,
    sharpness: float = 1.0,
    seed: int = 0,
) -> ImplicitFactors:
    """Fits vectors x of users and y of items whose products are 1 where a user met an item.

    With w the preferences, it minimises the sum of `w (x y - 1)^2` over the interactions, of
    `unobserved (x y)^2` over all pairs of user and item, and of `ridge n |x|^2` and
    `ridge n |y|^2`, where n is the weight of all squares of that user or item. Users and items take
    turns, each by three steps of conjugate gradients, so that no user needs a matrix.

    Args:
        training: The training users' log.
        rank: k, >= 1.
        unobserved: Weight of a pair, > 0.
        ridge: Penalty, > 0.
        sweeps: Turns of users and items, >= 1.
        sharpness: As in `preference_curve`.
        seed: Of the random start.

    Returns:
        The factors: memory is `(U + I) k` beside the log, time of a sweep `(R + (U + I) k) k`.

    Raises:
        ValueError: If a setting is out of range.

    References:
        Hu, Koren and Volinsky, Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008;
        Rendle et al., Revisiting the Performance of iALS on Item Recommendation Benchmarks, RecSys
        2022, for the weights and the scaled penalty; Takács, Pilászy and Tikk, Applications of the
        Conjugate Gradient Method for Implicit Feedback Collaborative Filtering, RecSys 2011.
    """
    for name, value in (("rank", rank), ("sweeps", sweeps)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}.")
    check_positive(unobserved=unobserved, ridge=ridge)
    curve = preference_curve(training.scale, sharpness=sharpness)
    table = preference_matrix(training, curve)
    users, items = table.shape
    turned = table.transpose().tocsr()
    generator = np.random.default_rng(seed)
    vectors = generator.normal(0, 0.1 / np.sqrt(rank), (items, rank)).astype(np.float32)
    user_vectors = np.zeros((users, rank), np.float32)
    for _ in range(sweeps):
        user_vectors = _half_sweep(table, user_vectors, vectors, unobserved, ridge)
        vectors = _half_sweep(turned, vectors, user_vectors, unobserved, ridge)
    return ImplicitFactors(
        jnp.asarray(vectors),
        jnp.asarray(unobserved * (vectors.T @ vectors), jnp.float32),
        jnp.asarray(ridge, jnp.float32),
        jnp.asarray(unobserved * items, jnp.float32),
        1e-3 * tie_break(training),
        curve,
    )


def _half_sweep(
    table: Any,
    own: np.ndarray,
    other: np.ndarray,
    unobserved: float,
    ridge: float,
) -> np.ndarray:
    """Improves the vectors of the rows of a table, given those of its columns.

    Row u's vector solves `A x = b`, with `A = sum w y y' + unobserved Y'Y + ridge n I` and
    `b = sum w y`. Along the axes of `Y'Y` the part of A that all rows share is diagonal.
    """
    spectrum, axes = np.linalg.eigh(np.float32(unobserved) * (other.T @ other))
    own, other = own @ axes, other @ axes
    penalty = np.float32(ridge) * (table.sum(axis=1) + np.float32(unobserved * len(other)))

    def improve(rows: np.ndarray) -> None:
        at = table.indptr[rows, None] + np.arange(length[rows[0]])
        near, weight = other[table.indices[at]], table.data[at][:, None]
        diagonal = spectrum + penalty[rows, None]
        own[rows] = _conjugate_gradients(own[rows], near, weight, diagonal)

    length = np.diff(table.indptr)
    # NumPy leaves the interpreter to other threads while it computes.
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in threads.map(improve, _rows_of_a_length(length)):
            pass
    return own @ axes.T


def _rows_of_a_length(length: np.ndarray) -> Iterator[np.ndarray]:
    """Yields rows that are equally long, `_ROWS` entries or one row at a time."""
    order = np.argsort(length, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(length[order])) + 1):
        size = max(_ROWS // max(int(length[rows[0]]), 1), 1)
        yield from (rows[start : start + size] for start in range(0, len(rows), size))


def _conjugate_gradients(
    own: np.ndarray, near: np.ndarray, weight: np.ndarray, diagonal: np.ndarray
) -> np.ndarray:
    """Improves vectors `[B, k]` of rows of n vectors `[B, n, k]`, weighed by `[B, 1, n]`."""

    def product(vectors: np.ndarray) -> np.ndarray:
        scores = np.matmul(near, vectors[:, :, None]).transpose(0, 2, 1)
        return diagonal * vectors + np.matmul(weight * scores, near)[:, 0]

    residual = np.matmul(weight, near)[:, 0] - product(own)
    direction = residual
    size = np.sum(residual**2, axis=1)
    for _ in range(_STEPS):
        image = product(direction)
        curvature = np.sum(direction * image, axis=1)
        rate = np.where(curvature > 0, size / np.where(curvature > 0, curvature, 1), 0)[:, None]
        own = own + rate * direction
        residual = residual - rate * image
        after = np.sum(residual**2, axis=1)
        turn = np.where(size > 0, after / np.where(size > 0, size, 1), 0)[:, None]
        direction, size = residual + turn * direction, after
    return own


def _adapt(params: ImplicitFactors, support: Examples, key: jax.Array | None = None) -> jax.Array:
    item, weight = support_preferences(params.curve, support)
    near = params.vectors[item]
    penalty = params.ridge * (jnp.sum(weight) + params.everything)
    matrix = params.gram + near.T @ (weight[:, None] * near)
    matrix = matrix + penalty * jnp.eye(len(matrix))
    return jax.scipy.linalg.solve(matrix, weight @ near, assume_a="pos")


def _predict(params: ImplicitFactors, adapted: jax.Array, inputs: Inputs) -> jax.Array:
    return params.prior[inputs.item] + params.vectors[inputs.item] @ adapted


def _memory(shapes: Shapes, *, rank: int = 128, **settings: float) -> float:
    """Vectors, those that are improved three times over, and two blocks of interactions."""
    vectors = 3 * max(shapes.users, shapes.items) + min(shapes.users, shapes.items)
    return 4.0 * rank * (vectors + 2 * _ROWS)


implicit_als = Baseline(
    "implicit_als",
    "ranking",
    fit_implicit_factors,
    Adaptation(_adapt, _predict),
    grid=(
        {"rank": 128, "unobserved": 0.1, "ridge": 0.003},
        {"rank": 128, "unobserved": 0.03, "ridge": 0.003},
        {"rank": 128, "unobserved": 0.1, "ridge": 0.01},
        {"rank": 64, "unobserved": 0.3, "ridge": 0.003},
        {"rank": 64, "unobserved": 0.3, "ridge": 0.03},
    ),
    ranges={
        "rank": Range(16, 256, log=True),
        "unobserved": Range(0.01, 1.0, log=True),
        "ridge": Range(0.0003, 0.1, log=True),
        "sharpness": Range(0.5, 5.0),
    },
    of_grades=("sharpness",),
    memory=_memory,
)

baselines: tuple[Baseline, ...] = (implicit_als,)

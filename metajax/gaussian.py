"""Bayesian linear regression: Gaussian posterior, predictive variance, and EM for the prior.

The model of one user (or item): labels `y = X w + noise` with noise N(0, diag(n)) and a prior
w ~ N(m, S). With the sufficient statistics G = X' diag(n)^-1 X and h = X' diag(n)^-1 y,

    covariance = (S^-1 + G)^-1,    mean = m + covariance (h - G m) .

Functions take NumPy arrays (closed forms fitted on the host in float64, many users at a time) or
JAX arrays (differentiable, for one user under `jax.vmap`), and return the same kind.

References:
    C. M. Bishop, Pattern Recognition and Machine Learning, Springer 2006, sections 3.3 and 9.3.4.
    Laird and Ware, Random-Effects Models for Longitudinal Data, Biometrics 1982, section 4.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.types import Evidence, Examples, Posterior

__all__ = [
    "Population",
    "Statistics",
    "bounded_noise",
    "covariance_root",
    "em_step",
    "expected_error",
    "population_moments",
    "posterior",
    "predictive_variance",
    "rank_one_update",
    "residual_variance",
    "ridge_posterior",
    "second_moments",
    "weighted_statistics",
]

# A NumPy or a JAX array.
Array = Any


class Statistics(NamedTuple):
    """Sufficient statistics of the rows (x, y) of S users for linear regressions of width F."""

    gram: np.ndarray
    """`[S, F, F]` sum of x x' of each user."""
    cross: np.ndarray
    """`[S, F]` sum of x y of each user."""
    square: float
    """Sum of y^2 over all rows."""
    count: int
    """Number of rows, >= 1."""


class Population(NamedTuple):
    """Gaussian prior of the coefficients of S users, and the variance of the noise."""

    mean: np.ndarray
    """`[F]`, or `[S, F]` where users differ."""
    covariance: np.ndarray
    """`[F, F]`."""
    noise: float
    """Variance of a label given the coefficients, > 0."""


def weighted_statistics(
    design: Array, labels: Array, noise: Array, where: Array | None = None
) -> tuple[Array, Array]:
    """Returns the sufficient statistics of one user's rows, weighted by their precision.

    Args:
        design: `[N, F]` regressors X.
        labels: `[N]` y, what the regressors explain.
        noise: `[N]` variances of the rows, or `[]` one for all, > 0.
        where: `[N]` bool; rows that are False are left out, whatever they hold. None means all.

    Returns:
        `[F, F]` G and `[F]` h, both 0 without rows.

    Raises:
        ValueError: If the shapes do not match.
    """
    rows = np.shape(design)[:1]
    shapes = [np.shape(labels), np.shape(noise) or rows, rows if where is None else np.shape(where)]
    if np.ndim(design) != 2 or any(shape != rows for shape in shapes):
        got = [np.shape(leaf) for leaf in (design, labels, noise, where) if leaf is not None]
        raise ValueError(f"design must be [N, F], labels, noise and where [N], got {got}.")
    xp = _namespace(design)
    if where is not None:
        design = xp.where(where[:, None], design, 0)
        labels = xp.where(where, labels, 0)
        noise = xp.where(where, noise, 1)
    weighted = design / xp.broadcast_to(noise, rows)[:, None]
    return weighted.T @ design, weighted.T @ labels


def posterior(
    gram: Array, cross: Array, mean: Array | None = None, covariance: Array | None = None
) -> Posterior:
    """Returns the posterior of linear regression coefficients with a Gaussian prior.

    With the Cholesky factor L of the prior covariance, `covariance = L (I + L' G L)^-1 L'`: no
    inverse of the prior covariance, and a matrix to invert that is symmetric with eigenvalues >= 1.

    Args:
        gram: `[..., F, F]` sufficient statistics G, weighted by the precision of the noise.
        cross: `[..., F]` h.
        mean: `[F]` prior mean m, or `[..., F]`; None means 0.
        covariance: `[F, F]` prior covariance S, or `[..., F, F]`; None means the identity.

    Returns:
        Posterior mean `[..., F]` and covariance `[..., F, F]`; the prior where G and h are 0.

    Raises:
        ValueError: If the shapes do not match.
    """
    width = np.shape(cross)[-1:]
    if (
        np.shape(gram) != np.shape(cross) + width
        or (mean is not None and np.shape(mean) not in (width, np.shape(cross)))
        or (covariance is not None and np.shape(covariance) not in (2 * width, np.shape(gram)))
    ):
        got = [np.shape(leaf) for leaf in (gram, cross, mean, covariance) if leaf is not None]
        raise ValueError(
            f"gram and covariance must be [..., F, F], cross and mean [..., F], got {got}."
        )
    xp = _namespace(gram)
    eye = xp.broadcast_to(xp.eye(width[0], dtype=gram.dtype), gram.shape)
    if covariance is None:
        spread = _inverse(eye + gram)
    else:
        root = xp.linalg.cholesky(covariance)
        upper = xp.swapaxes(root, -1, -2)
        spread = root @ _inverse(eye + upper @ gram @ root) @ upper
    if mean is None:
        return Posterior(_times(spread, cross), spread)
    mean = xp.broadcast_to(mean, cross.shape)
    return Posterior(mean + _times(spread, cross - _times(gram, mean)), spread)


def rank_one_update(
    before: Posterior, design: Array, label: Array, noise: Array, where: Array = True
) -> Posterior:
    """Returns the posterior after one more label, in F^2 operations and without an inverse.

    Args:
        before: Mean `[F]` and covariance `[F, F]`.
        design: `[F]` regressors x of the label.
        label: `[]` y.
        noise: `[]` variance of the label given the coefficients, > 0.
        where: `[]` bool; False leaves the posterior as it is, whatever the rest holds.

    Returns:
        The posterior; up to rounding that of all labels at once.

    Raises:
        ValueError: If the shapes do not match.

    References:
        Sherman and Morrison, Adjustment of an Inverse Matrix Corresponding to a Change in One
        Element of a Given Matrix, Annals of Mathematical Statistics 21, 1950.
    """
    width = np.shape(before.mean)
    if len(width) != 1 or np.shape(design) != width or np.shape(before.covariance) != 2 * width:
        got = [np.shape(leaf) for leaf in (design, *before)]
        raise ValueError(f"design and mean must be [F], covariance [F, F], got {got}.")
    for name, value in (("label", label), ("noise", noise), ("where", where)):
        if np.shape(value) != ():
            raise ValueError(f"{name} must be a number, got the shape {np.shape(value)}.")
    xp = _namespace(before.mean)
    design = xp.where(where, design, 0)
    label, noise = xp.where(where, label, 0), xp.where(where, noise, 1)
    spread = before.covariance @ design
    gain = spread / (design @ spread + noise)
    error = label - design @ before.mean
    return Posterior(before.mean + gain * error, before.covariance - xp.outer(gain, spread))


def ridge_posterior(
    evidence: Evidence, support: Examples, mean: jax.Array | None = None
) -> Posterior:
    """Returns the posterior of one user whose prior covariance is the identity.

    Args:
        evidence: Expected labels, regressors and noise of N interactions.
        support: The interactions; padding counts for nothing.
        mean: `[F]` prior mean; None means 0.

    Returns:
        The posterior, mean `[F]` and covariance `[F, F]`.
    """
    noise = evidence.noise if evidence.power is None else evidence.noise / evidence.power
    rest = support.labels - evidence.expected
    return posterior(*weighted_statistics(evidence.design, rest, noise, support.mask), mean)


def covariance_root(covariance: jax.Array) -> jax.Array:
    """Returns a factor L of a covariance L L', `[F, F]`, also where rounding left it indefinite.

    Args:
        covariance: `[F, F]`; a direction that is all but known may have a tiny negative variance.
    """
    covariance = jnp.asarray(covariance)
    size = jnp.trace(covariance) / len(covariance)
    eye = jnp.eye(len(covariance), dtype=covariance.dtype)
    ridge = 4 * jnp.finfo(covariance.dtype).eps * size
    return jnp.linalg.cholesky(covariance + ridge * eye)


def predictive_variance(covariance: Array, design: Array, noise: Array) -> Array:
    """Returns the variance of labels of known regressors, `x' covariance x + noise`, `[N]`.

    Args:
        covariance: `[F, F]` of the coefficients.
        design: `[N, F]` regressors x.
        noise: `[N]` variance of each label given the coefficients, or `[]`.
    """
    return ((design @ covariance) * design).sum(axis=-1) + noise


def em_step(
    statistics: Statistics,
    prior: Population,
    project: Callable[[np.ndarray], np.ndarray] | None = None,
) -> tuple[Posterior, Population]:
    """Makes one step of expectation maximisation for prior mean, prior covariance and noise.

    E-step: the posteriors of all users. M-step: the moments of the population, and the expected
    squared residual. The marginal likelihood of the labels never falls.

    Args:
        statistics: Of S users, each with a row or more.
        prior: Prior before the step.
        project: From posterior means `[S, F]` to prior means `[S, F]`, for instance their
            regression on attributes of the users; None means their average.

    Returns:
        The posteriors under `prior`, mean `[S, F]` and covariance `[S, F, F]`; and the new prior.
    """
    found = posterior(
        statistics.gram / prior.noise, statistics.cross / prior.noise, prior.mean, prior.covariance
    )
    mean, covariance = population_moments(found, project)
    return found, Population(mean, covariance, residual_variance(statistics, found))


def population_moments(
    posteriors: Posterior, project: Callable[[np.ndarray], np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns prior mean and covariance that maximise the expected likelihood of S posteriors.

    Args:
        posteriors: Mean `[S, F]` and covariance `[S, F, F]`.
        project: As in `em_step`.

    Returns:
        `[F]` mean, or `[S, F]` with `project`, and `[F, F]` covariance.
    """
    mean = np.mean(posteriors.mean, axis=0) if project is None else project(posteriors.mean)
    rest = posteriors.mean - mean
    return mean, np.mean(posteriors.covariance, axis=0) + rest.T @ rest / len(rest)


def residual_variance(statistics: Statistics, posteriors: Posterior) -> float:
    """Returns the mean over rows of the expected `(y - x . w)^2`, at least 1e-6 of that of `y^2`.

    Where every y is 0 it is at least 1e-6.

    Args:
        statistics: Of S users.
        posteriors: Of their coefficients w, mean `[S, F]` and covariance `[S, F, F]`.
    """
    square = statistics.square
    error = square + expected_error(statistics, posteriors)
    return bounded_noise(error, square, statistics.count)


def expected_error(statistics: Statistics, posteriors: Posterior) -> float:
    """Returns the sum over rows of the expected `(y - x . w)^2`, less that of `y^2`.

    Args:
        statistics: Of S users.
        posteriors: Of their coefficients w, mean `[S, F]` and covariance `[S, F, F]`.
    """
    # The square expanded, so that no pass over the rows is needed.
    second = second_moments(posteriors)
    explained = 2 * np.sum(posteriors.mean * statistics.cross)
    return float(np.sum(second * statistics.gram) - explained)


def bounded_noise(error: float, square: float, count: int) -> float:
    """Returns the variance of the noise, at least 1e-6 of that of the labels.

    Args:
        error: Sum over rows of the expected squared residual.
        square: Sum over rows of the squared label.
        count: Number of rows.
    """
    return max(error / count, 1e-6 * (square / count or 1.0))


def second_moments(posteriors: Posterior) -> np.ndarray:
    """Returns the expected products w w' of S Gaussian vectors, `[S, F, F]`."""
    mean = posteriors.mean
    return posteriors.covariance + mean[:, :, None] * mean[:, None, :]


def _namespace(array: Array) -> Any:
    return np if isinstance(array, np.ndarray) else jnp


def _times(matrix: Array, vector: Array) -> Array:
    return (matrix @ vector[..., None])[..., 0]


def _inverse(matrix: Array) -> Array:
    return np.linalg.inv(matrix) if isinstance(matrix, np.ndarray) else _inverse_of_definite(matrix)


@jax.custom_jvp
def _inverse_of_definite(matrix: jax.Array) -> jax.Array:
    """Inverts positive definite matrices `[..., F, F]`.

    The derivative consists of products alone. Derived automatically it would hold more triangular
    solves side by side, and two batches of those at once can block the threads of XLA's CPU client
    for good: each waits, on a thread of the pool, for parts of its batch that no thread is left to
    work on.
    """
    root = jax.scipy.linalg.cho_factor(matrix)
    eye = jnp.broadcast_to(jnp.eye(matrix.shape[-1], dtype=matrix.dtype), matrix.shape)
    return jax.scipy.linalg.cho_solve(root, eye)


@_inverse_of_definite.defjvp
def _inverse_of_definite_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    inverse = _inverse_of_definite(*primals)
    return inverse, -inverse @ tangents[0] @ inverse

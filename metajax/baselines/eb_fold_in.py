"""Empirical-Bayes fold-in: Bayesian linear regression of a user's ratings on item factors."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.adaptation import ridge_head
from metajax.baselines.baseline import Baseline
from metajax.baselines.factors import Factors, fit_factors
from metajax.data.dataset import TrainingSet
from metajax.fields import Range
from metajax.types import Evidence, Inputs

__all__ = ["FoldIn", "baselines", "eb_fold_in", "fold_in_evidence", "fold_in_of", "standardised"]


class FoldIn(NamedTuple):
    """A linear Gaussian model of ratings by users with standard normal latents z `[F]`.

    A user with attributes a rates item i `expected[i] + design[i] . (user_map' a + z)`, plus noise.
    """

    expected: jax.Array
    """`[I]` expected rating by a user without attributes."""
    design: jax.Array
    """`[I, F]` effect of a unit of each latent."""
    noise: jax.Array
    """`[I]` variance of a rating given the latents."""
    user_map: jax.Array | None = None
    """`[Du, F]` from encoded attributes of a user to prior means of the latents; None means 0."""
    power: jax.Array | None = None
    """`[]` weight of a rating of the support, as if it had been given so many times; None: 1."""


def fold_in_evidence(params: FoldIn, inputs: Inputs) -> Evidence:
    """Returns expected ratings, regressors and noise of interactions."""
    expected, design = params.expected[inputs.item], params.design[inputs.item]
    if params.user_map is not None:
        expected = expected + jnp.sum((inputs.user_features @ params.user_map) * design, axis=1)
    power = None if params.power is None else jnp.broadcast_to(params.power, expected.shape)
    return Evidence(expected, design, params.noise[inputs.item], power)


def standardised(
    expected: np.ndarray, design: np.ndarray, mean: np.ndarray, covariance: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rewrites a linear model of latents with prior N(m, L L') for standard normal latents z.

    The rating e + x . w is (e + x . m) + (L' x) . z.

    Args:
        expected: `[I]` e.
        design: `[I, F]` x.
        mean: `[F]` prior mean m.
        covariance: `[F, F]` prior covariance.

    Returns:
        `[I]` e + x . m, `[I, F]` L' x, and the Cholesky factor L `[F, F]`.
    """
    root = np.linalg.cholesky(covariance)
    return expected + design @ mean, design @ root, root


def fold_in_of(factors: Factors, *, noise_scale: float = 1.0) -> FoldIn:
    """Returns the fold-in on given item factors.

    Args:
        factors: The model of ratings.
        noise_scale: Factor of the noise of the support's ratings, > 0.
    """
    mean, bias, vectors, prior_mean, prior, noise = (
        np.asarray(leaf, np.float64) for leaf in factors
    )
    design = np.insert(vectors, 0, 1.0, axis=1)
    expected, design, _ = standardised(mean + bias, design, prior_mean, prior)
    return FoldIn(
        jnp.asarray(expected, jnp.float32),
        jnp.asarray(design, jnp.float32),
        jnp.full(len(bias), noise, jnp.float32),
        power=jnp.asarray(1 / noise_scale, jnp.float32),
    )


def _fit(training: TrainingSet, *, noise_scale: float = 1.0, **settings: Any) -> FoldIn:
    """Fits factors, and tempers the likelihood of a new user's support.

    Args:
        training: The training users' log.
        noise_scale: Factor of the noise of the support's ratings, > 0. Above 1 the support counts
            for less: first ratings come in sessions of similar items and carry less
            information than independent ones.
        **settings: As in `fit_factors`.

    Returns:
        The parameters.

    Raises:
        ValueError: If the scale is not positive, or as in `fit_factors`.
    """
    if not noise_scale > 0:
        raise ValueError(f"noise_scale must be > 0, got {noise_scale}.")
    return fold_in_of(fit_factors(training.interactions, **settings), noise_scale=noise_scale)


eb_fold_in = Baseline(
    "eb_fold_in",
    "rating",
    _fit,
    ridge_head(fold_in_evidence),
    grid=tuple(
        {"rank": rank, "item_ridge": ridge, "noise_scale": scale}
        for rank, ridge in ((8, 120.0), (4, 60.0))
        for scale in (1.0, 1.5)
    ),
    ranges={
        "rank": Range(2, 16),
        "item_ridge": Range(10.0, 500.0, log=True),
        "noise_scale": Range(0.7, 3.0, log=True),
    },
)

baselines: tuple[Baseline, ...] = (eb_fold_in,)

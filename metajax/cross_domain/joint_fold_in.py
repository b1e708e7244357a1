"""Empirical-Bayes fold-in across domains: one posterior of what a user is like in both."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from metajax.adaptation import ridge_head
from metajax.baselines.baseline import Baseline
from metajax.baselines.eb_fold_in import FoldIn, fold_in_evidence, standardised
from metajax.cross_domain.joint_factors import JointFactors, fit_joint_factors
from metajax.data.dataset import TrainingSet

__all__ = ["baselines", "joint_fold_in", "joint_fold_in_of"]


def joint_fold_in_of(factors: JointFactors) -> FoldIn:
    """Returns the fold-in on given factors of both domains."""
    expected, design, noise, mean, weights, covariance = (
        np.asarray(leaf, np.float64) for leaf in factors
    )
    expected, design, root = standardised(expected, design, mean, covariance)
    user_map = np.linalg.solve(root, weights.T).T
    return FoldIn(*(jnp.asarray(leaf, jnp.float32) for leaf in (expected, design, noise, user_map)))


def _fit(training: TrainingSet, **settings: Any) -> FoldIn:
    """Fits joint factors; settings as in `fit_joint_factors`."""
    return joint_fold_in_of(fit_joint_factors(training, **settings))


joint_fold_in = Baseline(
    "joint_fold_in",
    "rating",
    _fit,
    ridge_head(fold_in_evidence),
    grid=(
        {"rank": 4, "item_ridge": 60.0, "correlation": 0.8},
        {"rank": 2, "item_ridge": 30.0, "correlation": 0.9},
        {"rank": 4, "item_ridge": 120.0, "correlation": 0.6},
        {"rank": 8, "item_ridge": 120.0, "correlation": 0.8},
    ),
    two_domains=True,
)

baselines: tuple[Baseline, ...] = (joint_fold_in,)

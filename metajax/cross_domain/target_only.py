"""No transfer: empirical-Bayes fold-in of the target domain alone."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metajax.baselines.baseline import Baseline
from metajax.baselines.eb_fold_in import FoldIn, eb_fold_in
from metajax.cross_domain.domains import TARGET, domain_logs
from metajax.data.dataset import TrainingSet
from metajax.types import Adaptation, Examples, Inputs, Posterior

__all__ = ["baselines", "target_only"]


class _Params(NamedTuple):
    item_domain: jax.Array
    """`[I]` int32, 0 for the source and 1 for the target."""
    fold_in: FoldIn
    """Parameters of `eb_fold_in`, fitted to the target alone."""


def _fit(training: TrainingSet, **settings: Any) -> _Params:
    """Fits the empirical-Bayes fold-in to the rows of the target.

    Args:
        training: Both domains.
        **settings: As in `eb_fold_in`.

    Returns:
        The parameters.

    Raises:
        ValueError: If there is a single domain, or as `eb_fold_in`.
    """
    _, target = domain_logs(training)
    fitted = eb_fold_in.fit(training._replace(interactions=target), **settings)
    return _Params(jnp.asarray(training.item_domain, jnp.int32), fitted)


def _adapt(params: _Params, support: Examples, key: jax.Array | None = None) -> Posterior:
    item = jnp.where(support.mask, support.inputs.item, 0)
    seen = support._replace(mask=support.mask & (params.item_domain[item] == TARGET))
    return eb_fold_in.adaptation.adapt(params.fold_in, seen)


def _predict(params: _Params, posterior: Posterior, inputs: Inputs) -> jax.Array:
    return eb_fold_in.adaptation.predict(params.fold_in, posterior, inputs)


def _predict_variance(params: _Params, posterior: Posterior, inputs: Inputs) -> jax.Array:
    variance = eb_fold_in.adaptation.predict_variance
    assert variance is not None
    return variance(params.fold_in, posterior, inputs)


target_only = Baseline(
    "target_only",
    "rating",
    _fit,
    Adaptation(_adapt, _predict, _predict_variance),
    grid=eb_fold_in.grid,
    ranges=eb_fold_in.ranges,
    two_domains=True,
    target_alone=True,
)

baselines: tuple[Baseline, ...] = (target_only,)

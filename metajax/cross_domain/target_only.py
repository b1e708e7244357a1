"""No transfer: fold-in of ratings, or EASE or ItemKNN of lists, of the target domain alone."""

from functools import wraps
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metajax.baselines.baseline import Baseline
from metajax.baselines.ease import ease
from metajax.baselines.eb_fold_in import eb_fold_in
from metajax.baselines.item_knn import item_knn
from metajax.cross_domain.domains import TARGET, domain_logs
from metajax.data.dataset import TrainingSet
from metajax.types import Adaptation, Examples, Params, Predict

__all__ = ["baselines", "target_only"]


class _Params(NamedTuple):
    item_domain: jax.Array
    """`[I]` int32, 0 for the source and 1 for the target."""
    fitted: Params
    """Parameters of the rule, fitted to the target alone."""


def _in_target(name: str, rule: Baseline) -> Baseline:
    """Returns a rule that sees the rows of the target alone, in training and in supports."""
    of_rule = rule.adaptation

    @wraps(rule.fit)  # The signature tells the search the defaults.
    def fit(training: TrainingSet, **settings: Any) -> _Params:
        _, target = domain_logs(training)
        fitted = rule.fit(training._replace(interactions=target), **settings)
        return _Params(jnp.asarray(training.item_domain, jnp.int32), fitted)

    def adapt(params: _Params, support: Examples, key: jax.Array | None = None) -> Any:
        item = jnp.where(support.mask, support.inputs.item, 0)
        seen = support._replace(mask=support.mask & (params.item_domain[item] == TARGET))
        return of_rule.adapt(params.fitted, seen, key)

    def fitted(predict: Predict) -> Predict:
        return lambda params, adapted, inputs: predict(params.fitted, adapted, inputs)

    variance = of_rule.predict_variance
    return Baseline(
        name,
        rule.predicts,
        fit,
        Adaptation(adapt, fitted(of_rule.predict), variance and fitted(variance)),
        grid=rule.grid,
        ranges=rule.ranges,
        two_domains=True,
        target_alone=True,
        most_items=rule.most_items,
    )


target_only = _in_target("target_only", eb_fold_in)

baselines: tuple[Baseline, ...] = (
    target_only,
    _in_target("target_only_ease", ease),
    _in_target("target_only_item_knn", item_knn),
)

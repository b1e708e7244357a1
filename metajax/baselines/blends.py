"""Blends of popularity with a personalised ranking whose weight grows with the support."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.baselines.baseline import Baseline
from metajax.baselines.ease import ease
from metajax.baselines.item_knn import item_knn
from metajax.baselines.preferences import first_equal, liked_counts
from metajax.data.dataset import TrainingSet
from metajax.fields import Range, Search
from metajax.types import Adaptation, Examples, Inputs, Params

__all__ = ["baselines", "ease_blend", "item_knn_blend", "popularity_blend"]


# Settings of a blend itself, and their defaults.
_WEIGHTS = {"weight": 3.0, "growth": 0.0}


class _Params(NamedTuple):
    personal: Params
    """Of the blended method."""
    log_popularity: jax.Array
    """`[I]` log(1 + users who like the item), scaled to [0, 1]."""
    weight: jax.Array
    """`[]` of the personal score after one interaction."""
    growth: jax.Array
    """`[]` the weight is multiplied by K^growth after K interactions."""


class _Adapted(NamedTuple):
    personal: Any
    """State of the blended method."""
    weight: jax.Array
    """`[]` of its score against popularity."""


def _of_personal(setting: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in setting.items() if name not in _WEIGHTS}


def popularity_blend(
    name: str,
    personal: Baseline,
    grid: tuple[Mapping[str, Any], ...],
    ranges: Mapping[str, Search] = MappingProxyType({}),
) -> Baseline:
    """Adds scaled log popularity to `weight K^growth` times another ranking baseline's score.

    Scores that sum over the support already grow with K; `growth` bends that. At K = 0 it ranks
    by popularity.

    Args:
        name: Name of the blend.
        personal: A ranking baseline whose score is 0, or a tie-break, for an empty support.
        grid: Settings to try: `weight`, `growth`, and those of the blended method.
        ranges: As `Baseline.ranges`.

    Returns:
        The blend.
    """

    def fit_many(training: TrainingSet, settings: Sequence[Mapping[str, Any]]) -> Iterator[_Params]:
        """Yields the blends; those that differ in weight and growth alone share a fit."""
        log_liked = np.log1p(liked_counts(training))
        popular = jnp.asarray(log_liked / max(log_liked.max(), 1e-6), jnp.float32)
        own = [_of_personal(setting) for setting in settings]
        shared = first_equal(own, personal.of_grades, training)
        fitted: dict[int, Params] = {}
        for at, (first, setting) in enumerate(zip(shared, settings, strict=True)):
            weight, growth = ({**_WEIGHTS, **setting}[name] for name in _WEIGHTS)
            if not weight >= 0:
                raise ValueError(f"weight must be >= 0, got {weight}.")
            if first == at:
                fitted[at] = personal.fit(training, **own[at])
            yield _Params(fitted[first], popular, *(jnp.float32(x) for x in (weight, growth)))
            if first not in shared[at + 1 :]:
                del fitted[first]  # It may be as large as items by items.

    def adapt(params: _Params, support: Examples, key: jax.Array | None = None) -> _Adapted:
        count = jnp.maximum(jnp.sum(support.mask), 1).astype(jnp.float32)
        weight = params.weight * count**params.growth
        return _Adapted(personal.adaptation.adapt(params.personal, support, key), weight)

    def predict(params: _Params, adapted: _Adapted, inputs: Inputs) -> jax.Array:
        taste = personal.adaptation.predict(params.personal, adapted.personal, inputs)
        return params.log_popularity[inputs.item] + adapted.weight * taste

    return Baseline(
        name,
        "ranking",
        lambda training, **settings: next(fit_many(training, [settings])),
        Adaptation(adapt, predict),
        grid,
        ranges,
        fit_many=fit_many,
        of_grades=personal.of_grades,
        most_items=personal.most_items,
        memory=lambda shapes, **settings: personal.memory(shapes, **_of_personal(settings)),
    )


# Which is better depends on whether the first interactions are a fair sample of what the user
# likes: the first of each grid favours the user's taste, the second popularity.
item_knn_blend = popularity_blend(
    "item_knn_blend",
    item_knn,
    (
        {"weight": 3.0, "growth": 1.0, "sharpness": 1.0},
        {"weight": 0.1, "growth": 1.0, "sharpness": 3.0},
        {"weight": 3.0, "growth": 0.0, "sharpness": 1.0},
        {"weight": 0.3, "growth": 0.0, "sharpness": 3.0},
        {"weight": 1.0, "growth": 1.0, "sharpness": 1.0},
        {"weight": 0.3, "growth": 0.5, "sharpness": 3.0},
    ),
    {
        "weight": Range(0.03, 30.0, log=True),
        "growth": Range(0.0, 1.5),
        "sharpness": Range(0.5, 5.0),
    },
)
ease_blend = popularity_blend(
    "ease_blend",
    ease,
    (
        {"weight": 54.0, "growth": 0.5, "ridge": 3000.0, "sharpness": 1.0},
        {"weight": 18.0, "growth": 0.0, "ridge": 10000.0, "sharpness": 3.0},
        {"weight": 54.0, "growth": 0.0, "ridge": 3000.0, "sharpness": 1.0},
        {"weight": 6.0, "growth": 0.5, "ridge": 10000.0, "sharpness": 3.0},
        {"weight": 18.0, "growth": 1.0, "ridge": 3000.0, "sharpness": 1.0},
        {"weight": 1.8, "growth": 0.5, "ridge": 3000.0, "sharpness": 3.0},
    ),
    {
        "weight": Range(0.5, 500.0, log=True),
        "growth": Range(0.0, 1.5),
        "ridge": Range(100.0, 30000.0, log=True),
        "sharpness": Range(0.5, 5.0),
    },
)

baselines: tuple[Baseline, ...] = (
    item_knn_blend,
    ease_blend,
)

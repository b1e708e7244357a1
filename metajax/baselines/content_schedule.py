"""Content schedule: a content profile that gives way to neighbours as interactions come."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metajax.baselines.baseline import Baseline
from metajax.baselines.content_profile import Profile, content_profile, fit_content_profile
from metajax.baselines.item_knn import Neighbours, fit_neighbours, item_knn
from metajax.data.dataset import TrainingSet
from metajax.types import Adaptation, Examples, Inputs

__all__ = ["baselines", "content_schedule"]

# Numbers of interactions from which on the second and the third weight hold.
_FROM = (5, 20)


class _Params(NamedTuple):
    content: Profile
    personal: Neighbours
    weights: jax.Array
    """`[3]` of content, below 5 interactions, below 20 and above."""


class _Adapted(NamedTuple):
    content: Any
    personal: Any
    scale: jax.Array
    """`[2, 2]` mean and standard deviation over the catalogue of either's scores."""
    weight: jax.Array
    """`[]` of content."""


def _fit(
    training: TrainingSet, *, weights: Sequence[float] = (0.8, 0.5, 0.2), **settings: Any
) -> _Params:
    """Fits both parts.

    Args:
        training: Items with features, and the training users' log.
        weights: Of content below 5 interactions, from 5 to 19, and from 20 on, each in [0, 1].
        **settings: As in `fit_neighbours`.

    Raises:
        ValueError: If a weight is out of range, or as `fit_neighbours`.
    """
    if len(weights) != 3 or not all(0 <= weight <= 1 for weight in weights):
        raise ValueError(f"weights must be three numbers in [0, 1], got {list(weights)}.")
    return _Params(
        fit_content_profile(training),
        fit_neighbours(training, **settings),
        jnp.asarray(weights, jnp.float32),
    )


def _adapt(params: _Params, support: Examples, key: jax.Array | None = None) -> _Adapted:
    content = content_profile.adaptation.adapt(params.content, support)
    personal = item_knn.adaptation.adapt(params.personal, support)
    # Neither part looks at features of the inputs.
    everything = jnp.arange(len(params.content.features), dtype=jnp.int32)
    nothing = jnp.zeros((len(everything), 1))
    scores = _parts(params, content, personal, Inputs(nothing, nothing, everything))
    spread = jnp.std(scores, axis=1)
    scale = jnp.stack([jnp.mean(scores, axis=1), jnp.where(spread > 1e-12, spread, 1)])
    count = jnp.sum(support.mask)
    place = jnp.sum(count >= jnp.asarray(_FROM))
    return _Adapted(content, personal, scale, params.weights[place])


def _parts(params: _Params, content: Any, personal: Any, inputs: Inputs) -> jax.Array:
    """Returns `[2, N]` scores of either part."""
    return jnp.stack(
        [
            content_profile.adaptation.predict(params.content, content, inputs),
            item_knn.adaptation.predict(params.personal, personal, inputs),
        ]
    )


def _predict(params: _Params, adapted: _Adapted, inputs: Inputs) -> jax.Array:
    scores = _parts(params, adapted.content, adapted.personal, inputs)
    mean, spread = adapted.scale
    of_content, of_personal = (scores - mean[:, None]) / spread[:, None]
    return adapted.weight * of_content + (1 - adapted.weight) * of_personal


content_schedule = Baseline(
    "content_schedule",
    "ranking",
    _fit,
    Adaptation(_adapt, _predict),
    most_items=item_knn.most_items,
    of_grades=("sharpness",),
    memory=lambda shapes, **settings: max(
        part.memory(shapes, **settings) for part in (content_profile, item_knn)
    ),
)
"""The textbook schedule; either part's scores are standardised over the catalogue."""

baselines: tuple[Baseline, ...] = (content_schedule,)

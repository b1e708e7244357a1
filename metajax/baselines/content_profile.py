"""Content profile: items whose content features are near to the mean of those that a user likes."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.baselines.baseline import Baseline
from metajax.baselines.preferences import (
    PreferenceCurve,
    preference_curve,
    support_preferences,
    tie_break,
)
from metajax.data.dataset import Shapes, TrainingSet
from metajax.fields import Choices, Range, check_name
from metajax.types import Adaptation, Examples, Inputs

__all__ = ["Profile", "baselines", "content_profile", "fit_content_profile"]


class Profile(NamedTuple):
    """Content features of the catalogue."""

    features: jax.Array
    """`[I, D]` centred features, of mean square 1 an item."""
    euclidean: jax.Array
    """`[]` int32, 1 for the Euclidean distance and 0 for the cosine."""
    prior: jax.Array
    """`[I]` as in `tie_break`."""
    curve: PreferenceCurve
    """Preference of a rating."""


class _Liked(NamedTuple):
    mean: jax.Array
    """`[D]` mean features of the support, weighted by preference."""
    weight: jax.Array
    """`[]` sum of the preferences."""


def fit_content_profile(
    training: TrainingSet,
    *,
    distance: Literal["cosine", "euclidean"] = "cosine",
    sharpness: float = 1.0,
) -> Profile:
    """Standardises content features; a log without interactions is enough.

    Args:
        training: Items with features; likes in the log break ties, and order an empty support.
        distance: "cosine" of features and profile, or "euclidean", minus their distance.
        sharpness: As in `preference_curve`.

    Returns:
        The features.

    Raises:
        ValueError: If a setting is out of range.

    References:
        Pazzani and Billsus, Content-Based Recommendation Systems, in The Adaptive Web, Springer
        2007, section 10.3, Rocchio's method; here ratings are weights, all >= 0.
    """
    check_name(distance, ("cosine", "euclidean"), "distance")
    features = np.asarray(training.item_features, np.float64)
    features = features - features.mean(axis=0)
    features /= np.sqrt(max(np.mean(np.sum(features**2, axis=1)), 1e-12))
    return Profile(
        jnp.asarray(features, jnp.float32),
        jnp.asarray(distance == "euclidean", jnp.int32),
        tie_break(training),
        preference_curve(training.scale, sharpness=sharpness),
    )


def _adapt(params: Profile, support: Examples, key: jax.Array | None = None) -> _Liked:
    item, weight = support_preferences(params.curve, support)
    total = jnp.sum(weight)
    return _Liked(weight @ params.features[item] / jnp.maximum(total, 1e-9), total)


def _predict(params: Profile, adapted: _Liked, inputs: Inputs) -> jax.Array:
    x = params.features[inputs.item]
    sizes = jnp.linalg.norm(x, axis=1) * jnp.linalg.norm(adapted.mean)
    cosine = x @ adapted.mean / jnp.where(sizes > 1e-9, sizes, 1)
    near = jnp.where(params.euclidean == 1, -jnp.linalg.norm(x - adapted.mean, axis=1), cosine)
    return jnp.where(adapted.weight > 0, near, 0) + params.prior[inputs.item]


def _memory(shapes: Shapes, **settings: float) -> float:
    """Features in double precision, centred and not."""
    return 2 * 8.0 * shapes.items * shapes.item_width


content_profile = Baseline(
    "content_profile",
    "ranking",
    fit_content_profile,
    Adaptation(_adapt, _predict),
    grid=(
        {},
        {"distance": "euclidean"},
        {"sharpness": 3.0},
        {"distance": "euclidean", "sharpness": 3.0},
    ),
    ranges={"distance": Choices(("cosine", "euclidean")), "sharpness": Range(0.5, 5.0)},
    of_grades=("sharpness",),
    memory=_memory,
)

baselines: tuple[Baseline, ...] = (content_profile,)

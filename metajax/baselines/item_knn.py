"""ItemKNN: item-based nearest neighbours by shrunk cosine, with fold-in of new users."""

from typing import NamedTuple

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
from metajax.baselines.sparse import nearest_items, preference_matrix
from metajax.data.dataset import Shapes, TrainingSet
from metajax.fields import Range
from metajax.types import Adaptation, Examples, Inputs

__all__ = ["Neighbours", "baselines", "fit_neighbours", "item_knn"]


class Neighbours(NamedTuple):
    """Each item's most similar items."""

    item: jax.Array
    """`[I, n]` int32 neighbours of each item."""
    similarity: jax.Array
    """`[I, n]` shrunk cosine, 0 where there are fewer than n."""
    prior: jax.Array
    """`[I]` as in `tie_break`."""
    curve: PreferenceCurve
    """Preference of a rating."""


def fit_neighbours(
    training: TrainingSet, *, neighbours: int = 200, shrinkage: float = 50.0, sharpness: float = 1.0
) -> Neighbours:
    """Finds the nearest items by the cosine of their columns of preferences.

    The cosine of columns a and b is shrunk to `a.b / (|a||b| + shrinkage)`, so that two items that
    one user liked are not the closest of all.

    Args:
        training: The training users' log.
        neighbours: Neighbours kept of each item, >= 1; no more than the other items there are.
        shrinkage: Added to the product of norms, >= 0.
        sharpness: As in `preference_curve`.

    Returns:
        The neighbours: memory is `I n`, time that of `nearest_items`.

    Raises:
        ValueError: If a setting is out of range.

    References:
        Deshpande and Karypis, "Item-Based Top-N Recommendation Algorithms", TOIS 2004, section
        4, without normalising each item's similarities.
    """
    if neighbours < 1:
        raise ValueError(f"neighbours must be >= 1, got {neighbours}.")
    if not shrinkage >= 0:
        raise ValueError(f"shrinkage must be >= 0, got {shrinkage}.")
    curve = preference_curve(training.scale, sharpness=sharpness)
    table = preference_matrix(training, curve)
    length = np.sqrt(np.bincount(table.indices, table.data**2, table.shape[1]))
    norm, extra = length.astype(np.float32), np.float32(shrinkage)

    def cosine(product: np.ndarray, item: np.ndarray, other: np.ndarray) -> np.ndarray:
        scale = norm[item] * norm[other] + extra
        return product / np.where(scale > 0, scale, 1)

    item, similarity = nearest_items(table, cosine, most=neighbours)
    return Neighbours(jnp.asarray(item), jnp.asarray(similarity), tie_break(training), curve)


def _adapt(
    params: Neighbours, support: Examples, key: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    return support_preferences(params.curve, support)


def _predict(params: Neighbours, adapted: tuple[jax.Array, jax.Array], inputs: Inputs) -> jax.Array:
    item, weight = adapted
    # Scattered from the support's side: its neighbours are few, candidates are the catalogue.
    scores = params.prior.at[params.item[item]].add(weight[:, None] * params.similarity[item])
    return scores[inputs.item]


def _memory(shapes: Shapes, *, neighbours: int = 200, **settings: float) -> float:
    """Places and similarities of the neighbours, on the host and on the device."""
    return 2 * 8.0 * shapes.items * min(neighbours, shapes.items)


item_knn = Baseline(
    "item_knn",
    "ranking",
    fit_neighbours,
    Adaptation(_adapt, _predict),
    grid=tuple(
        {"shrinkage": shrinkage, "sharpness": sharpness}
        for shrinkage, sharpness in (
            (50.0, 1.0),
            (200.0, 3.0),
            (10.0, 1.0),
            (200.0, 1.0),
            (500.0, 3.0),
        )
    ),
    ranges={
        "neighbours": Range(20, 500, log=True),
        "shrinkage": Range(1.0, 2000.0, log=True),
        "sharpness": Range(0.5, 5.0),
    },
    of_grades=("sharpness",),
    memory=_memory,
)

baselines: tuple[Baseline, ...] = (item_knn,)

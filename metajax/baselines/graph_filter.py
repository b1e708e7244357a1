"""Low-pass filter of the graph of users and items in closed form, with fold-in of new users."""

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
from metajax.baselines.sparse import leading_directions, nearest_items, preference_matrix
from metajax.data.dataset import Shapes, TrainingSet
from metajax.fields import Range
from metajax.types import Adaptation, Examples, Inputs

__all__ = ["GraphFilter", "baselines", "fit_graph_filter", "graph_filter"]


class GraphFilter(NamedTuple):
    """The filter: its linear part as nearest items, its ideal part as leading directions."""

    item: jax.Array
    """`[I, n]` int32 items that the one in the row weighs most on."""
    similarity: jax.Array
    """`[I, n]` entries of the linear filter from the item in the row to those; 0 where there are
    fewer than n."""
    vectors: jax.Array
    """`[I, k]` leading directions V of the normalised interactions; 0 beyond their rank."""
    degree: jax.Array
    """`[I]` sum of the item's preferences to the power `degree_power`; 0 if nobody has it."""
    ideal: jax.Array
    """`[]` weight of the ideal part."""
    prior: jax.Array
    """`[I]` popularity, far below any other difference: it decides where scores tie."""
    curve: PreferenceCurve
    """Preference of a rating."""


class _Adapted(NamedTuple):
    item: jax.Array
    """`[N]` items of the support."""
    weight: jax.Array
    """`[N]` preferences; 0 on padding."""
    taste: jax.Array
    """`[k]` coordinates of the support in the leading directions, times the ideal part's weight."""


def fit_graph_filter(
    training: TrainingSet,
    *,
    rank: int = 256,
    ideal: float = 0.3,
    degree_power: float = 0.4,
    neighbours: int = 300,
    sharpness: float = 1.0,
    seed: int = 0,
) -> GraphFilter:
    """Filters a user's preferences r by `r D^-b (P + ideal V V') D^b`.

    X are the preferences of the training users, U and D their sums by user and by item,
    `N = U^-1/2 X D^-1/2` and `P = N'N`, whose eigenvalues lie in [0, 1]. P is the linear low-pass
    filter, and V, its k leading eigenvectors, the ideal one. The power b sets how much popular
    items gain. Of each row of P the diagonal is left out, and the `neighbours` largest entries
    after scaling are kept: with as many as items the filter is exact. Nothing is as large as items
    by items.

    Args:
        training: The training users' log.
        rank: k, number of leading directions, >= 1; no more than items.
        ideal: Weight of the ideal filter, >= 0.
        degree_power: b, in [0, 1].
        neighbours: Entries kept of each row of P, >= 1; no more than the other items there are.
        sharpness: As in `preference_curve`.
        seed: Of the random start of the decomposition.

    Returns:
        The filter: memory is `I (neighbours + rank)`; time is that of `nearest_items` and
        `leading_directions`.

    Raises:
        ValueError: If a setting is out of range.

    References:
        Shen et al., How Powerful is Graph Convolution for Recommendation?, CIKM 2021, section 4,
        whose weight and rank are the defaults; there b is 0 for the linear and 1/2 for the ideal
        part. Kim et al., Graph Spectral Filtering with Chebyshev Interpolation for Recommendation,
        SIGIR 2025, for one power for both, .4 by default. Preferences are binary there, and here
        graded by the rating.
    """
    for name, value in (("rank", rank), ("neighbours", neighbours)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}.")
    if not ideal >= 0:
        raise ValueError(f"ideal must be >= 0, got {ideal}.")
    if not 0 <= degree_power <= 1:
        raise ValueError(f"degree_power must be in [0, 1], got {degree_power}.")
    curve = preference_curve(training.scale, sharpness=sharpness)
    table = preference_matrix(training, curve)
    table.eliminate_zeros()
    by_user, by_item = table.sum(axis=1), table.sum(axis=0)
    table.data *= np.repeat(_power(by_user, -0.5), np.diff(table.indptr))
    table.data *= _power(by_item, -0.5)[table.indices]
    before, after = _power(by_item, -degree_power), _power(by_item, degree_power)
    item, similarity = nearest_items(
        table,
        lambda product, one, other: product * before[one] * after[other],
        most=neighbours,
    )
    _, vectors = leading_directions(table, rank, seed=seed)
    return GraphFilter(
        jnp.asarray(item),
        jnp.asarray(similarity),
        jnp.asarray(vectors),
        jnp.asarray(after),
        jnp.asarray(ideal, jnp.float32),
        1e-3 * tie_break(training),
        curve,
    )


def _power(total: np.ndarray, power: float) -> np.ndarray:
    """Returns `total^power` in float32, 0 where the total is 0."""
    return np.where(total > 0, np.where(total > 0, total, 1.0) ** power, 0).astype(np.float32)


def _adapt(params: GraphFilter, support: Examples, key: jax.Array | None = None) -> _Adapted:
    item, weight = support_preferences(params.curve, support)
    degree = params.degree[item]
    scaled = jnp.where(degree > 0, weight / jnp.where(degree > 0, degree, 1), 0)
    return _Adapted(item, weight, params.ideal * (scaled @ params.vectors[item]))


def _predict(params: GraphFilter, adapted: _Adapted, inputs: Inputs) -> jax.Array:
    item, weight, taste = adapted
    # Scattered from the support's side: its neighbours are few, candidates are the catalogue.
    linear = params.prior.at[params.item[item]].add(weight[:, None] * params.similarity[item])
    ideal = params.degree[inputs.item] * (params.vectors[inputs.item] @ taste)
    return linear[inputs.item] + ideal


def _memory(shapes: Shapes, *, rank: int = 256, neighbours: int = 300, **settings: float) -> float:
    """Neighbours on the host and on the device, and four arrays of directions."""
    items = shapes.items
    return 2 * 8.0 * items * min(neighbours, items) + 4 * 4.0 * items * min(rank + 64, items)


graph_filter = Baseline(
    "graph_filter",
    "ranking",
    fit_graph_filter,
    Adaptation(_adapt, _predict),
    grid=(
        {"rank": 256, "ideal": 0.3, "degree_power": 0.4, "sharpness": 1.0},
        {"rank": 64, "ideal": 0.3, "degree_power": 0.5, "sharpness": 1.0},
        {"rank": 32, "ideal": 1.0, "degree_power": 0.75, "sharpness": 1.0},
        {"rank": 64, "ideal": 0.3, "degree_power": 0.5, "sharpness": 3.0},
        {"rank": 64, "ideal": 0.3, "degree_power": 1.0, "sharpness": 1.0},
    ),
    ranges={
        "rank": Range(16, 512, log=True),
        "ideal": Range(0.03, 3.0, log=True),
        "degree_power": Range(0.2, 1.0),
        "sharpness": Range(0.5, 5.0),
    },
    of_grades=("sharpness",),
    memory=_memory,
)

baselines: tuple[Baseline, ...] = (graph_filter,)

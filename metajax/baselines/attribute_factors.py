"""Item factors predicted from attributes by a Gaussian process, for items without ratings."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from metajax.baselines.baseline import check_positive
from metajax.baselines.factors import Factors
from metajax.data.dataset import TrainingSet

__all__ = [
    "Predicted",
    "landmarks_of",
    "predicted_by_attributes",
    "unrated_by_attributes",
    "with_attributes",
]

# Numbers in the kernel: in a catalogue so large that it would hold more, landmarks are fewer.
_MOST = 1 << 27


class Predicted(NamedTuple):
    """V values of each item, predicted from its attributes."""

    values: np.ndarray
    """`[I, V]`; 0 where attributes are none or all alike."""
    error: np.ndarray
    """`[V]` mean squared error of an item that was left out, each by its count."""


def with_attributes(
    factors: Factors, training: TrainingSet, *, vector_ridge: float = 20.0
) -> tuple[Factors, np.ndarray]:
    """Predicts bias and vector of items without ratings; shrinks other vectors to predictions.

    A rated item keeps its bias, however few its ratings are: the prediction is dominated by items
    with many ratings, and items with few are rated lower. Its vector, which a few ratings hardly
    determine, moves from the prediction to its own estimate as its ratings grow in number.

    Args:
        factors: From `fit_factors` of the training set's log.
        training: The training set of the factors.
        vector_ridge: Number of ratings at which a vector keeps half of its prediction, > 0.

    Returns:
        The factors, changed, and `[I]` the standard deviation of an item's bias around its
        prediction, 0 for a rated item. Where items have no attributes, or all alike, the factors
        are the same.

    Raises:
        ValueError: If `vector_ridge` is not positive.
    """
    check_positive(vector_ridge=vector_ridge)
    count = training.interactions.item_counts
    bias = np.asarray(factors.item_bias, np.float64)
    vectors = np.asarray(factors.item_factors, np.float64)
    both = np.concatenate([bias[:, None], vectors], axis=1)
    expected = predicted_by_attributes(training.item_features, both, count)
    bias = np.where(count, bias, expected.values[:, 0])
    kept = vector_ridge / (count + vector_ridge)
    vectors = vectors + kept[:, None] * expected.values[:, 1:]
    changed = factors._replace(
        item_bias=jnp.asarray(bias, jnp.float32), item_factors=jnp.asarray(vectors, jnp.float32)
    )
    return changed, np.where(count, 0.0, np.sqrt(expected.error[0]))


def predicted_by_attributes(
    features: np.ndarray,
    values: np.ndarray,
    count: np.ndarray,
    *,
    ridge: float = 1.0,
    landmarks: int = 1000,
) -> Predicted:
    """Predicts values of items by a Gaussian process on their attributes.

    The kernel falls with the squared distance d of two items' attributes as `exp(-d / 2 s)`, s the
    mean of d. Items are weighted by their ratings, as predictions for new items are judged by
    rating: the items with most ratings are rated higher than the average item.

    Args:
        features: `[I, D]` encoded attributes.
        values: `[I, V]` targets; those of unrated items are ignored.
        count: `[I]` ratings of each item; at least one was rated.
        ridge: Noise variance of an item of average count relative to the kernel's variance, > 0;
            inversely proportional to the count.
        landmarks: Number of inducing items, those with most ratings, >= 1; fewer beyond 134,000
            items. The process is exact where these are all.

    Returns:
        The predictions for all items.

    Raises:
        ValueError: If `ridge` is not positive or `landmarks` < 1.

    References:
        Rasmussen and Williams, Gaussian Processes for Machine Learning, MIT Press 2006,
        equations 2.25 and 5.12 (the error left out), and for the landmarks section 8.3.1, subset
        of regressors.
    """
    check_positive(ridge=ridge)
    if landmarks < 1:
        raise ValueError(f"landmarks must be >= 1, got {landmarks}.")
    rated = np.flatnonzero(count)
    share = count[rated] / np.sum(count)
    level = share @ values[rated]
    residual = values[rated] - level
    process = _process(np.asarray(features, np.float64), count, ridge, landmarks)
    if process is None:
        return Predicted(np.zeros(values.shape), share @ residual**2)
    kernel, solution = process
    seen = kernel[rated]  # [n, M]
    own = np.sum(seen * solution.T, axis=1)
    left_out = (residual - seen @ (solution @ residual)) / (1 - own)[:, None]
    return Predicted(level + kernel @ (solution @ residual), share @ left_out**2)


def unrated_by_attributes(
    features: np.ndarray, count: np.ndarray, *, ridge: float = 1.0, landmarks: int = 1000
) -> Callable[[np.ndarray], np.ndarray]:
    """Prepares what `predicted_by_attributes` predicts of unrated items, for many values.

    Args:
        features: `[I, D]` encoded attributes.
        count: `[I]` ratings of each item, or other weights; at least one is not 0.
        ridge: As there.
        landmarks: As there.

    Returns:
        A function from values `[n, V]` of the n items whose count is not 0 to those of the C
        others, `[C, V]`: sums with weights that sum to 1. Where attributes are none or all alike it
        is the mean, each by its count.
    """
    rated, unrated = np.flatnonzero(count), np.flatnonzero(count == 0)
    share = count[rated] / np.sum(count)
    process = _process(np.asarray(features, np.float64), count, ridge, landmarks)
    if process is None:
        return lambda values: np.tile(share @ values, (len(unrated), 1))
    kernel, solution = process
    own = kernel[unrated]  # [C, M]
    rest = 1 - own @ np.sum(solution, axis=1)

    def predict(values: np.ndarray) -> np.ndarray:
        # In the cheaper order: C n weights would be too many in a large catalogue.
        return np.linalg.multi_dot([own, solution, values]) + rest[:, None] * (share @ values)

    return predict


def landmarks_of(items: int, most: int = 1000) -> int:
    """Returns the number of landmarks: `most`, and fewer beyond 134,000 items."""
    return min(most, max(_MOST // items, 1))


def _process(
    features: np.ndarray, count: np.ndarray, ridge: float, landmarks: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns kernel `[I, M]` and solution `[M, n]`; None where all attributes are alike."""
    rated = np.flatnonzero(count)
    share = count[rated] / np.sum(count)
    landmarks = landmarks_of(len(features), landmarks)
    centres = features[rated[np.argsort(-count[rated], kind="stable")[:landmarks]]]  # [M, D]
    between = _squared_distances(features, centres)  # [I, M]
    scale = np.mean(between[rated])
    # Rounding makes the distance of equals tiny and not zero.
    if not scale > 1e-12 * np.sum(features**2):
        return None
    kernel = np.exp(-between / (2 * scale))
    weighed = kernel[rated].T * (share * len(rated))
    system = weighed @ kernel[rated]
    system += ridge * np.exp(-_squared_distances(centres, centres) / (2 * scale))
    # Items of the same attributes make it singular; a little on its diagonal changes nothing else.
    system += 1e-9 * np.trace(system) / len(system) * np.eye(len(system))
    return kernel, np.linalg.solve(system, weighed)


def _squared_distances(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    squares = np.sum(rows**2, axis=1)[:, None] + np.sum(columns**2, axis=1)
    return np.maximum(squares - 2 * rows @ columns.T, 0)

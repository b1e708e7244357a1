"""EASE: linear item-to-item autoencoder in closed form, with fold-in of new users."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.baselines.baseline import MOST_ITEMS, Baseline
from metajax.baselines.preferences import (
    PreferenceCurve,
    cooccurrence,
    preference_curve,
    support_preferences,
    tie_break,
)
from metajax.data.dataset import Shapes, TrainingSet
from metajax.fields import Range
from metajax.types import Adaptation, Examples, Inputs

__all__ = [
    "Autoencoder",
    "autoencoder_weights",
    "baselines",
    "ease",
    "fit_autoencoder",
    "inverse_gram",
]


class Autoencoder(NamedTuple):
    """Weights from a user's preferences to scores of items."""

    weights: jax.Array
    """`[I, I]` from the item in the row to the item in the column; 0 on the diagonal."""
    prior: jax.Array
    """`[I]` as in `tie_break`."""
    curve: PreferenceCurve
    """Preference of a rating."""


def fit_autoencoder(
    training: TrainingSet, *, ridge: float = 3000.0, sharpness: float = 1.0
) -> Autoencoder:
    """Fits the autoencoder to the preferences of the training users.

    Args:
        training: The training users' log.
        ridge: As in `autoencoder_weights`. Few interactions want a stronger one than long histories
            do.
        sharpness: As in `preference_curve`.

    Returns:
        The weights: memory is `I^2`, time `I^3`.

    Raises:
        ValueError: If a setting is out of range.

    References:
        Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019; there preferences
        are binary, here they are graded by the rating.
    """
    curve = preference_curve(training.scale, sharpness=sharpness)
    weights = autoencoder_weights(cooccurrence(training, curve), ridge=ridge)
    return Autoencoder(jnp.asarray(weights), tie_break(training), curve)


def autoencoder_weights(gram: np.ndarray, *, ridge: float, dropout: float = 0.0) -> np.ndarray:
    """Solves `min |X - X B|^2 + ridge |B|^2` with the diagonal of B at 0.

    With `P = (X'X + ridge I)^-1` the solution is `B[i, j] = -P[i, j] / P[j, j]` off the diagonal.

    Args:
        gram: `[I, I]` X'X.
        ridge: Penalty, > 0.
        dropout: Share of the inputs that a denoising autoencoder does not see, in [0, 1): as a new
            user's support lacks most of a history. Item i is penalised by `dropout / (1 - dropout)`
            times `|X_i|^2` in addition.

    Returns:
        `[I, I]` float32 B.

    Raises:
        ValueError: If a setting is out of range, or the ridge is lost in float32.

    References:
        Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019, equation 8; and
        "Autoencoders that don't overfit towards the Identity", NeurIPS 2020, for dropout in closed
        form.
    """
    inverse = inverse_gram(gram, ridge=ridge, dropout=dropout)
    weights = inverse / -np.diagonal(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def inverse_gram(gram: np.ndarray, *, ridge: float, dropout: float = 0.0) -> np.ndarray:
    """Returns P = `(X'X + penalties)^-1`, `[I, I]` float32, as in `autoencoder_weights`."""
    from scipy.linalg import get_lapack_funcs  # Takes a fifth of a second, and only a fit needs it.

    if not ridge > 0:
        raise ValueError(f"ridge must be > 0, got {ridge}.")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}.")
    # LAPACK works in place where the matrix is in column order; it is symmetric.
    penalised = np.array(gram, np.float32, order="F")
    diagonal = np.diagonal(gram) * np.float32(dropout / (1 - dropout)) + np.float32(ridge)
    penalised[np.diag_indices_from(penalised)] += diagonal
    factorise, invert = get_lapack_funcs(("potrf", "potri"), (penalised,))
    root, failed = factorise(penalised, lower=True, overwrite_a=True)
    if failed:
        raise ValueError(f"ridge {ridge} is lost beside {np.max(gram):g} in float32: raise it.")
    inverse, _ = invert(root, lower=True, overwrite_c=True)
    lower = np.tril(inverse)
    # It is symmetric: transposed, rows are contiguous.
    return (lower + np.tril(lower, -1).T).T


def _adapt(
    params: Autoencoder, support: Examples, key: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    return support_preferences(params.curve, support)


def _predict(
    params: Autoencoder, adapted: tuple[jax.Array, jax.Array], inputs: Inputs
) -> jax.Array:
    item, weight = adapted
    chosen = params.weights[item[:, None], inputs.item]  # [P, N]
    return params.prior[inputs.item] + weight @ chosen


def _memory(shapes: Shapes, **settings: float) -> float:
    """Five arrays of items by items: the Gram matrix, and what it takes to invert it."""
    return 5 * 4.0 * shapes.items**2


ease = Baseline(
    "ease",
    "ranking",
    fit_autoencoder,
    Adaptation(_adapt, _predict),
    grid=tuple(
        {"ridge": ridge, "sharpness": sharpness}
        for ridge, sharpness in (
            (3000.0, 1.0),
            (10000.0, 3.0),
            (10000.0, 1.0),
            (3000.0, 3.0),
        )
    ),
    ranges={"ridge": Range(100.0, 30000.0, log=True), "sharpness": Range(0.5, 5.0)},
    most_items=MOST_ITEMS,
    memory=_memory,
    of_grades=("sharpness",),
)

baselines: tuple[Baseline, ...] = (ease,)

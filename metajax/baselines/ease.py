"""EASE: linear item-to-item autoencoder in closed form, with fold-in of new users."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.baselines.baseline import Baseline
from metajax.baselines.preferences import (
    PreferenceCurve,
    cooccurrence,
    preference_curve,
    support_preferences,
    tie_break,
)
from metajax.data.dataset import TrainingSet
from metajax.types import Adaptation, Examples, Inputs

__all__ = ["Autoencoder", "baselines", "ease", "fit_autoencoder", "inverse_gram"]


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
    """Solves `min |X - X B|^2 + ridge |B|^2` with the diagonal of B at 0.

    With `P = (X'X + ridge I)^-1` the solution is `B[i, j] = -P[i, j] / P[j, j]` off the diagonal.

    Args:
        training: The training users' log; X are their preferences.
        ridge: Penalty, > 0. Few interactions want a stronger one than long histories do.
        sharpness: As in `preference_curve`.

    Returns:
        The weights: memory is `I^2`, time `I^3`.

    Raises:
        ValueError: If a setting is out of range.

    References:
        Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019, equation 8; there
        X is binary, here it is graded by the rating.
    """
    inverse = inverse_gram(training, ridge=ridge, sharpness=sharpness)
    weights = inverse / -np.diagonal(inverse)
    np.fill_diagonal(weights, 0)
    curve = preference_curve(training.scale, sharpness=sharpness)
    return Autoencoder(jnp.asarray(weights), tie_break(training), curve)


def inverse_gram(
    training: TrainingSet, *, ridge: float = 3000.0, sharpness: float = 1.0
) -> np.ndarray:
    """Returns P = `(X'X + ridge I)^-1`, `[I, I]` float32; arguments and errors as above."""
    if not ridge > 0:
        raise ValueError(f"ridge must be > 0, got {ridge}.")
    gram = cooccurrence(training, preference_curve(training.scale, sharpness=sharpness))
    gram[np.diag_indices_from(gram)] += np.float32(ridge)
    return np.linalg.inv(gram)


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
)

baselines: tuple[Baseline, ...] = (ease,)

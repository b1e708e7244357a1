"""Initial identities of items: vectors and biases by which networks know them."""

import numpy as np

from metajax.baselines.choice_factors import choice_factors
from metajax.baselines.factors import fit_factors, identities_of
from metajax.data.dataset import TrainingSet

__all__ = ["item_identities", "item_tables"]

item_tables = ("item_embedding/*", "item_bias/*")
"""`Method.tables` of networks whose items have an identity and a bias."""


def item_identities(
    training: TrainingSet, *, rank: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Initial vectors and biases of items, from closed forms that suit the log.

    Args:
        training: The training users alone.
        rank: Factors besides a user's bias, >= 1.
        seed: Of the random start of the closed form.

    Returns:
        `[I, rank + 1]` vectors and `[I]` biases: factors of ratings, in whose coordinates a user
        starts at 0; in an implicit log directions of choices, and log popularity.
    """
    if training.scale is None:
        return choice_factors(training, width=rank + 1, seed=seed)
    return identities_of(fit_factors(training.interactions, rank=rank, seed=seed))

"""Refuses predictions that cannot be judged, before they make a row of a table.

Published results of cold-start methods have turned out to be a constant or a random order; the
harness asks here whether there is anything to judge.
"""

import numpy as np

__all__ = [
    "ConstantPredictionsError",
    "NonFinitePredictionsError",
    "check_constant",
    "check_finite",
]

# A list counts as constant if its scores differ by less than this share of their size; ranking
# fails if this share of the users has such a list.
_FLAT, _NEARLY_ALL = 1e-6, 0.95


class ConstantPredictionsError(ValueError):
    """The scores do not tell the items apart, so there is nothing to judge."""


class NonFinitePredictionsError(ValueError):
    """The scores hold NaN or infinity."""


def check_finite(method: str, ks: tuple[int, ...], users: np.ndarray, finite: np.ndarray) -> None:
    """Raises if a score was NaN or infinite.

    Args:
        method: Its name in the error.
        ks: The support sizes.
        users: `[T]` user indices.
        finite: `[K, T]` bool, False where a user's scores are not all finite.

    Raises:
        NonFinitePredictionsError: With the first support size and user.
    """
    if not finite.all():
        at, t = np.argwhere(~finite)[0]
        raise NonFinitePredictionsError(
            f"{method} predicts NaN or infinity at K={ks[at]}, first for user index {users[t]} "
            f"({(~finite[at]).sum()} of {len(users)} users)."
        )


def check_constant(
    method: str,
    ks: tuple[int, ...],
    lowest: np.ndarray,
    highest: np.ndarray,
    *,
    ranking: bool,
    rating: bool,
) -> None:
    """Raises if scores do not tell the items apart.

    Args:
        method: Its name in the error.
        ks: The support sizes.
        lowest: `[K, T]` each user's lowest score of an item.
        highest: `[K, T]` each user's highest score.
        ranking: Refuse constant lists of nearly all users (95 %).
        rating: Refuse one score for all users and items.

    Raises:
        ConstantPredictionsError: With the first support size.
    """
    for at, k in enumerate(ks):
        low, high = lowest[at], highest[at]
        flat = high - low <= _FLAT * np.maximum(np.abs(low), np.abs(high))
        if ranking and flat.mean() >= _NEARLY_ALL:
            raise ConstantPredictionsError(
                f"{method} predicts the same for every item at K={k} for {flat.sum()} of "
                f"{len(flat)} users: it has no ranking (pass ranking=False to judge ratings only)."
            )
        if rating and high.max() - low.min() <= _FLAT * max(abs(high.max()), abs(low.min())):
            raise ConstantPredictionsError(
                f"{method} predicts {low.min():g} for every user and item at K={k} (pass "
                "allow_constant=True if that is meant)."
            )

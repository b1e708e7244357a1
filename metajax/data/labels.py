"""Standardised labels: inside, every log is rated from 1 (worst) to 5 (best), whatever its unit.

Networks, step sizes, penalties and limits are tuned to a scale of 1 to 5. A split is therefore
standardised once, when it is made: methods learn from, and adapt to, labels on that scale, and
figures and recommendations are mapped back to the unit of the log. A log of 1 to 5 stays as it is,
to the bit.

The map is fitted to the training users alone. Its ends are those of the given scale or, without
one, of the training labels. Where a few labels lie far outside the bulk, it maps the central 98 %
to 1 to 5, and the others count as its ends when methods learn and adapt; for counts a logarithm
(`transform`) is often better.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from metajax.fields import check_name

__all__ = ["Grades", "Labels", "Transform", "check_labels", "fit_labels"]

Transform = Literal["none", "log1p"]

WORST, BEST = 1.0, 5.0
"""The ends of the standardised scale."""

_RANGE = BEST - WORST

# NumPy or JAX.
_Array = Any


class _Pair(NamedTuple):
    """A transform."""

    forward: Callable[[_Array], _Array]
    """Strictly increasing."""
    backward: Callable[[_Array], _Array]
    """Its inverse."""
    above: float
    """Labels must be greater."""


def _namespace(array: _Array) -> Any:
    return jnp if isinstance(array, jax.Array) else np


_TRANSFORMS: dict[str, _Pair] = {
    "none": _Pair(lambda x: x, lambda x: x, -np.inf),
    "log1p": _Pair(lambda x: _namespace(x).log1p(x), lambda x: _namespace(x).expm1(x), -1.0),
}
"""By the names of `Transform`."""


class Grades(NamedTuple):
    """Labels of an implicit log, in (0, 1], by strengths of interactions such as counts."""

    relevant: float | None = None
    """Strength of a relevant interaction, whose label is 1; None: every interaction's is."""
    transform: Transform = "none"
    """Function of strengths, before the share is taken."""

    def of(self, strength: _Array) -> np.ndarray:
        """Returns the share that each strength is of a relevant one, at most 1: float32.

        Args:
            strength: Of any shape.

        Raises:
            ValueError: If one is not above 0.
        """
        strength = np.asarray(strength)
        if not (strength > 0).all():
            raise ValueError(
                f"the strength of an interaction must be above 0, got {strength.min():g}."
            )
        if self.relevant is None:
            return np.ones(strength.shape, np.float32)
        # In the type of the strengths: one that equals the threshold reaches it.
        ends = strength, np.asarray(self.relevant, strength.dtype)
        forward = _TRANSFORMS[self.transform].forward
        share, whole = (forward(np.asarray(x, np.float64)) for x in ends)
        return np.minimum(share / whole, 1).astype(np.float32)


class Labels(NamedTuple):
    """A map between the labels of a log and standardised ones.

    With f the transform, a label x becomes `1 + 4 (f(x) - lower) / (upper - lower)`. All fields are
    plain values, so that the map is hashable and can be written as JSON.
    """

    worst: float = WORST
    """End of the log's scale that is the worst; above `best` where low numbers are good."""
    best: float = BEST
    """The other end."""
    lower: float = WORST
    """Transformed label that becomes 1."""
    upper: float = BEST
    """Transformed label that becomes 5."""
    transform: Transform = "none"
    """Function that is applied first: none, or log1p, the logarithm of one more."""

    @property
    def unit(self) -> float:
        """Size of one standardised unit in the unit of the log, > 0.

        With a transform, under which it differs from label to label, a quarter of the log's scale.
        """
        ends = (self.lower, self.upper) if self.transform == "none" else (self.worst, self.best)
        return abs(ends[1] - ends[0]) / _RANGE

    def inside(self, labels: _Array) -> np.ndarray:
        """Standardises labels in float64; what lies beyond the bulk becomes less than 1 or over 5.

        Args:
            labels: Of any shape, in the unit of the log.

        Returns:
            Standardised labels of that shape.
        """
        found = _TRANSFORMS[self.transform].forward(np.asarray(labels, np.float64))
        # Divided first: of a scale of 1 to 5 nothing is rounded.
        return WORST + (found - self.lower) / (self.upper - self.lower) * _RANGE

    def outside(self, standardised: _Array) -> np.ndarray:
        """Maps standardised labels to the unit of the log in float64, clipped to its scale.

        Args:
            standardised: Of any shape.

        Returns:
            Labels of that shape.
        """
        clipped = np.clip(np.asarray(standardised, np.float64), WORST, BEST)
        low, high = sorted((self.worst, self.best))
        return np.clip(self._raw(clipped), low, high)

    def outside_on_device(self, standardised: jax.Array) -> jax.Array:
        """Maps standardised labels to the unit of the log, in the type that they have."""
        return self._raw(standardised)

    def relative(self, standardised: jax.Array) -> jax.Array:
        """Maps standardised labels to a linear function of those of the log, in units of `unit`.

        Errors are differences of these. Without a transform standardised labels are that already,
        and nothing is lost where the log's own have a large common part, such as 10,000,003.
        """
        if self.transform == "none":
            return standardised
        return self._raw(standardised) / self.unit

    def _raw(self, standardised: _Array) -> _Array:
        share = (standardised - WORST) / _RANGE
        moved = self.lower + share * (self.upper - self.lower)
        return _TRANSFORMS[self.transform].backward(moved)


# Ends of the bulk, and how many times wider a scale may be before the bulk takes its place.
_TAILS, _WIDER = (0.01, 0.99), 20.0

# The square of an error must fit float32.
_WIDEST = 1e9


def fit_labels(
    labels: np.ndarray,
    scale: tuple[float, float] | None,
    *,
    given: bool = True,
    transform: Transform = "none",
) -> Labels:
    """Fits the map to training labels.

    Args:
        labels: `[R]` labels of training users.
        scale: Worst and best label; None for an implicit log, which is not mapped.
        given: True if the scale was given; if not, its ends are those of the training labels.
        transform: Function that is applied first.

    Returns:
        The map.

    Raises:
        ValueError: If the transform is unknown, or is not defined on the scale.

    Example:
        >>> fit_labels(np.array([20.0, 60, 80, 100]), (20, 100)).inside([20, 60, 90]).tolist()
        [1.0, 3.0, 4.5]
    """
    check_name(transform, get_args(Transform), "transform")
    if scale is None:
        return Labels()
    worst, best = map(float, scale)
    labels = np.asarray(labels, np.float64)
    if not given and len(labels) and np.ptp(labels) > 0:
        ends = float(labels.min()), float(labels.max())
        worst, best = ends if worst <= best else ends[::-1]
    pair = _TRANSFORMS[transform]
    if min(worst, best) <= pair.above:
        raise ValueError(
            f"transform {transform} needs labels > {pair.above:g}, got a scale that begins at "
            f"{min(worst, best):g}."
        )
    lower, upper = (float(pair.forward(np.float64(end))) for end in (worst, best))
    if lower == upper:
        # Labels that are all alike become the middle.
        return Labels(worst, best, lower - 1, upper + 1, transform)
    if len(labels):
        low, high = np.quantile(pair.forward(labels), _TAILS)
        if abs(upper - lower) > _WIDER * (high - low) > 0:
            lower, upper = (low, high) if lower < upper else (high, low)
    return Labels(worst, best, float(lower), float(upper), transform)


def check_labels(
    labels: np.ndarray, *, name: str = "labels", transform: Transform = "none"
) -> None:
    """Refuses a log of which a label is out of all proportion.

    Args:
        labels: `[R]` labels of the whole log.
        name: Of the data, for the error.
        transform: As in `fit_labels`.

    Raises:
        ValueError: If the labels reach a thousand million times as far as their bulk does, whose
            differences are then lost, or differ by less than numbers can hold.
    """
    found = _TRANSFORMS[transform].forward(np.asarray(labels, np.float64))
    if not len(found) or np.ptp(found) == 0:
        return
    low, high = np.quantile(found, _TAILS)
    if np.ptp(found) > _WIDEST * (high - low) > 0:
        ends = np.quantile(np.asarray(labels, np.float64), _TAILS)
        raise ValueError(
            f"{name}: ratings reach from {np.min(labels):g} to {np.max(labels):g}, and 98 % of "
            f"them from {ends[0]:g} to {ends[1]:g}: leave out what is no rating, or take "
            "transform log1p."
        )
    if not np.isfinite(1 / np.ptp(found)):
        raise ValueError(f"{name}: ratings must differ by 1e-300 or more, got {np.ptp(found):g}.")

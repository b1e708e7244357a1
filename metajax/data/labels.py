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

__all__ = ["Grades", "Labels", "Transform", "check_labels", "fit_labels", "hint_of_counts"]

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
    liked: float = BEST
    """Standardised label of an item that a user likes and has not rated: the median of the training
    users' labels of relevant items. No part of the map."""

    @property
    def unit(self) -> float:
        """Size of one standardised unit in the unit of the log, > 0.

        With a transform, under which it differs from label to label, the mean from 1 to 5.
        """
        backward = _TRANSFORMS[self.transform].backward
        ends = (backward(np.float64(end)) for end in (self.lower, self.upper))
        return abs(float(next(ends) - next(ends))) / _RANGE

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

    def clipped(self, labels: _Array) -> np.ndarray:
        """Standardises labels that methods learn from and adapt to: float32, clipped to 1 to 5.

        Args:
            labels: Of any shape, in the unit of the log.

        Returns:
            Standardised labels of that shape.
        """
        return np.clip(self.inside(labels), WORST, BEST).astype(np.float32)

    def clipped_on_device(self, labels: jax.Array) -> jax.Array:
        """Standardises labels, in the type that they have, and clips them to 1 and 5.

        Args:
            labels: Of any shape, in the unit of the log.
        """
        found = _TRANSFORMS[self.transform].forward(labels)
        share = (found - self.lower) / (self.upper - self.lower)
        return jnp.clip(WORST + share * _RANGE, WORST, BEST)

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

    def outside_on_device(self, standardised: _Array) -> _Array:
        """Maps standardised labels to the unit of the log, in the type that they have, unclipped.

        Args:
            standardised: Of any shape, NumPy or JAX.
        """
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


# Share of labels on either side of the bulk, and how many times wider a scale may be before the
# bulk takes its place.
_TAIL, _WIDER = 0.01, 20.0

# The square of an error must fit float32 inside, and float64 outside.
_WIDEST, _FINITE = 1e9, 1e150


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
        low, high = _bulk(pair.forward(labels))
        if abs(upper - lower) > _WIDER * (high - low) > 0:
            lower, upper = (low, high) if lower < upper else (high, low)
    return Labels(worst, best, float(lower), float(upper), transform)


def hint_of_counts(labels: np.ndarray) -> str:
    """Returns a sentence on labels of which a few are far above the bulk, as counts have; or "".

    Args:
        labels: `[R]` labels of the whole log.

    Example:
        >>> hint_of_counts(np.array([1.0, 2, 3, 900])).partition(",")[0]
        'ratings reach to 900'
    """
    labels = np.asarray(labels)
    if not len(labels) or labels.min() < 0:
        return ""
    low, high = _bulk(labels)
    if not float(labels.max()) - float(labels.min()) > _WIDER * (high - low) > 0:
        return ""
    return (
        f"ratings reach to {labels.max():g}, but nearly all of them only to {high:g}: if they are "
        "counts, --transform log1p learns from their logarithm, and --relevant N says from which "
        "count on an item is relevant"
    )


def _bulk(labels: np.ndarray) -> tuple[float, float]:
    """Returns the ends of `[n]` labels without the hundredth, but at least one, at either end."""
    rows = len(labels)
    tail = max(int(_TAIL * rows), 1)
    if rows <= 2 * tail:
        return float(labels.min()), float(labels.max())
    # Observed values: between two of them would be any number.
    ends = np.partition(labels, (tail, rows - 1 - tail))[[tail, rows - 1 - tail]]
    return float(ends[0]), float(ends[1])


def check_labels(labels: np.ndarray, *, name: str = "labels") -> None:
    """Refuses a log whose labels differ too much, or too little, to be judged in float32.

    Args:
        labels: `[R]` labels of the whole log.
        name: Of the data, for the error.

    Raises:
        ValueError: If they reach a thousand million times as far as their bulk, or differ by less
            than 1e-150 or more than 1e150.
    """
    labels = np.asarray(labels, np.float64)
    if not len(labels) or labels.min() == labels.max():
        return
    low, high = _bulk(labels)
    ends = f"{labels.min():g} to {labels.max():g}"
    with np.errstate(over="ignore"):
        reach = labels.max() - labels.min()
    if not 1 / _FINITE < reach < _FINITE:
        raise ValueError(
            f"{name}: ratings must differ by more than {1 / _FINITE:g} and less than {_FINITE:g}, "
            f"got {ends}: give them in another unit."
        )
    if reach > _WIDEST * (high - low) > 0:
        raise ValueError(
            f"{name}: ratings reach from {ends}, but nearly all of them from {low:g} to {high:g}: "
            "leave out what is no rating (--drop)."
        )

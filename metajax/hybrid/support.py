"""Statistics of a user's support, and tables of items and attributes that they are taken from."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.hybrid.experts import Shared
from metajax.types import Examples

__all__ = ["PACE", "Summary", "Tables", "described", "fit_tables", "summarised"]

PACE = 4
"""Number of statistics of a support's times."""

_AXES, _FIRST = 18, 10
_USER_AXES = 8
_CELL_RIDGE = 40.0


class Tables(NamedTuple):
    """Tables of I items, and the cells that users' attributes are divided into."""

    reach: jax.Array
    """`[I]` log(1 + number of training users who have the item)."""
    bias: jax.Array
    """`[I]` the item's mean rating less that of all, shrunk; 0 in an implicit log."""
    spread: jax.Array
    """`[I]` standard deviation of its ratings, shrunk to 1."""
    turn: jax.Array
    """`[I]` mean of log(1 + place) in the users' histories, by time; 0 without times."""
    opening: jax.Array
    """`[I]` log share of its users who have it among their first ten; 0 without times."""
    direction: jax.Array
    """`[I, Di]` encoded attributes, centred and of length 1."""
    item_centre: jax.Array
    """`[Di]` what they are centred on."""
    item_axes: jax.Array
    """`[Di, <= 18]` main axes of the attributes."""
    axes: jax.Array
    """`[I, <= 18]` centred attributes along the main axes."""
    edges: jax.Array
    """`[Du, 4]` quintiles of each attribute of users."""
    cell: jax.Array
    """`[Dc]` int32 places of the cells in use among 6 of each attribute: its value, or, if it has
    more than two, five between its quintiles."""
    centre: jax.Array
    """`[Dc]` mean of the cells over training users."""
    user_axes: jax.Array
    """`[Dc, <= 8]` main axes of the cells."""
    deviation: jax.Array
    """`[I, Dc]` by how much users of a cell rate an item above others, shrunk."""


class Summary(NamedTuple):
    """Statistics of one user's support."""

    count: jax.Array
    """`[]` its size K."""
    values: jax.Array
    """`[V]` means, extremes and deviations of its labels and items; 0 for an empty one."""
    cells: jax.Array
    """`[Dc]` the user's attributes, centred."""
    pace: jax.Array
    """`[4]` logarithms of the time that the support spans, and of the longest, the shortest and the
    mean time between two interactions; 0 where times are not known."""
    timed: jax.Array
    """`[]` bool, whether times are known."""

    @property
    def moments(self) -> jax.Array:
        """`[V + 4]` what tells a support of first interactions."""
        return jnp.concatenate([self.values, self.pace])


def fit_tables(shared: Shared, earlier: Tables | None = None) -> Tables:
    """Counts and averages the training set, and regresses each item's residuals on attributes.

    Args:
        shared: The training set.
        earlier: Tables of an earlier one with the same encoding of attributes, whose axes and cells
            are kept: by another sign or rotation of them, weights fitted to columns along them
            would mean something else.

    Returns:
        The tables.
    """
    training = shared.training
    log, rated = training.interactions, training.scale is not None
    items, count = len(log.item_ids), log.item_counts
    label = np.asarray(log.rating, np.float64)
    rest = label - label.mean()
    bias = np.bincount(log.item, rest, items) / (count + 4)
    left = rest - bias[log.item]
    spread = np.sqrt((np.bincount(log.item, left**2, items) + 5) / (count + 5))
    turn, opening = np.zeros((2, items))
    if shared.turns is not None:
        late = np.log1p(shared.turns)
        turn = (np.bincount(log.item, late, items) + 10 * late.mean()) / (count + 10)
        first = shared.turns < _FIRST
        among = np.bincount(log.item, first, items) + 5 * first.mean()
        opening = np.log(among / (count + 5))
    if earlier is None:
        item_centre, item_axes = _main_axes(training.item_features, count)
        edges, cell = _cells(training.user_features, log.users)
    else:
        item_centre, item_axes = (
            np.asarray(leaf, np.float64) for leaf in (earlier.item_centre, earlier.item_axes)
        )
        edges, cell = np.asarray(earlier.edges), np.asarray(earlier.cell)
    centred = np.asarray(training.item_features, np.float64) - item_centre
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    direction, axes = centred / np.maximum(length, 1e-9), centred @ item_axes
    features = jnp.asarray(training.user_features)
    cells = np.asarray(described(features, jnp.asarray(edges), jnp.asarray(cell)), np.float64)
    if earlier is None:
        centre = cells[log.users].mean(axis=0)
        user_axes = np.linalg.svd((cells - centre)[log.users], full_matrices=False)[2]
        user_axes = user_axes[:_USER_AXES].T
    else:
        centre, user_axes = np.asarray(earlier.centre), np.asarray(earlier.user_axes)
    cells = cells - centre
    own = np.bincount(log.user, left, len(cells)) / (log.user_counts + 5)
    deviation = np.zeros((items, len(centre)))
    if rated and np.any(cells):
        deviation = _deviations(log.item, cells[log.user], left - own[log.user], items)
    of_ratings = np.stack([bias * rated, spread, turn, opening], axis=1)
    values = (
        shared.filled(np.log1p(count)),
        *shared.filled(of_ratings, rated=True).T,
        direction,
        item_centre,
        item_axes,
        axes,
        edges,
        cell,
        centre,
        user_axes,
        shared.filled(deviation, rated=True),
    )
    found = Tables(*(jnp.asarray(value, jnp.float32) for value in values))
    return found._replace(cell=jnp.asarray(cell, jnp.int32))


def _main_axes(features: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean `[Di]` and main axes `[Di, <= 18]` of the attributes of items in use."""
    used = np.asarray(features, np.float64)[count > 0]
    centre = used.mean(axis=0)
    return centre, np.linalg.svd(used - centre, full_matrices=False)[2][:_AXES].T


def _cells(features: np.ndarray, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns quintiles `[Du, 4]` and places of cells in use `[Dc]`."""
    seen = features[users]
    edges = np.quantile(seen, [0.2, 0.4, 0.6, 0.8], axis=0).T
    used = []
    for at, column in enumerate(seen.T):
        values = len(np.unique(column))
        used += [] if values < 2 else [6 * at] if values == 2 else range(6 * at + 1, 6 * at + 6)
    return edges, np.array(used, np.int32)


def described(features: jax.Array, edges: jax.Array, cell: jax.Array) -> jax.Array:
    """Divides attributes into cells.

    Args:
        features: `[..., Du]` encoded attributes.
        edges: `[Du, 4]` as in `Tables`.
        cell: `[Dc]` as in `Tables`.

    Returns:
        `[..., Dc]`.
    """
    place = jnp.sum(features[..., None] >= edges, axis=-1)
    parts = jnp.concatenate([features[..., None], jax.nn.one_hot(place, 5)], axis=-1)
    return parts.reshape(*features.shape[:-1], -1)[..., cell]


def _deviations(
    item: np.ndarray, cells: np.ndarray, residual: np.ndarray, items: int
) -> np.ndarray:
    """Regresses the residuals of every item on its raters' cells, `[I, Dc]`."""
    width = cells.shape[1]
    order = np.argsort(item, kind="stable")
    ends = np.searchsorted(item[order], np.arange(items + 1))
    found = np.zeros((items, width))
    for i in range(items):
        rows = order[ends[i] : ends[i + 1]]
        if len(rows) > 1:
            x = cells[rows]
            gram = x.T @ x + _CELL_RIDGE * np.eye(width)
            found[i] = np.linalg.solve(gram, x.T @ residual[rows])
    return found


def summarised(
    tables: Tables,
    support: Examples,
    item: jax.Array,
    label: jax.Array,
    present: jax.Array,
    scale: tuple[jax.Array, jax.Array],
) -> Summary:
    """Summarises a support.

    Args:
        tables: The tables.
        support: The support; only the user's attributes are read from it.
        item: `[S]` its items, 0 in padding.
        label: `[S]` its labels.
        present: `[S]` 1, or 0 in padding.
        scale: Lowest and highest label.

    Returns:
        The statistics.
    """
    count = jnp.sum(present)
    size = jnp.maximum(count, 1)
    low, high = scale

    def mean(values: jax.Array) -> jax.Array:
        return values @ present / size

    def least(values: jax.Array) -> jax.Array:
        return jnp.where(count > 0, jnp.min(jnp.where(present > 0, values, jnp.inf)), 0)

    def deviation(values: jax.Array) -> jax.Array:
        # A tiny addend keeps the root's gradient finite; labels of one item do not deviate.
        return jnp.sqrt(mean(jnp.square(values - mean(values))) + 1e-12)

    reach, turn, bias = tables.reach[item], tables.turn[item], tables.bias[item]
    residual = label - bias
    values = (
        mean(label),
        deviation(residual),
        least(label),
        -least(-label),
        mean((label >= high).astype(jnp.float32)),
        mean((label <= low + (high - low) / 4).astype(jnp.float32)),
        mean(reach),
        least(reach),
        mean(bias),
        mean(turn),
        -least(-turn),
        deviation(turn),
        mean(tables.opening[item]),
    )
    axes = present @ tables.axes[item][:, :3] / size
    cells = described(support.inputs.user_features[0], tables.edges, tables.cell)
    found = jnp.where(count > 0, jnp.concatenate([jnp.stack(values), axes]), 0)
    time = support.inputs.time
    pace = jnp.zeros(PACE) if time is None else _pace(time, present)
    return Summary(count, found, cells - tables.centre, pace, jnp.asarray(time is not None))


def _pace(time: jax.Array, present: jax.Array) -> jax.Array:
    """Returns `[4]` as in `Summary`."""
    between = jnp.diff(jnp.sort(jnp.where(present > 0, time, jnp.inf)))
    known = jnp.isfinite(between)
    log = jnp.log1p(jnp.where(known, between, 0))
    span = jnp.log1p(jnp.sum(jnp.where(known, between, 0)))
    shortest = jnp.min(log, where=known, initial=jnp.inf)
    return jnp.stack(
        [
            span,
            jnp.max(log, initial=0),
            jnp.where(jnp.any(known), shortest, 0),
            jnp.sum(log) / jnp.maximum(jnp.sum(known), 1),
        ]
    )

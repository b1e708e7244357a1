"""The rating head: a blend of Gaussian models, corrected by a ridge regression on side information.

The correction is linear in columns of the user, of the item, of both, in products of them, and in
the deviations of the models from their mean. Its weights are fitted at some numbers of interactions
to predictions for users whom the models have not seen, and interpolated in log(1 + K) between them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.hybrid.arrival import KNOTS, between
from metajax.hybrid.support import Summary, Tables
from metajax.hybrid.tastes import Taste, Tastes, predicted

__all__ = [
    "Columns",
    "RatingHead",
    "Rows",
    "blended",
    "columns_of",
    "expanded",
    "fit_rating_head",
    "head_scores",
    "solve_positive",
]

# A NumPy or a JAX array.
Array = Any

_PENALTIES = (0.3, 1.2, 5.0)
_CROSS_PENALTIES = (0.6, 2.4, 10.0)
_MAIN = 3
_LEAST_GAIN = 5e-4


class Columns(NamedTuple):
    """Side information on one user and N candidates."""

    user: Array
    """`[A]` of the user."""
    item: Array
    """`[N, B]` of the candidates; the first three are bias, reach and spread."""
    both: Array
    """`[N, C]` of both."""
    experts: Array
    """`[N, E]` predicted ratings."""


class RatingHead(NamedTuple):
    """Weights of the correction, D columns, G knots."""

    centre: jax.Array
    """`[A + B + C]` mean of the side information."""
    scale: jax.Array
    """`[A + B + C]` its standard deviation."""
    known: jax.Array
    """`[A + B + C]` 1 where a column is of the support, and so unknown without one."""
    kept: jax.Array
    """`[E']` int32 places of the models that are blended."""
    weights: jax.Array
    """`[2, G, D]` for supports of any of a user's interactions, and of the first ones."""
    variance: jax.Array
    """`[2, G]` factor of the models' variance that fits the errors."""


def columns_of(
    tables: Tables,
    tastes: Tastes,
    taste: Taste,
    summary: Summary,
    seen: Sequence[jax.Array],
    item: jax.Array,
) -> Columns:
    """Returns side information and the models' predictions.

    Args:
        tables: Tables of items.
        tastes: The models.
        taste: The user's latents.
        summary: The user's statistics.
        seen: `[S]` items of the support, their ratings, and 1 where there is one.
        item: `[N]` candidates.
    """
    own, rating, present = seen
    experts, spread = predicted(tastes, taste, item)
    residual = (rating - tastes.expected[own]) * present
    centred = (residual - jnp.sum(residual) / (jnp.sum(present) + 3)) * present  # [S]
    alike = jnp.maximum(tables.direction[item] @ tables.direction[own].T, 0) * present  # [N, S]
    factors = tastes.design[:, 1:]
    close = jnp.maximum(factors[item] @ factors[own].T, 0) * present
    user = jnp.concatenate(
        [
            summary.values,
            jnp.stack([taste.noise, taste.effective]),
            summary.cells @ tables.user_axes,
        ]
    )
    facts = jnp.stack([tables.bias[item], tables.reach[item], tables.spread[item]], axis=1)
    both = (
        spread[:, 0],
        spread[:, 1],
        tables.deviation[item] @ summary.cells,
        alike @ centred / (jnp.sum(alike, axis=1) + 1.5),
        jnp.sum(alike, axis=1),
        jnp.max(close, axis=1, initial=0),
        close @ centred / (jnp.sum(close, axis=1) + 0.1),
    )
    items = jnp.concatenate([facts, tables.axes[item]], axis=1)
    return Columns(user, items, jnp.stack(both, axis=1), experts)


def expanded(head: RatingHead, columns: Columns, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns `[N]` the mean of the models, and `[N, D]` columns of the correction."""
    found = _standardised(head, columns, count)
    rows = len(found.mean)
    of_user = jnp.broadcast_to(found.user, (rows, len(found.user)))
    of_item, of_both, level = found.item, found.both, found.mean - 3.5
    personal = jnp.concatenate([of_user, of_both], axis=1)
    parts = (
        jnp.ones((rows, 1)),
        of_user,
        of_item,
        of_both,
        found.deviations,
        _products(of_user, of_item),
        _products(of_both, of_item[:, :_MAIN]),
        personal * level[:, None],
        personal**2 - 1,
    )
    return found.mean, jnp.concatenate(parts, axis=1)


class _Standardised(NamedTuple):
    """Columns as the correction takes them."""

    user: jax.Array
    """`[A]`."""
    item: jax.Array
    """`[N, B]`."""
    both: jax.Array
    """`[N, C]`."""
    mean: jax.Array
    """`[N]` of the models that are blended."""
    deviations: jax.Array
    """`[N, E' + 1]` of all of them but the last from the mean, and the level and its square."""


def _standardised(head: RatingHead, columns: Columns, count: jax.Array) -> _Standardised:
    a, b = columns.user.shape[-1], columns.item.shape[-1]

    def scaled(raw: Array, start: int) -> jax.Array:
        at = slice(start, start + raw.shape[-1])
        z = jnp.clip((raw - head.centre[at]) / head.scale[at], -3, 3)
        return jnp.where(count > 0, z, z * (1 - head.known[at]))

    experts = columns.experts[:, head.kept]
    mean = jnp.mean(experts, axis=1)
    level = mean - 3.5
    deviations = 3 * jnp.stack(
        [*(experts[:, e] - mean for e in range(experts.shape[1] - 1)), level, level**2], axis=1
    )
    of_user, of_item = scaled(columns.user, 0), scaled(columns.item, a)
    return _Standardised(of_user, of_item, scaled(columns.both, a + b), mean, deviations)


def _products(left: jax.Array, right: jax.Array) -> jax.Array:
    return (left[:, :, None] * right[:, None, :]).reshape(len(left), -1)


def _kinds(columns: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Returns `[D]` bool: columns of the user alone, and columns that are no products."""
    a, b, c = columns.user.shape[-1], columns.item.shape[-1], columns.both.shape[-1]
    plain = 1 + a + b + c + columns.experts.shape[-1] + 1
    last = plain + a * b + c * min(_MAIN, b) + (a + c)
    of_user, main = np.zeros((2, last + a + c), bool)
    of_user[1 : 1 + a] = of_user[last : last + a] = True
    main[:plain] = True
    return of_user, main


def blended(tables: jax.Array, count: jax.Array, first: jax.Array) -> jax.Array:
    """Interpolates knots of two tables `[2, G, ...]`, the second with the weight `first`."""
    return (1 - first) * between(tables[0], count) + first * between(tables[1], count)


def head_scores(
    head: RatingHead, columns: Columns, count: jax.Array, first: jax.Array
) -> jax.Array:
    """Returns `[N]` ratings; `first` is the probability of `arrival.arrived`.

    That is `expanded` times the weights. Of products the user's factor is contracted first, so that
    they are never laid out for every candidate.
    """
    found = _standardised(head, columns, count)
    of_user, of_item, of_both = found.user, found.item, found.both
    a, b, c = len(of_user), of_item.shape[1], of_both.shape[1]
    main = min(_MAIN, b)
    sizes = (1, a, b, c, found.deviations.shape[1], a * b, c * main, a, c, a, c)
    ends = [sum(sizes[: n + 1]) for n in range(len(sizes) - 1)]
    one, user, item, both, deviations, user_item, both_item, *rest = jnp.split(
        blended(head.weights, count, first), ends
    )
    user_level, both_level, user_square, both_square = rest
    constant = one[0] + of_user @ user + (of_user**2 - 1) @ user_square
    crossed = jnp.sum(of_both @ both_item.reshape(c, main) * of_item[:, :main], axis=1)
    return (
        found.mean
        + constant
        + of_item @ (item + of_user @ user_item.reshape(a, b))
        + of_both @ both
        + (of_both**2 - 1) @ both_square
        + found.deviations @ deviations
        + crossed
        + (of_user @ user_level + of_both @ both_level) * (found.mean - 3.5)
    )


class Rows(NamedTuple):
    """Predictions for T held-out users at one number of interactions, and what they rated."""

    columns: Columns
    """Leaves lead with `[T]`."""
    count: Array
    """`[T]` interactions shown."""
    labels: Array
    """`[T, Q]`."""
    mask: Array
    """`[T, Q]` bool."""
    variance: Array
    """`[T, Q]` by the models."""
    weight: Array
    """`[T]` number of ratings that each row of the user stands for: errors are pooled over all
    ratings of all users, of which a user's rows are a sample."""


def fit_rating_head(
    kinds: Sequence[Sequence[Mapping[int, Rows]]],
    of_support: np.ndarray,
    names: Sequence[str],
    *,
    without: Sequence[str] = (),
    corrected: bool = True,
) -> tuple[RatingHead, dict[str, float]]:
    """Fits the weights.

    Args:
        kinds: For supports of any interactions, and of the first ones where the log has times: of
            each part of the users, the rows by the number of interactions shown, `KNOTS`.
        of_support: `[A + B + C]` bool, side information that an empty support has not.
        names: Name of each model.
        without: Names of models that are left out.
        corrected: False for a head that is the blend of the models alone.

    Returns:
        The head; and the mean squared errors by cross-validation over the parts: of the single
        models, of the best constant blend of them, and of the head.
    """
    every = [rows for parts in kinds for rows in parts]
    kept, errors = _kept(every, names, without)
    centre, scale = _moments(every)
    sample = every[0][KNOTS[0]].columns
    of_user, main = _kinds(sample._replace(experts=np.zeros((1, len(kept)))))
    blank = RatingHead(
        jnp.asarray(centre, jnp.float32),
        jnp.asarray(scale, jnp.float32),
        jnp.asarray(of_support, jnp.float32),
        jnp.asarray(kept, jnp.int32),
        jnp.zeros((2, len(KNOTS), len(main))),
        jnp.ones((2, len(KNOTS))),
    )
    weights = np.zeros((len(kinds), len(KNOTS), len(main)))
    factors = np.ones((len(kinds), len(KNOTS)))
    total, plain, rows = 0.0, 0.0, 0.0
    for kind, parts in enumerate(kinds):
        for place, knot in enumerate(KNOTS):
            sums = [_sums(blank, part[knot]) for part in parts]
            weights[kind, place], error = _ridge(sums, of_user, main)
            factors[kind, place] = error / max(sum(s.variance for s in sums), 1e-9)
            total, plain = total + error, plain + sum(s.square for s in sums)
            rows += sum(s.rows for s in sums)
    errors |= {"constant blend": plain / rows, "corrected blend": total / rows}
    if not (corrected and total < plain):
        weights[:] = 0
    both = [np.broadcast_to(a, (2, *a.shape[1:])) for a in (weights, factors)]
    found, variance = (jnp.asarray(a, jnp.float32) for a in both)
    return blank._replace(weights=found, variance=variance), errors


def _kept(
    parts: Sequence[Mapping[int, Rows]], names: Sequence[str], without: Sequence[str]
) -> tuple[list[int], dict[str, float]]:
    """Drops models without which the best constant blend of the others is as good."""
    moments, rows = 0.0, 0.0
    for part in parts:
        for found in part.values():
            off = np.asarray(found.columns.experts) - np.asarray(found.labels)[..., None]
            mask = np.asarray(found.mask)
            off, weight = off[mask].astype(np.float64), _each(found)
            moments, rows = moments + (off.T * weight) @ off, rows + weight.sum()
    moments = np.asarray(moments) / rows

    def error(kept: Sequence[int]) -> float:
        # The least w' M w of weights that sum to 1 is 1 / (1' M^-1 1).
        inverse = np.linalg.pinv(moments[np.ix_(kept, kept)])
        return float(1 / np.sum(inverse))

    kept = [e for e, name in enumerate(names) if name not in without]
    while len(kept) > 1:
        left = {e: error([k for k in kept if k != e]) for e in kept}
        worst = min(left, key=lambda e: left[e])
        if left[worst] > (1 + _LEAST_GAIN) * error(kept):
            break
        kept.remove(worst)
    return kept, {name: float(moments[e, e]) for e, name in enumerate(names)}


def _each(rows: Rows) -> np.ndarray:
    """Returns the weights of the rows that there are."""
    mask = np.asarray(rows.mask)
    return np.broadcast_to(np.asarray(rows.weight)[:, None], mask.shape)[mask]


def _moments(parts: Sequence[Mapping[int, Rows]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation `[A + B + C]` of side information where K > 0."""
    total, square, rows = 0.0, 0.0, 0
    for part in parts:
        for knot, found in part.items():
            if not knot:
                continue
            mask = np.asarray(found.mask)
            user, item, both, _ = (np.asarray(leaf, np.float64) for leaf in found.columns)
            user = np.broadcast_to(user[:, None], (*mask.shape, user.shape[-1]))
            table, weight = np.concatenate([user, item, both], axis=-1)[mask], _each(found)
            total, square = total + weight @ table, square + weight @ table**2
            rows += weight.sum()
    mean = np.asarray(total) / max(rows, 1)
    variance = np.maximum(np.asarray(square) / max(rows, 1) - mean**2, 0)
    # A column that hardly varies would be blown up by its scale.
    return mean, np.where(variance > 1e-10, np.sqrt(variance), 1.0)


class _Sums(NamedTuple):
    gram: Array
    cross: Array
    square: Array
    rows: Array
    variance: Array


_CHUNK = 64


@jax.jit
def _chunk_sums(head: RatingHead, rows: Rows) -> _Sums:
    mean, x = jax.vmap(lambda c, k: expanded(head, c, k))(rows.columns, rows.count)
    weight = jnp.where(rows.mask, rows.weight[:, None], 0)
    root = jnp.sqrt(weight)
    x = (root[..., None] * x).reshape(-1, x.shape[-1])
    rest = (root * (rows.labels - mean)).ravel()
    return _Sums(x.T @ x, x.T @ rest, rest @ rest, jnp.sum(weight), jnp.sum(weight * rows.variance))


def _sums(head: RatingHead, rows: Rows) -> _Sums:
    """Sums the rows of one part, some users at a time, in float64."""
    total = None
    users = len(rows.count)
    for start in range(0, users, _CHUNK):
        at = np.minimum(np.arange(start, start + _CHUNK), users - 1)
        chunk = jax.tree.map(lambda leaf, at=at: jnp.asarray(np.asarray(leaf)[at]), rows)
        fresh = np.arange(start, start + _CHUNK) < users
        chunk = chunk._replace(mask=chunk.mask & fresh[:, None])
        found = [np.asarray(leaf, np.float64) for leaf in _chunk_sums(head, chunk)]
        total = found if total is None else [a + b for a, b in zip(total, found, strict=True)]
    assert total is not None  # A part has users.
    return _Sums(total[0], total[1], *(float(leaf) for leaf in total[2:]))


def _ridge(
    sums: Sequence[_Sums], of_user: np.ndarray, main: np.ndarray
) -> tuple[np.ndarray, float]:
    """Chooses penalties by cross-validation over parts; returns weights and the squared error."""
    gram, cross = sum(s.gram for s in sums), sum(s.cross for s in sums)
    rows = sum(s.rows for s in sums)
    share = 1 - 1 / max(len(sums), 2)

    def penalties(user: float, crossed: float) -> np.ndarray:
        penalty = rows * np.where(of_user, user, np.where(main, 0.1 * user, crossed))
        penalty[0] = 1e-3 * rows
        return penalty

    def error(penalty: np.ndarray) -> float:
        total = 0.0
        for left in sums:
            rest = gram - left.gram + share * np.diag(penalty)
            found = solve_positive(rest, cross - left.cross)
            total += left.square - 2 * found @ left.cross + found @ left.gram @ found
        return float(total)

    _, middle, _ = _CROSS_PENALTIES
    tried = {(user, middle): error(penalties(user, middle)) for user in _PENALTIES}
    user, _ = min(tried, key=lambda pair: tried[pair])
    tried |= {(user, c): error(penalties(user, c)) for c in _CROSS_PENALTIES if c != middle}
    best = min(tried, key=lambda pair: tried[pair])
    return solve_positive(gram + np.diag(penalties(*best)), cross), tried[best]


def solve_positive(matrix: Array, right: Array) -> np.ndarray:
    """Solves a positive definite system by packed Cholesky factors, in one thread.

    OpenBLAS divides LU and dense Cholesky factors among threads from about 100 rows on, and they
    wait for one another: on a busy machine for many times as long as they compute.

    Args:
        matrix: `[D, D]`, symmetric and positive definite.
        right: `[D]`.

    Returns:
        `[D]` float64.

    Raises:
        LinAlgError: If the matrix is not positive definite.
    """
    from scipy.linalg import get_lapack_funcs  # Takes a fifth of a second, and only a fit needs it.

    (solve,), size = get_lapack_funcs(("ppsv",), (matrix, right)), len(right)
    found, failed = solve(size, matrix[np.tril_indices(size)], right[:, None])
    if failed:
        raise np.linalg.LinAlgError(f"the matrix is not positive definite in row {failed}.")
    return found[:, 0]

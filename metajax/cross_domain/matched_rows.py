"""Rows of two tables that are one user or one item, and copying embeddings between them."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metajax.cross_domain.overlap import check_types_of_ids

__all__ = ["check_overlap", "copy_rows", "matched_rows"]


def matched_rows(
    source_ids: Sequence[Any] | np.ndarray,
    target_ids: Sequence[Any] | np.ndarray,
    *,
    pairs: Sequence[tuple[Any, Any]] | None = None,
) -> np.ndarray:
    """Finds the rows of two vocabularies that are one and the same.

    Args:
        source_ids: `[n]` distinct ids of the source's rows.
        target_ids: `[m]` distinct ids of the target's rows.
        pairs: Ids of the source and of the target that mean the same; None: equal ids do.

    Returns:
        `[p, 2]` rows of the source and of the target, in the order of `pairs` or of the ids.

    Raises:
        ValueError: If a vocabulary has an id twice, pairs name ids that are not there, nothing
            matches, or ids are of different types.

    Example:
        >>> matched_rows(["a", "b", "c"], ["c", "a"]).tolist()
        [[0, 1], [2, 0]]
        >>> matched_rows(["a", "b"], [7, 8], pairs=[("b", 7)]).tolist()
        [[1, 0]]
    """
    sides = {"source": np.asarray(source_ids), "target": np.asarray(target_ids)}
    for name, ids in sides.items():
        if len(np.unique(ids)) != len(ids):
            raise ValueError(f"{name}_ids must be distinct, got {len(ids)} of which some repeat.")
    if pairs is None:
        check_types_of_ids(*sides.values())
        _, *rows = np.intersect1d(sides["source"], sides["target"], return_indices=True)
    else:
        rows = [
            _found(name, ids, [pair[side] for pair in pairs])
            for side, (name, ids) in enumerate(sides.items())
        ]
    if not len(rows[0]):
        some = " and ".join(str(ids[:3].tolist()) for ids in sides.values())
        raise ValueError(f"source_ids and target_ids must have a match, got none among {some}.")
    return np.stack(rows, axis=1)


def copy_rows(
    target: ArrayLike, source: ArrayLike, overlap: np.ndarray | Sequence[Sequence[int]]
) -> jax.Array:
    """Copies embeddings of what both tables have from the source's to the target's.

    Args:
        target: `[m, F]` table.
        source: `[n, F]` table.
        overlap: `[p, 2]` rows of the source and of the target, as from `matched_rows`.

    Returns:
        `[m, F]` the target's table with those rows of the source's in their places.

    Raises:
        ValueError: If the tables are of different widths, or as `check_overlap`.

    Example:
        >>> copy_rows(jnp.zeros((3, 1)), jnp.array([[5.0], [7.0]]), np.array([[1, 2]]))[:, 0]
        Array([0., 0., 7.], dtype=float32)
    """
    to, given = jnp.asarray(target), jnp.asarray(source)
    if to.shape[1:] != given.shape[1:]:
        raise ValueError(f"source must have rows like {to.shape[1:]}, got {given.shape[1:]}.")
    rows = check_overlap(overlap, len(given), len(to))
    return to.at[rows[:, 1]].set(given[rows[:, 0]].astype(to.dtype))


def check_overlap(
    overlap: np.ndarray | Sequence[Sequence[int]], source: int, target: int
) -> np.ndarray:
    """Refuses pairs of rows that are not there.

    Args:
        overlap: `[p, 2]` rows of the source and of the target.
        source: How many rows the source has.
        target: How many rows the target has.

    Returns:
        `[p, 2]` int64.

    Raises:
        ValueError: If they are no pairs, there is none, or rows are unknown; gives their count and
            the first five.
    """
    rows = np.asarray(overlap)
    if rows.ndim != 2 or rows.shape[1] != 2 or not len(rows) or rows.dtype.kind not in "iu":
        raise ValueError(
            "overlap must hold pairs of whole numbers, at least one, got the shape "
            f"{rows.shape} of {rows.dtype}."
        )
    unknown = rows[((rows < 0) | (rows >= np.array([[source, target]]))).any(axis=1)]
    if len(unknown):
        raise ValueError(
            f"overlap must hold rows below {source} of the source and {target} of the target, got "
            f"{len(unknown)} unknown: {_first(unknown.tolist())}"
        )
    return rows.astype(np.int64)


def _found(name: str, ids: np.ndarray, wanted: Sequence[Any]) -> np.ndarray:
    place = {key: row for row, key in enumerate(ids.tolist())}
    unknown = [key for key in wanted if key not in place]
    if unknown:
        raise ValueError(
            f"pairs must name ids of the {name}, got {len(unknown)} unknown: {_first(unknown)}"
        )
    return np.array([place[key] for key in wanted], np.int64)


def _first(found: Sequence[Any]) -> str:
    return f"{', '.join(map(repr, found[:5]))}{', ...' if len(found) > 5 else '.'}"

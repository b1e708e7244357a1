"""Overlap of two domains: users, or rows of two tables, matched by id."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metajax.files import DataError, read_text

__all__ = ["check_overlap", "copy_rows", "joint_names", "matched_rows", "read_overlap_list"]

_HEADINGS = (["user"], ["user_id"], ["user_id:token"], ["source", "target"])


def joint_names(
    source: np.ndarray,
    target: np.ndarray,
    *,
    matched: bool = True,
    overlap_list: Sequence[Any] | np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Names the users of two data sets so that equal names mean one user.

    Args:
        source: `[n]` user ids of the source.
        target: `[m]` user ids of the target.
        matched: True if the data sets have users in common.
        overlap_list: `[p]` ids that mean the same user in both, or `[p, 2]` pairs of a source and
            a target id; all others are different users. None: equal ids mean one user.

    Returns:
        `[n]` and `[m]` names: the ids where equal ones mean one user; else with the prefix
        `source:` or `target:`, the latter for users of both.

    Raises:
        ValueError: If a list is given and `matched` is False; the list is neither ids nor pairs,
            or names unknown users, or one twice; or equal ids mean one user and there are none,
            or the ids of one side are numbers and those of the other are not.

    Example:
        >>> joint_names(np.array(["a", "b"]), np.array(["b", "x"]), overlap_list=[("a", "x")])
        (array(['target:x', 'source:b'], dtype='<U8'), array(['target:b', 'target:x'], dtype='<U8'))
    """
    if overlap_list is None and matched:
        _check_types(source, target)
    source, target = source.astype(str), target.astype(str)
    if overlap_list is None and matched:
        if not len(np.intersect1d(source, target)):
            first, second = (repr(str(ids[0])) if len(ids) else "none" for ids in (source, target))
            raise ValueError(
                f"source and target must share users to be matched, got ids like {first} and "
                f"{second}: list matching users, or join them unmatched."
            )
        return source, target
    names = np.char.add("source:", source), np.char.add("target:", target)
    if overlap_list is None:
        return names
    if not matched:
        raise ValueError("matched must be True where an overlap_list is given.")
    pairs = np.array(list(overlap_list)).astype(str)
    if pairs.ndim == 1:
        pairs = np.stack([pairs, pairs], axis=1)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"overlap_list must be ids or pairs of ids, got shape {pairs.shape}.")
    rows = []
    for side, ids, listed in zip(("source", "target"), (source, target), pairs.T, strict=True):
        rule = f"overlap_list must name users of the {side}"
        rows.append(_row_numbers(ids, listed.tolist(), rule))
        values, counts = np.unique(listed, return_counts=True)
        if len(counts) < len(listed):
            twice = str(values[counts > 1][0])
            raise ValueError(f"overlap_list must name a {side} user once, got {twice!r} twice.")
    linked = names[0].astype(np.result_type(*names))
    linked[rows[0]] = names[1][rows[1]]
    return linked, names[1]


def read_overlap_list(path: str | Path) -> list[tuple[str, ...]]:
    """Reads pairs of ids of the same user in two data sets.

    A line holds an id that means the same user in both, or an id of the source and one of the
    target, separated by a comma or a tab. A first line `user_id` or `source,target` is a heading.

    Args:
        path: A text file.

    Returns:
        Pairs of ids, for `joint_names`.

    Raises:
        DataError: If a line holds anything else; names the line.
        OSError: If the file cannot be read.
    """
    pairs: list[tuple[str, ...]] = []
    text = read_text(path)
    separator = "\t" if "\t" in text.partition("\n")[0] else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        for n, row in enumerate(reader, 1):
            ids = [cell.strip() for cell in row]
            if not any(ids) or (n == 1 and ids in _HEADINGS):
                continue
            if len(ids) > 2 or not all(ids):
                raise DataError("a line must hold one user id or two.", file=path, line=n)
            pairs.append((ids[0], ids[-1]))
    except csv.Error as error:
        raise DataError(f"{error}.", file=path, line=reader.line_num) from None
    if not pairs:
        raise DataError("the list must name a user, got none.", file=path)
    return pairs


def matched_rows(
    source_ids: Sequence[Any] | np.ndarray,
    target_ids: Sequence[Any] | np.ndarray,
    *,
    pairs: Sequence[tuple[Any, Any]] | None = None,
) -> np.ndarray:
    """Finds the rows of two tables that have the same id.

    Args:
        source_ids: `[n]` distinct ids of the source's rows.
        target_ids: `[m]` distinct ids of the target's rows.
        pairs: Ids of the source and of the target that mean the same; None: equal ids do.

    Returns:
        `[p, 2]` rows of the source and of the target, in the order of `pairs` or of the ids.

    Raises:
        ValueError: If a table has an id twice, pairs name unknown ids, nothing matches, or ids
            have different types.

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
        _check_types(*sides.values())
        _, *rows = np.intersect1d(sides["source"], sides["target"], return_indices=True)
    else:
        rows = [
            _row_numbers(ids, [pair[side] for pair in pairs], f"pairs must name ids of the {name}")
            for side, (name, ids) in enumerate(sides.items())
        ]
    if not len(rows[0]):
        some = " and ".join(str(ids[:3].tolist()) for ids in sides.values())
        raise ValueError(f"source_ids and target_ids must have a match, got none among {some}.")
    return np.stack(rows, axis=1)


def copy_rows(
    target: ArrayLike, source: ArrayLike, overlap: np.ndarray | Sequence[Sequence[int]]
) -> jax.Array:
    """Copies the embeddings of matched rows from a source to a target table.

    Args:
        target: `[m, F]` table.
        source: `[n, F]` table.
        overlap: `[p, 2]` rows of the source and of the target, as from `matched_rows`.

    Returns:
        `[m, F]` the target's table with those rows of the source's in their places.

    Raises:
        ValueError: If the tables have different widths, or as `check_overlap`.

    Example:
        >>> copy_rows(jnp.zeros((3, 1)), jnp.array([[5.0], [7.0]]), np.array([[1, 2]]))[:, 0]
        Array([0., 0., 7.], dtype=float32)
    """
    to, rows_from = jnp.asarray(target), jnp.asarray(source)
    if to.shape[1:] != rows_from.shape[1:]:
        raise ValueError(f"source must have rows like {to.shape[1:]}, got {rows_from.shape[1:]}.")
    rows = check_overlap(overlap, len(rows_from), len(to))
    return to.at[rows[:, 1]].set(rows_from[rows[:, 0]].astype(to.dtype))


def check_overlap(
    overlap: np.ndarray | Sequence[Sequence[int]], source: int, target: int
) -> np.ndarray:
    """Refuses pairs of rows that do not exist.

    Args:
        overlap: `[p, 2]` rows of the source and of the target.
        source: Number of rows of the source.
        target: Number of rows of the target.

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


def _check_types(source: np.ndarray, target: np.ndarray) -> None:
    """Refuses ids whose equality is undecided: 7 and "7", or "007"."""
    kinds = ["numbers" if ids.dtype.kind in "iuf" else "text" for ids in (source, target)]
    if len(source) and len(target) and kinds[0] != kinds[1]:
        raise ValueError(
            f"source and target must have ids of one type to be matched, got {' and '.join(kinds)}."
        )


def _row_numbers(ids: np.ndarray, wanted: Sequence[Any], rule: str) -> np.ndarray:
    """Returns the rows `[p]` of wanted ids; `rule` opens the error about unknown ones."""
    place = {key: row for row, key in enumerate(ids.tolist())}
    unknown = [key for key in dict.fromkeys(wanted) if key not in place]
    if unknown:
        raise ValueError(f"{rule}, got {len(unknown)} unknown: {_first(unknown)}")
    return np.array([place[key] for key in wanted], np.int64)


def _first(found: Sequence[Any]) -> str:
    return f"{', '.join(map(repr, found[:5]))}{', ...' if len(found) > 5 else '.'}"

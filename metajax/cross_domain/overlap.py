"""Who is one person in two data sets: all of equal names, those of a list, or nobody."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metajax.data.readers.text import DataError

__all__ = ["check_types_of_ids", "joint_names", "read_overlap_list"]

_HEADINGS = (["user"], ["user_id"], ["user_id:token"], ["source", "target"])


def joint_names(
    source: np.ndarray,
    target: np.ndarray,
    *,
    matched: bool = True,
    overlap_list: Sequence[Any] | np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Names the users of two data sets so that equal names mean one person.

    Args:
        source: `[n]` user ids of the source.
        target: `[m]` user ids of the target.
        matched: Whether anybody is in both.
        overlap_list: `[p]` ids that mean the same person in both, or `[p, 2]` pairs of a source
            and a target id; all others are different people. None: equal ids are one person.

    Returns:
        `[n]` and `[m]` names. Ids as they are where equal ones are one person; else behind
        `source:` and `target:`, the latter for who is in both.

    Raises:
        ValueError: If a list is given and nobody is matched, it is neither ids nor pairs, names
            users that are not there, or one twice; or equal ids are meant and there are none, or
            those of one side are numbers and those of the other are not.

    Example:
        >>> joint_names(np.array(["a", "b"]), np.array(["b", "x"]), overlap_list=[("a", "x")])
        (array(['target:x', 'source:b'], dtype='<U8'), array(['target:b', 'target:x'], dtype='<U8'))
    """
    if overlap_list is None and matched:
        check_types_of_ids(source, target)
    source, target = source.astype(str), target.astype(str)
    if overlap_list is None and matched:
        if not len(np.intersect1d(source, target)):
            first, second = (repr(str(ids[0])) if len(ids) else "none" for ids in (source, target))
            raise ValueError(
                f"source and target must share users to be matched, got ids like {first} and "
                f"{second}: list who is one person, or join them unmatched."
            )
        return source, target
    names = np.char.add("source:", source), np.char.add("target:", target)
    if overlap_list is None:
        return names
    if not matched:
        raise ValueError("matched must be True where an overlap_list says who is in both.")
    pairs = np.array(list(overlap_list)).astype(str)
    if pairs.ndim == 1:
        pairs = np.stack([pairs, pairs], axis=1)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"overlap_list must be ids or pairs of ids, got shape {pairs.shape}.")
    at = [
        _found(ids, listed, side)
        for ids, listed, side in ((source, pairs[:, 0], "source"), (target, pairs[:, 1], "target"))
    ]
    linked = names[0].astype(np.result_type(*names))
    linked[at[0]] = names[1][at[1]]
    return linked, names[1]


def read_overlap_list(path: str | Path) -> list[tuple[str, ...]]:
    """Reads who is one person in two data sets.

    A line holds an id that means the same person in both, or an id of the source and one of the
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
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        for n, row in enumerate(csv.reader(file, delimiter="\t" if "\t" in first else ","), 1):
            ids = [cell.strip() for cell in row]
            if not any(ids) or (n == 1 and ids in _HEADINGS):
                continue
            if len(ids) > 2 or not all(ids):
                raise DataError("a line must hold one user id or two.", file=path, line=n)
            pairs.append((ids[0], ids[-1]))
    if not pairs:
        raise DataError("the list must name a user, got none.", file=path)
    return pairs


def check_types_of_ids(source: np.ndarray, target: np.ndarray) -> None:
    """Refuses ids of which it cannot be said whether they are equal: 7 and "7", or "007".

    Raises:
        ValueError: If those of one side are numbers and those of the other are not.
    """
    kinds = ["numbers" if ids.dtype.kind in "iuf" else "text" for ids in (source, target)]
    if len(source) and len(target) and kinds[0] != kinds[1]:
        raise ValueError(
            f"source and target must have ids of one type to be matched, got {' and '.join(kinds)}."
        )


def _found(ids: np.ndarray, listed: np.ndarray, side: str) -> np.ndarray:
    """Returns where listed ids stand."""
    unknown = np.unique(listed[~np.isin(listed, ids)])
    if len(unknown):
        some = ", ".join(repr(str(i)) for i in unknown[:5])
        raise ValueError(
            f"overlap_list must name users of the {side}, got {len(unknown)} unknown: {some}"
            f"{', ...' if len(unknown) > 5 else '.'}"
        )
    counted = np.unique(listed, return_counts=True)
    twice = counted[0][counted[1] > 1]
    if len(twice):
        raise ValueError(f"overlap_list must name a {side} user once, got {str(twice[0])!r} twice.")
    order = np.argsort(ids)
    return order[np.searchsorted(ids, listed, sorter=order)]

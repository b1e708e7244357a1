"""Partition of parameters into those that adapt and those that all users share.

Freezing by masking the updates would still give every user a copy of the frozen weights. A
partition takes them out of the inner loop: what does not adapt never gets a task axis.
"""

from collections.abc import Callable
from fnmatch import fnmatchcase

import jax

from metajax.types import Choice, Params

__all__ = ["choosing", "combine", "matching", "partition", "paths", "within"]


def matching(*patterns: str) -> Callable[[str], bool]:
    """Predicate on parameter paths that match one of several patterns.

    Args:
        *patterns: Shell-style patterns of paths, for instance `predictor/*`.

    Returns:
        A predicate on paths.

    Example:
        >>> chosen = matching("predictor/*", "*/bias")
        >>> chosen("predictor/layer_0/kernel"), chosen("user_tower/layer_0/kernel")
        (True, False)
    """
    return lambda path: any(fnmatchcase(path, pattern) for pattern in patterns)


def choosing(choice: Choice) -> Callable[[str], bool]:
    """Converts a choice of parameters to a predicate on their paths.

    Args:
        choice: A pattern or several, as in `matching`, or a predicate.

    Raises:
        TypeError: If it is none of these.

    Example:
        >>> [choosing(c)("head/bias") for c in ("head/*", ("body/*", "head/*"))]
        [True, True]
    """
    if callable(choice):
        return choice
    patterns = (choice,) if isinstance(choice, str) else tuple(choice)
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError(f"a choice of parameters must be of patterns, got {choice!r}.")
    return matching(*patterns)


def within(name: str, choice: Choice) -> Callable[[str], bool]:
    """Predicate on parameter paths inside one part of the parameters.

    Args:
        name: Of the part.
        choice: Of paths in the part, as in `choosing`.

    Returns:
        A predicate on paths in the whole.

    Example:
        >>> of_bias = within("network", lambda path: path == "bias")
        >>> of_bias("network/bias"), of_bias("rates/bias"), of_bias("network/kernel")
        (True, False, False)
    """
    chosen = choosing(choice)

    def choose(path: str) -> bool:
        part, _, rest = path.partition("/")
        return part == name and chosen(rest)

    return choose


def paths(params: Params) -> list[str]:
    """Names every leaf by its path, `outer/inner/leaf`, in the order of the leaves."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]


def partition(params: Params, choice: Choice) -> tuple[Params, Params]:
    """Splits parameters in two trees of the same shape, each with None for the other's leaves.

    Args:
        params: A pytree of arrays.
        choice: Of paths of leaves, as in `choosing`.

    Returns:
        The chosen parameters, and the rest.

    Raises:
        ValueError: If nothing is chosen.

    Example:
        >>> partition({"a": 1.0, "b": {"c": 2.0}}, matching("b/*"))
        ({'a': None, 'b': {'c': 2.0}}, {'a': 1.0, 'b': {'c': None}})
    """
    leaves, structure = jax.tree.flatten(params)
    keep = list(map(choosing(choice), paths(params)))
    if not any(keep):
        raise ValueError(f"adapts must choose a parameter, got none of {', '.join(paths(params))}.")
    first = [leaf if k else None for leaf, k in zip(leaves, keep, strict=True)]
    second = [None if k else leaf for leaf, k in zip(leaves, keep, strict=True)]
    return structure.unflatten(first), structure.unflatten(second)


def combine(first: Params, second: Params) -> Params:
    """Merges two trees that `partition` has split."""
    return jax.tree.map(
        lambda a, b: b if a is None else a, first, second, is_leaf=lambda leaf: leaf is None
    )

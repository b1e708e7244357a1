"""Parameters of any method as bytes without code: safetensors and a description of the tree.

Closed forms have parameters of many shapes: NamedTuples, dictionaries, numbers. Arrays are stored
by their path in the tree; its containers are described as JSON. Nothing is unpickled: classes are
named, and looked up in the packages that define registered methods.
"""

import importlib
import json
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from metajax.types import Params

__all__ = ["described", "from_bytes", "restored", "to_bytes"]

_ROOT = "params"


def to_bytes(params: Params) -> bytes:
    """Writes parameters as bytes.

    Args:
        params: As in `described`.

    Returns:
        Their arrays as safetensors, after a line of JSON that
        describes the tree.

    Raises:
        TypeError: As `described`.

    Example:
        >>> from_bytes(to_bytes({"strength": 5.0, "ends": (1, None)}))
        {'strength': 5.0, 'ends': (1, None)}
    """
    arrays: dict[str, np.ndarray] = {}
    tree = described(params, _ROOT, arrays)
    return json.dumps(tree).encode() + b"\n" + safetensors.numpy.save(arrays)


def from_bytes(content: bytes) -> Params:
    """Reads parameters that `to_bytes` wrote.

    Raises:
        ValueError: If they are of a class that is not installed.
    """
    tree, _, arrays = content.partition(b"\n")
    return restored(json.loads(tree), safetensors.numpy.load(arrays))


def described(tree: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """Describes a tree of parameters as JSON, and collects its arrays.

    Args:
        tree: Arrays, numbers, texts and None in dictionaries, lists, tuples and NamedTuples.
        path: Its name, of which the names of its arrays are made.
        arrays: The arrays by name; added to.

    Returns:
        The description, for `restored`.

    Raises:
        TypeError: If it holds anything else.
    """
    if tree is None or isinstance(tree, bool | int | float | str):
        return {"value": tree}
    if isinstance(tree, Mapping):
        for key in tree:
            if not isinstance(key, str):
                raise TypeError(f"{path} must have texts as keys, got {key!r}.")
        return {"dict": [[k, described(v, f"{path}/{k}", arrays)] for k, v in tree.items()]}
    if isinstance(tree, tuple | list):
        items = [described(leaf, f"{path}/{n}", arrays) for n, leaf in enumerate(tree)]
        kind = type(tree)
        if kind in (tuple, list):
            return {kind.__name__: items}
        if hasattr(kind, "_fields"):
            return {"class": f"{kind.__module__}:{kind.__qualname__}", "fields": items}
    if hasattr(tree, "dtype") and hasattr(tree, "shape"):
        # A view of another array would be written in its memory's order. What is in order is not
        # copied.
        arrays[path] = np.asarray(tree, order="C")
        return {"array": path}
    raise TypeError(f"{path} must hold arrays and numbers, got {type(tree).__name__}.")


def restored(description: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Builds a tree from what `described` returned.

    Args:
        description: The description.
        arrays: The arrays by name.

    Returns:
        The tree, its arrays on the default device.

    Raises:
        ValueError: If it names a class that is not of a package with methods.
    """
    if "array" in description:
        return jnp.asarray(arrays[description["array"]])
    if "value" in description:
        return description["value"]
    if "dict" in description:
        return {key: restored(value, arrays) for key, value in description["dict"]}
    for name, kind in (("tuple", tuple), ("list", list)):
        if name in description:
            return kind(restored(value, arrays) for value in description[name])
    fields = [restored(value, arrays) for value in description["fields"]]
    return _class_of(description["class"], len(fields))(*fields)


def _class_of(name: str, fields: int) -> Callable[..., Any]:
    """Finds the NamedTuple of a name in the packages that define registered methods.

    Raises:
        ValueError: If it is elsewhere, is none, or has another number of fields.
    """
    module, _, qualified = name.partition(":")
    points = entry_points(group="metajax.methods")
    packages = {"metajax", *(point.module.partition(".")[0] for point in points)}
    if module.partition(".")[0] not in packages:
        raise ValueError(f"parameters must be of a package with methods, got those of {name!r}.")
    try:
        found: Any = importlib.import_module(module)
        for part in qualified.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        raise ValueError(
            f"there is no class {name!r} of parameters in what is installed."
        ) from None
    is_tuple = isinstance(found, type) and issubclass(found, tuple)
    if not is_tuple or len(getattr(found, "_fields", ())) != fields:
        raise ValueError(f"{name!r} is no NamedTuple of {fields} fields.")
    return cast(Callable[..., Any], found)

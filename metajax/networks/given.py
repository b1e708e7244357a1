"""First values of parameters, where they are known."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from metajax.types import Params

__all__ = ["with_given"]


def with_given(params: Params, given: Mapping[str, Params]) -> Params:
    """Puts values in the place of parameters.

    Args:
        params: By name.
        given: The new values of some of them: an array, or a dictionary that holds one.

    Returns:
        The parameters, changed, in float32.

    Raises:
        ValueError: If a shape does not fit, or there is no such parameter.

    Example:
        >>> with_given({"scale": jnp.ones(()), "shift": jnp.ones(())}, {"scale": 3})["scale"].item()
        3.0
    """
    changed = {**params}
    for name, value in given.items():
        if name not in params:
            raise ValueError(f"params must have {name}, got {', '.join(params)}.")
        shape, found = (jnp.shape(jax.tree.leaves(tree)[0]) for tree in (params[name], value))
        if found != shape:
            raise ValueError(f"{name} must have the shape {shape}, got {found}.")
        changed[name] = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), value)
    return changed

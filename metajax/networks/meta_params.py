"""Meta-parameters in addition to a network's, and given initial values."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from metajax.types import Model, Params, check_model

__all__ = ["with_initial_values", "with_meta_params"]


def with_meta_params(model: Model, **others: Callable[[jax.Array, Params, Any], Params]) -> Model:
    """Model with further parameters, such as learned rates or a learned optimizer.

    Args:
        model: The network.
        **others: By name, `make(key, network, inputs) -> params`, the initial values of a part.

    Returns:
        A model with the parameters `{"network": ..., name: ...}` and the scores of the network.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> line = Model(init=lambda key, x: jnp.ones(()), apply=lambda w, x: w * x)
        >>> model = with_meta_params(line, rate=lambda key, network, inputs: 0.1 * network)
        >>> params = model.init(jax.random.key(0), jnp.zeros(3))
        >>> sorted(params), float(model.apply(params, 2.0))
        (['network', 'rate'], 2.0)
    """
    check_model(model)

    def init(key: jax.Array, inputs: Any) -> Params:
        network = model.init(key, inputs)
        made = {
            name: make(jax.random.fold_in(key, n), network, inputs)
            for n, (name, make) in enumerate(others.items())
        }
        return {"network": network, **made}

    def apply(params: Params, inputs: Any) -> jax.Array:
        return model.apply(params["network"], inputs)

    return Model(init, apply)


def with_initial_values(params: Params, given: Mapping[str, Params]) -> Params:
    """Replaces parameters by given initial values.

    Args:
        params: By name.
        given: The new values of some of them: an array, or a dictionary that holds one.

    Returns:
        The parameters, changed, in float32.

    Raises:
        ValueError: If a shape does not fit, or there is no such parameter.

    Example:
        >>> params = {"scale": jnp.ones(()), "shift": jnp.ones(())}
        >>> with_initial_values(params, {"scale": 3})["scale"].item()
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

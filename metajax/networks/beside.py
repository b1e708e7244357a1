"""Meta-parameters beside those of a network: learned rates, a learned optimizer, a prior."""

from collections.abc import Callable
from typing import Any

import jax

from metajax.types import Model, Params

__all__ = ["beside"]


def beside(model: Model, **others: Callable[[jax.Array, Params, Any], Params]) -> Model:
    """Makes a network's parameters one of several parts, so that all are trained and kept alike.

    Args:
        model: The network.
        **others: By name, `make(key, network, inputs) -> params`, the first values of a part.

    Returns:
        A model with the parameters `{"network": ..., name: ...}` and the scores of the network.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> line = Model(init=lambda key, x: jnp.ones(()), apply=lambda w, x: w * x)
        >>> model = beside(line, rate=lambda key, network, inputs: 0.1 * network)
        >>> params = model.init(jax.random.key(0), jnp.zeros(3))
        >>> sorted(params), float(model.apply(params, 2.0))
        (['network', 'rate'], 2.0)
    """

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

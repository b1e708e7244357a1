"""Flax Linen modules as pairs of pure functions."""

from typing import Any

import flax.linen as nn
import jax

from metajax.base import Model, Params

__all__ = ["from_linen", "init_params"]


def from_linen(module: nn.Module) -> Model:
    """Wraps a Linen module whose only variables are parameters.

    Args:
        module: Maps inputs whose leaves lead with N to scores `[N]` or `[N, 1]`, or to what an
            adaptation makes scores of, such as `Placed`.

    Returns:
        The pair `init`, `apply`. Scores come back as `[N]`.

    Raises:
        ValueError: From `init`, as `init_params`.
    """

    def init(key: jax.Array, inputs: Any) -> Params:
        return init_params(module, key, inputs)

    def apply(params: Params, inputs: Any) -> jax.Array:
        scores: Any = module.apply({"params": params}, inputs)
        if isinstance(scores, jax.Array) and scores.ndim == 2 and scores.shape[1] == 1:
            return scores[:, 0]
        return scores

    return Model(init, apply)


def init_params(module: nn.Module, key: jax.Array, *inputs: Any) -> Params:
    """Returns the first parameters of a Linen module.

    Raises:
        ValueError: If the module keeps other variables, such as batch statistics: a user's
            adaptation must not change what others see.
    """
    variables = dict(module.init(key, *inputs))
    params = variables.pop("params", {})
    if variables:
        raise ValueError(
            f"module must hold parameters alone, got the collections {sorted(variables)}."
        )
    return params

"""Networks that read a support themselves, as pure functions."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from metajax.networks.linen import init_params
from metajax.types import Examples, Params, SupportModel

__all__ = ["from_support_module"]


def from_support_module(module: nn.Module) -> SupportModel:
    """Wraps a Linen module with the methods `encode`, `decode` and, of both, `__call__`.

    Args:
        module: Its methods are `encode(support) -> state`, `decode(state, inputs) ->
            predictions` and `__call__(support, inputs)`, which does one after the other.

    Returns:
        The pure functions.

    Raises:
        ValueError: From `init`, as `from_linen`.
    """

    def init(key: jax.Array, inputs: Any) -> Params:
        rows = jax.tree.leaves(inputs)[0].shape[0]
        blank = Examples(inputs, jnp.zeros(rows), jnp.ones(rows, bool))
        return init_params(module, key, blank, inputs)

    def encode(params: Params, support: Examples) -> Any:
        return module.apply({"params": params}, support, method="encode")

    def decode(params: Params, state: Any, inputs: Any) -> Any:
        return module.apply({"params": params}, state, inputs, method="decode")

    return SupportModel(init, encode, decode)

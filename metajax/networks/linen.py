"""Flax Linen modules as pairs of pure functions."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from metajax.types import Examples, Model, Params, SupportModel

__all__ = ["from_linen", "from_support_module", "init_params"]


def from_linen(module: nn.Module, *, broadcasts_user: bool = False) -> Model:
    """Wraps a Linen module whose only variables are parameters.

    Args:
        module: Maps inputs whose leaves lead with N to scores `[N]` or `[N, 1]`, or to what an
            adaptation makes scores of, such as `Placed`. Layers with `dtype=jnp.bfloat16` compute
            in that; parameters, and so adapted weights, gradients and optimizer states, are of
            their `param_dtype`, float32.
        broadcasts_user: `Model.broadcasts_user`.

    Returns:
        The functions `init` and `apply`. Scores come back as `[N]`, in float32 at least.

    Raises:
        ValueError: From `init`, as `init_params`.
    """

    def init(key: jax.Array, inputs: Any) -> Params:
        return init_params(module, key, inputs)

    def apply(params: Params, inputs: Any) -> jax.Array:
        scores: Any = module.apply({"params": params}, inputs)
        if not isinstance(scores, jax.Array):
            return scores
        # In float32: bfloat16 would round sums of losses, and scores of a ranking, to the same.
        scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
        return scores[:, 0] if scores.ndim == 2 and scores.shape[1] == 1 else scores

    return Model(init, apply, broadcasts_user)


def init_params(module: nn.Module, key: jax.Array, *inputs: Any) -> Params:
    """Returns the initial parameters of a Linen module.

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

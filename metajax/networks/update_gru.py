"""GRU cell with a linear readout, for learned updates."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from metajax.types import Params, UpdateGRU

__all__ = ["update_gru"]


def update_gru(width: int) -> UpdateGRU:
    """GRU cell with a linear readout.

    Args:
        width: H, the size of its hidden state, at least 1.

    Returns:
        The cell.

    Raises:
        ValueError: If `width` < 1.

    References:
        Cho et al., Learning Phrase Representations using RNN Encoder-Decoder, EMNLP 2014, in the
        variant of Linen's `GRUCell`: the reset gate scales the product, not the state.
    """
    if width < 1:
        raise ValueError(f"width must be >= 1, got {width}.")
    cell = nn.GRUCell(width)

    def init(key: jax.Array, features: int, outputs: int) -> Params:
        variables = cell.init(key, jnp.zeros(width), jnp.zeros(features))
        return {"cell": variables["params"], "readout": jnp.zeros((width, outputs))}

    def step(params: Params, hidden: jax.Array, seen: jax.Array) -> jax.Array:
        after: Any = cell.apply({"params": params["cell"]}, hidden, seen)
        return after[0]

    def read(params: Params, hidden: jax.Array) -> jax.Array:
        return hidden @ params["readout"]

    return UpdateGRU(init, step, read, width)

"""Dense layers one after the other, what towers and predictors are made of."""

from collections.abc import Sequence

import flax.linen as nn
import jax
from flax.typing import Dtype

__all__ = ["Tower"]


class Tower(nn.Module):
    """Dense layers `layer_i` with relu between them.

    Attributes:
        widths: Widths of the layers; nothing comes after the last one.
        dtype: What the layers compute in; None means the type of parameters and inputs.
        scores: Whether the last layer gives scores, which are not rounded to `dtype`.
    """

    widths: Sequence[int]
    dtype: Dtype | None = None
    scores: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[..., D]` to `[..., widths[-1]]`."""
        for i, width in enumerate(self.widths):
            is_last = i == len(self.widths) - 1
            dtype = None if self.scores and is_last else self.dtype
            x = nn.Dense(width, dtype=dtype, name=f"layer_{i}")(x if i == 0 else nn.relu(x))
        return x

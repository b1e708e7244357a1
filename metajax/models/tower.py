"""Dense layers one after the other, what towers and predictors are made of."""

from collections.abc import Sequence

import flax.linen as nn
import jax

__all__ = ["Tower"]


class Tower(nn.Module):
    """Dense layers `layer_i` with relu between them.

    Attributes:
        widths: Widths of the layers; nothing comes after the last one.
    """

    widths: Sequence[int]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[..., D]` to `[..., widths[-1]]`."""
        for i, width in enumerate(self.widths):
            x = nn.Dense(width, name=f"layer_{i}")(x if i == 0 else nn.relu(x))
        return x

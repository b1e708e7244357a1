"""Sees every plain linear layer of a Linen module at work: `nn.Dense` and `nn.Embed`.

Adaptation without per-user weights needs to know what goes into a layer and to add to what comes
out. Linen offers both for any module, unchanged, while a context is open.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import flax.linen as nn
import jax

__all__ = ["linear_layers"]

OnLayer = Callable[[jax.Array, jax.Array, Callable[[], jax.Array]], jax.Array]


def linear_layers(on_layer: OnLayer) -> AbstractContextManager[Any]:
    """Opens a context in which linear layers are computed by a function of one's own.

    Subclasses, `attend`, and layers with their own `dot_general` are left alone.

    Args:
        on_layer: `on_layer(weight, inputs, compute) -> outputs`. `weight` is the very object that
            stands in the parameters, `[a, b]`: a kernel whose inputs are `[..., a]`, or an
            embedding table whose inputs are integers `[...]`. `compute()` gives what the layer
            itself would.

    Returns:
        The context.
    """

    def intercept(
        compute: Callable[..., jax.Array],
        args: Any,
        kwargs: Any,
        context: nn.module.InterceptorContext,
    ) -> jax.Array:
        module = context.module
        name = _WEIGHTS.get(type(module))
        if (
            name is None
            or getattr(module, "num_embeddings", 2) == 1  # a table of one row ignores its inputs
            or context.method_name != "__call__"
            or len(args) != 1
            or kwargs
            or getattr(module, "dot_general", None) is not None
            or getattr(module, "dot_general_cls", None) is not None
            or module.is_initializing()
        ):
            return compute(*args, **kwargs)
        weight: Any = module.get_variable("params", name)
        return on_layer(weight, args[0], lambda: compute(*args))

    return nn.intercept_methods(intercept)


_WEIGHTS: dict[type[nn.Module], str] = {nn.Dense: "kernel", nn.Embed: "embedding"}

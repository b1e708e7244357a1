"""Interception of the linear layers of a Linen module: `nn.Dense` and `nn.Embed`.

Adaptation without per-user weights needs to know what goes into a layer and to add to what comes
out. Linen offers both for any module, unchanged, while a context is open.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import canonicalize_dtype, promote_dtype

__all__ = ["linear_layers"]

Product = Callable[[jax.Array, jax.Array], jax.Array]
OnLayer = Callable[[jax.Array, jax.Array, Callable[..., jax.Array]], jax.Array]


def linear_layers(on_layer: OnLayer) -> AbstractContextManager[Any]:
    """Context in which linear layers are computed by a given function.

    Subclasses, `attend`, and layers with their own `dot_general` are left alone.

    Args:
        on_layer: `on_layer(weight, inputs, compute) -> outputs`. `weight` is the very object that
            stands in the parameters, `[a, b]`: a kernel whose inputs are `[..., a]`, in the type
            that the layer computes in, or an embedding table whose inputs are integers `[...]`.
            `compute(inputs, product=None)` gives what the layer itself would, a dense one by
            another product of rows with the kernel.

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
        if not isinstance(module, nn.Dense):
            return on_layer(weight, args[0], lambda inputs, product=None: compute(inputs))
        bias: Any = module.get_variable("params", "bias") if module.use_bias else None

        def computed(inputs: jax.Array, product: Product | None = None) -> jax.Array:
            if product is None:
                return compute(inputs)
            x, kernel, shift = promote_dtype(inputs, weight, bias, dtype=module.dtype)
            outputs = product(x.reshape(-1, x.shape[-1]), kernel)
            outputs = outputs.reshape(*x.shape[:-1], kernel.shape[1])
            return outputs if shift is None else outputs + jnp.broadcast_to(shift, outputs.shape)

        # The layer would do so first: what is multiplied with its change is of the same precision.
        dtype = canonicalize_dtype(args[0], weight, bias, dtype=module.dtype)
        return on_layer(weight, jnp.asarray(args[0], dtype), computed)

    return nn.intercept_methods(intercept)


_WEIGHTS: dict[type[nn.Module], str] = {nn.Dense: "kernel", nn.Embed: "embedding"}

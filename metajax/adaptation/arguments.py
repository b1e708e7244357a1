"""What a function with a derivative of its own needs: all it sees as arguments, integers apart."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

__all__ = ["held_apart", "real_leaves"]


def held_apart(
    loss: Callable[..., jax.Array], *args: Any
) -> tuple[Callable[..., jax.Array], list[Any]]:
    """Makes what a loss closes over an argument of it, traced or not.

    Args:
        loss: `loss(*args) -> []`.
        *args: Its arguments; of them only shapes and types matter.

    Returns:
        `loss(*args, held)`, and what was held.
    """
    traced = jax.make_jaxpr(loss)(*args)

    def apart(*args: Any) -> jax.Array:
        *given, held = args
        return jaxpr_as_fun(ClosedJaxpr(traced.jaxpr, held))(*jax.tree.leaves(given))[0]

    return apart, list(traced.consts)


def real_leaves(tree: Any) -> tuple[list[Any], list[Any], Callable[[list[Any], list[Any]], Any]]:
    """Sorts leaves by whether they have derivatives: integers and masks have none.

    Args:
        tree: Any pytree of arrays.

    Returns:
        The real leaves, the others, and `join(real, others) -> tree`.
    """
    leaves, structure = jax.tree.flatten(tree)
    is_real = [jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in leaves]
    real = [leaf for leaf, r in zip(leaves, is_real, strict=True) if r]
    others = [leaf for leaf, r in zip(leaves, is_real, strict=True) if not r]

    def join(real: list[Any], others: list[Any]) -> Any:
        first, second = iter(real), iter(others)
        return structure.unflatten([next(first if r else second) for r in is_real])

    return real, others, join

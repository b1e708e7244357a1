"""The gradient of a loss as a primitive with a derivative of its own.

`jax.custom_vjp` alone would do so for one task. Under `vmap` its way back runs task by task, and
what all tasks share gets a derivative `[T, a, b]` from each, to be summed in the end. So the
gradient is a primitive here: batched, it becomes the gradient of the losses of all tasks, in which
what is shared has no axis of tasks, and that is what is differentiated.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

__all__ = ["Derivative", "gradient_call", "hoisted", "real_leaves"]


Arrays = list[jax.Array]
# losses(fast, real, others) -> [...], one loss for each task; `[]` for a task alone.
Losses = Callable[[Arrays, Arrays, Arrays], jax.Array]


class Derivative(NamedTuple):
    """Rule by which a gradient is differentiated.

    `gradients(fast, *weights)` gives the gradient of the losses with respect to `fast` and to
    everything else that is real, each loss counting by its weight, 1 by default.
    """

    forward: Callable[..., tuple[Any, Any]]
    """`forward(gradients, fast) -> (all gradients, residuals of the backward pass)`."""
    back: Callable[..., Any]
    """`back(gradients, saved, fast, direction, lead) -> derivative of all gradients along it`.

    The leaves of `fast` and `direction` lead with `lead` axes of tasks."""


def gradient_call(loss: Callable[..., jax.Array], derivative: Derivative) -> Callable[..., Any]:
    """Makes `gradient(fast, *given)` of a loss, with a derivative of its own.

    Args:
        loss: `loss(fast, *given) -> []`. What it closes over may be traced.
        derivative: Rule by which the gradient is differentiated.

    Returns:
        The gradient with respect to `fast`, as a function.
    """

    def gradient(fast: Any, *given: Any) -> Any:
        leaves, structure = jax.tree.flatten(fast)
        apart, held = hoisted(loss, fast, *given)
        real, others, joined = real_leaves((*given, held))

        def losses(fast: Arrays, real: Arrays, others: Arrays) -> jax.Array:
            return apart(structure.unflatten(fast), *joined(real, others))

        return structure.unflatten(_bound(losses, leaves, real, others, derivative, lead=0))

    return gradient


def _bound(
    losses: Losses, fast: Arrays, real: Arrays, others: Arrays, derivative: Derivative, lead: int
) -> Arrays:
    sizes = len(fast), len(real)
    options = {"losses": losses, "sizes": sizes, "derivative": derivative, "lead": lead}
    return _gradient_p.bind(*fast, *real, *others, **options)


def _split(arguments: Sequence[Any], sizes: tuple[int, int]) -> tuple[Any, Any, Any]:
    fast, real = sizes
    found = list(arguments)
    return found[:fast], found[fast : fast + real], found[fast + real :]


def _value(*arguments: Any, losses: Losses, sizes: tuple[int, int], **_: Any) -> Arrays:
    fast, real, others = _split(arguments, sizes)
    found, back = jax.vjp(lambda fast: losses(fast, real, others), fast)
    return back(jnp.ones_like(found))[0]


def _differentiable(
    losses: Losses, derivative: Derivative, lead: int
) -> Callable[[Arrays, Arrays, Arrays], Arrays]:
    """Makes the gradient as a function with that derivative."""

    def gradients(real: Arrays, others: Arrays) -> Callable[..., tuple[Arrays, Arrays]]:
        def of_fast(fast: Arrays, *weights: jax.Array) -> tuple[Arrays, Arrays]:
            found, back = jax.vjp(lambda fast, real: losses(fast, real, others), fast, real)
            return back(*(weights or (jnp.ones_like(found),)))

        return of_fast

    @jax.custom_vjp
    def gradient(fast: Arrays, real: Arrays, others: Arrays) -> Arrays:
        return _value(*fast, *real, *others, losses=losses, sizes=(len(fast), len(real)))

    def forward(fast: Arrays, real: Arrays, others: Arrays) -> tuple[Arrays, Any]:
        both, saved = derivative.forward(gradients(real, others), fast)
        return both[0], (saved, fast, real, others)

    def back(residuals: Any, direction: Arrays) -> tuple[Arrays, Arrays, None]:
        saved, fast, real, others = residuals
        found = derivative.back(gradients(real, others), saved, fast, direction, lead)
        return *found, None

    gradient.defvjp(forward, back)
    return gradient


def _jvp(
    primals: Any,
    tangents: Any,
    *,
    losses: Losses,
    sizes: tuple[int, int],
    derivative: Derivative,
    lead: int,
) -> Any:
    at, along = _split(primals, sizes), _split(tangents, sizes)
    fast, real = (list(map(ad.instantiate_zeros, part)) for part in along[:2])
    nothing = [np.zeros(jnp.shape(x), jax.dtypes.float0) for x in at[2]]
    return jax.jvp(_differentiable(losses, derivative, lead), at, (fast, real, nothing))


def _batched(
    arguments: Any,
    axes: Any,
    *,
    losses: Losses,
    sizes: tuple[int, int],
    derivative: Derivative,
    lead: int,
) -> tuple[Arrays, list[int]]:
    batch = next(x.shape[a] for x, a in zip(arguments, axes, strict=True) if a is not None)
    front = [
        x if a is None else jnp.moveaxis(x, a, 0) for x, a in zip(arguments, axes, strict=True)
    ]
    fast, real, others = _split(front, sizes)
    at_front = [None if a is None else 0 for a in axes]
    in_axes = _split(at_front, sizes)
    alone = sum(x.size for x, a in zip(fast, in_axes[0], strict=True) if a is None)
    shared = sum(x.size for x, a in zip(real, in_axes[1], strict=True) if a is None)
    if alone < shared:
        fast = [
            jnp.broadcast_to(x, (batch, *x.shape)) if a is None else x
            for x, a in zip(fast, in_axes[0], strict=True)
        ]
        all_losses = jax.vmap(losses, in_axes=([0] * len(fast), *in_axes[1:]))
        found = _bound(all_losses, fast, real, others, derivative, lead + 1)
    else:
        # Weights that do not differ yet, as before the first step: copies of them would be larger.
        each = _differentiable(losses, derivative, lead)
        found = jax.vmap(each, in_axes=in_axes)(fast, real, others)
    return found, [0] * len(found)


_gradient_p = Primitive("gradient")
_gradient_p.multiple_results = True
_gradient_p.def_impl(_value)
_gradient_p.def_abstract_eval(lambda *arguments, sizes, **_: list(arguments[: sizes[0]]))
mlir.register_lowering(_gradient_p, mlir.lower_fun(_value, multiple_results=True))
ad.primitive_jvps[_gradient_p] = _jvp
batching.primitive_batchers[_gradient_p] = _batched


def hoisted(
    loss: Callable[..., jax.Array], *args: Any
) -> tuple[Callable[..., jax.Array], list[Any]]:
    """Converts closed-over values of a loss, traced or not, to an argument.

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
    """Separates the leaves that have derivatives from integers and masks.

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

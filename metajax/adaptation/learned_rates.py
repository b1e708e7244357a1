"""Inner learning rates that are meta-parameters themselves.

They are stored next to the network's parameters, `{"network": ..., "rates": ...}`, so that the
outer optimizer and checkpoints treat them as parameters.
"""

import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metajax.types import Params

__all__ = ["initial_rates", "learned_rates"]


class _Count(NamedTuple):
    step: jax.Array


def initial_rates(
    params: Params,
    rate: float,
    *,
    per: Literal["leaf", "element"] = "leaf",
    steps: int | None = None,
) -> Params:
    """Initial inner rates of parameters, all with the same value.

    Args:
        params: The parameters that adapt, None for those that do not (see `partition`).
        rate: The first value.
        per: One rate for each leaf, or one for each element of each leaf.
        steps: Number of inner steps, for rates of their own in each; None shares them.

    Returns:
        A tree in the shape of `params` with leaves `[]` or of the leaf's shape, led by an axis
        of steps where there is one.

    Raises:
        ValueError: If `per` or `steps` is out of range, or `rate` is not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> initial_rates({"kernel": jnp.zeros((2, 3))}, 0.1, steps=4)["kernel"].shape
        (4,)

    References:
        Per element, Meta-SGD: Li et al., arXiv 1707.09835. Per leaf and step, LSLR: Antoniou,
        Edwards and Storkey, How to train your MAML, ICLR 2019, section 4.
    """
    if per not in ("leaf", "element"):
        raise ValueError(f"per must be 'leaf' or 'element', got {per!r}.")
    if steps is not None and steps < 1:
        raise ValueError(f"steps must be >= 1 or None, got {steps}.")
    if not math.isfinite(rate):
        raise ValueError(f"rate must be finite, got {rate}.")
    lead = () if steps is None else (steps,)

    def one(leaf: jax.Array) -> jax.Array:
        shape = jnp.shape(leaf) if per == "element" else ()
        return jnp.full(lead + shape, rate, jnp.result_type(leaf))

    return jax.tree.map(one, params)


def learned_rates(rates: Params, *, per_step: bool = False) -> optax.GradientTransformation:
    """Gradient steps at rates given by a tree.

    Pass it to `gradient_steps` as a function of the parameters, which hold the rates:
    `optimizer=lambda params: learned_rates(params["rates"])`.

    Args:
        rates: From `initial_rates`; its leaves are those of the adapted parameters, in order.
        per_step: The rates lead with an axis of steps; after the last one they stay.

    Returns:
        An Optax optimizer.

    Raises:
        ValueError: From its update, if there are more or fewer rates than gradients.
    """
    values = jax.tree.leaves(rates)

    def init(params: Params) -> _Count:
        del params
        return _Count(jnp.zeros((), jnp.int32))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        leaves, structure = jax.tree.flatten(updates)
        if len(leaves) != len(values):
            raise ValueError(
                f"rates must have a leaf for each adapted parameter, {len(leaves)}, "
                f"got {len(values)}."
            )
        now = [r[jnp.minimum(state.step, len(r) - 1)] if per_step else r for r in values]
        steps = [-r * leaf for r, leaf in zip(now, leaves, strict=True)]
        return structure.unflatten(steps), _Count(state.step + 1)

    return optax.GradientTransformation(init, update)

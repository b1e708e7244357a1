"""Which parameters adapt, and which of them as factors: settled before anything is computed."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metajax.adaptation.linear_calls import Call, linear_calls
from metajax.adaptation.linear_updates import linear_leaves
from metajax.adaptation.partition import paths
from metajax.types import Examples, Params

__all__ = ["Form", "Plan", "plan_again", "plan_anew"]

Form = Literal["auto", "plain", "factored"]

# Up to how many times the size of the weight its factors may have and still be faster: measured
# on two CPU cores, where weights 64 x 64 lost at 1.6 times and won at 1.9.
_CROSSOVER = 1.7


class Plan(NamedTuple):
    """Which leaf of the parameters is treated how; all of it static."""

    count: int
    """How many leaves there are."""
    structure: Any
    """The tree that they are the leaves of."""
    adapting: list[int]
    """The leaves that adapt."""
    calls: list[Call]
    """The uses of those leaves that are kept as factors."""

    @property
    def factored(self) -> set[int]:
        """The adapting leaves that are kept as factors."""
        return {call.leaf for call in self.calls}

    @property
    def weighed(self) -> list[int]:
        """The adapting leaves that are kept in full."""
        return [n for n in self.adapting if n not in self.factored]

    def fast(self, values: Sequence[Any]) -> Params:
        """Puts one value for each adapting leaf in the shape of the parameters."""
        placed = dict(zip(self.adapting, values, strict=True))
        return self.structure.unflatten([placed.get(n) for n in range(self.count)])

    def joined(self, weights: Sequence[Any], still: Sequence[Any]) -> Params:
        """Makes parameters of the leaves that are kept in full, and of all the others."""
        moving, rest = iter(weights), iter(still)
        weighed = set(self.weighed)
        return self.structure.unflatten(
            [next(moving if n in weighed else rest) for n in range(self.count)]
        )


def plan_anew(
    loss_fn: Callable[[Params, Examples], jax.Array],
    params: Params,
    support: Examples,
    optimizer: optax.GradientTransformation,
    *,
    adapts: Callable[[str], bool],
    form: Form,
    steps: int,
) -> Plan:
    """Plans a descent.

    Args:
        loss_fn: The inner loss.
        params: The meta-parameters.
        support: What the loss is of; of all arrays only shapes and types matter.
        optimizer: What moves the adapting leaves.
        adapts: Predicate on the path of a leaf.
        form: How the adapting leaves are to be kept.
        steps: Number of inner steps.

    Returns:
        The plan.

    Raises:
        ValueError: If nothing adapts.
    """
    plan = _in_full(params, adapts)
    if form == "plain":
        return plan
    leaves = jax.tree.leaves(params)
    calls = linear_calls(loss_fn, params, plan.adapting, support)
    linear = linear_leaves(optimizer, plan.fast([leaves[n] for n in plan.adapting]))
    chosen = {n for n, is_linear in zip(plan.adapting, linear, strict=True) if is_linear}
    if form == "auto":
        used = {call.leaf for call in calls}
        chosen &= {n for n in used if _pays(calls, n, leaves[n].shape, steps)}
    return plan._replace(calls=[call for call in calls if call.leaf in chosen])


def plan_again(
    loss_fn: Callable[[Params, Examples], jax.Array],
    params: Params,
    support: Examples,
    weights: Sequence[jax.Array],
    *,
    adapts: Callable[[str], bool],
) -> Plan:
    """Plans to go on with a descent, each leaf kept as it was.

    Args:
        loss_fn: The inner loss.
        params: The meta-parameters.
        support: What the loss is of from now on.
        weights: Where the descent stands, `InnerState.weights`.
        adapts: Predicate on the path of a leaf.

    Returns:
        The plan.
    """
    plan = _in_full(params, adapts)
    leaves = jax.tree.leaves(params)
    # A leaf that is kept as factors stands there by the coefficients of its gradients.
    low = {n for n, w in zip(plan.adapting, weights, strict=True) if w.shape != leaves[n].shape}
    calls = linear_calls(loss_fn, params, plan.adapting, support) if low else []
    return plan._replace(calls=[call for call in calls if call.leaf in low])


def _in_full(params: Params, adapts: Callable[[str], bool]) -> Plan:
    """Plans to keep every adapting leaf in full."""
    names = paths(params)
    adapting = [n for n, name in enumerate(names) if adapts(name)]
    if not adapting:
        raise ValueError(f"adapts must choose a parameter, got none of {', '.join(names)}.")
    return Plan(len(names), jax.tree.structure(params), adapting, [])


def _pays(calls: list[Call], leaf: int, shape: tuple[int, ...], steps: int) -> bool:
    """Tells whether a weight's factors are cheaper than a weight of each user's own."""
    size = 0
    for call in calls:
        if call.leaf == leaf:
            is_index = jnp.issubdtype(call.inputs.dtype, jnp.integer)
            width = (1 if is_index else shape[0]) + shape[1]
            size += call.rows * width * (1 if call.constant else steps)
    return size < _CROSSOVER * shape[0] * shape[1]

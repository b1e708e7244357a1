"""State of an inner loop: dense weights, and low-rank gradients of the factored weights.

A weight that is kept as factors is the shared one less a sum of its gradients. The optimizer is
linear in these, so it is run on their coefficients: it takes the j-th unit vector as the gradient
of step j, and its updates are the weights of the sum.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metajax.adaptation.factored.linear_calls import Tap
from metajax.adaptation.factored.low_rank import LowRank
from metajax.adaptation.factored.plan import Plan

__all__ = [
    "InnerState",
    "adapted",
    "begin",
    "changes",
    "resume",
    "rows",
    "stepped",
    "taps",
    "weighed",
    "with_weights",
]


_NO_GRADIENTS = LowRank((), ())


class InnerState(NamedTuple):
    """State of an inner loop, from which it can be resumed."""

    weights: tuple[jax.Array, ...]
    """One for each adapting leaf: its value, or the coefficients `[k]` of its gradients."""
    history: tuple[tuple[LowRank, ...], ...]
    """For each call of a factored leaf, and each run so far, the gradients as factors."""
    opt_state: optax.OptState
    """State of the inner optimizer."""


def begin(plan: Plan, leaves: Sequence[jax.Array], rule: Any, steps: int) -> InnerState:
    """Starts a descent from the leaves of the parameters, with room for `steps` gradients."""
    weights = tuple(
        jnp.zeros(steps, leaves[n].dtype) if n in plan.factored else leaves[n]
        for n in plan.adapting
    )
    history = tuple((_NO_GRADIENTS,) for _ in plan.calls)
    return InnerState(weights, history, rule.init(plan.fast(weights)))


def resume(plan: Plan, rule: Any, steps: int, state: InnerState) -> InnerState:
    """Makes room for `steps` further gradients, of the same support or of another."""

    def longer(old: jax.Array) -> jax.Array:
        return jnp.concatenate([old, jnp.zeros(steps, old.dtype)])

    weights = tuple(
        longer(old) if n in plan.factored else old
        for n, old in zip(plan.adapting, state.weights, strict=True)
    )
    room = jax.eval_shape(rule.init, plan.fast(weights))
    # Of the optimizer's state only coefficients can differ in shape.
    opt_state = jax.tree.map(
        lambda new, old: old if new.shape == old.shape else longer(old), room, state.opt_state
    )
    history = tuple((*runs, _NO_GRADIENTS) for runs in state.history)
    return InnerState(weights, history, opt_state)


def weighed(plan: Plan, state: InnerState) -> list[jax.Array]:
    """Returns the weights that are kept in full."""
    return [w for n, w in zip(plan.adapting, state.weights, strict=True) if n not in plan.factored]


def with_weights(plan: Plan, state: InnerState, weights: Sequence[jax.Array]) -> InnerState:
    """Replaces the weights that are kept in full."""
    given = iter(weights)
    return state._replace(
        weights=tuple(
            old if n in plan.factored else next(given)
            for n, old in zip(plan.adapting, state.weights, strict=True)
        )
    )


def changes(plan: Plan, state: InnerState) -> dict[int, LowRank]:
    """Weighs the gradients of all steps by their coefficients, for each factored leaf."""
    coefficients = dict(zip(plan.adapting, state.weights, strict=True))
    found = dict.fromkeys(sorted(plan.factored), _NO_GRADIENTS)
    for call, runs in zip(plan.calls, state.history, strict=True):
        step = itertools.count()
        for inputs, outputs in runs:
            scaled = [coefficients[call.leaf][next(step)] * d for d in outputs]
            if call.constant and len(scaled) > 1:
                # sum_j r_j X' D_j = X' sum_j r_j D_j: one block, however many steps.
                scaled = [sum(scaled[1:], start=scaled[0])]
            old = found[call.leaf]
            found[call.leaf] = LowRank(old.inputs + inputs, old.outputs + tuple(scaled))
    return found


def adapted(plan: Plan, state: InnerState) -> Any:
    """Returns values and changes for prediction, in the structure of the parameters."""
    found = changes(plan, state)
    return plan.fast([found.get(n, w) for n, w in zip(plan.adapting, state.weights, strict=True)])


def taps(plan: Plan) -> list[Tap]:
    """Makes the zeros whose gradients are those of each call's outputs."""
    return [
        Tap(
            jnp.zeros(call.outputs.shape, call.outputs.dtype),
            None if call.constant else jnp.zeros(call.inputs.shape, call.inputs.dtype),
        )
        for call in plan.calls
    ]


def stepped(
    plan: Plan,
    rule: Any,
    state: InnerState,
    tapped: Sequence[Tap],
    gradients: Sequence[jax.Array],
    seen: Sequence[Any],
) -> InnerState:
    """Moves the weights, and the coefficients of the gradients, by one optimizer step.

    Args:
        plan: The plan.
        rule: The inner optimizer.
        state: State of the descent.
        tapped: Gradients of `taps`, one for each call.
        gradients: Of the weights that are kept in full.
        seen: For each call, what goes into it if that is constant, else None.

    Returns:
        Where it stands after the step.
    """
    history = []
    for tap, x, (*before, (inputs, outputs)) in zip(tapped, seen, state.history, strict=True):
        new = rows(tap.inputs) if tap.inputs is not None else x
        inputs = inputs if tap.inputs is None and inputs else (*inputs, new)
        history.append((*before, LowRank(inputs, (*outputs, rows(tap.outputs)))))
    done = sum(len(run.outputs) for run in history[0]) - 1 if history else 0
    given = iter(gradients)
    # The gradient of step j is the j-th unit vector among the gradients.
    units = [
        jnp.zeros_like(w).at[done].set(1) if n in plan.factored else next(given)
        for n, w in zip(plan.adapting, state.weights, strict=True)
    ]
    fast = plan.fast(state.weights)
    updates, opt_state = rule.update(plan.fast(units), state.opt_state, fast)
    moved = optax.apply_updates(fast, updates)
    leaves = plan.structure.flatten_up_to(moved)
    return InnerState(tuple(leaves[n] for n in plan.adapting), tuple(history), opt_state)


def rows(inputs: jax.Array) -> jax.Array:
    """Flattens the leading axes of a layer's inputs: `[R, a]`, or integers `[R]`."""
    if jnp.issubdtype(inputs.dtype, jnp.integer):
        return inputs.reshape(-1)
    return inputs.reshape(-1, inputs.shape[-1])

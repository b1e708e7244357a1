"""The inner loop: a few steps of an optimizer on one user's support, exact and cheap.

For a linear layer y = x W + c the gradient of W is the product X' D of what goes into the layer,
X [R, a], with the gradients of what comes out, D [R, b]. After k steps of an optimizer that is
linear in the gradients, W has moved by sum_j -r_j X_j' D_j, of rank k R at most. So the weight of
a user need never exist: x W stays one product that all users of a batch share, and the change is
a thin product beside it,

    x W_k = x W - sum_j r_j (x X_j') D_j .

X_j is seen on the way, D_j is the gradient of a zero added to the layer's outputs. All of it can
be differentiated, so the meta-gradient is exact to any order. Where the factors would be larger
than the weight, or the optimizer is not linear, or something other than a linear layer uses the
weight, the weight itself is stepped. Biases and other small leaves always are.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from metajax.adaptation.adjoints import Adjoint, FirstOrder, Reverse
from metajax.adaptation.implicit import Implicit
from metajax.adaptation.linear_calls import Call, Tap, changed, linear_calls
from metajax.adaptation.linear_updates import linear_leaves
from metajax.adaptation.low_rank import LowRank, is_low_rank, materialised
from metajax.adaptation.optimizer_guard import check_differentiable_at_zero
from metajax.adaptation.partition import everything, paths
from metajax.base import Examples, Params

__all__ = ["Form", "InnerLoop", "InnerState", "Optimizer", "inner_loop"]

Form = Literal["auto", "plain", "factored"]
Optimizer = optax.GradientTransformation | Callable[[Params], optax.GradientTransformation]

# A scan of tiny steps costs more in control flow than its unrolled form in compile time.
_MOST_UNROLLED = 10
# Up to how many times the size of the weight its factors may have and still be faster: measured
# on two CPU cores, where weights 64 x 64 lost at 1.6 times and won at 1.9.
_CROSSOVER = 1.7


class InnerState(NamedTuple):
    """Where a descent stands, all that a later one needs to go on."""

    weights: tuple[jax.Array, ...]
    """One for each adapting leaf: its value, or the coefficients `[k]` of its gradients."""
    history: tuple[LowRank, ...]
    """One for each call of a factored leaf: the gradients so far, as factors."""
    opt_state: optax.OptState
    """State of the inner optimizer."""


class InnerLoop(NamedTuple):
    """An inner loop as pure functions of one task."""

    run: Callable[..., tuple[Any, InnerState, Any]]
    """`run(params, support, state=None, *, probe=None) -> (adapted, state, probed)`.

    `state` continues an earlier run. `probe(adapted)` is called after each step; what it returns
    comes back with a leading axis of steps, else None."""
    predict: Callable[[Params, Any, Any], jax.Array]
    """`predict(params, adapted, inputs) -> scores [N]`."""
    materialise: Callable[[Params, Any], Params]
    """`materialise(params, adapted) -> params`, with the user's weights in their places."""


class _Plan(NamedTuple):
    """Which leaf is treated how; all of it static."""

    names: list[str]
    structure: Any
    adapting: list[int]
    calls: list[Call]

    @property
    def factored(self) -> set[int]:
        return {call.leaf for call in self.calls}

    @property
    def weighed(self) -> list[int]:
        return [n for n in self.adapting if n not in self.factored]

    def fast(self, weights: Any) -> Params:
        """Puts one value for each adapting leaf in the shape of the parameters."""
        placed = dict(zip(self.adapting, weights, strict=True))
        return self.structure.unflatten([placed.get(n) for n in range(len(self.names))])


def inner_loop(
    loss_fn: Callable[[Params, Examples], jax.Array],
    optimizer: Optimizer,
    steps: int,
    *,
    predict: Callable[[Params, Any], jax.Array],
    adapts: Callable[[str], bool] = everything,
    adjoint: Adjoint | None = None,
    form: Form = "auto",
) -> InnerLoop:
    """Makes an inner loop that can be probed after each step, and resumed.

    Args and Raises: as in `gradient_steps`, which is this without the extras.

    Returns:
        The loop as pure functions.
    """
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}.")
    if form not in get_args(Form):
        raise ValueError(f"form must be one of {', '.join(get_args(Form))}, got {form!r}.")
    adjoint = Reverse() if adjoint is None else adjoint
    passes_optimizer = not isinstance(adjoint, FirstOrder | Implicit)
    if passes_optimizer and not callable(optimizer):
        check_differentiable_at_zero(optimizer)

    def run(
        params: Params,
        support: Examples,
        state: InnerState | None = None,
        *,
        probe: Callable[[Any], Any] | None = None,
    ) -> tuple[Any, InnerState, Any]:
        rule: Any = optimizer(params) if callable(optimizer) else optimizer
        if passes_optimizer and callable(optimizer):
            check_differentiable_at_zero(rule)
        params, support = jax.tree.map(jnp.asarray, (params, support))
        leaves = jax.tree.leaves(params)
        plan = _plan(params, support, rule, state)
        still = [leaf for n, leaf in enumerate(leaves) if n not in plan.weighed]
        start = [leaves[n] for n in plan.weighed]

        def loss(moving: Any, changes: dict[int, LowRank], still: Any, support: Any) -> jax.Array:
            taps, weights = moving
            joined = _join(plan, weights, still)
            if not plan.calls:
                return loss_fn(joined, support)
            value, _, tapped = changed(loss_fn, joined, changes, support, taps=taps)
            return value + tapped

        def descend(gradient: Callable[..., Any]) -> tuple[Any, Any]:
            begun = _begin(plan, leaves, rule, steps, state)
            seen = _constant_inputs(plan, params, support)

            def step(state: InnerState) -> InnerState:
                moving = _taps(plan.calls), _weighed(plan, state)
                changes = _changes(plan, state)
                taps, gradients = gradient(moving, changes, still, support)
                return _stepped(plan, rule, state, taps, gradients, seen)

            def look(state: InnerState) -> Any:
                return None if probe is None else probe(_adapted(plan, state))

            # The first step is apart from the scan: its weights are those of all users.
            after = step(begun)
            probed = [look(after)]
            if steps > _MOST_UNROLLED:

                def scanned(state: InnerState, _: None) -> tuple[InnerState, Any]:
                    state = step(state)
                    return state, look(state)

                first = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], probed[0])
                after, rest = jax.lax.scan(scanned, after, length=steps - 1)
                looks = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, rest)
            else:
                for _ in range(steps - 1):
                    after = step(after)
                    probed.append(look(after))
                looks = jax.tree.map(lambda *seen: jnp.stack(seen), *probed)
            return ([], _weighed(plan, after)), (after, looks)

        first = [], start
        (_, weights), (after, looks) = adjoint.solve(loss, descend, first, {}, still, support)
        # An adjoint may have given the weights a derivative that the descent does not have.
        after = _with_weights(plan, after, weights)
        return _adapted(plan, after), after, looks

    def _plan(params: Params, support: Examples, rule: Any, state: InnerState | None) -> _Plan:
        leaves, structure = jax.tree.flatten(params)
        names = paths(params)
        adapting = [n for n, name in enumerate(names) if adapts(name)]
        if not adapting:
            raise ValueError(f"adapts must choose a parameter, got none of {', '.join(names)}.")
        plan = _Plan(names, structure, adapting, [])
        if state is not None:
            low = {
                n
                for n, weight in zip(adapting, state.weights, strict=True)
                if weight.shape != leaves[n].shape
            }
        elif form == "plain" or steps > _MOST_UNROLLED or isinstance(adjoint, Implicit):
            low = set()
        else:
            low = set(adapting)
        if not low:
            return plan
        calls = [c for c in linear_calls(loss_fn, params, adapting, support) if c.leaf in low]
        if state is None:
            linear = linear_leaves(rule, plan.fast([leaves[n] for n in adapting]))
            chosen = {n for n, is_linear in zip(adapting, linear, strict=True) if is_linear}
            if form == "auto":
                used = {call.leaf for call in calls}
                chosen &= {n for n in used if _pays(calls, n, leaves[n].shape, steps)}
            calls = [c for c in calls if c.leaf in chosen]
        return plan._replace(calls=calls)

    def _constant_inputs(plan: _Plan, params: Params, support: Examples) -> list[Any]:
        if not any(call.constant for call in plan.calls):
            return [None] * len(plan.calls)
        # Of this pass only what the constant inputs need survives compilation.
        nothing = {n: LowRank((), ()) for n in plan.factored}
        _, seen, _ = changed(loss_fn, params, nothing, support)
        return [_rows(x) if c.constant else None for c, x in zip(plan.calls, seen, strict=True)]

    def predict_adapted(params: Params, adapted: Any, inputs: Any) -> jax.Array:
        leaves, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, params))
        values = structure.flatten_up_to(adapted)
        low = [n for n, value in enumerate(values) if is_low_rank(value)]
        calls = linear_calls(predict, structure.unflatten(leaves), low, inputs) if low else []
        only = {call.leaf for call in calls}
        for n, value in enumerate(values):
            if is_low_rank(value) and n not in only:
                leaves[n] = materialised(value, leaves[n])
            elif value is not None and not is_low_rank(value):
                leaves[n] = value
        changes = {n: values[n] for n in low if n in only}
        params = structure.unflatten(leaves)
        return changed(predict, params, changes, inputs)[0] if changes else predict(params, inputs)

    return InnerLoop(run, predict_adapted, _materialise)


def _materialise(params: Params, adapted: Any) -> Params:
    leaves, structure = jax.tree.flatten(params)

    def one(leaf: Any, value: Any) -> Any:
        if value is None:
            return leaf
        return materialised(value, jnp.asarray(leaf)) if is_low_rank(value) else value

    values = structure.flatten_up_to(adapted)
    return structure.unflatten([one(a, b) for a, b in zip(leaves, values, strict=True)])


def _pays(calls: list[Call], leaf: int, shape: tuple[int, ...], steps: int) -> bool:
    """Tells whether a weight's factors are cheaper than a weight of each user's own."""
    size = 0
    for call in calls:
        if call.leaf == leaf:
            is_index = jnp.issubdtype(call.inputs.dtype, jnp.integer)
            width = (1 if is_index else shape[0]) + shape[1]
            size += call.rows * width * (1 if call.constant else steps)
    return size < _CROSSOVER * shape[0] * shape[1]


def _join(plan: _Plan, weights: list[Any], still: list[Any]) -> Params:
    moving, rest = iter(weights), iter(still)
    weighed = set(plan.weighed)
    return plan.structure.unflatten(
        [next(moving if n in weighed else rest) for n in range(len(plan.names))]
    )


def _rows(inputs: jax.Array) -> jax.Array:
    """Flattens the leading axes of what goes into a layer: `[R, a]`, or integers `[R]`."""
    if jnp.issubdtype(inputs.dtype, jnp.integer):
        return inputs.reshape(-1)
    return inputs.reshape(-1, inputs.shape[-1])


def _taps(calls: list[Call]) -> list[Tap]:
    return [
        Tap(
            jnp.zeros(call.outputs.shape, call.outputs.dtype),
            None if call.constant else jnp.zeros(call.inputs.shape, call.inputs.dtype),
        )
        for call in calls
    ]


def _begin(
    plan: _Plan, leaves: list[Any], rule: Any, steps: int, state: InnerState | None
) -> InnerState:
    """Starts a descent, or makes room for the further steps of one."""
    weights = tuple(
        jnp.zeros(steps, leaves[n].dtype) if n in plan.factored else leaves[n]
        for n in plan.adapting
    )
    history = tuple(LowRank((), ()) for _ in plan.calls)
    if state is None:
        return InnerState(weights, history, rule.init(plan.fast(weights)))

    def longer(old: jax.Array) -> jax.Array:
        return jnp.concatenate([old, jnp.zeros(steps, old.dtype)])

    resumed = tuple(
        longer(old) if n in plan.factored else old
        for n, old in zip(plan.adapting, state.weights, strict=True)
    )
    room = jax.eval_shape(rule.init, plan.fast(resumed))
    # Of the optimizer's state only coefficients can differ in shape.
    opt_state = jax.tree.map(
        lambda new, old: old if new.shape == old.shape else longer(old), room, state.opt_state
    )
    return InnerState(resumed, state.history, opt_state)


def _weighed(plan: _Plan, state: InnerState) -> list[jax.Array]:
    return [w for n, w in zip(plan.adapting, state.weights, strict=True) if n not in plan.factored]


def _with_weights(plan: _Plan, state: InnerState, weights: list[jax.Array]) -> InnerState:
    given = iter(weights)
    return state._replace(
        weights=tuple(
            old if n in plan.factored else next(given)
            for n, old in zip(plan.adapting, state.weights, strict=True)
        )
    )


def _changes(plan: _Plan, state: InnerState) -> dict[int, LowRank]:
    """Weighs the gradients of all steps by their coefficients."""
    coefficients = dict(zip(plan.adapting, state.weights, strict=True))
    changes = {n: LowRank((), ()) for n in sorted(plan.factored)}
    for call, (inputs, outputs) in zip(plan.calls, state.history, strict=True):
        scaled = [coefficients[call.leaf][j] * d for j, d in enumerate(outputs)]
        if call.constant and len(scaled) > 1:
            # sum_j r_j X' D_j = X' sum_j r_j D_j: one block, however many steps.
            scaled = [sum(scaled[1:], start=scaled[0])]
        old = changes[call.leaf]
        changes[call.leaf] = LowRank(old.inputs + inputs, old.outputs + tuple(scaled))
    return changes


def _stepped(
    plan: _Plan,
    rule: Any,
    state: InnerState,
    taps: list[Tap],
    gradients: list[Any],
    seen: list[Any],
) -> InnerState:
    """Moves the weights, and the coefficients of the gradients, by one optimizer step."""
    history = []
    for tap, x, (inputs, outputs) in zip(taps, seen, state.history, strict=True):
        new = _rows(tap.inputs) if tap.inputs is not None else x
        inputs = inputs if tap.inputs is None and inputs else (*inputs, new)
        history.append(LowRank(inputs, (*outputs, _rows(tap.outputs))))
    done = len(history[0].outputs) - 1 if history else 0
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


def _adapted(plan: _Plan, state: InnerState) -> Any:
    changes = _changes(plan, state)
    return plan.fast([changes.get(n, w) for n, w in zip(plan.adapting, state.weights, strict=True)])

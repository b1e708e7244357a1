"""Gradient steps: the inner loop of an optimizer on the loss of one support.

For a linear layer y = x W + c the gradient of W is the product X' D of what goes into the layer,
X [R, a], with the gradients of what comes out, D [R, b]. After k steps of an optimizer that is
linear in the gradients, W has moved by sum_j -r_j X_j' D_j, of rank k R at most. So the weight of
a user need never exist: x W stays one product that all users of a batch share, and the change is
an additional thin product,

    x W_k = x W - sum_j r_j (x X_j') D_j .

X_j is seen on the way, D_j is the gradient of a zero added to the layer's outputs. All of it can
be differentiated, so the meta-gradient is exact to any order. Where the factors would be larger
than the weight, or the optimizer is not linear, or something other than a linear layer uses the
weight, the weight itself is stepped. Biases and other small leaves always are.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from metajax.adaptation.adjoints import Adjoint, FirstOrder, Implicit, Reverse
from metajax.adaptation.factored import inner_state
from metajax.adaptation.factored.inner_state import InnerState
from metajax.adaptation.factored.linear_calls import changed, linear_calls
from metajax.adaptation.factored.low_rank import LowRank, is_low_rank, materialised
from metajax.adaptation.factored.plan import Form, Plan, plan_again, plan_anew
from metajax.adaptation.partition import choosing
from metajax.types import Adaptation, Apply, Choice, Examples, Optimizer, Params

__all__ = [
    "InnerLoop",
    "as_adaptation",
    "check_differentiable_at_zero",
    "check_optimizer",
    "gradient_steps",
    "inner_loop",
]


# A scan of tiny steps costs more in control flow than its unrolled form in compile time.
_MOST_UNROLLED = 10


class InnerLoop(NamedTuple):
    """An inner loop as pure functions of one task."""

    run: Callable[..., tuple[Any, InnerState, Any]]
    """`run(params, support, state=None, *, probe=None) -> (adapted, state, probed)`.

    `state` continues an earlier run, on the same support or on another. `probe(adapted)` is
    called after each step; what it returns comes back with a leading axis of steps, else None."""
    predict: Callable[[Params, Any, Any], jax.Array]
    """`predict(params, adapted, inputs) -> scores [N]`."""
    materialise: Callable[[Params, Any], Params]
    """`materialise(params, adapted) -> params`, with the user's weights in their places."""


def inner_loop(
    loss_fn: Callable[[Params, Examples], jax.Array],
    optimizer: Optimizer,
    steps: int,
    *,
    predict: Apply,
    adapts: Choice = "*",
    adjoint: Adjoint | None = None,
    form: Form = "auto",
) -> InnerLoop:
    """Inner loop that can be probed after each step, and resumed.

    Args and Raises: as in `gradient_steps`, which is this without the extras.

    Returns:
        The loop as pure functions.
    """
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}.")
    if form not in get_args(Form):
        raise ValueError(f"form must be one of {', '.join(get_args(Form))}, got {form!r}.")
    chosen = choosing(adapts)
    adjoint = Reverse() if adjoint is None else adjoint
    kept_as = "plain" if steps > _MOST_UNROLLED or isinstance(adjoint, Implicit) else form
    passes_optimizer = not isinstance(adjoint, FirstOrder | Implicit)
    if not callable(optimizer):
        check_optimizer(optimizer)
        if passes_optimizer:
            check_differentiable_at_zero(optimizer)

    def run(
        params: Params,
        support: Examples,
        state: InnerState | None = None,
        *,
        probe: Callable[[Any], Any] | None = None,
    ) -> tuple[Any, InnerState, Any]:
        rule: Any = optimizer(params) if callable(optimizer) else optimizer
        if callable(optimizer):
            check_optimizer(rule, learned=True)
            if passes_optimizer:
                check_differentiable_at_zero(rule)
        params, support = jax.tree.map(jnp.asarray, (params, support))
        leaves = jax.tree.leaves(params)
        plan = planned(params, support, rule, state)
        still = [leaf for n, leaf in enumerate(leaves) if n not in plan.weighed]
        start = [leaves[n] for n in plan.weighed]

        def loss(moving: Any, changes: dict[int, LowRank], still: Any, support: Any) -> jax.Array:
            taps, weights = moving
            joined = plan.joined(weights, still)
            if not plan.calls:
                return loss_fn(joined, support)
            value, _, tapped = changed(loss_fn, joined, changes, support, taps=taps)
            return value + tapped

        def descend(gradient: Callable[..., Any]) -> tuple[Any, Any]:
            if state is None:
                begun = inner_state.begin(plan, leaves, rule, steps)
            else:
                begun = inner_state.resume(plan, rule, steps, state)
            seen = constant_inputs(plan, params, support)

            def step(state: InnerState) -> InnerState:
                moving = inner_state.taps(plan), inner_state.weighed(plan, state)
                changes = inner_state.changes(plan, state)
                taps, gradients = gradient(moving, changes, still, support)
                return inner_state.stepped(plan, rule, state, taps, gradients, seen)

            def look(state: InnerState) -> Any:
                return None if probe is None else probe(inner_state.adapted(plan, state))

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
            return ([], inner_state.weighed(plan, after)), (after, looks)

        first = [], start
        (_, weights), (after, looks) = adjoint.solve(loss, descend, first, {}, still, support)
        # An adjoint may have given the weights a derivative that the descent does not have.
        after = inner_state.with_weights(plan, after, weights)
        return inner_state.adapted(plan, after), after, looks

    def planned(params: Params, support: Examples, rule: Any, state: InnerState | None) -> Plan:
        if state is not None:
            return plan_again(loss_fn, params, support, state.weights, adapts=chosen)
        return plan_anew(loss_fn, params, support, rule, adapts=chosen, form=kept_as, steps=steps)

    def constant_inputs(plan: Plan, params: Params, support: Examples) -> list[Any]:
        if not any(call.constant for call in plan.calls):
            return [None] * len(plan.calls)
        # Of this pass only what the constant inputs need survives compilation.
        nothing = {n: LowRank((), ()) for n in plan.factored}
        _, seen, _ = changed(loss_fn, params, nothing, support)
        return [
            inner_state.rows(x) if call.constant else None
            for call, x in zip(plan.calls, seen, strict=True)
        ]

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


def gradient_steps(
    loss_fn: Callable[[Params, Examples], jax.Array],
    optimizer: Optimizer,
    steps: int,
    *,
    predict: Apply,
    adapts: Choice = "*",
    adjoint: Adjoint | None = None,
    form: Form = "auto",
) -> Adaptation:
    """Adapts by `steps` optimizer steps on the support loss, from the meta-parameters.

    An empty support has loss 0 and gradient 0: an optimizer that stands still at zero gradient
    (SGD, momentum, Adam; not one with weight decay) then gives the zero-shot answer.

    Args:
        loss_fn: `loss_fn(params, examples) -> []`, the inner loss of one task. It must ignore
            masked examples.
        optimizer: Any Optax optimizer; its state starts anew for every task. Or a function of the
            parameters that returns one, for rates that are learned (see `learned_rates`).
        steps: Number of inner steps, at least 1.
        predict: `predict(params, inputs) -> scores [N]`.
        adapts: Predicate on the path of a parameter (`predictor/layer_0/kernel`): does it adapt?
            The others are shared and never get a task axis.
        adjoint: Differentiation through the steps; None means `Reverse()`.
        form: Storage of a user's weights. "factored": the weights of Linen's dense and
            embedding layers as shared values and a low-rank change, wherever that is exact;
            "plain": every adapted leaf in full; "auto": whichever is cheaper, weight by weight.
            The results differ by rounding alone.

    Returns:
        An adaptation whose adapted state has the shape of the parameters: an adapted leaf is its
        value or a `LowRank` change, the others are None.

    Raises:
        TypeError: If the optimizer is none.
        ValueError: If `steps` < 1, `form` is no form, the optimizer needs more than gradients or
            steps along them, or cannot be differentiated at zero gradient and the adjoint does so.

    References:
        Finn, Abbeel and Levine, Model-Agnostic Meta-Learning, ICML 2017, algorithm 1.
    """
    loop = inner_loop(
        loss_fn, optimizer, steps, predict=predict, adapts=adapts, adjoint=adjoint, form=form
    )
    return as_adaptation(loop)


def as_adaptation(loop: InnerLoop) -> Adaptation:
    """Returns an inner loop as an adaptation, without its extras."""

    def adapt(params: Params, support: Examples, key: jax.Array | None = None) -> Any:
        del key
        return loop.run(params, support)[0]

    return Adaptation(adapt, loop.predict)


def check_optimizer(optimizer: Any, *, learned: bool = False) -> None:
    """Refuses what is no optimizer, needs more than gradients, or steps along them.

    Args:
        optimizer: The inner optimizer, checked at a lone weight; one that depends on names or
            shapes passes.
        learned: True if its rates are learned, which may become negative.

    Raises:
        TypeError: If it has no `init` and `update`, such as a rate.
        ValueError: If it needs values of the loss, such as `optax.lbfgs()`, or does not step
            against the gradient, such as a clip alone.
    """
    if not (callable(getattr(optimizer, "init", None)) and hasattr(optimizer, "update")):
        raise TypeError(
            "optimizer must be one of Optax's, such as optax.sgd(0.05), or a function of the "
            f"parameters that returns one, got {optimizer!r}."
        )
    with jax.ensure_compile_time_eval():
        try:
            weight = jnp.zeros(())
            change: Any = optimizer.update(jnp.ones(()), optimizer.init(weight), weight)[0]
        except TypeError as error:
            if "required keyword-only argument" in str(error):
                raise ValueError(
                    "optimizer must step by gradients alone, got one that needs the loss as well "
                    "(such as optax.lbfgs, which searches along a line)."
                ) from None
            return
        except (IndexError, ValueError):
            return
    if not learned and not isinstance(change, jax.core.Tracer) and float(change) > 0:
        raise ValueError(
            "optimizer must step against the gradient, got a change of "
            f"{float(change):g} for a gradient of 1: chain a clip or a scale before an optimizer, "
            "as in optax.chain(optax.clip(1.0), optax.sgd(0.05))."
        )


def check_differentiable_at_zero(optimizer: optax.GradientTransformation) -> None:
    """Refuses an optimizer whose update has no finite derivative where the gradient is zero.

    Adam divides by the root of a second moment, and the root's slope at 0 is infinite: one
    empty support, or one dead unit, would turn the whole meta-gradient to NaN.

    Args:
        optimizer: The inner optimizer. One whose rates are traced has no values to check, and
            one that depends on names or shapes takes no lone weight: both pass.

    Raises:
        ValueError: If the derivative is not finite.
    """

    def update(gradient: jax.Array) -> jax.Array:
        weight = jnp.zeros(())
        change: Any = optimizer.update(gradient, optimizer.init(weight), weight)[0]
        return change

    # Evaluated at once, also where the caller is being traced.
    with jax.ensure_compile_time_eval():
        try:
            slope = jax.grad(update)(jnp.zeros(()))
        except (IndexError, TypeError, ValueError):
            return
    if not isinstance(slope, jax.core.Tracer) and not math.isfinite(slope):
        raise ValueError(
            "optimizer must have a finite derivative at zero gradient, got "
            f"{float(slope)}; for Adam set eps_root, for instance optax.adam(1e-2, eps_root=1e-8)."
        )

"""Static plan of an inner loop: the adapting parameters, and those kept as factors."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax.adaptation.factored.linear_calls import Call, linear_calls
from metajax.adaptation.partition import paths
from metajax.types import Examples, Params

__all__ = ["Form", "Plan", "linear_leaves", "plan_again", "plan_anew"]


Form = Literal["auto", "plain", "factored"]

# Up to how many times the size of the weight its factors may have and still be faster: measured
# on two CPU cores, where weights 64 x 64 lost at 1.6 times and won at 1.9.
_CROSSOVER = 1.7


class Plan(NamedTuple):
    """Static treatment of each leaf of the parameters."""

    count: int
    """Number of leaves."""
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
        support: Support of the loss; of all arrays only shapes and types matter.
        optimizer: Optimizer of the adapting leaves.
        adapts: Predicate on the path of a leaf.
        form: Storage of the adapting leaves.
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
    """Plans the continuation of a descent, each leaf kept as it was.

    Args:
        loss_fn: The inner loss.
        params: The meta-parameters.
        support: Support of the continued loss.
        weights: Present `InnerState.weights`.
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
    """Decides if the factors of a weight are cheaper than a dense weight for each user."""
    size = 0
    for call in calls:
        if call.leaf == leaf:
            is_index = jnp.issubdtype(call.inputs.dtype, jnp.integer)
            width = (1 if is_index else shape[0]) + shape[1]
            size += call.rows * width * (1 if call.constant else steps)
    return size < _CROSSOVER * shape[0] * shape[1]


class _Seen(NamedTuple):
    """Dependence of a value: on nothing adapting, linearly on one leaf, or on some leaves."""

    sources: frozenset[int]
    linear: bool
    uniform: bool = False
    """The same number in every element."""


_NOTHING = _Seen(frozenset(), True)
_KEEPS = {"neg", "copy", "convert_element_type"}


def linear_leaves(optimizer: optax.GradientTransformation, fast: Params) -> list[bool]:
    """Determines for each leaf if its updates are linear in its gradients.

    One coefficient must hold for all elements of a leaf.

    Args:
        optimizer: Any Optax optimizer.
        fast: The parameters it moves; of them only shapes and types matter.

    Returns:
        One bool for each leaf, in order.
    """
    fast = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), fast)
    count = len(jax.tree.leaves(fast))
    state = jax.eval_shape(optimizer.init, fast)
    starts_at_zero = _zeros(optimizer, fast, state)

    def update(gradient: Any, state: Any, params: Any) -> tuple[list[Any], list[Any]]:
        updates, state = optimizer.update(gradient, state, params)
        return jax.tree.leaves(updates), jax.tree.leaves(state)

    jaxpr = jax.make_jaxpr(update)(fast, state, fast).jaxpr
    gradients = [_Seen(frozenset([n]), True) for n in range(count)]
    # Any use of the parameters, such as weight decay, is not linear in the gradients.
    params = [_Seen(frozenset([n]), False) for n in range(count)]
    # What a state depends on grows from update to update until it has seen everything; all that
    # it has seen is taken to enter linearly until an update shows otherwise.
    states = [_NOTHING] * len(starts_at_zero)
    while True:
        outputs = _follow(jaxpr, [*gradients, *states, *params])
        sources = [a.sources | b.sources for a, b in zip(states, outputs[count:], strict=True)]
        if sources == [state.sources for state in states]:
            break
        states = [_Seen(source, True) for source in sources]
    while True:
        outputs = _follow(jaxpr, [*gradients, *states, *params])
        after = [
            a._replace(linear=a.linear and (b.linear or not a.sources))
            for a, b in zip(states, outputs[count:], strict=True)
        ]
        if after == states:
            break
        states = after
    wrong: set[int] = set()
    for n, seen in enumerate(outputs[:count]):
        if seen.sources != {n} or not seen.linear:
            wrong |= {n} | seen.sources
    for seen, zero in zip(states, starts_at_zero, strict=True):
        if not seen.linear or (seen.sources and not zero):
            wrong |= seen.sources
    return [n not in wrong for n in range(count)]


def _zeros(optimizer: optax.GradientTransformation, fast: Params, state: Any) -> list[bool]:
    """Finds the leaves of the initial state that are zero for all parameters."""
    ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), fast)
    with jax.ensure_compile_time_eval():
        leaves = jax.tree.leaves(optimizer.init(ones))
    if len(leaves) != len(jax.tree.leaves(state)):
        return [False] * len(jax.tree.leaves(state))
    return [
        not isinstance(leaf, jax.core.Tracer)
        and not jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
        and not np.any(np.asarray(leaf))
        for leaf in leaves
    ]


def _follow(jaxpr: Any, inputs: list[_Seen]) -> list[_Seen]:
    """Propagates dependences through a jaxpr, from its inputs to its outputs."""
    seen: dict[Any, _Seen] = dict(zip(jaxpr.invars, inputs, strict=True))

    def of(atom: Any) -> _Seen:
        uniform = not getattr(atom.aval, "shape", ())
        if isinstance(atom, jax.extend.core.Literal):
            return _NOTHING._replace(uniform=uniform)
        found = seen.get(atom, _NOTHING)
        return found._replace(uniform=found.uniform or (uniform and not found.sources))

    for equation in jaxpr.eqns:
        values = [of(atom) for atom in equation.invars]
        name = equation.primitive.name
        sources = frozenset().union(*(value.sources for value in values))
        inner = equation.params.get("jaxpr")
        if name in ("jit", "pjit", "closed_call") and inner is not None:
            results = _follow(inner.jaxpr, values)
        elif not sources:
            uniform = name == "broadcast_in_dim" and values[0].uniform
            results = [_Seen(frozenset(), True, uniform)] * len(equation.outvars)
        else:
            results = [_Seen(sources, _linear(name, values))] * len(equation.outvars)
        seen.update(zip(equation.outvars, results, strict=True))
    return [of(atom) for atom in jaxpr.outvars]


def _linear(name: str, values: list[_Seen]) -> bool:
    """Decides if an operation preserves linearity."""
    moving = [value for value in values if value.sources]
    still = [value for value in values if not value.sources]
    if not all(v.linear and v.sources == moving[0].sources for v in moving):
        return False
    if len(moving[0].sources) > 1:
        return False
    if name in ("add", "sub", "add_any"):
        return not still
    if name == "mul":
        return len(moving) == 1 and still[0].uniform
    if name == "div":
        return bool(values[0].sources) and len(moving) == 1 and still[0].uniform
    return name in _KEEPS

"""Tells whether an optimizer moves a leaf by a linear combination of its gradients.

Where it does, with one coefficient for all elements of the leaf, the optimizer can be run on the
coefficients in place of the gradients: the gradient of step i is the i-th unit vector, and what
comes out are the weights of the gradients in the update. So any Optax optimizer of that kind
(SGD, momentum, schedules, learned rates per leaf and step) works on low-rank changes unchanged.
The proof is read off the optimizer's jaxpr: a gradient may be added, negated and scaled, and
meet nothing else.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax.types import Params

__all__ = ["linear_leaves"]


class _Seen(NamedTuple):
    """What a value depends on: nothing that adapts, one leaf linearly, or some leaves anyhow."""

    sources: frozenset[int]
    linear: bool
    uniform: bool = False
    """The same number in every element."""


_NOTHING = _Seen(frozenset(), True)
_KEEPS = {"neg", "copy", "convert_element_type"}


def linear_leaves(optimizer: optax.GradientTransformation, fast: Params) -> list[bool]:
    """Tells for each leaf whether its updates are linear in its gradients, elements alike.

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
    """Tells which leaves of the first state are zero, whatever the parameters are."""
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
    """Walks through a jaxpr from what its inputs depend on to what its outputs do."""
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
    """Tells whether an operation keeps its inputs' linearity."""
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

"""Detection of weights that only linear layers use, and evaluation with low-rank changes.

A weight `[a, b]` may be kept as shared values and a low-rank change if nothing but linear layers
ever looks at it. That is not assumed but read off the function's jaxpr: the weight must be used
exactly as often as linear layers were seen with it. Anything else, such as a convolution, a raw
parameter, a layer inside another transformation, or a network that is not Linen, is no such use.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metajax.adaptation.factored.low_rank import LowRank, change, shared_product
from metajax.networks.linear_layers import linear_layers

__all__ = ["Call", "Tap", "changed", "linear_calls"]


class Call(NamedTuple):
    """One use of a weight by a linear layer."""

    leaf: int
    """Index of the weight among the leaves of the parameters."""
    inputs: jax.ShapeDtypeStruct
    """Inputs: `[..., a]`, or integers `[...]`."""
    outputs: jax.ShapeDtypeStruct
    """Outputs: `[..., b]`."""
    constant: bool
    """True if the inputs do not depend on the adapting parameters."""

    @property
    def rows(self) -> int:
        """Number of rows of the layer's inputs."""
        return self.outputs.size // self.outputs.shape[-1]


class Tap(NamedTuple):
    """Zeros added to a call, whose gradients are those of its outputs, and its inputs."""

    outputs: jax.Array
    """Added to what comes out: its gradient is that of the outputs."""
    inputs: jax.Array | None
    """Multiplied with what goes in: its gradient is the inputs. None where they are constant."""


def linear_calls(
    function: Callable[..., Any], params: Any, adapting: list[int], *args: Any
) -> list[Call]:
    """Finds the calls of linear layers whose weights are used nowhere else.

    Args:
        function: `function(params, *args)`, any.
        params: Its parameters.
        adapting: Indices of the adapting leaves of the parameters.
        *args: Its other arguments; of all arguments only shapes and types matter.

    Returns:
        The calls of those weights, in the order they happen in.
    """
    leaves, structure = jax.tree.flatten(params)
    found: list[tuple[int, Any, Any]] = []

    def traced(leaves: list[Any], args: Any) -> Any:
        place = {id(leaf): n for n, leaf in enumerate(leaves)}
        found.clear()

        def on_layer(weight: Any, inputs: Any, compute: Callable[..., Any]) -> Any:
            outputs = compute(inputs)
            if id(weight) in place:
                found.append((place[id(weight)], inputs, outputs))
            return outputs

        with linear_layers(on_layer):
            result = function(structure.unflatten(leaves), *args)
        return [inputs for _, inputs, _ in found], result

    jaxpr = jax.make_jaxpr(traced)(leaves, args).jaxpr
    used = Counter(v for eqn in jaxpr.eqns for v in eqn.invars if not _is_literal(v))
    # A linear layer's input that is also a weight is an output here, as well as a use.
    used.update(v for v in jaxpr.outvars if not _is_literal(v))
    seen = Counter(leaf for leaf, _, _ in found)
    # One object in two places is ambiguous.
    twice = Counter(id(leaf) for leaf in leaves)
    chosen = {
        n
        for n in adapting
        if seen[n] and used[jaxpr.invars[n]] == seen[n] and twice[id(leaves[n])] == 1
    }
    moving = {jaxpr.invars[n] for n in adapting}
    for eqn in jaxpr.eqns:
        if any(not _is_literal(v) and v in moving for v in eqn.invars):
            moving |= set(eqn.outvars)
    calls = [
        Call(
            leaf,
            jax.ShapeDtypeStruct(inputs.shape, inputs.dtype),
            jax.ShapeDtypeStruct(outputs.shape, outputs.dtype),
            constant=_is_literal(out) or out not in moving,
        )
        for (leaf, inputs, outputs), out in zip(found, jaxpr.outvars, strict=False)
    ]
    # A choice of rows that itself adapts has no gradient to be seen through.
    for call in calls:
        if not call.constant and jnp.issubdtype(call.inputs.dtype, jnp.integer):
            chosen.discard(call.leaf)
    return [call for call in calls if call.leaf in chosen]


def changed(
    function: Callable[..., Any],
    params: Any,
    changes: dict[int, LowRank],
    *args: Any,
    taps: list[Tap] | None = None,
) -> tuple[Any, list[jax.Array], jax.Array | float]:
    """Evaluates a function with low-rank changes of some weights.

    Args:
        function: `function(params, *args)`.
        params: Its parameters, unchanged.
        changes: For leaves of the parameters, by number, their changes.
        *args: Its other arguments.
        taps: One for each call, or None.

    Returns:
        The function's result; what went into each call; the sum of the taps' products with that.

    Raises:
        RuntimeError: If the function calls its layers otherwise than the taps specify.
    """
    leaves = jax.tree.leaves(params)
    place = {id(leaves[n]): n for n in changes}
    inputs_seen: list[jax.Array] = []
    tapped: jax.Array | float = 0.0

    def on_layer(weight: Any, inputs: jax.Array, compute: Callable[..., jax.Array]) -> jax.Array:
        nonlocal tapped
        leaf = place.get(id(weight))
        if leaf is None:
            return compute(inputs)
        outputs = compute(inputs, shared_product)
        if jnp.issubdtype(inputs.dtype, jnp.integer):
            # As indexing does: counted from the end.
            inputs = jnp.where(inputs < 0, inputs + weight.shape[0], inputs)
        if changes[leaf].inputs:
            outputs = outputs + change(changes[leaf], inputs).astype(outputs.dtype)
        if taps is not None:
            tap = taps[len(inputs_seen)]
            outputs = outputs + tap.outputs
            if tap.inputs is not None:
                tapped = tapped + jnp.sum(tap.inputs * inputs)
        inputs_seen.append(inputs)
        return outputs

    with linear_layers(on_layer):
        result = function(params, *args)
    if taps is not None and len(inputs_seen) != len(taps):
        raise RuntimeError(
            f"the function used its linear layers {len(inputs_seen)} times, expected {len(taps)}."
        )
    return result, inputs_seen, tapped


def _is_literal(atom: Any) -> bool:
    return isinstance(atom, jax.extend.core.Literal)

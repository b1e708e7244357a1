"""Outer optimizers that leave some parameters unchanged."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from metajax.adaptation import matching, paths

__all__ = ["fixed", "frozen"]


def frozen(
    outer: optax.GradientTransformation, *patterns: str, after: int = 0
) -> optax.GradientTransformation:
    """Freezes some parameters after a number of updates.

    The optimizer runs on the two groups separately, so that clipping and adaptive rates of one
    group do not depend on the gradients of the other.

    Args:
        outer: The optimizer; its weight decay excludes frozen parameters.
        *patterns: Shell-style patterns of paths, at least one, for instance `predictor/layer_0/*`.
        after: Number of updates before they are frozen, >= 0.

    Returns:
        The optimizer. Its `init` raises a ValueError where a pattern fits no parameter.

    Raises:
        ValueError: If there is no pattern or `after` < 0.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"body": {"kernel": jnp.ones(1)}, "head": jnp.ones(1)}
        >>> rule = frozen(optax.sgd(1.0), "body/*")
        >>> updates, _ = rule.update(params, rule.init(params), params)
        >>> float(updates["body"]["kernel"][0]), float(updates["head"][0])
        (0.0, -1.0)
    """
    if not patterns:
        raise ValueError("patterns must be at least one, got none.")
    if after < 0:
        raise ValueError(f"after must be >= 0, got {after}.")

    def groups(params: Any) -> Any:
        return _labels(params, matching(*patterns))

    def still(count: Any) -> Any:
        return count < after

    stopping = optax.set_to_zero()
    if after:
        stopping = optax.chain(outer, optax.scale_by_schedule(still))
    rule = optax.partition({"moves": outer, "stops": stopping}, groups)

    def init(params: Any) -> Any:
        known = paths(params)
        for pattern in patterns:
            if not any(map(matching(pattern), known)):
                raise ValueError(
                    f"patterns must fit a parameter, got {pattern!r}; {', '.join(known)}."
                )
        return rule.init(params)

    return optax.GradientTransformationExtraArgs(init, rule.update)


def _labels(params: Any, chosen: Callable[[str], bool]) -> Any:
    labels = ["stops" if chosen(path) else "moves" for path in paths(params)]
    return jax.tree.unflatten(jax.tree.structure(params), labels)


def fixed(outer: optax.GradientTransformation, *names: str) -> optax.GradientTransformation:
    """Excludes parameters of closed forms from an optimizer.

    Args:
        outer: The optimizer; its weight decay excludes them too.
        *names: Their paths, or those of groups: `graph`, `network/item_embedding`. Parameters may
            lack some of them.

    Returns:
        The optimizer.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"graph": jnp.ones(2), "scale": jnp.ones(2)}
        >>> rule = fixed(optax.sgd(1.0), "graph")
        >>> updates, _ = rule.update(params, rule.init(params), params)
        >>> {name: float(leaf[0]) for name, leaf in updates.items()}
        {'graph': 0.0, 'scale': -1.0}
    """

    def stays(params: Any) -> Any:
        named = [any(f"{path}/".startswith(f"{name}/") for name in names) for path in paths(params)]
        return jax.tree.unflatten(jax.tree.structure(params), named)

    # Last in the chain, after any weight decay.
    return optax.chain(outer, optax.masked(optax.set_to_zero(), stays))

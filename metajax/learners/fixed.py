"""Parameters that come from closed forms and that no optimizer may move."""

from typing import Any

import jax
import optax

from metajax.adaptation import paths

__all__ = ["fixed"]


def fixed(outer: optax.GradientTransformation, *names: str) -> optax.GradientTransformation:
    """Lets an optimizer move all parameters but those of these names.

    Args:
        outer: The optimizer; its weight decay does not reach them either.
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

    # Last, so that no decay moves them.
    return optax.chain(outer, optax.masked(optax.set_to_zero(), stays))

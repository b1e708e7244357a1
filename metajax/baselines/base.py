"""What a simple baseline is: a closed-form fit, and the contract every method adapts by."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from metajax.types import Examples, Params

__all__ = ["Baseline", "adapt_to_nothing", "observed"]


class Baseline(NamedTuple):
    """A method without meta-training, judged in the same table as those with it."""

    name: str
    """What tables and the command line call it."""
    predicts: Literal["rating", "ranking"]
    """What its scores mean: ratings on the scale, or only an order of the items."""
    fit: Callable[..., Params]
    """`fit(training, **settings) -> params`, on the host; params are float32 and int32 arrays."""
    adapt: Callable[..., Any]
    """`adapt(params, support, key=None) -> adapted`, as in `metajax.types.Adaptation`."""
    predict: Callable[[Params, Any, Any], jax.Array]
    """`predict(params, adapted, inputs) -> scores [N]`, as in `metajax.types.Adaptation`."""
    grid: tuple[Mapping[str, Any], ...] = ({},)
    """The settings worth trying on validation users, the default first."""
    predict_variance: Callable[[Params, Any, Any], jax.Array] | None = None
    """As in `metajax.types.Adaptation`."""


def adapt_to_nothing(params: Params, support: Examples, key: jax.Array | None = None) -> tuple[()]:
    """Adapts a method that treats all users alike: the adapted state is empty."""
    return ()


def observed(support: Examples) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Reads a support with its padding made harmless.

    Padding may hold anything, NaN and ids beyond the catalogue included.

    Args:
        support: `[N]` examples whose inputs are `metajax.types.Inputs`.

    Returns:
        `[N]` item, `[N]` label, both 0 on padding, and `[N]` float32 presence (1, or 0 on padding).
    """
    item = jnp.where(support.mask, support.inputs.item, 0)
    label = jnp.where(support.mask, support.labels, 0)
    return item, label, support.mask.astype(jnp.float32)

"""Amortised adaptation: one forward pass of a network that encodes the support."""

from collections.abc import Callable
from typing import Any

import jax

from metajax.losses import blanked
from metajax.types import Adaptation, Examples, Params

__all__ = ["amortised"]


def amortised(
    encode: Callable[[Params, Examples], Any], decode: Callable[[Params, Any, Any], Any]
) -> Adaptation:
    """Adapts by encoding the support and predicts by decoding.

    There are no inner steps and no gradients, and the state of a user is the network's.

    Args:
        encode: `encode(params, support) -> state`. Padding is 0; the network must apply the mask.
        decode: `decode(params, state, inputs) -> scores [N]`, or whatever else the loss takes.

    Returns:
        An adaptation whose adapted state is the encoded one.

    References:
        Garnelo et al., Conditional Neural Processes, ICML 2018, section 2.
    """

    def adapt(params: Params, support: Examples, key: jax.Array | None = None) -> Any:
        del key
        return encode(params, blanked(support))

    return Adaptation(adapt, decode)

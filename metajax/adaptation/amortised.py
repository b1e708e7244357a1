"""Adaptation by one forward pass: a network reads the support and says all there is to keep."""

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

    What it costs to adapt was paid in training: there are no steps, no gradients, and no more
    state than the network keeps.

    Args:
        encode: `encode(params, support) -> state`. It sees padding as zeros and minds the mask.
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

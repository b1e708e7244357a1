"""Zero-shot prediction, independent of the support."""

from typing import Any

import jax

from metajax.types import Adaptation, Apply, Examples, Params

__all__ = ["zero_shot"]


def zero_shot(predict: Apply) -> Adaptation:
    """Predicts from the parameters and the inputs alone.

    Args:
        predict: `predict(params, inputs) -> scores [N]`.

    Returns:
        An adaptation whose adapted state is empty.
    """

    def adapt(params: Params, support: Examples, key: jax.Array | None = None) -> tuple[()]:
        del params, support, key
        return ()

    def predict_zero_shot(params: Params, adapted: tuple[()], inputs: Any) -> jax.Array:
        del adapted
        return predict(params, inputs)

    return Adaptation(adapt, predict_zero_shot)

"""A learned optimizer: a GRU cell that reads a weight's gradients and sets its rate."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from metajax.types import Params, UpdateGRU

__all__ = ["gru_gradients"]

# Gradients well below it are seen in proportion, those above by their logarithm and sign.
_RESOLUTION = 0.01


def gru_gradients(gru: UpdateGRU, learned: Params, rate: float) -> optax.GradientTransformation:
    """Steps against the gradient at the rate `rate * exp(what the cell reads out)`.

    Every element of every leaf has a hidden state of its own, and one cell serves them all: it
    has as many parameters for a large network as for a small one, and H numbers an element and
    user in memory: choose what adapts. A gradient of zero moves
    nothing, so an empty support gives the zero-shot answer. Pass it to `gradient_steps` as a
    function of the parameters: `optimizer=lambda params: gru_gradients(gru, params["gru"], 0.1)`.

    Args:
        gru: The cell, of one feature and one output.
        learned: Its parameters.
        rate: Rate where the readout is 0, as it is at first.

    Returns:
        An Optax optimizer whose state is `[P, H]`, a hidden state for each of P elements.

    References:
        Andrychowicz et al., Learning to learn by gradient descent by gradient descent, NeurIPS
        2016, section 2.1 (one cell for all coordinates); Ravi and Larochelle, Optimization as a
        Model for Few-Shot Learning, ICLR 2017, section 3.2. Differs: a GRU, not an LSTM; it
        scales the gradient and does not write the step; the gradient is seen through arcsinh,
        which has the derivatives at zero that the logarithm has not.
    """

    def init(params: Params) -> jax.Array:
        flat, _ = ravel_pytree(params)
        return jnp.zeros((flat.size, gru.width), flat.dtype)

    def update(updates: Any, state: Any, params: Params | None = None) -> tuple[Any, Any]:
        del params
        gradient, shaped = ravel_pytree(updates)
        state = gru.step(learned, state, jnp.arcsinh(gradient / _RESOLUTION)[:, None])
        return shaped(-rate * jnp.exp(gru.read(learned, state)[:, 0]) * gradient), state

    return optax.GradientTransformation(init, update)

"""GRU adaptation: a learned encoder of the support, and a learned optimizer."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from metajax.adaptation.partition import combine, partition
from metajax.losses import blanked, check_shapes
from metajax.types import Adaptation, Apply, Choice, Examples, Params, UpdateGRU

__all__ = ["gru_embeddings", "gru_gradients"]


def gru_embeddings(
    gru: UpdateGRU,
    embed: Callable[[Params, Any], jax.Array],
    predict: Apply,
    *,
    adapts: Choice = "*",
) -> Adaptation:
    """Adapts by `params + readout(last hidden state)`.

    The inputs of the cell are, for one example after the other, its embedding, its label and the
    residual of the network. The result depends on the order of the support, not on the place of its
    padding. With an empty support the hidden state and the change are 0: zero-shot.

    Args:
        gru: The cell, of E + 2 features and one output for each element that adapts. Meant for a
            small part of the network.
        embed: `embed(network, inputs) -> [N, E]`.
        predict: `predict(network, inputs) -> scores [N]`.
        adapts: The parameters of the network that adapt: patterns of paths or a predicate.

    Returns:
        An adaptation of the parameters `{"network": ..., "gru": ...}`, whose adapted state is the
        user's values of what adapts, None elsewhere.

    Raises:
        ValueError: From `adapt`, if nothing adapts.

    References:
        Vartak, Thiagarajan, Miranda, Bratman and Larochelle, A Meta-Learning Perspective on
        Cold-Start Recommendations for Items, NeurIPS 2017, section 3 (weights and biases from
        the history). Differs: the history is read by a GRU, not averaged by class; the change is
        added to weights that are learned.
    """

    def adapt(params: Params, support: Examples, key: jax.Array | None = None) -> Any:
        del key
        network = params["network"]
        inputs, labels, mask = blanked(support)
        embedded = embed(network, inputs)  # [N, E]
        scores = predict(network, inputs)
        check_shapes(labels=labels, scores=scores)
        seen = jnp.concatenate([embedded, labels[:, None], (labels - scores)[:, None]], axis=1)

        def read(hidden: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            features, is_seen = row
            after = gru.step(params["gru"], hidden, features)
            return jnp.where(is_seen, after, hidden), None

        hidden, _ = jax.lax.scan(read, jnp.zeros(gru.width, seen.dtype), (seen, mask))
        flat, shaped = ravel_pytree(partition(network, adapts)[0])
        return shaped(flat + gru.read(params["gru"], hidden))

    def predict_adapted(params: Params, adapted: Any, inputs: Any) -> jax.Array:
        return predict(combine(adapted, params["network"]), inputs)

    return Adaptation(adapt, predict_adapted)


# Gradients well below it are seen in proportion, those above by their logarithm and sign.
_RESOLUTION = 0.01


def gru_gradients(gru: UpdateGRU, learned: Params, rate: float) -> optax.GradientTransformation:
    """Gradient steps at the rate `rate * exp(readout of a GRU cell)`.

    Every element of every leaf has a hidden state of its own, and one cell serves them all: it
    has as many parameters for a large network as for a small one, and H numbers an element and
    user in memory: choose what adapts. A gradient of zero moves
    nothing, so an empty support gives the zero-shot answer. Pass it to `gradient_steps` as a
    function of the parameters: `optimizer=lambda params: gru_gradients(gru, params["gru"], 0.1)`.

    Args:
        gru: The cell, of one feature and one output.
        learned: Its parameters.
        rate: Rate where the readout is 0, its initial value.

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

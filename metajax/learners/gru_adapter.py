"""GRU adapter: a learned optimizer, or a learned encoder of the support."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from metajax.adaptation import gru_embeddings, gru_gradients, partition, within
from metajax.learners.maml import maml
from metajax.learners.outer import meta_learner
from metajax.networks import update_gru, with_meta_params
from metajax.types import Choice, Loss, MetaLearner, Model, Params

__all__ = ["all_features", "gru_adapter"]

Sees = Literal["gradients", "embeddings"]


def all_features(network: Params, inputs: Any) -> jax.Array:
    """Concatenates the real leaves of inputs, `[N, E]`."""
    del network
    leaves = [
        leaf.reshape(leaf.shape[0], -1)
        for leaf in jax.tree.leaves(inputs)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    ]
    return jnp.concatenate(leaves, axis=1)


def gru_adapter(
    model: Model,
    loss: Loss,
    *,
    outer: optax.GradientTransformation,
    sees: Sees = "gradients",
    width: int = 8,
    rate: float = 0.1,
    steps: int = 1,
    embed: Callable[[Params, Any], jax.Array] = all_features,
    adapts: Choice = "*",
    inner_loss: Loss | None = None,
    microbatch: int | None = None,
) -> MetaLearner:
    """Adaptation by a meta-learned GRU cell.

    From gradients it is an optimizer: it sets the rates of each inner step of MAML from the
    gradients so far. From embeddings it reads the support once, in order, and returns the change
    of the weights without any gradient. Before training either adapts as without the cell, and a
    user's weights are kept in full.

    Args:
        model: The network.
        loss: `loss(scores, labels, *, where) -> []`, of the query.
        outer: Optax optimizer of the meta-parameters.
        sees: The inputs of the cell: "gradients" or "embeddings".
        width: Size of its hidden state, at least 1.
        rate: Of gradients: the rate that the cell scales.
        steps: Of gradients: number of inner steps, at least 1.
        embed: Of embeddings: `embed(network, inputs) -> [N, E]`; by default the features.
        adapts: The parameters of the network that adapt: patterns of paths or a predicate.
        inner_loss: Of gradients: the loss of the support; None means `loss`.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner with the parameters `{"network": ..., "gru": ...}`.

    Raises:
        ValueError: If `sees` is unknown, or `width` or `steps` < 1.

    References:
        See `gru_gradients` and `gru_embeddings`.
    """
    if sees not in get_args(Sees):
        raise ValueError(f"sees must be one of {', '.join(get_args(Sees))}, got {sees!r}.")
    gru = update_gru(width)
    if sees == "gradients":
        return maml(
            with_meta_params(model, gru=lambda key, network, inputs: gru.init(key, 1, 1)),
            loss,
            inner=lambda params: gru_gradients(gru, params["gru"], rate),
            outer=outer,
            steps=steps,
            adapts=within("network", adapts),
            inner_loss=inner_loss,
            microbatch=microbatch,
        )

    def start(key: jax.Array, network: Params, inputs: Any) -> Params:
        features = jax.eval_shape(embed, network, inputs).shape[1] + 2
        return gru.init(key, features, ravel_pytree(partition(network, adapts)[0])[0].size)

    adaptation = gru_embeddings(gru, embed, model.apply, adapts=adapts)
    return meta_learner(
        with_meta_params(model, gru=start), adaptation, loss, outer, microbatch=microbatch
    )

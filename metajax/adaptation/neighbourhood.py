"""Inductive fold-in of a new user: one step of message passing from the rated items."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from metajax.losses import blanked
from metajax.types import Adaptation, Examples, MemberInputs, NodeVectors

__all__ = ["neighbourhood"]


def neighbourhood(*, relevant: float = -math.inf) -> Adaptation:
    """Adapts by connecting the user to the items of the support, with the graph unchanged.

    The vector v of a user without interactions plus the messages of the n chosen items:
    `v + sum_j m_j / n^p`. The score of an item is its product with that, plus the item's bias. An
    empty support leaves v.

    Its parameters are the `NodeVectors` of a graph, propagated once for all users: a service keeps
    them, and adapting costs a sum over the support.

    Args:
        relevant: Lowest label of an item that counts as chosen, as in the graph.

    Returns:
        An adaptation whose adapted state is the user's vector `[D]`.

    Raises:
        ValueError: If `relevant` is NaN.

    References:
        Hamilton, Ying and Leskovec, Inductive Representation Learning on Large Graphs, NeurIPS
        2017, for nodes that training has not seen; He et al., LightGCN, SIGIR 2020, equation 3, for
        p = 1/2.
    """
    if math.isnan(relevant):
        raise ValueError("relevant must be a number, got nan.")

    def adapt(nodes: NodeVectors, support: Examples, key: jax.Array | None = None) -> jax.Array:
        del key
        seen = blanked(support)
        chosen = (seen.mask & (seen.labels >= relevant)).astype(nodes.neighbour.dtype)
        count = jnp.maximum(jnp.sum(chosen), 1)
        return nodes.new_user + chosen @ nodes.neighbour[seen.inputs.item] / count**nodes.power

    def predict(nodes: NodeVectors, adapted: jax.Array, inputs: Any) -> jax.Array:
        item = (inputs.inputs if isinstance(inputs, MemberInputs) else inputs).item
        return nodes.item_bias[item] + nodes.item[item] @ adapted

    return Adaptation(adapt, predict)

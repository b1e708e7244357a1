"""The recipe that scores items without ratings by where attributes put them."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from metajax.adaptation import ridge_head
from metajax.learners.frozen import fixed
from metajax.learners.outer import learner_with
from metajax.losses import blanked, masked_mean
from metajax.types import Evidence, MetaLearner, Model, Params, Task

__all__ = ["semantic_map"]

_FIXED = ("item_embedding", "item_spread", "known", "traits")


def semantic_map(
    model: Model,
    loss: Callable[..., jax.Array],
    *,
    outer: optax.GradientTransformation,
    closeness: float = 0.1,
    microbatch: int | None = None,
) -> MetaLearner:
    """Learns where an item of given attributes lies in the space of pretrained embeddings.

    A user is the posterior given their ratings, as in `adaptation.ridge_head`. Every item of a
    query is asked as if nobody had rated it, and drawn to its own embedding:

        loss(scores by the map) + closeness * mean squared distance to the items' embeddings .

    A cold user is the prior and a cold item its map: both are scored without any history.

    Args:
        model: The network; its `apply` returns `networks.Mapped`, for instance of a
            `networks.SemanticMap`.
        loss: `loss(scores, labels, *, where) -> []`, of the query.
        outer: Optax optimizer of the parameters; those of closed forms stay as they are.
        closeness: How much the distance counts, >= 0.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner with `predict_variance`.

    Raises:
        ValueError: If `closeness` < 0.

    References:
        Socher, Ganjoo, Manning and Ng, Zero-Shot Learning Through Cross-Modal Transfer, NeurIPS
        2013, equation 1, the squared distance to the embedding. Frome et al., DeViSE: A Deep
        Visual-Semantic Embedding Model, NeurIPS 2013, which ranks by products in that space.
        Differs: embeddings are factors of ratings, and products with a user's are the scores.
    """
    if not closeness >= 0:
        raise ValueError(f"closeness must be >= 0, got {closeness}.")

    def known(params: Params, inputs: Any) -> Evidence:
        return model.apply(params, inputs).evidence

    adaptation = ridge_head(known)

    def task_loss(params: Params, task: Task, key: jax.Array | None, step: jax.Array) -> jax.Array:
        del step
        adapted = adaptation.adapt(params, task.support, key)
        asked = blanked(task.query)
        found = model.apply(params, asked.inputs)
        scores = found.guess.expected + found.guess.design @ adapted.mean
        near = masked_mean(found.distance, asked.mask)
        return loss(scores, asked.labels, where=asked.mask) + closeness * near

    return learner_with(
        {0: task_loss}, model, adaptation, fixed(outer, *_FIXED), microbatch=microbatch
    )

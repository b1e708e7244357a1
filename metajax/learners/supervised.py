"""Ordinary training, without meta-learning: what MAML has to beat on the same network."""

from collections.abc import Callable
from typing import Unpack

import jax
import optax

from metajax.adaptation import Optimizer, everything, zero_shot
from metajax.learners.maml import Options, fomaml
from metajax.learners.outer import meta_learner
from metajax.types import MetaLearner, Model

__all__ = ["fine_tuned", "supervised"]


def supervised(
    model: Model,
    loss: Callable[..., jax.Array],
    *,
    outer: optax.GradientTransformation,
    microbatch: int | None = None,
) -> MetaLearner:
    """Fits the network to the query examples and serves a user zero-shot.

    Args:
        model: The network.
        loss: `loss(scores, labels, *, where) -> []`.
        outer: Optax optimizer of the parameters.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A learner that does not look at the support.
    """
    return meta_learner(model, zero_shot(model.apply), loss, outer, microbatch=microbatch)


def fine_tuned(
    model: Model,
    loss: Callable[..., jax.Array],
    *,
    inner: Optimizer,
    adapts: Callable[[str], bool] = everything,
    **options: Unpack[Options],
) -> MetaLearner:
    """Trains as `supervised` does, then adapts to a user as `maml` does.

    The difference between this learner and `maml` is what meta-learning itself brings.

    Args and Returns: as in `maml`; training does not pass through the steps, so any optimizer of
    the inner steps will do.
    """
    adapting = fomaml(model, loss, inner=inner, adapts=adapts, **options)
    trained = supervised(model, loss, outer=options["outer"], microbatch=options.get("microbatch"))
    return trained._replace(adapt=adapting.adapt, predict=adapting.predict)

"""Ordinary training without meta-learning, the baseline of MAML on the same network."""

from typing import Unpack

import optax

from metajax.adaptation import zero_shot
from metajax.learners.maml import Options, fomaml
from metajax.learners.outer import meta_learner
from metajax.types import Choice, Loss, MetaLearner, Model, Optimizer

__all__ = ["fine_tuned", "supervised"]


def supervised(
    model: Model,
    loss: Loss,
    *,
    outer: optax.GradientTransformation,
    microbatch: int | None = None,
) -> MetaLearner:
    """Supervised training on the query examples; users are served zero-shot.

    Args:
        model: The network.
        loss: `loss(scores, labels, *, where) -> []`.
        outer: Optax optimizer of the parameters.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A learner that ignores the support.
    """
    return meta_learner(model, zero_shot(model.apply), loss, outer, microbatch=microbatch)


def fine_tuned(
    model: Model,
    loss: Loss,
    *,
    inner: Optimizer,
    adapts: Choice = "*",
    **options: Unpack[Options],
) -> MetaLearner:
    """Supervised training, then adaptation by gradient steps as in `maml`.

    Compared with `maml` it shows the effect of meta-learning alone.

    Args and Returns: as in `maml`; training does not pass through the steps, so any optimizer of
    the inner steps will do.
    """
    adapting = fomaml(model, loss, inner=inner, adapts=adapts, **options)
    trained = supervised(model, loss, outer=options["outer"], microbatch=options.get("microbatch"))
    return trained._replace(adaptation=adapting.adaptation)

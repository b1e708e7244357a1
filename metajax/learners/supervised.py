"""Ordinary training, without meta-learning: what MAML has to beat on the same network."""

from collections.abc import Callable

import jax
import optax

from metajax.adaptation import FirstOrder, Form, Optimizer, everything, gradient_steps, no_steps
from metajax.base import MetaLearner, Model
from metajax.learners.outer import meta_learner
from metajax.losses import on_examples

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
    return meta_learner(model, no_steps(model.apply), loss, outer, microbatch=microbatch)


def fine_tuned(
    model: Model,
    loss: Callable[..., jax.Array],
    *,
    inner: Optimizer,
    outer: optax.GradientTransformation,
    steps: int = 1,
    adapts: Callable[[str], bool] = everything,
    inner_loss: Callable[..., jax.Array] | None = None,
    form: Form = "auto",
    microbatch: int | None = None,
) -> MetaLearner:
    """Trains as `supervised` does, then adapts to a user as `maml` does.

    The difference between this learner and `maml` is what meta-learning itself brings.

    Args and Returns: as in `maml`.
    """
    adaptation = gradient_steps(
        on_examples(model.apply, inner_loss or loss),
        inner,
        steps,
        predict=model.apply,
        adapts=adapts,
        form=form,
        # Training does not pass through the steps: any optimizer will do.
        adjoint=FirstOrder(),
    )
    learner = supervised(model, loss, outer=outer, microbatch=microbatch)
    return learner._replace(**adaptation._asdict())

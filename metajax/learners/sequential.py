"""Recipes that take the order of a user's interactions into account."""

from collections.abc import Callable

import jax
import optax

from metajax.adaptation import Adjoint, Form, Optimizer, everything, sequence_steps
from metajax.base import MetaLearner, Model
from metajax.learners.outer import meta_learner

__all__ = ["sequential"]


def sequential(
    model: Model,
    loss: Callable[..., jax.Array],
    *,
    inner: Optimizer,
    outer: optax.GradientTransformation,
    steps: int = 1,
    adapts: Callable[[str], bool] = everything,
    inner_loss: Callable[..., jax.Array] | None = None,
    adjoint: Adjoint | None = None,
    form: Form = "auto",
    microbatch: int | None = None,
) -> MetaLearner:
    """Learns to read a user's history, and parameters from which a few steps fit it.

    Args:
        model: The network; its `apply` scores `InHistory`, for instance
            `models.from_history_module(models.SequenceNetwork(..))`.
        loss: `loss(scores, labels, *, where) -> []`, of the query.
        inner: Optax optimizer of the inner steps, or a function of the parameters that returns
            one.
        outer: Optax optimizer of the parameters.
        steps: Number of inner steps, at least 1.
        adapts: Predicate on the path of a parameter: does it adapt? The others are shared. A head
            alone (`matching("score/*")`) is cheap: the history is then read once.
        inner_loss: The loss of the support, each interaction given those before it; None means
            `loss`.
        adjoint: How the meta-gradient passes through the steps; None means `Reverse()`.
        form: How a user's weights are kept, see `gradient_steps`.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner. Supports have to be in order of time (`sample_tasks(order="time")`).

    References:
        After Zheng et al., Cold-start Sequential Recommendation via Meta Learner, AAAI 2021.
        Differs: users are cold and not items (for those see `mecos`); inner steps adapt the
        predictor.
    """
    adaptation = sequence_steps(
        model.apply,
        inner_loss or loss,
        inner,
        steps,
        adapts=adapts,
        adjoint=adjoint,
        form=form,
    )

    return meta_learner(model, adaptation, loss, outer, microbatch=microbatch)

"""Recipes that take the order of a user's interactions into account."""

from collections.abc import Callable

import jax
import optax

from metajax.adaptation import Adjoint, Form, Optimizer, everything, sequence_steps
from metajax.learners.outer import meta_learner
from metajax.types import MetaLearner, Model

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

    The order of a support's rows is taken for that of time: `sample_tasks(order="time")` draws
    such supports, and "random" ones teach it to make do without.

    Args and Returns: as in `maml`, except that `model.apply` scores `InHistory`, for instance
    `models.from_history_module(models.SequenceNetwork(...))`, and that the inner loss is of each
    interaction given those before it.

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

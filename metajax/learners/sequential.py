"""Sequential MAML: inner steps on a network that reads the history in order."""

import optax

from metajax.adaptation import Adjoint, Form, sequence_steps
from metajax.learners.outer import meta_learner
from metajax.types import Choice, Loss, MetaLearner, Model, Optimizer

__all__ = ["sequential"]


def sequential(
    model: Model,
    loss: Loss,
    *,
    inner: Optimizer,
    outer: optax.GradientTransformation,
    steps: int = 1,
    adapts: Choice = "*",
    inner_loss: Loss | None = None,
    adjoint: Adjoint | None = None,
    form: Form = "auto",
    microbatch: int | None = None,
) -> MetaLearner:
    """MAML of a network that reads a user's history in order.

    The rows of a support are in order of time: `sample_tasks(order="time")` draws such supports.

    Args and Returns: as in `maml`, except that `model.apply` scores `InHistory`, for instance
    `networks.from_history_module(networks.SequenceNetwork(...))`, and that the inner loss is of
    each interaction given those before it.

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

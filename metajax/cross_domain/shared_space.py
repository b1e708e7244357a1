"""The recipe that serves both domains in one space, and is trained on both."""

from collections.abc import Callable

import jax
import optax

from metajax.adaptation import amortised
from metajax.cross_domain.domain_factors import side_of
from metajax.learners.frozen import fixed
from metajax.learners.outer import learner_with
from metajax.losses import blanked
from metajax.types import MetaLearner, Params, SupportModel, Task

__all__ = ["shared_space"]


def shared_space(
    model: SupportModel,
    loss: Callable[..., jax.Array],
    *,
    outer: optax.GradientTransformation,
    source_share: float = 0.2,
    microbatch: int | None = None,
) -> MetaLearner:
    """Learns maps of both domains into one space by what is asked of both.

    The loss of a task is `a L_source + (1 - a) L_target` with each domain's part of the query, so
    tasks should ask for some of the source: `cross_domain.sample_cross_tasks(source_query=...)`.

    Args:
        model: Its parameters hold `factors`, for instance a `models.shared_space`.
        loss: `loss(scores, labels, *, where) -> []`, of one domain's part of the query.
        outer: Optax optimizer of the parameters; the factors among them stay as they are.
        source_share: a, in [0, 1].
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner.

    Raises:
        ValueError: If the share is out of range, or `microbatch` < 1.

    References:
        Singh and Gordon, Relational Learning via Collective Matrix Factorization, KDD 2008,
        section 2; what differs is said where it lies, in `models.shared_space`.
    """
    if not 0 <= source_share <= 1:
        raise ValueError(f"source_share must be in [0, 1], got {source_share}.")
    adaptation = amortised(model.encode, model.decode)

    def task_loss(params: Params, task: Task, key: jax.Array | None, step: jax.Array) -> jax.Array:
        del step
        adapted = adaptation.adapt(params, task.support, key)
        inputs, labels, mask = blanked(task.query)
        scores = adaptation.predict(params, adapted, inputs)
        side = side_of(params["factors"], inputs)
        source, target = (loss(scores, labels, where=mask & (side == d)) for d in (0, 1))
        return source_share * source + (1 - source_share) * target

    return learner_with(
        {0: task_loss}, model, adaptation, fixed(outer, "factors"), microbatch=microbatch
    )

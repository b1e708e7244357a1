"""The recipe in which a teacher's guesses stand in for ratings that nobody gave."""

from collections.abc import Callable

import jax
import optax

from metajax.adaptation import amortised
from metajax.learners.frozen import fixed
from metajax.learners.outer import learner_with
from metajax.losses import blanked
from metajax.types import Adaptation, MemberInputs, MetaLearner, Params, SupportModel, Task

__all__ = ["distilled"]


def distilled(
    student: SupportModel,
    teacher: Adaptation,
    loss: Callable[..., jax.Array],
    *,
    outer: optax.GradientTransformation,
    trust: float = 0.5,
    microbatch: int | None = None,
) -> MetaLearner:
    """Trains a student on ratings and on what a teacher would say of the same user and items.

        (1 - trust) * loss(student, ratings) + trust * loss(student, teacher)

    The first is of what has a rating, the second of all that is asked: users of one domain may be
    asked for items of another, where ratings of theirs are not to be had.

    Args:
        student: Its parameters are `{"student": ..., "teacher": ...}`, of which it uses its own.
        teacher: Adapts and predicts by `params["teacher"]`, which stays as it is.
        loss: `loss(scores, labels, *, where) -> []`, of the query.
        outer: Optax optimizer of the student.
        trust: How much the teacher counts, in [0, 1].
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner that serves by the student alone. Queries of its training tasks have
        `MemberInputs`, as of `cross_domain.sample_unrated_tasks`.

    Raises:
        ValueError: If `trust` is not in [0, 1].

    References:
        Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, arXiv 1503.02531,
        section 2: a weighted mean of two objectives. Unlabelled items for a student's ranking:
        Tang and Wang, Ranking Distillation, KDD 2018; from domain to domain: Li et al.,
        Cross-domain recommendation via knowledge distillation, Knowledge-Based Systems 2025.
        Differs: targets are ratings and no soft classes, so there is no temperature; nobody has
        to be known in both domains.
    """
    if not 0 <= trust <= 1:
        raise ValueError(f"trust must be in [0, 1], got {trust}.")
    adaptation = amortised(student.encode, student.decode)

    def task_loss(params: Params, task: Task, key: jax.Array | None, step: jax.Array) -> jax.Array:
        del step
        asked = blanked(task.query)
        if not isinstance(asked.inputs, MemberInputs):
            raise TypeError(
                "queries must tell what was rated, as MemberInputs, got "
                f"{type(asked.inputs).__name__}."
            )
        inputs = asked.inputs.inputs
        scores = student.decode(params, adaptation.adapt(params, task.support, key), inputs)
        learned = teacher.adapt(params["teacher"], task.support, key)
        lesson = jax.lax.stop_gradient(teacher.predict(params["teacher"], learned, inputs))
        rated = asked.mask & asked.inputs.known
        own = loss(scores, asked.labels, where=rated)
        return (1 - trust) * own + trust * loss(scores, lesson, where=asked.mask)

    return learner_with(
        {0: task_loss}, student, adaptation, fixed(outer, "teacher"), microbatch=microbatch
    )

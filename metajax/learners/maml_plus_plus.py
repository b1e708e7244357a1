"""MAML++: learned rates, a loss of every step, first order before second."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from metajax.adaptation import (
    Adjoint,
    FirstOrder,
    Form,
    as_adaptation,
    initial_rates,
    inner_loop,
    learned_rates,
    partition,
    within,
)
from metajax.learners.outer import TaskLoss, learner_with
from metajax.losses import on_examples
from metajax.networks import with_meta_params
from metajax.types import Choice, Loss, MetaLearner, Model, Params, Task

__all__ = ["maml_plus_plus"]


def maml_plus_plus(
    model: Model,
    loss: Loss,
    *,
    rate: float,
    outer: optax.GradientTransformation,
    steps: int = 5,
    first_order: int = 0,
    multi_step: int = 0,
    adapts: Choice = "*",
    inner_loss: Loss | None = None,
    adjoint: Adjoint | None = None,
    form: Form = "auto",
    microbatch: int | None = None,
) -> MetaLearner:
    """MAML++: MAML with three stabilising changes, each of which can be switched off.

    Rates, one for each adapting leaf and step, are learned. In the first `multi_step` updates the
    query loss is taken after every inner step; the weights anneal from equal to the last step
    alone. In the first `first_order` updates the meta-gradient has no second derivatives.
    The kind of update is chosen inside one compiled program, and only that is run: an update of
    first order takes half the time of one of second order. What grows is the time to compile, with
    each kind of update.

    Args:
        model: The network.
        loss: `loss(scores, labels, *, where) -> []`, of the query.
        rate: Initial value of every rate.
        outer: Optax optimizer of the meta-parameters; the paper's is Adam with cosine decay.
        steps: Number of inner steps, at least 1.
        first_order: Number of updates by first order, >= 0.
        multi_step: Number of updates with a loss of every step, >= 0.
        adapts: The parameters of the network that adapt: patterns of paths or a predicate.
        inner_loss: The loss of the support; None means `loss`.
        adjoint: Differentiation through the steps after the first-order updates.
        form: Storage of a user's weights; rates of leaves leave the factors exact.
        microbatch: Tasks that are in memory at once; None means all of an update.

    Returns:
        A meta-learner with the parameters `{"network": ..., "rates": ...}`.

    Raises:
        ValueError: If `steps`, `first_order` or `multi_step` is out of range, `rate` is not
            finite.

    References:
        Antoniou, Edwards and Storkey, How to Train Your MAML, ICLR 2019, sections 4.1 (multi-step
        loss), 4.2 (derivative order), 4.5 (rates). Differs: no batch normalisation, and so no
        statistics for each step (4.3, 4.4); annealing counts updates, not epochs; the weights of
        the steps before the last end at exactly 0, where the authors' code keeps a hundredth.
    """
    for name, count in (("first_order", first_order), ("multi_step", multi_step)):
        if count < 0:
            raise ValueError(f"{name} must be >= 0, got {count}.")
    extended = with_meta_params(
        model,
        rates=lambda key, network, inputs: initial_rates(
            partition(network, adapts)[0], rate, steps=steps
        ),
    )

    loop_by = partial(
        inner_loop,
        on_examples(extended.apply, inner_loss or loss),
        lambda params: learned_rates(params["rates"], per_step=True),
        steps,
        predict=extended.apply,
        adapts=within("network", adapts),
        form=form,
    )

    def task_loss_by(adjoint: Adjoint | None, many: bool) -> TaskLoss:
        loop = loop_by(adjoint=adjoint)

        def task_loss(
            params: Params, task: Task, key: jax.Array | None, step: jax.Array
        ) -> jax.Array:
            del key
            query_loss = on_examples(partial(loop.predict, params), loss)

            def loss_of(adapted: Any) -> jax.Array:
                return query_loss(adapted, task.query)

            adapted, _, losses = loop.run(params, task.support, probe=loss_of if many else None)
            return _importance(step, steps, multi_step) @ losses if many else loss_of(adapted)

        return task_loss

    task_losses = {
        start: task_loss_by(FirstOrder() if start < first_order else adjoint, start < multi_step)
        for start in (0, first_order, multi_step)
    }
    served = as_adaptation(loop_by(adjoint=adjoint))
    return learner_with(task_losses, extended, served, outer, microbatch=microbatch)


def _importance(step: jax.Array, steps: int, multi_step: int) -> jax.Array:
    """Weighs the query losses after each inner step.

    Args:
        step: `[]` number of updates made, from 0 to `multi_step`.
        steps: Number of inner steps.
        multi_step: Update at which the last loss counts alone.

    Returns:
        `[steps]` weights that add up to 1.
    """
    each = (1 - step / multi_step) / steps
    return jnp.full(steps, each).at[-1].set(1 - (steps - 1) * each)

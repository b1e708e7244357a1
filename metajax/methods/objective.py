"""Training objectives, the outer optimizer, and learners built from settings."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metajax import learners, losses
from metajax.adaptation import matching
from metajax.data.dataset import Shapes
from metajax.methods.settings import Settings
from metajax.methods.tasks import (
    Sampler,
    candidate_tasks,
    ranking_tasks,
    rating_tasks,
    weighted_candidate_tasks,
)
from metajax.types import MetaLearner, Model

__all__ = [
    "Objective",
    "adapted_parameters",
    "by_gradient_steps",
    "by_one_pass",
    "objectives",
    "outer_optimizer",
    "step_arguments",
]

RATES = ({}, {"rate": 3e-4}, {"rate": 3e-3})
"""Grid of outer rates: the default, a third and three times of it."""


class Objective(NamedTuple):
    """Training objective: losses and the tasks they are taken on."""

    loss: Callable[..., jax.Array]
    """`loss(scores, labels, *, where) -> []`, of a task's query."""
    inner_loss: Callable[..., jax.Array]
    """The loss of a support, for inner gradient steps."""
    sampler: Callable[[Settings, Shapes], Sampler]
    """`sampler(settings, shapes)`: the training tasks."""
    rating: bool
    """True if its scores are ratings; otherwise they only order the items."""


def _sampled_softmax(
    scores: jax.Array, labels: jax.Array, *, where: jax.Array | None = None
) -> jax.Array:
    """Softmax over a sample, by labels of `weighted_candidate_tasks`."""
    draws = jnp.where(labels < 0, -labels, 1)
    return losses.sampled_softmax_cross_entropy(
        scores, jnp.maximum(labels, 0), draws=draws, where=where
    )


# The support's error is summed, as a likelihood is: ten ratings move a user further than one.
objectives: dict[str, Objective] = {
    "rating": Objective(losses.squared_error, losses.total_squared_error, rating_tasks, True),
    "ranking": Objective(
        losses.softmax_cross_entropy, losses.total_squared_error, ranking_tasks, False
    ),
    "ndcg": Objective(losses.approximate_ndcg, losses.total_squared_error, ranking_tasks, False),
    "sampled_ranking": Objective(
        _sampled_softmax, losses.total_squared_error, weighted_candidate_tasks, False
    ),
    "bpr": Objective(losses.bpr, losses.total_squared_error, candidate_tasks, False),
}
"""By the names of `Settings.objective`."""


def outer_optimizer(settings: Settings) -> optax.GradientTransformation:
    """Builds the optimizer of the meta-parameters: AdamW, clipped, warm-up and cosine decay."""
    updates = settings.updates
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, settings.rate, min(50, updates // 10), updates
    )
    return optax.chain(
        optax.clip_by_global_norm(settings.clip),
        optax.adamw(schedule, weight_decay=settings.weight_decay),
    )


def step_arguments(settings: Settings) -> dict[str, Any]:
    """Returns the arguments that learners with inner steps share, from the settings."""
    objective = objectives[settings.objective]
    return {
        "loss": objective.loss,
        "inner": optax.sgd(settings.options.inner_rate),
        "outer": outer_optimizer(settings),
        "steps": settings.options.steps,
        "inner_loss": objective.inner_loss,
        "microbatch": settings.microbatch,
    }


def by_gradient_steps(
    learner: Callable[..., MetaLearner], *, learned_rate: bool = False, **more: Any
) -> Callable[[Settings, Model], MetaLearner]:
    """Returns `Method.learner` of a learner that takes inner steps, such as `learners.maml`.

    Args:
        learner: `learner(model, loss, *, inner, outer, steps, adapts, inner_loss, microbatch)`.
        learned_rate: True if the learner takes `rate`, the first of its learned rates, and not
            `inner`.
        **more: Further arguments of the learner.
    """

    def build(settings: Settings, network: Model) -> MetaLearner:
        arguments = step_arguments(settings) | more
        if learned_rate:
            del arguments["inner"]
            arguments["rate"] = settings.options.inner_rate
        return learner(network, adapts=matching(*adapted_parameters(settings)), **arguments)

    return build


def by_one_pass(
    learner: Callable[..., MetaLearner],
    *fixed: str,
    options: Callable[[Settings], Mapping[str, Any]] = lambda settings: {},
) -> Callable[[Settings, Any], MetaLearner]:
    """Builds `Method.learner` from a learner without inner steps.

    Args:
        learner: `learner(model, loss, *, outer, microbatch, **options)`.
        *fixed: Names of closed-form parameters that are not trained, as in `learners.fixed`.
        options: Further arguments of the learner, from the settings.

    Returns:
        The `learner` of a `Method`.
    """

    def build(settings: Settings, network: Any) -> MetaLearner:
        outer = outer_optimizer(settings)
        return learner(
            network,
            objectives[settings.objective].loss,
            outer=learners.fixed(outer, *fixed) if fixed else outer,
            microbatch=settings.microbatch,
            **options(settings),
        )

    return build


def adapted_parameters(settings: Settings) -> tuple[str, ...]:
    """Returns the patterns of the network's parameters that adapt to a user."""
    return settings.options.adapts or (("direct/*",) if settings.options.rank else ("predictor/*",))

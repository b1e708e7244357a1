"""Shared parts of methods: objectives, the outer optimizer, builders of learners."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from metajax import learners, losses
from metajax.adaptation import matching
from metajax.baselines.factors import Factors
from metajax.data.dataset import Shapes
from metajax.methods.sampling import Sampler, ranking_tasks, rating_tasks
from metajax.methods.settings import Settings
from metajax.types import MetaLearner, Model

__all__ = [
    "Objective",
    "adapted_parameters",
    "by_gradient_steps",
    "by_one_pass",
    "identities_of",
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


# The support's error is summed, as a likelihood is: ten ratings move a user further than one.
objectives: dict[str, Objective] = {
    "rating": Objective(losses.squared_error, losses.total_squared_error, rating_tasks, True),
    "ranking": Objective(
        losses.softmax_cross_entropy, losses.total_squared_error, ranking_tasks, False
    ),
    "ndcg": Objective(losses.approximate_ndcg, losses.total_squared_error, ranking_tasks, False),
}
"""By the names of `Settings.objective`."""


def outer_optimizer(settings: Settings) -> optax.GradientTransformation:
    """Builds the optimizer of the meta-parameters: AdamW, clipped, warm-up and cosine decay."""
    # Training makes whole dispatches.
    updates = -(-settings.updates // settings.per_dispatch) * settings.per_dispatch
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
    method: Callable[..., MetaLearner], *fixed: str, **options: Any
) -> Callable[[Settings, Any], MetaLearner]:
    """Returns `Method.learner` of a learner without inner steps, such as `learners.prototypical`.

    Args:
        method: `method(model, loss, *, outer, microbatch, **options)`.
        *fixed: Parameters of closed forms, as in `learners.fixed`.
        **options: Of the method.

    Returns:
        The `learner` of a `Method`.
    """

    def learner(settings: Settings, network: Any) -> MetaLearner:
        outer = outer_optimizer(settings)
        return method(
            network,
            objectives[settings.objective].loss,
            outer=learners.fixed(outer, *fixed) if fixed else outer,
            microbatch=settings.microbatch,
            **options,
        )

    return learner


def adapted_parameters(settings: Settings) -> tuple[str, ...]:
    """Returns the patterns of the network's parameters that adapt to a user."""
    return settings.options.adapts or (("direct/*",) if settings.options.rank else ("predictor/*",))


def identities_of(factors: Factors) -> tuple[np.ndarray, np.ndarray]:
    """Turns factors into identities `[I, d + 1]` and biases `[I]` of a network.

    With the prior N(m, L L') of a user's latents, the score mean + b + [1, v] . w is
    (mean + b + [1, v] . m) + ([1, v] L) . z with z standard normal. In these coordinates a user
    starts at z = 0 and gradient steps from there shrink towards the prior in every direction
    alike, as the posterior mean does.
    """
    ones = np.ones((len(factors.item_bias), 1), np.float32)
    design = np.concatenate([ones, factors.item_factors], axis=1)  # [I, d + 1]
    root = np.linalg.cholesky(factors.prior_covariance)
    bias = factors.mean + factors.item_bias + design @ factors.prior_mean
    return design @ root, np.asarray(bias)

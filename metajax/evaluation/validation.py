"""Training on a fold's training users while looking at its validation users."""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from metajax.data.cold_users import padded
from metajax.data.dataset import shapes_of
from metajax.evaluation.evaluate import evaluate
from metajax.evaluation.guards import ConstantPredictionsError, NonFinitePredictionsError
from metajax.evaluation.protocols import Split
from metajax.evaluation.statistics import summarise
from metajax.methods.assembly import judged_adaptation_of, learner_of, predicts_ratings, sampler_of
from metajax.methods.settings import Settings
from metajax.training import Progress, Row, train
from metajax.types import Adaptation, Params, Task

__all__ = ["losses_of", "refit_on", "train_on", "validation_of"]

# Enough to stop a training by, and quickly answered.
_USERS, _QUERY = 128, 100


def train_on(
    split: Split, settings: Settings, progress: Progress
) -> Iterator[tuple[Progress, Row]]:
    """Trains the learner of the settings on a fold, validating on its validation users.

    Args:
        split: The fold.
        settings: What to train, and how.
        progress: Where to start: `assembly.first_progress`, or a checkpoint.

    Yields:
        As `training.train`.

    Raises:
        DivergedError: As `training.train`.
    """
    shapes = shapes_of(split.training)
    sampler = sampler_of(settings, shapes)
    adaptation, rating = judged_adaptation_of(settings, shapes), predicts_ratings(settings)
    return train(
        learner_of(settings, shapes),
        sampler.sample,
        sampler.table(split.training, seed=settings.seed),
        progress,
        validate=validation_of(split, adaptation, rating=rating),
        updates=settings.updates,
        seed=settings.seed,
        per_dispatch=settings.per_dispatch,
        validate_every=settings.validate_every,
        patience=settings.patience,
        limit=_limit(split) if rating else float("inf"),
    )


def refit_on(split: Split, settings: Settings, progress: Progress, updates: int) -> Params:
    """Trains again on all that is known, validation users included, without looking at anything.

    Args:
        split: The fold.
        settings: What to train, and how.
        progress: Where to start: `assembly.first_progress` of `split.final`.
        updates: After how many updates the validation users were served best.

    Returns:
        The parameters after as many updates.

    Raises:
        DivergedError: As `training.train`.
    """
    shapes = shapes_of(split.final)
    sampler = sampler_of(settings, shapes)
    *_, (last, _) = train(
        learner_of(settings, shapes),
        sampler.sample,
        sampler.table(split.final, seed=settings.seed),
        progress,
        validate=None,
        updates=updates,
        seed=settings.seed,
        per_dispatch=settings.per_dispatch,
        validate_every=settings.validate_every,
    )
    return last.best


def validation_of(
    split: Split, adaptation: Adaptation, *, rating: bool = True
) -> Callable[[Params], float]:
    """Returns how well parameters serve the validation users, cheaply enough to ask often.

    Args:
        split: The fold.
        adaptation: How a learner adapts and predicts.
        rating: Whether its scores are ratings.

    Returns:
        `validate(params)`, lower is better: the mean over panels of `losses_of`.
    """
    losses = losses_of(split, adaptation, rating=rating)
    return lambda params: float(np.mean(list(losses(params).values())))


def losses_of(
    split: Split, adaptation: Adaptation, *, rating: bool = True
) -> Callable[[Params], dict[str, float]]:
    """Returns how well parameters serve the validation users, panel by panel.

    Args:
        split: The fold.
        adaptation: How a learner adapts and predicts.
        rating: Whether its scores are ratings.

    Returns:
        `losses(params)`, by panel, lower is better, averaged over support sizes. Of ratings it is
        the RMSE of at most 128 users and 100 interactions of each, of an order of the items
        1 - NDCG@10.
    """
    return _rating_losses(split, adaptation) if rating else _ranking_losses(split, adaptation)


def _rating_losses(split: Split, adaptation: Adaptation) -> Callable[[Params], dict[str, float]]:
    low, high = split.training.scale or (-np.inf, np.inf)
    rmse = partial(_rmse, adaptation)
    batches = {
        panel: (padded(tasks, split.training, query=_QUERY, most=_USERS), tasks.given)
        for panel, tasks in split.validation.items()
    }

    def losses(params: Params) -> dict[str, float]:
        return {
            panel: float(
                np.mean([rmse(params, tasks, given + k, low, high) for k in split.ks(panel)])
            )
            for panel, (tasks, given) in batches.items()
        }

    return losses


@partial(jax.jit, static_argnames="adaptation")
def _rmse(
    adaptation: Adaptation, params: Params, tasks: Task, k: jax.Array, low: float, high: float
) -> jax.Array:
    def error(task: Task) -> jax.Array:
        seen = task.support.mask & (jnp.arange(task.support.mask.shape[0]) < k)
        adapted = adaptation.adapt(params, task.support._replace(mask=seen))
        scores = adaptation.predict(params, adapted, task.query.inputs)
        error = jnp.clip(scores, low, high) - task.query.labels
        return jnp.sum(jnp.square(error), where=task.query.mask)

    return jnp.sqrt(jnp.sum(jax.vmap(error)(tasks)) / jnp.sum(tasks.query.mask))


def _ranking_losses(split: Split, adaptation: Adaptation) -> Callable[[Params], dict[str, float]]:
    training = split.training

    def loss(params: Params, panel: str) -> float:
        try:
            judged = evaluate(
                adaptation,
                params,
                split.validation[panel],
                training.user_features,
                training.item_features,
                scale=training.scale,
                ks=[k for k in split.ks(panel) if k in (0, 1, 5)],
                rating=False,
            )
        except ConstantPredictionsError:
            return 1.0
        except NonFinitePredictionsError:
            return float("nan")
        # Where nobody has anything relevant there is nothing to choose by.
        return 1 - float(np.mean(summarise(judged).get("ndcg@10", 0.0)))

    return lambda params: {panel: loss(params, panel) for panel in split.validation}


def _limit(split: Split) -> float:
    """A mean squared error that no usable model has: off by ten times the scale."""
    low, high = split.training.scale or (-np.inf, np.inf)
    return 100.0 * max(high - low, 1.0) ** 2

"""Training on a fold's training users while looking at its validation users."""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from metajax.assembly import adaptation_of, learner_of, predicts_ratings, sampler_of
from metajax.base import Adaptation, Params, Task
from metajax.data.cold_users import ColdUsers, padded
from metajax.data.dataset import shapes_of
from metajax.data.sampler import task_table
from metajax.evaluation import evaluate
from metajax.guards import ConstantPredictionsError, NonFinitePredictionsError
from metajax.settings import Settings
from metajax.statistics import summarise
from metajax.training import Progress, Row, train

__all__ = ["KS", "train_on", "validation_of"]

KS = (0, 1, 3, 5, 10)


def train_on(
    users: ColdUsers, settings: Settings, progress: Progress
) -> Iterator[tuple[Progress, Row]]:
    """Trains the learner of the settings on a fold, validating on its validation users.

    Args:
        users: The fold.
        settings: What to train, and how.
        progress: Where to start: `assembly.first_progress`, or a checkpoint.

    Yields:
        As `training.train`.

    Raises:
        DivergedError: As `training.train`.
    """
    shapes = shapes_of(users.training)
    adaptation, rating = adaptation_of(settings, shapes), predicts_ratings(settings)
    return train(
        learner_of(settings, shapes),
        sampler_of(settings),
        task_table(users.training, seed=settings.seed),
        progress,
        validate=validation_of(users, adaptation, rating=rating),
        updates=settings.updates,
        seed=settings.seed,
        per_dispatch=settings.per_dispatch,
        validate_every=settings.validate_every,
        patience=settings.patience,
        limit=_limit(users) if rating else float("inf"),
    )


def validation_of(
    users: ColdUsers, adaptation: Adaptation, *, rating: bool = True
) -> Callable[[Params], float]:
    """Returns how well parameters serve the validation users, cheaply enough to ask often.

    Args:
        users: The fold.
        adaptation: How a learner adapts and predicts.
        rating: Whether its scores are ratings.

    Returns:
        `validate(params)`, lower is better, of both orders together and averaged over support
        sizes. Of ratings it is the RMSE of at most 100 interactions a user, of an order of the
        items 1 - NDCG@10.
    """
    return _rating_loss(users, adaptation) if rating else _ranking_loss(users, adaptation)


def _rating_loss(users: ColdUsers, adaptation: Adaptation) -> Callable[[Params], float]:
    parts = [padded(tasks, users.training, query=100) for tasks in users.validation.values()]
    tasks = jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate(leaves)), *parts)
    low, high = users.training.scale or (-np.inf, np.inf)
    rmse = partial(_rmse, adaptation)
    return lambda params: float(np.mean([rmse(params, tasks, k, low, high) for k in KS]))


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


def _ranking_loss(users: ColdUsers, adaptation: Adaptation) -> Callable[[Params], float]:
    training = users.training
    judge = partial(
        evaluate,
        user_features=training.user_features,
        item_features=training.item_features,
        scale=training.scale,
        ks=(0, 1, 5),
        rating=False,
    )

    def loss(params: Params) -> float:
        try:
            found = [summarise(judge(adaptation, params, t)) for t in users.validation.values()]
        except ConstantPredictionsError:
            return 1.0
        except NonFinitePredictionsError:
            return float("nan")
        return 1 - float(np.mean([figures["ndcg@10"] for figures in found]))

    return loss


def _limit(users: ColdUsers) -> float:
    """A mean squared error that no usable model has: off by ten times the scale."""
    low, high = users.training.scale or (-np.inf, np.inf)
    return 100.0 * max(high - low, 1.0) ** 2

"""What can be judged: simple baselines, tuned and refitted, and trained learners."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from metajax.assembly import adaptation_of, first_progress, predicts_ratings
from metajax.base import Adaptation, Params
from metajax.baselines import Baseline, tune
from metajax.data.cold_users import ColdUsers
from metajax.data.dataset import TrainingSet, shapes_of
from metajax.data.splits import ColdTasks, Order
from metajax.evaluation import Evaluation, evaluate
from metajax.guards import ConstantPredictionsError
from metajax.harness.validation import KS, train_on, validation_of
from metajax.recipes import recipe_of
from metajax.settings import Settings
from metajax.statistics import summarise

__all__ = ["Method", "judge", "learned", "tuned", "two_towers_of"]


class Method(NamedTuple):
    """A method that is ready to be judged."""

    name: str
    """What tables call it."""
    kind: Literal["baseline", "learned"]
    """Whether it is one of those to beat."""
    adaptation: Adaptation
    """How it adapts and predicts."""
    params: Params
    """What it learned."""
    rating: bool
    """Whether its scores are ratings."""
    ranking: bool
    """Whether its scores order the items."""
    settings: Mapping[str, Any]
    """What was chosen on the validation users."""


def tuned(baseline: Baseline, users: ColdUsers) -> dict[Order, Method]:
    """Chooses a simple baseline's settings on the validation users and refits it with them.

    Args:
        baseline: Which.
        users: The fold.

    Returns:
        By order of the supports, the method fitted to training and validation users: what is
        best at random is not what is best first in time.
    """
    adaptation = Adaptation(baseline.adapt, baseline.predict, baseline.predict_variance)
    rating = baseline.predicts == "rating"
    metric, sign = ("rmse", 1) if rating else ("ndcg@10", -1)

    def method(params: Params, settings: Mapping[str, Any]) -> Method:
        return Method(baseline.name, "baseline", adaptation, params, rating, not rating, settings)

    def score(tasks: ColdTasks, baseline: Baseline, params: Params) -> float:
        del baseline
        try:
            figures = summarise(_evaluate(method(params, {}), users, tasks))
        except ConstantPredictionsError:
            return np.inf
        return sign * float(np.mean(figures[metric])) if metric in figures else np.inf

    # A fit depends on the settings alone, so both orders share it.
    once = baseline._replace(fit=_remembered(baseline.fit, users.training))
    refit = _remembered(baseline.fit, users.final)
    methods: dict[Order, Method] = {}
    for order, tasks in users.validation.items():
        settings = baseline.grid[0]
        if len(baseline.grid) > 1:
            settings, _ = tune(once, users.training, partial(score, tasks))
        methods[order] = method(refit(users.final, **settings), settings)
    return methods


def _remembered(fit: Callable[..., Params], only: TrainingSet) -> Callable[..., Params]:
    """Fits each settings once."""
    found: dict[tuple[tuple[str, Any], ...], Params] = {}

    def fitted(training: TrainingSet, **settings: Any) -> Params:
        del training
        key = tuple(sorted(settings.items()))
        if key not in found:
            found[key] = fit(only, **settings)
        return found[key]

    return fitted


def two_towers_of(settings: Settings, users: ColdUsers) -> list[Method]:
    """Trains the learner's network without meta-learning; serves it zero-shot and fine-tuned.

    Args:
        settings: Those of the learner; all but the way of training and the inner rate are kept.
        users: The fold.

    Returns:
        The two methods. The inner rate of the second is chosen on the validation users.
    """
    supervised = replace(settings, learner="two_tower")
    *_, (last, _) = train_on(users, supervised, first_progress(supervised, users.training))
    params = last.best
    shapes = shapes_of(users.training)
    losses = {}
    for changes in recipe_of("two_tower_fine_tuned").grid:
        candidate = replace(settings, learner="two_tower_fine_tuned", **changes)
        rate = candidate.inner_rate
        adaptation = adaptation_of(candidate, shapes)
        losses[rate] = validation_of(users, adaptation)(params), adaptation
    rate = min(losses, key=lambda rate: losses[rate][0])
    return [
        Method("two_tower", "baseline", adaptation_of(supervised, shapes), params, True, True, {}),
        Method(
            "two_tower_fine_tuned",
            "baseline",
            losses[rate][1],
            params,
            True,
            True,
            {"inner_rate": rate},
        ),
    ]


def judge(method: Method, users: ColdUsers, order: Order) -> Evaluation:
    """Judges a method on the test users.

    Args:
        method: Tuned and fitted.
        users: The fold.
        order: Of the supports.

    Returns:
        The measurements.

    Raises:
        ValueError: If its predictions cannot be judged; see `evaluation.evaluate`.
    """
    return _evaluate(method, users, users.test[order])


def learned(settings: Settings, users: ColdUsers, params: Params) -> Method:
    """Makes a trained learner ready to be judged.

    Args:
        settings: What it was trained by.
        users: The fold.
        params: What it learned.

    Returns:
        The method.
    """
    adaptation = adaptation_of(settings, shapes_of(users.training))
    recipe, rating = recipe_of(settings.learner), predicts_ratings(settings)
    return Method(recipe.name, "learned", adaptation, params, rating, True, {})


def _evaluate(method: Method, users: ColdUsers, tasks: ColdTasks) -> Evaluation:
    return evaluate(
        method.adaptation,
        method.params,
        tasks,
        users.training.user_features,
        users.training.item_features,
        scale=users.training.scale,
        method=method.name,
        ks=KS,
        rating=method.rating,
        ranking=method.ranking,
        # The one method that is meant to say the same of everything.
        allow_constant=method.name == "global_mean",
    )

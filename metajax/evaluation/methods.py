"""What can be judged: simple baselines and learners, tuned on validation users and refitted."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from metajax.baselines import Baseline, tune
from metajax.data.dataset import TrainingSet, shapes_of
from metajax.evaluation.evaluate import Evaluation, evaluate
from metajax.evaluation.guards import ConstantPredictionsError, NonFinitePredictionsError
from metajax.evaluation.protocols import Split
from metajax.evaluation.statistics import summarise
from metajax.evaluation.validation import losses_of, refit_on, train_on
from metajax.methods import Recipe, recipe_of
from metajax.methods.assembly import first_progress, judged_adaptation_of, predicts_ratings
from metajax.methods.settings import Settings
from metajax.training import DivergedError
from metajax.types import Adaptation, Params

__all__ = ["Method", "Trained", "judge", "learned", "trained", "tuned"]


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


class Trained(NamedTuple):
    """What a training came to."""

    params: Params
    """Those that validated best."""
    updates: int
    """How many updates that took."""


def tuned(baseline: Baseline, split: Split, *, trials: int | None = None) -> dict[str, Method]:
    """Chooses a simple baseline's settings on the validation users and refits it with them.

    Args:
        baseline: Which.
        split: The fold.
        trials: How many of its settings to try, in the order of the grid; None means all.

    Returns:
        By panel, the method fitted to training and validation users: what is best at
        random is not what is best first in time.
    """
    adaptation = Adaptation(baseline.adapt, baseline.predict, baseline.predict_variance)
    rating = baseline.predicts == "rating"

    def method(params: Params, settings: Mapping[str, Any]) -> Method:
        return Method(baseline.name, "baseline", adaptation, params, rating, not rating, settings)

    def score(panel: str, baseline: Baseline, params: Params) -> float:
        del baseline
        return _validated(method(params, {}), split, panel)

    # A fit depends on the settings alone, so all panels share it.
    grid = baseline.grid[:trials]
    once = baseline._replace(fit=_remembered(baseline.fit, split.training), grid=grid)
    refit = _remembered(baseline.fit, split.final)
    methods: dict[str, Method] = {}
    for panel in split.test:
        settings = grid[0]
        if len(grid) > 1:
            settings, _ = tune(once, split.training, partial(score, panel))
        methods[panel] = method(refit(split.final, **settings), settings)
    return methods


def trained(
    recipe: Recipe,
    split: Split,
    settings: Settings,
    *,
    trials: int | None = None,
    refit: bool = True,
    shared: dict[Any, Trained] | None = None,
) -> dict[str, Method]:
    """Trains a learner with each of its settings and chooses among them on the validation users.

    Args:
        recipe: Which.
        split: The fold.
        settings: Its settings before the changes of its grid; they name the recipe.
        trials: How many of its settings to try, in the order of the grid; None means all.
        refit: Whether to train what was chosen again, with the validation users, for as many
            updates as validated best: what simple baselines are granted.
        shared: Trainings of this fold, which another method may have made; added to.

    Returns:
        By panel, the method.

    Raises:
        DivergedError: If every setting diverged, or what was chosen did with more users.
    """
    shared = {} if shared is None else shared
    diverged: DivergedError | None = None
    tried: list[tuple[Mapping[str, Any], Settings, Trained]] = []
    for changes in recipe.grid[:trials]:
        candidate = replace(settings, **changes)
        try:
            tried.append((changes, candidate, _train(recipe, split, candidate, settings, shared)))
        except DivergedError as error:
            diverged = error
    if diverged is not None and not tried:
        raise diverged
    found = [
        learned(candidate, split, fit.params)._replace(settings=changes, kind=recipe.kind)
        for changes, candidate, fit in tried
    ]
    losses = [dict.fromkeys(split.test, 0.0)]
    if len(found) > 1:
        losses = [losses_of(split, m.adaptation, rating=m.rating)(m.params) for m in found]
    methods: dict[str, Method] = {}
    for panel in split.test:
        best = int(np.argmin(np.nan_to_num([loss[panel] for loss in losses], nan=np.inf)))
        params = found[best].params
        if refit:
            _, candidate, fit = tried[best]
            base = _training_settings(recipe, candidate, settings)
            key = ("refit", base, fit.updates)
            if key not in shared:
                progress = first_progress(base, split.final)
                params = refit_on(split, base, progress, fit.updates)
                shared[key] = Trained(params, fit.updates)
            params = shared[key].params
        methods[panel] = found[best]._replace(params=params)
    return methods


def learned(settings: Settings, split: Split, params: Params) -> Method:
    """Makes a trained learner ready to be judged.

    Args:
        settings: What it was trained by.
        split: The fold.
        params: What it learned.

    Returns:
        The method.
    """
    adaptation = judged_adaptation_of(settings, shapes_of(split.training))
    recipe, rating = recipe_of(settings.learner), predicts_ratings(settings)
    return Method(recipe.name, "learned", adaptation, params, rating, True, {})


def judge(method: Method, split: Split, panel: str) -> Evaluation:
    """Judges a method on the test users.

    Args:
        method: Tuned and fitted.
        split: The fold.
        panel: Which of the test tasks.

    Returns:
        The measurements.

    Raises:
        ValueError: If its predictions cannot be judged; see `evaluation.evaluate`.
    """
    return _evaluate(method, split, panel, test=True)


def _training_settings(recipe: Recipe, candidate: Settings, settings: Settings) -> Settings:
    """What is tuned acts after training, where a recipe shares that of another."""
    return replace(settings, learner=recipe.trained_as) if recipe.trained_as else candidate


def _train(
    recipe: Recipe,
    split: Split,
    candidate: Settings,
    settings: Settings,
    shared: dict[Any, Trained],
) -> Trained:
    base = _training_settings(recipe, candidate, settings)
    if base not in shared:
        *_, (last, _) = train_on(split, base, first_progress(base, split.training))
        shared[base] = Trained(last.best, int(last.best_step))
    return shared[base]


def _validated(method: Method, split: Split, panel: str) -> float:
    """How well a baseline serves the validation users, lower is better."""
    try:
        figures = summarise(_evaluate(method, split, panel, test=False))
    except (ConstantPredictionsError, NonFinitePredictionsError):
        return np.inf
    metric, sign = ("rmse", 1) if method.rating else ("ndcg@10", -1)
    return sign * float(np.mean(figures[metric])) if metric in figures else np.inf


def _may_be_constant(method: Method, panel: str) -> bool:
    """Tells who may say the same of everything: who means to, and who knows nothing of cold items.

    Of a learner it is a defect all the same: it sees attributes.
    """
    knows_nothing = method.kind == "baseline" and panel.endswith("cold_item")
    return method.name == "global_mean" or knows_nothing


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


def _evaluate(method: Method, split: Split, panel: str, *, test: bool) -> Evaluation:
    training = split.training
    return evaluate(
        method.adaptation,
        method.params,
        (split.test if test else split.validation)[panel],
        training.user_features,
        training.item_features,
        scale=training.scale,
        method=method.name,
        ks=split.ks(panel),
        rating=method.rating,
        ranking=method.ranking and split.ranked,
        allow_constant=_may_be_constant(method, panel),
    )

"""Tuning, on validation users or by cross-fitting, and fitting: closed and trained methods."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.baselines import Baseline
from metajax.baselines.preferences import first_equal
from metajax.data.cold_users import inner_folds, padded
from metajax.data.dataset import TrainingSet, shapes_of
from metajax.data.labels import Labels
from metajax.data.memory import check_memory
from metajax.data.splits import ColdTasks, Split
from metajax.evaluation.evaluate import (
    ConstantPredictionsError,
    Evaluation,
    NonFinitePredictionsError,
    NothingRelevantError,
    evaluate,
)
from metajax.evaluation.intervals import summarise
from metajax.evaluation.judged_users import of_users
from metajax.evaluation.metrics import Metric
from metajax.evaluation.records import Kind
from metajax.methods import Method, Settings
from metajax.registry import (
    first_progress,
    judged_adaptation_of,
    learner_of,
    predicts_ratings,
    sampler_of,
    settings_for,
    settings_like,
    with_changes,
)
from metajax.training import Dispatch, DivergedError, Progress, Row, train, train_by
from metajax.types import Adaptation, Params, Task

__all__ = [
    "FittedMethod",
    "Trained",
    "check_ranked",
    "cross_fitted",
    "fits",
    "fitted",
    "judge",
    "learned",
    "losses_of",
    "refit_on",
    "train_on",
    "trained",
    "trial_losses",
    "tuned",
    "validation_of",
]


class FittedMethod(NamedTuple):
    """A method, tuned and fitted."""

    name: str
    """Its name in tables."""
    kind: Kind
    """Baseline or learned method."""
    adaptation: Adaptation
    """Its pair of functions."""
    params: Params
    """Its fitted parameters."""
    rating: bool
    """True where its scores are ratings."""
    ranking: bool
    """True where its scores order the items."""
    settings: Mapping[str, Any]
    """The settings chosen on users held out."""


class Trained(NamedTuple):
    """The result of a training."""

    params: Params
    """Those that validated best."""
    updates: int
    """The number of updates up to them."""


def tuned(
    baseline: Baseline, split: Split, *, trials: int | None = None, one_model: bool = False
) -> dict[str, FittedMethod]:
    """Chooses a simple baseline's settings on the validation users and refits it with them.

    Args:
        baseline: The method.
        split: The fold.
        trials: The number of settings to try, in the order of the grid; None means all.
        one_model: True to choose one setting for all panels, with the lowest mean loss; by default
            each panel chooses for itself.

    Returns:
        By panel, the method fitted to training and validation users. Of settings with the same
        loss the earliest is chosen.

    Raises:
        ValueError: If the grid is empty.
    """
    return _tuned(baseline, split, [split], trials, one_model=one_model)


def cross_fitted(
    method: Baseline | Method,
    split: Split,
    *,
    folds: int = 5,
    seed: int = 0,
    settings: Settings | None = None,
    trials: int | None = None,
    one_model: bool = False,
    shared: dict[Any, Trained] | None = None,
) -> dict[str, FittedMethod]:
    """Chooses a method's settings by cross-fitting over all users but the test users.

    Training and validation users are split into parts, `data.cold_users.inner_folds`. Each setting
    is fitted without each part in turn and judged on it; the one with the lowest mean loss is
    fitted to all of them. `tuned` and `trained` choose on the validation users alone, about a
    seventh of these.

    Args:
        method: A closed form, or a method trained by updates. That also chooses the number of its
            updates: the median of those that validated best on each part.
        split: A fold of P1.
        folds: Number of parts, at least 2.
        seed: Seed of the parts.
        settings: Of a trained method, as in `trained`; None means its own.
        trials: As in `tuned`.
        one_model: As in `tuned`.
        shared: As in `trained`.

    Returns:
        By panel, the method fitted to training and validation users.

    Raises:
        ValueError: If the grid is empty, the split is none of P1, or `folds` is out of range.
        DivergedError: As `trained`.

    References:
        Stone, Cross-Validatory Choice and Assessment of Statistical Predictions, JRSS B 36, 1974,
        with users in place of observations.
    """
    parts = inner_folds(split, folds=folds, seed=seed)
    if isinstance(method, Baseline):
        return _tuned(method, split, parts, trials, one_model=one_model)
    settings = settings_for(method) if settings is None else settings
    shared = {} if shared is None else shared
    return _trained(method, split, parts, settings, trials, shared, one_model=one_model)


def _tuned(
    baseline: Baseline,
    split: Split,
    parts: Sequence[Split],
    trials: int | None,
    *,
    one_model: bool,
) -> dict[str, FittedMethod]:
    """Chooses settings by their mean loss over validation users of each part."""
    if not baseline.grid:
        raise ValueError(f"grid must hold at least one setting, got none for {baseline.name}.")
    grid = baseline.grid[:trials]
    # The earliest of equal ones stands for all: of equal losses it would be chosen.
    equal = first_equal(grid, baseline.of_grades, split.final)
    grid = [grid[at] for at in sorted(set(equal))]
    losses = [dict.fromkeys(split.test, 0.0)]
    if len(grid) > 1:
        losses = _means(
            [
                [
                    _losses(fitted(baseline, part, params, settings), part)
                    for settings, params in zip(
                        grid, fits(baseline, part.training, grid), strict=True
                    )
                ]
                for part in parts
            ]
        )
    best = _lowest(losses, one_model=one_model)
    chosen = sorted(set(best.values()))
    refit = dict(zip(chosen, fits(baseline, split.final, [grid[at] for at in chosen]), strict=True))
    return {panel: fitted(baseline, split, refit[at], grid[at]) for panel, at in best.items()}


def trial_losses(baseline: Baseline, split: Split, settings: Mapping[str, Any]) -> dict[str, float]:
    """Fits a closed form with one of its settings to the training users.

    Args:
        baseline: The method.
        split: The fold.
        settings: One of its grid.

    Returns:
        By panel its loss on the validation users, lower is better: the RMSE, in the unit of
        standardised labels, of predicted ratings, 1 - NDCG@10 of an order, and their sum of both.
        Infinite where it cannot be measured.
    """
    (params,) = fits(baseline, split.training, [settings])
    return _losses(fitted(baseline, split, params, settings), split)


def _losses(method: FittedMethod, split: Split) -> dict[str, float]:
    # A fit depends on the settings alone, so all panels share it.
    return {panel: _validated(method, split, panel) for panel in split.test}


def fitted(
    baseline: Baseline,
    split: Split,
    params: Params,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> FittedMethod:
    """Returns a closed form, fitted.

    Args:
        baseline: The method.
        split: The fold; where its log has no ratings, scores are none.
        params: Its parameters.
        settings: Those it was fitted with.

    Returns:
        The method.
    """
    return FittedMethod(
        baseline.name,
        baseline.kind,
        baseline.adaptation,
        params,
        baseline.predicts_ratings and split.training.scale is not None,
        baseline.predicts != "rating",
        settings,
    )


def trained(
    method: Method,
    split: Split,
    settings: Settings,
    *,
    trials: int | None = None,
    refit: bool = True,
    one_model: bool = False,
    shared: dict[Any, Trained] | None = None,
) -> dict[str, FittedMethod]:
    """Trains a method with each setting of its grid and chooses one on the validation users.

    Args:
        method: The method.
        split: The fold.
        settings: Its settings before the changes of its grid.
        trials: The number of settings to try, in the order of the grid; None means all.
        refit: True to train the choice again, with the validation users, for as many
            updates as validated best, as closed forms are fitted again.
        one_model: As in `tuned`.
        shared: Trainings of this fold by their settings, shared between methods; added to.

    Returns:
        By panel, the method.

    Raises:
        DivergedError: If every setting diverged, or what was chosen did with more users.
    """
    shared = {} if shared is None else shared
    return _trained(
        method, split, [split], settings, trials, shared, one_model=one_model, refit=refit
    )


def _trained(
    method: Method,
    split: Split,
    parts: Sequence[Split],
    settings: Settings,
    trials: int | None,
    shared: dict[Any, Trained],
    *,
    one_model: bool,
    refit: bool = True,
) -> dict[str, FittedMethod]:
    """Chooses settings, and the number of updates, by validation users of each part."""
    diverged: DivergedError | None = None
    tried: list[tuple[Mapping[str, Any], Settings, list[Trained]]] = []
    for changes in method.grid[:trials]:
        candidate = with_changes(settings, **changes)
        try:
            runs = [_train(method, part, candidate, settings, shared) for part in parts]
            tried.append((changes, candidate, runs))
        except DivergedError as error:
            diverged = error
    if diverged is not None and not tried:
        raise diverged

    def loss(candidate: Settings, part: Split, params: Params) -> dict[str, float]:
        found = learned(candidate, part, params, method)
        return losses_of(part, found.adaptation, rating=found.rating)(params)

    losses = [dict.fromkeys(split.test, 0.0)]
    if len(tried) > 1:
        losses = _means(
            [
                [loss(candidate, part, runs[n].params) for _, candidate, runs in tried]
                for n, part in enumerate(parts)
            ]
        )
    methods: dict[str, FittedMethod] = {}
    for panel, best in _lowest(losses, one_model=one_model).items():
        changes, candidate, runs = tried[best]
        params = runs[0].params
        if refit:
            # The middle one, the lower of two.
            updates = sorted(run.updates for run in runs)[(len(runs) - 1) // 2]
            base, trained_by = _training(method, candidate, settings)
            key = ("refit", base, updates)
            if key not in shared:
                progress = first_progress(base, split.final, trained_by)
                params = refit_on(split, base, progress, updates, trained_by)
                shared[key] = Trained(params, updates)
            params = shared[key].params
        found = learned(candidate, split, params, method)
        methods[panel] = found._replace(settings=changes, kind=method.kind)
    return methods


def _means(of_parts: Sequence[Sequence[Mapping[str, float]]]) -> list[dict[str, float]]:
    """Averages the losses of settings over parts; one that can measure no setting counts for none.

    Args:
        of_parts: Of each part, by setting, the losses by panel.
    """
    panels = list(of_parts[0][0])
    table = np.array([[list(own.values()) for own in part] for part in of_parts])  # [P, G, panels]
    table = np.where(np.isfinite(table), table, np.inf)  # A training may have ended in NaN.
    able = np.isfinite(table).any(axis=1, keepdims=True)
    means = np.where(able, table, 0).mean(axis=0)
    return [dict(zip(panels, row.tolist(), strict=True)) for row in means]


def _lowest(losses: Sequence[Mapping[str, float]], *, one_model: bool) -> dict[str, int]:
    """Returns by panel the number of the setting with the lowest loss, the earliest if several."""
    table = np.array([list(of_setting.values()) for of_setting in losses])  # [settings, panels]
    if one_model:
        table = np.broadcast_to(table.mean(axis=1, keepdims=True), table.shape)
    return dict(zip(losses[0], map(int, np.argmin(table, axis=0)), strict=True))


def learned(
    settings: Settings, split: Split, params: Params, method: Method | None = None
) -> FittedMethod:
    """Returns a trained method, fitted.

    Args:
        settings: Those of its training.
        split: The fold.
        params: Its parameters.
        method: The method, where it is none that has a name; by default that of the settings.

    Returns:
        The method.
    """
    adaptation = judged_adaptation_of(settings, shapes_of(split.training), method)
    rating = predicts_ratings(settings)
    return FittedMethod(settings.method, "learned", adaptation, params, rating, True, {})


def judge(
    method: FittedMethod, split: Split, panel: str, *, metrics: Sequence[Metric] = ()
) -> Evaluation:
    """Judges a method on the test users.

    Args:
        method: Tuned and fitted.
        split: The fold.
        panel: Panel of the test tasks.
        metrics: Metrics of one's own, as in `evaluate`.

    Returns:
        The measurements.

    Raises:
        ValueError: If its predictions cannot be judged; see `evaluation.evaluate`.
    """
    return _evaluate(method, split, split.test[panel], panel, metrics, natural=True)


def _training(method: Method, candidate: Settings, settings: Settings) -> tuple[Settings, Method]:
    """Returns how a method trains: as another where `trained_as`, whatever its grid changes."""
    if method.trained_as is None:
        return candidate, method
    return settings_like(method.trained_as, settings), method.trained_as


def _train(
    method: Method,
    split: Split,
    candidate: Settings,
    settings: Settings,
    shared: dict[Any, Trained],
) -> Trained:
    base, trained_by = _training(method, candidate, settings)
    key = base, *split.fold.validation.tolist()
    if key not in shared:
        progress = first_progress(base, split.training, trained_by)
        *_, (last, _) = train_on(split, base, progress, trained_by)
        shared[key] = Trained(last.best, int(last.best_step))
    return shared[key]


def _validated(method: FittedMethod, split: Split, panel: str) -> float:
    """Loss of a baseline on the validation users, lower is better.

    RMSE in the unit of standardised labels of what predicts ratings, 1 - NDCG@10 of what ranks, and
    their sum of what does both.
    """
    try:
        figures = summarise(_evaluate(method, split, split.validation[panel], panel))
    except (ConstantPredictionsError, NonFinitePredictionsError, NothingRelevantError):
        return np.inf
    losses = [figures["rmse"] / split.labels.unit] if method.rating else []
    if method.ranking and split.ranked:
        losses.append(1 - figures["ndcg@10"])
    return float(np.mean(np.sum(losses, axis=0))) if losses else np.inf


def _may_be_constant(method: FittedMethod, panel: str) -> bool:
    """Allows constant predictions to a global mean, and to baselines where all items are cold.

    Of a trained method that predicts ratings they are a defect: it sees attributes. Of one that
    orders items and knows them by their users alone, the order of cold ones is drawn.
    """
    able = method.kind == "baseline" or not method.rating
    return method.name == "global_mean" or (able and panel.endswith("cold_item"))


def fits(
    baseline: Baseline, training: TrainingSet, settings: Sequence[Mapping[str, Any]]
) -> Iterator[Params]:
    """Yields the parameters of a closed form for each of several settings.

    Raises:
        OutOfMemoryError: If its largest arrays would not fit.
    """
    log = training.interactions
    shapes = shapes_of(training)._replace(users=len(log.users), rows=len(log.item))
    for setting in settings:
        check_memory(
            baseline.name,
            lambda items, setting=setting: baseline.memory(shapes._replace(items=items), **setting),
            shapes.items,
        )
    if baseline.fit_many is not None:
        yield from baseline.fit_many(training, settings)
        return
    for setting in settings:
        yield baseline.fit(training, **setting)


def _evaluate(
    method: FittedMethod,
    split: Split,
    tasks: ColdTasks,
    panel: str,
    metrics: Sequence[Metric] = (),
    *,
    natural: bool = False,
) -> Evaluation:
    if split.unranked and not method.rating:
        raise NothingRelevantError(f"{method.name} ranks. {split.unranked}")
    training = split.training
    return evaluate(
        method.adaptation,
        method.params,
        tasks,
        training.user_features,
        training.item_features,
        scale=training.scale,
        labels=split.labels,
        relevant=training.threshold,
        method=method.name,
        ks=split.ks[panel],
        rating=method.rating,
        ranking=method.ranking and split.ranked,
        natural=natural,
        metrics=metrics,
        allow_constant=_may_be_constant(method, panel),
    )


# Enough for early stopping, and quickly evaluated.
_USERS, _QUERY, _RANKED_USERS = 128, 100, 256


def train_on(
    split: Split,
    settings: Settings,
    progress: Progress,
    method: Method | None = None,
    *,
    make: Dispatch | None = None,
) -> Iterator[tuple[Progress, Row]]:
    """Trains on a fold, with early stopping on its validation users.

    Args:
        split: The fold.
        settings: Those of the training.
        progress: Initial progress: `registry.first_progress`, or a checkpoint.
        method: The method, where it is none that has a name; by default that of the settings.
        make: Makes the updates, as in `training.train_by`; None makes them in this process.

    Yields:
        As `training.train`.

    Raises:
        DivergedError: As `training.train`.
    """
    shapes = shapes_of(split.training)
    sampler = sampler_of(settings, shapes, method)
    adaptation = judged_adaptation_of(settings, shapes, method)
    rating = predicts_ratings(settings)
    rules: dict[str, Any] = {
        "validate": validation_of(split, adaptation, rating=rating),
        "updates": settings.updates,
        "per_dispatch": settings.per_dispatch,
        "validate_every": settings.validate_every,
        "patience": settings.patience,
        "limit": _limit(split) if rating else float("inf"),
    }
    if make is not None:
        return train_by(make, progress, **rules)
    return train(
        learner_of(settings, shapes, method),
        sampler.sample,
        sampler.table(split.training, seed=settings.seed),
        progress,
        seed=settings.seed,
        **rules,
    )


def refit_on(
    split: Split,
    settings: Settings,
    progress: Progress,
    updates: int,
    method: Method | None = None,
) -> Params:
    """Trains again, with the validation users, for a fixed number of updates.

    Args:
        split: The fold.
        settings: Those of the training.
        progress: Initial progress: `registry.first_progress` of `split.final`.
        updates: The number of updates with the lowest validation loss.
        method: As in `train_on`.

    Returns:
        The parameters after as many updates.

    Raises:
        DivergedError: As `training.train`.
    """
    shapes = shapes_of(split.final)
    sampler = sampler_of(settings, shapes, method)
    *_, (last, _) = train(
        learner_of(settings, shapes, method),
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
    """Makes the validation loss of early stopping.

    Args:
        split: The fold.
        adaptation: The method's pair of functions.
        rating: True where its scores are ratings.

    Returns:
        `validate(params)`, lower is better: the mean over panels of `losses_of`.
    """
    losses = losses_of(split, adaptation, rating=rating)
    return lambda params: float(np.mean(list(losses(params).values())))


def losses_of(
    split: Split, adaptation: Adaptation, *, rating: bool = True
) -> Callable[[Params], dict[str, float]]:
    """Makes the validation loss of each panel.

    Args:
        split: The fold.
        adaptation: The method's pair of functions.
        rating: True where its scores are ratings.

    Returns:
        `losses(params)`, by panel, lower is better, averaged over support sizes. Of ratings it is
        the RMSE of at most 128 users and 100 interactions of each, of an order of the items
        1 - NDCG@10 of at most 256 users.

    Raises:
        NothingRelevantError: If an order is judged and nothing is relevant to a validation user.
    """
    return _rating_losses(split, adaptation) if rating else _ranking_losses(split, adaptation)


def _rating_losses(split: Split, adaptation: Adaptation) -> Callable[[Params], dict[str, float]]:
    low, high = split.training.scale or (-np.inf, np.inf)
    labels = split.labels
    # Without a transform one program serves all units.
    rmse = partial(_rmse, adaptation, labels if labels.transform != "none" else Labels())
    batches = {
        panel: (padded(tasks, split.training, query=_QUERY, most=_USERS), tasks.given)
        for panel, tasks in split.validation.items()
    }

    def losses(params: Params) -> dict[str, float]:
        return {
            panel: labels.unit
            * float(np.mean([rmse(params, tasks, given + k, low, high) for k in split.ks[panel]]))
            for panel, (tasks, given) in batches.items()
        }

    return losses


@partial(jax.jit, static_argnames=("adaptation", "labels"))
def _rmse(
    adaptation: Adaptation,
    labels: Labels,
    params: Params,
    tasks: Task,
    k: jax.Array,
    low: float,
    high: float,
) -> jax.Array:
    def error(task: Task) -> jax.Array:
        seen = task.support.mask & (jnp.arange(task.support.mask.shape[0]) < k)
        adapted = adaptation.adapt(params, task.support._replace(mask=seen))
        scores = adaptation.predict(params, adapted, task.query.inputs)
        error = labels.relative(jnp.clip(scores, low, high)) - labels.relative(task.query.labels)
        return jnp.sum(jnp.square(error), where=task.query.mask)

    return jnp.sqrt(jnp.sum(jax.vmap(error)(tasks)) / jnp.sum(tasks.query.mask))


def check_ranked(split: Split) -> None:
    """Refuses a split on which no order of items can be learned and judged.

    Raises:
        NothingRelevantError: If nothing is relevant to a test user, or to a validation user.
    """
    if split.unranked:
        raise NothingRelevantError(split.unranked)
    for tasks in split.validation.values():
        if not (tasks.query_rating >= split.training.threshold).any():
            raise NothingRelevantError(
                "nobody among the validation users has a relevant item among those asked for, so "
                "that no ranking can be chosen: give a lower threshold (--relevant), or more users."
            )


def _ranking_losses(split: Split, adaptation: Adaptation) -> Callable[[Params], dict[str, float]]:
    training = split.training
    check_ranked(split)
    validation = {
        panel: _some_users(tasks, training.threshold) for panel, tasks in split.validation.items()
    }

    def loss(params: Params, panel: str) -> float:
        try:
            judged = evaluate(
                adaptation,
                params,
                validation[panel],
                training.user_features,
                training.item_features,
                scale=training.scale,
                relevant=training.threshold,
                ks=[k for k in split.ks[panel] if k in (0, 1, 5)] or split.ks[panel],
                rating=False,
            )
        except ConstantPredictionsError:
            return 1.0
        except NonFinitePredictionsError:
            return float("nan")
        return 1 - float(np.mean(summarise(judged)["ndcg@10"]))

    return lambda params: {panel: loss(params, panel) for panel in split.validation}


def _some_users(tasks: ColdTasks, relevant: float) -> ColdTasks:
    """Returns the tasks of at most `_RANKED_USERS`, to whom something is relevant."""
    if len(tasks.user) <= _RANKED_USERS:
        return tasks
    owner = np.repeat(tasks.user, np.diff(tasks.query_offsets))
    users = np.unique(owner[tasks.query_rating >= relevant])
    return of_users(tasks, users[:: -(-len(users) // _RANKED_USERS)])


def _limit(split: Split) -> float:
    """Training loss at which training counts as diverged: an error of ten times the scale.

    Losses are of standardised labels.
    """
    low, high = split.training.scale or (-np.inf, np.inf)
    return 100.0 * max(high - low, 1.0) ** 2

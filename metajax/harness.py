"""Every method on the same cold users: tuned on validation users, judged once on test users."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.assembly import adaptation_of, first_progress, learner_of, sampler_of
from metajax.base import Adaptation, Params, Task
from metajax.baselines import Baseline, registry, tune
from metajax.comparisons import lower_is_better
from metajax.data.cold_users import ColdUsers, padded
from metajax.data.dataset import TrainingSet
from metajax.data.sampler import task_table
from metajax.data.splits import ColdTasks, Order
from metajax.evaluation import Evaluation, evaluate
from metajax.guards import ConstantPredictionsError
from metajax.settings import Settings
from metajax.statistics import metric_names, paired_difference, records, summarise
from metajax.training import Progress, Row, train

__all__ = [
    "Judged",
    "Method",
    "judge",
    "judge_all",
    "learned",
    "stages",
    "table",
    "train_on",
    "tuned",
    "two_towers_of",
    "validation_of",
]

KS = (0, 1, 3, 5, 10)


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


def validation_of(users: ColdUsers, adaptation: Adaptation) -> Callable[[Params], float]:
    """Returns how well parameters serve the validation users, cheaply enough to ask often.

    Args:
        users: The fold.
        adaptation: How a learner adapts and predicts.

    Returns:
        `validate(params)`: RMSE of both orders together, averaged over support sizes, of at most
        100 interactions a user. All support sizes run through one compiled program.
    """
    parts = [padded(tasks, users.training, query=100) for tasks in users.validation.values()]
    tasks = jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate(leaves)), *parts)
    low, high = users.training.scale or (-np.inf, np.inf)

    @jax.jit
    def rmse(params: Params, tasks: Task, k: jax.Array) -> jax.Array:
        def error(task: Task) -> jax.Array:
            seen = task.support.mask & (jnp.arange(task.support.mask.shape[0]) < k)
            adapted = adaptation.adapt(params, task.support._replace(mask=seen))
            scores = adaptation.predict(params, adapted, task.query.inputs)
            error = jnp.clip(scores, low, high) - task.query.labels
            return jnp.sum(jnp.square(error), where=task.query.mask)

        return jnp.sqrt(jnp.sum(jax.vmap(error)(tasks)) / jnp.sum(tasks.query.mask))

    return lambda params: float(np.mean([rmse(params, tasks, k) for k in KS]))


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
    items = len(users.training.item_features)
    return train(
        learner_of(settings, items),
        sampler_of(settings),
        task_table(users.training, seed=settings.seed),
        progress,
        validate=validation_of(users, adaptation_of(settings, items)),
        updates=settings.updates,
        seed=settings.seed,
        per_dispatch=settings.per_dispatch,
        validate_every=settings.validate_every,
        patience=settings.patience,
        limit=_limit(users),
    )


def _limit(users: ColdUsers) -> float:
    """A mean squared error that no usable model has: off by ten times the scale."""
    low, high = users.training.scale or (-np.inf, np.inf)
    return 100.0 * max(high - low, 1.0) ** 2


def tuned(baseline: Baseline, users: ColdUsers) -> dict[Order, Method]:
    """Chooses a simple baseline's settings on the validation users and refits it with them.

    Args:
        baseline: Which.
        users: The fold.

    Returns:
        By order of the supports, the method fitted to training and validation users: what is
        best at random is not what is best first in time.
    """
    adaptation = Adaptation(baseline.adapt, baseline.predict)
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
    supervised = replace(settings, learner="supervised")
    *_, (last, _) = train_on(users, supervised, first_progress(supervised, users.training))
    params = last.best
    items = len(users.training.item_features)
    losses = {}
    for rate in (0.01, 0.03, 0.1, 0.2):
        candidate = replace(settings, learner="maml", inner_rate=rate)
        adaptation = adaptation_of(candidate, items)
        losses[rate] = validation_of(users, adaptation)(params), adaptation
    rate = min(losses, key=lambda rate: losses[rate][0])
    return [
        Method("two_tower", "baseline", adaptation_of(supervised, items), params, True, True, {}),
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
    adaptation = adaptation_of(settings, len(users.training.item_features))
    return Method(settings.learner, "learned", adaptation, params, True, True, {})


class Judged(NamedTuple):
    """What the harness measured of one method."""

    kind: Literal["baseline", "learned"]
    """Whether it is one of those to beat."""
    by_order: Mapping[Order, Evaluation]
    """By order of the supports, the measurements."""


def judge_all(
    users: ColdUsers,
    learners: Sequence[Method],
    settings: Settings,
    *,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> tuple[list[Judged], list[str]]:
    """Judges learners beside every simple baseline, the plain two-tower network included.

    Args:
        users: The fold.
        learners: What was trained.
        settings: Of the two-tower network.
        on_stage: Called with the name of each method when its turn comes; `stages` counts them.

    Returns:
        The measurements, and a sentence for each baseline that these data leave nothing to judge
        of, such as a popularity where everything is equally popular.

    Raises:
        ValueError: If a learner's predictions cannot be judged.
    """
    found: list[Judged] = []
    left_out: list[str] = []
    for baseline in registry:
        on_stage(baseline.name)
        try:
            methods = tuned(baseline, users)
            results = {order: judge(methods[order], users, order) for order in users.test}
        except ConstantPredictionsError as error:
            left_out.append(f"Left out: {error}")
            continue
        found.append(Judged("baseline", results))
    on_stage("two_tower")
    for method in [*two_towers_of(settings, users), *learners]:
        on_stage(method.name)
        results = {order: judge(method, users, order) for order in users.test}
        found.append(Judged(method.kind, results))
    return found, left_out


def stages(learners: int) -> int:
    """Returns how often `judge_all` calls `on_stage`."""
    return len(registry) + 3 + learners


def table(
    judged: Sequence[Judged],
    *,
    protocol: str,
    seeds: Sequence[int],
) -> list[dict[str, Any]]:
    """Lists all figures, with paired differences of the learned methods to the best baseline.

    The best baseline is the best on the test users, cell by cell: the bar is as high as it can be.

    Args:
        judged: What was measured of each method; of several folds, concatenated.
        protocol: How the tasks were made, for instance "P1".
        seeds: The seeds behind them.

    Returns:
        Records as in `comparisons`.
    """
    rows = []
    for order in judged[0].by_order:
        rivals = [method.by_order[order] for method in judged if method.kind == "baseline"]
        for kind, by_order in judged:
            figures = records(by_order[order], protocol=protocol, order=order, seeds=seeds)
            if kind == "learned" and rivals:
                _add_differences(figures, by_order[order], rivals)
            rows += [{**figure, "kind": kind} for figure in figures]
    return rows


def _add_differences(
    figures: list[dict[str, Any]], evaluation: Evaluation, rivals: Sequence[Evaluation]
) -> None:
    """Adds to a method's figures how they differ from the best baseline's."""
    for metric in metric_names(evaluation):
        able = [rival for rival in rivals if metric in metric_names(rival)]
        if metric.startswith("coverage") or not able:
            continue
        sign = 1 if lower_is_better(metric) else -1
        values = np.stack([sign * summarise(rival)[metric] for rival in able])  # [methods, K]
        best = values.argmin(axis=0)
        differences = {
            m: paired_difference(evaluation, able[m], metric) for m in sorted(set(best.tolist()))
        }
        for figure in figures:
            if figure["metric"] == metric:
                at = evaluation.ks.index(figure["k"])
                difference = differences[int(best[at])]
                figure["best_baseline"] = able[best[at]].method
                figure["difference"] = float(difference.mean[at])
                figure["difference_low"] = float(difference.low[at])
                figure["difference_high"] = float(difference.high[at])


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

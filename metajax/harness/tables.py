"""Learners beside every simple baseline on one fold, and the table that follows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from metajax.baselines import registry
from metajax.comparisons import badness
from metajax.data.cold_users import ColdUsers
from metajax.data.splits import Order
from metajax.evaluation import Evaluation
from metajax.guards import ConstantPredictionsError
from metajax.harness.methods import Method, judge, tuned, two_towers_of
from metajax.settings import Settings
from metajax.statistics import metric_names, paired_difference, records, summarise

__all__ = ["Judged", "judge_all", "stages", "table"]


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
    rivals = two_towers_of(settings, users)
    names = {method.name for method in learners}
    for method in [*(rival for rival in rivals if rival.name not in names), *learners]:
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
        if metric.startswith(("coverage", "within")) or not able:
            continue
        costs = np.stack(
            [badness(metric, summarise(rival)[metric]) for rival in able]
        )  # [methods, K]
        best = costs.argmin(axis=0)
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

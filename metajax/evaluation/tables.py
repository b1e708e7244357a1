"""Learners beside every simple baseline on one fold, and the table that follows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np

from metajax import methods
from metajax.baselines import Baseline, eb_fold_in, item_mean, item_user_bias, registry
from metajax.cross_domain import of_two_domains, without_transfer
from metajax.cross_domain.users import PANEL
from metajax.evaluation.cells import Cell, Outcome
from metajax.evaluation.evaluate import ConstantPredictionsError, Evaluation, concatenate
from metajax.evaluation.intervals import metric_names, paired_differences, records, summarise
from metajax.evaluation.protocols import Split
from metajax.evaluation.records import badness, negative_transfer
from metajax.evaluation.tuning import Method, Trained, judge, trained, tuned
from metajax.methods import Recipe
from metajax.methods.settings import Settings

__all__ = [
    "Compared",
    "Judged",
    "compared",
    "judge_all",
    "stages",
    "table",
]


class Judged(NamedTuple):
    """What the harness measured of one method."""

    kind: Literal["baseline", "learned"]
    """Whether it is one of those to beat."""
    by_order: Mapping[str, Evaluation]
    """By order of the supports, or whatever else a protocol's panels are, the measurements."""


def judge_all(
    split: Split,
    learners: Sequence[Method],
    settings: Settings,
    *,
    trials: int | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> tuple[list[Judged], list[str]]:
    """Judges learners beside every simple baseline, plain training of their network included.

    Across domains the baselines are the simplest and those that tell two domains apart.

    Args:
        split: The fold.
        learners: What was trained.
        settings: Of plain training; all but the way of learning are kept.
        trials: How many settings of its grid each baseline tries; None means all.
        on_stage: Called with the name of each method when its turn comes; `stages` counts them.

    Returns:
        The measurements, and a sentence for each baseline that these data leave nothing to judge
        of, such as a popularity where everything is equally popular.

    Raises:
        ValueError: If a learner's predictions cannot be judged.
    """
    found: list[Judged] = []
    left_out: list[str] = []
    simple, plain = _rivals(split, [method.name for method in learners])
    for baseline in simple:
        on_stage(baseline.name)
        try:
            found.append(_judged(tuned(baseline, split, trials=trials), split))
        except ConstantPredictionsError as error:
            left_out.append(f"Left out: {error}")
    shared: dict[Any, Trained] = {}
    for recipe in plain:
        on_stage(recipe.name)
        chosen = replace(settings, learner=recipe.name, **recipe.settings)
        # Not refitted with the validation users: the learners of one run are not either.
        methods = trained(recipe, split, chosen, refit=False, shared=shared)
        found.append(_judged(methods, split))
    for method in learners:
        on_stage(method.name)
        found.append(_judged(dict.fromkeys(split.test, method), split))
    return found, left_out


def stages(split: Split, learners: Sequence[str]) -> int:
    """Returns how often `judge_all` calls `on_stage` for learners of these names."""
    return sum(map(len, _rivals(split, learners))) + len(learners)


def _rivals(split: Split, learners: Sequence[str]) -> tuple[Sequence[Baseline], Sequence[Recipe]]:
    """Returns closed forms, and ways of training without meta-learning that are not learners."""
    if split.training.item_domain is not None:
        return (item_mean, item_user_bias, eb_fold_in, *of_two_domains), ()
    plain = [r for r in methods.registry if r.kind == "baseline" and r.name not in learners]
    return registry, plain


def _judged(methods: Mapping[str, Method], split: Split) -> Judged:
    by_order = {panel: judge(method, split, panel) for panel, method in methods.items()}
    return Judged(next(iter(methods.values())).kind, by_order)


def table(
    judged: Sequence[Judged],
    *,
    protocol: str,
    seeds: Sequence[int],
) -> list[dict[str, Any]]:
    """Lists all figures, with paired differences of the learned methods to the best baseline.

    The best baseline is the best on the test users, cell by cell: the bar is as high as it can be.
    Of users who are known in another domain, each method is also compared with the best of those
    that do not look there, `cross_domain.without_transfer`.

    Args:
        judged: What was measured of each method; of several folds, concatenated.
        protocol: How the tasks were made, for instance "P1".
        seeds: The seeds behind them.

    Returns:
        Records as in `evaluation.records`.
    """
    rows = []
    deaf = [baseline.name for baseline in without_transfer]
    for order in judged[0].by_order:
        rivals = [method.by_order[order] for method in judged if method.kind == "baseline"]
        local = [rival for rival in rivals if order == PANEL and rival.method in deaf]
        for kind, by_order in judged:
            evaluation = by_order[order]
            figures = records(evaluation, protocol=protocol, order=order, seeds=seeds)
            if kind == "learned" and rivals:
                _add_differences(figures, evaluation, rivals, "best_baseline", "difference")
            if local and evaluation.method not in deaf:
                names = ("no_transfer", "no_transfer_difference")
                _add_differences(figures, evaluation, local, *names)
            rows += [{**figure, "kind": kind} for figure in figures]
    return rows


def _add_differences(
    figures: list[dict[str, Any]],
    evaluation: Evaluation,
    rivals: Sequence[Evaluation],
    name: str,
    difference: str,
) -> None:
    """Adds to a method's figures the best rival, as `name`, and how they differ from its."""
    bests: dict[str, np.ndarray] = {}  # [K] of the rivals, by metric
    for metric in metric_names(evaluation):
        able = [n for n, rival in enumerate(rivals) if metric in metric_names(rival)]
        if able and not metric.startswith(("coverage", "within")):
            values = [badness(metric, summarise(rivals[n])[metric]) for n in able]
            bests[metric] = np.array(able)[np.argmin(values, axis=0)]
    pairs = [(int(n), metric) for metric, best in bests.items() for n in np.unique(best)]
    found = paired_differences(evaluation, [(rivals[n], metric) for n, metric in pairs])
    differences = dict(zip(pairs, found, strict=True))
    for figure in figures:
        if figure["metric"] in bests:
            at = evaluation.ks.index(figure["k"])
            best = int(bests[figure["metric"]][at])
            paired = differences[best, figure["metric"]]
            figure[name] = rivals[best].method
            figure[difference] = float(paired.mean[at])
            figure[f"{difference}_low"] = float(paired.low[at])
            figure[f"{difference}_high"] = float(paired.high[at])


class Compared(NamedTuple):
    """What a comparison found."""

    records: list[dict[str, Any]]
    """Every figure, as in `metajax.evaluation.records`."""
    notes: list[str]
    """A sentence for each cell in which a method could not be judged, and for each method that
    another domain has misled."""


def compared(outcomes: Mapping[Cell, Outcome]) -> Compared:
    """Joins the cells of each method and lists what they found.

    Args:
        outcomes: Of every cell that was asked for.

    Returns:
        The figures of the methods that could be judged in all their cells, and notes.
    """
    notes = [
        f"Left out: {cell.method} under {cell.protocol}, fold {cell.fold}, seed {cell.seed}: "
        f"{outcome.left_out}"
        for cell, outcome in outcomes.items()
        if outcome.left_out
    ]
    records: list[dict[str, Any]] = []
    for protocol in dict.fromkeys(cell.protocol for cell in outcomes):
        of_protocol = {c: o for c, o in outcomes.items() if c.protocol == protocol}
        seeds = sorted({cell.seed for cell in of_protocol})
        by_method: dict[str, list[Outcome]] = {}
        for cell, outcome in of_protocol.items():
            by_method.setdefault(cell.method, []).append(outcome)
        # A method that failed somewhere has not been asked what the others were.
        whole = {
            name: all_ for name, all_ in by_method.items() if not any(o.left_out for o in all_)
        }
        judged = [_joined(found) for found in whole.values()]
        if judged:
            records += table(judged, protocol=protocol, seeds=seeds)
            for name, found in whole.items():
                records += _costs(name, found, protocol, seeds)
    return Compared(records, notes + negative_transfer(records))


def _joined(found: Sequence[Outcome]) -> Judged:
    panels = found[0].by_order
    return Judged(
        found[0].kind,
        {panel: concatenate([outcome.by_order[panel] for outcome in found]) for panel in panels},
    )


def _costs(
    name: str, found: Sequence[Outcome], protocol: str, seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """Lists what serving a user costs, the median over cells."""
    order, evaluation = next(iter(found[0].by_order.items()))
    costs = [outcome.cost for outcome in found if outcome.cost is not None]
    if not costs:
        return []
    figures = {
        "adapt_us": float(np.median([cost.adapt_us for cost in costs])),
        "state_bytes": float(np.median([cost.state_bytes for cost in costs])),
    }
    return [
        {
            "method": name,
            "kind": found[0].kind,
            "protocol": protocol,
            "order": order,
            "k": evaluation.ks[-1],
            "metric": metric,
            "mean": value,
            "low": None,
            "high": None,
            "seeds": list(seeds),
        }
        for metric, value in figures.items()
    ]

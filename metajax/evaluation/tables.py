"""Evaluation of learned methods and baselines on the same folds, and their records."""

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from metajax.baselines import Baseline, eb_fold_in, item_mean, item_user_bias
from metajax.characters import visible
from metajax.cross_domain.users import PANEL
from metajax.data.memory import OutOfMemoryError
from metajax.data.splits import Split
from metajax.evaluation.advice import advice
from metajax.evaluation.cells import Cell, Outcome, cell_file, read_cell, write_cell
from metajax.evaluation.cost import Cost
from metajax.evaluation.evaluate import (
    ConstantPredictionsError,
    Evaluation,
    NonFinitePredictionsError,
    NothingRelevantError,
    PerUser,
    concatenate,
    natural_reading,
)
from metajax.evaluation.intervals import metrics_of, paired_differences, records_of, summarise
from metajax.evaluation.memory import naming_memory_errors
from metajax.evaluation.metrics import badness
from metajax.evaluation.records import (
    Kind,
    Record,
    negative_transfer,
    to_csv,
    to_html,
    to_json,
    to_polars,
)
from metajax.evaluation.tuning import FittedMethod, Trained, judge, trained, tuned
from metajax.fields import check_name
from metajax.methods import Method, Settings
from metajax.registry import all_baselines, all_methods, ordering, settings_like, too_large
from metajax.training import DivergedError

if TYPE_CHECKING:
    import polars

__all__ = [
    "Compared",
    "Judged",
    "compared",
    "judge_all",
    "omitting_errors",
    "stages",
    "table",
]


class Judged(NamedTuple):
    """The measurements of one method."""

    kind: Kind
    """Baseline or learned method."""
    by_order: Mapping[str, Evaluation]
    """Measurements by order of the supports, or by another panel of the protocol."""


def judge_all(
    split: Split,
    learned: Sequence[FittedMethod],
    settings: Settings,
    *,
    baselines: Sequence[str] | None = None,
    trials: int | None = None,
    folder: Path | None = None,
    conditions: Mapping[str, Any] = MappingProxyType({}),
    on_stage: Callable[[str], None] = lambda stage: None,
) -> tuple[list[Judged], list[str]]:
    """Judges methods and every other baseline, conventional training of the network included.

    Across domains the baselines are those of two domains and, of one, the simplest that predict
    ratings, or all that order the items of a log without ratings.

    Args:
        split: The fold.
        learned: The methods to compare with the baselines, fitted; also closed forms.
        settings: Of plain training; all but the way of learning are kept.
        baselines: Names of the baselines; None means all.
        trials: Number of settings of its grid that each baseline tries; None means all.
        folder: Folder of finished methods, which are not judged again; None keeps none.
        conditions: Besides the arguments, all that the figures depend on, as JSON would hold it.
        on_stage: Called with the name of each method when its turn comes; `stages` counts them.

    Returns:
        The measurements, and sentences about what was left out: methods that need more memory
        than there is; baselines with constant predictions, such as popularity where all items are
        equally popular, or which diverge; rankings where none can be judged.

    Raises:
        ValueError: If a method's predictions cannot be judged, or there is no such baseline.
        OSError: If the folder cannot be written.
    """
    found: list[Judged] = []
    left_out = [f"Rankings are not judged. {split.unranked}"] if split.unranked else []
    shared: dict[Any, Trained] = {}
    compared, sentences = _baselines(split, [method.name for method in learned], baselines)
    left_out += sentences

    def fitted(method: Baseline | Method | FittedMethod) -> Mapping[str, FittedMethod]:
        if isinstance(method, FittedMethod):
            return dict.fromkeys(split.test, method)
        if isinstance(method, Baseline):
            return tuned(method, split, trials=trials)
        chosen = settings_like(method, settings)
        if split.training.scale is None:
            chosen = ordering(chosen, len(split.training.item_features))
        # Not refitted with the validation users: the trained methods of one run are not either.
        return trained(method, split, chosen, refit=False, shared=shared)

    for method in (*compared, *learned):
        on_stage(method.name)
        if isinstance(method, Baseline) and split.unranked and not method.predicts_ratings:
            continue
        file = None
        if folder is not None:
            grid = () if isinstance(method, FittedMethod) else method.grid[:trials]
            facts = {**conditions, "grid": [dict(changes) for changes in grid]}
            cell = Cell(method.name, "run", settings.fold, settings.seed)
            file = cell_file(folder, cell, facts)
        kept = None if file is None else read_cell(file)
        if kept is not None:
            found.append(Judged(kept.kind, kept.by_order))
            continue
        fails = OutOfMemoryError if isinstance(method, FittedMethod) else omitting_errors
        try:
            with naming_memory_errors(method.name):
                judged = _judged(fitted(method), split)
        except fails as error:
            left_out.append(f"Left out: {error}")
            continue
        if file is not None:
            write_cell(file, Outcome(judged.kind, judged.by_order, {}, {}, None, ""))
        found.append(judged)
    return found, left_out


omitting_errors = (
    ConstantPredictionsError,
    DivergedError,
    NonFinitePredictionsError,
    NothingRelevantError,
    OutOfMemoryError,
)
"""Errors of a method that leave it out of a table; the others are judged."""


def stages(split: Split, learned: Sequence[str], baselines: Sequence[str] | None = None) -> int:
    """Returns how often `judge_all` calls `on_stage` for methods of these names.

    Raises:
        ValueError: If there is no such baseline.
    """
    return len(_baselines(split, learned, baselines)[0]) + len(learned)


def _baselines(
    split: Split, learned: Sequence[str], chosen: Sequence[str] | None
) -> tuple[list[Baseline | Method], list[str]]:
    """Returns closed forms, and ways of training without meta-learning, but those of the names.

    Also a sentence about each that the catalogue is too large for.
    """
    closed = [b for b in all_baselines() if b.kind == "baseline"]
    plain = [m for m in all_methods() if m.kind == "baseline"]
    of_one: list[Baseline | Method] = [b for b in closed if not b.two_domains]
    if split.training.item_domain is None:
        found = [*of_one, *plain]
    else:
        if split.training.scale is not None:
            of_one = [item_mean, item_user_bias, eb_fold_in]
        across = sorted((b for b in closed if b.two_domains), key=lambda b: not b.target_alone)
        found = [*of_one, *(b for b in across if split.ranked or b.predicts_ratings)]
    if split.training.scale is None:
        found = [method for method in found if not method.needs_ratings]
    if chosen is not None:
        for name in chosen:
            check_name(name, [method.name for method in found], "baseline")
        found = [method for method in found if method.name in chosen]
    found = [method for method in found if method.name not in learned]
    problems = [too_large(method, len(split.training.item_features)) for method in found]
    kept = [method for method, problem in zip(found, problems, strict=True) if problem is None]
    return kept, [f"Left out: {problem}." for problem in problems if problem is not None]


def _judged(methods: Mapping[str, FittedMethod], split: Split) -> Judged:
    by_order = {panel: judge(method, split, panel) for panel, method in methods.items()}
    return Judged(next(iter(methods.values())).kind, by_order)


def table(
    judged: Sequence[Judged],
    *,
    protocol: str,
    seeds: Sequence[int],
) -> list[Record]:
    """Lists all figures, with paired differences of the learned methods to the best baseline.

    The best baseline is the best on the test users, cell by cell: the strictest comparison.
    Rankings by the natural reading are records of a protocol of their own, "P1-natural".
    Of users who are known in another domain, each method is also compared with the best of those
    of the target domain alone, `Baseline.target_alone`.

    Args:
        judged: Measurements of each method; of several folds, concatenated.
        protocol: Protocol of the tasks, for instance "P1".
        seeds: The seeds behind them.

    Returns:
        A record for each method, panel, metric and K.
    """
    found = _table(judged, protocol, seeds)
    by_rest = [
        method._replace(
            by_order={o: e for o, e in map(_naturally, method.by_order.items()) if e is not None}
        )
        for method in judged
    ]
    by_rest = [method for method in by_rest if method.by_order]
    return found + (_table(by_rest, f"{protocol}-natural", seeds) if by_rest else [])


def _naturally(item: tuple[str, Evaluation]) -> tuple[str, Evaluation | None]:
    order, evaluation = item
    return order, natural_reading(evaluation)


def _table(judged: Sequence[Judged], protocol: str, seeds: Sequence[int]) -> list[Record]:
    found: list[Record] = []
    target_only = [baseline.name for baseline in all_baselines() if baseline.target_alone]
    for order in judged[0].by_order:
        baselines = [method.by_order[order] for method in judged if method.kind == "baseline"]
        local = [b for b in baselines if order == PANEL and b.method in target_only]
        for kind, by_order in judged:
            evaluation = by_order[order]
            records = records_of(evaluation, kind=kind, protocol=protocol, order=order, seeds=seeds)
            if kind == "learned" and baselines:
                to = ("best_baseline", "difference")
                records = _with_differences(records, evaluation, baselines, *to)
            if local and evaluation.method not in target_only:
                to = ("no_transfer", "no_transfer_difference")
                records = _with_differences(records, evaluation, local, *to)
            found += records
    return found


def _with_differences(
    records: Sequence[Record],
    evaluation: Evaluation,
    others: Sequence[Evaluation],
    name: str,
    difference: str,
) -> list[Record]:
    """Adds to a method's records the best other one, as `name`, and the paired difference."""
    bests: dict[str, np.ndarray] = {}  # [K] of the others, by metric
    figures = [summarise(other) for other in others]
    for metric in metrics_of(evaluation):
        able = [n for n, found in enumerate(figures) if metric.name in found]
        # A distance from the value that is right is no difference of two figures.
        if able and metric.function is not None and isinstance(metric.better, str):
            values = [badness(metric, figures[n][metric.name]) for n in able]
            bests[metric.name] = np.array(able)[np.argmin(values, axis=0)]
    pairs = [(int(n), metric) for metric, best in bests.items() for n in np.unique(best)]
    found = paired_differences(evaluation, [(others[n], metric) for n, metric in pairs])
    differences = dict(zip(pairs, found, strict=True))
    extended = []
    for record in records:
        if record.metric in bests:
            at = evaluation.ks.index(record.k)
            best = int(bests[record.metric][at])
            paired = differences[best, record.metric]
            changes: dict[str, Any] = {
                name: others[best].method,
                difference: float(paired.mean[at]),
                f"{difference}_low": float(paired.low[at]),
                f"{difference}_high": float(paired.high[at]),
            }
            record = replace(record, **changes)
        extended.append(record)
    return extended


class Compared(NamedTuple):
    """Figures of a comparison."""

    records: list[Record]
    """Every figure."""
    notes: list[str]
    """A sentence for each cell in which a method could not be judged, and for each negative
    transfer."""
    advice: tuple[str, ...] = ()
    """A sentence for each situation: the method to take."""

    def to_json(self) -> list[dict[str, Any]]:
        """Returns the records as `json.dump` takes them."""
        return to_json(self.records)

    def to_csv(self) -> str:
        """Returns the records as a table in CSV."""
        return to_csv(self.records)

    def to_polars(self) -> "polars.DataFrame":
        """Returns the records as a Polars frame; needs the extra `cli`."""
        return to_polars(self.records)

    def _repr_html_(self) -> str:
        return to_html(self.records) + "".join(
            f"<p>{html.escape(visible(line))}</p>" for line in (*self.advice, *self.notes)
        )


def compared(outcomes: Mapping[Cell, Outcome]) -> Compared:
    """Joins the cells of each method and lists their records.

    Args:
        outcomes: Of every cell of the comparison.

    Returns:
        The figures of the methods that could be judged in all their cells, and notes.
    """
    notes = [
        f"Left out: {cell.method} under {cell.protocol}, fold {cell.fold}, seed {cell.seed}: "
        f"{outcome.left_out}"
        for cell, outcome in outcomes.items()
        if outcome.left_out
    ]
    records: list[Record] = []
    advised: list[str] = []
    for protocol in dict.fromkeys(cell.protocol for cell in outcomes):
        of_protocol = {c: o for c, o in outcomes.items() if c.protocol == protocol}
        seeds = sorted({cell.seed for cell in of_protocol})
        by_method: dict[str, list[Outcome]] = {}
        for cell, outcome in of_protocol.items():
            by_method.setdefault(cell.method, []).append(outcome)
        # A method that failed in one cell was not judged on the same tasks as the others.
        whole = {
            name: all_ for name, all_ in by_method.items() if not any(o.left_out for o in all_)
        }
        judged = [row for name, found in whole.items() for row in _rows(name, found)]
        if judged:
            records += table(judged, protocol=protocol, seeds=seeds)
            advised += [line for line in advice(judged) if line not in advised]
            for name, found in whole.items():
                records += _costs(name, found, protocol, seeds)
    return Compared(records, notes + negative_transfer(records), tuple(advised))


def _rows(name: str, found: Sequence[Outcome]) -> list[Judged]:
    """Joins the cells of a method; a second row is that of one model for all panels."""
    rows = [_joined([outcome.by_order for outcome in found], name, found[0].kind)]
    if any(outcome.one_model for outcome in found):
        # Where it has no measurements of its own, every panel chose the same.
        cells = [outcome.one_model or outcome.by_order for outcome in found]
        rows.append(_joined(cells, f"{name}, one model", found[0].kind))
    return rows


def _joined(cells: Sequence[Mapping[str, Evaluation]], name: str, kind: Kind) -> Judged:
    by_order = {panel: concatenate(_alike([c[panel] for c in cells])) for panel in cells[0]}
    return Judged(kind, {p: found._replace(method=name) for p, found in by_order.items()})


def _alike(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Keeps the metrics of all cells: where nothing is relevant in one, rankings have none."""
    first = evaluations[0]
    kept = tuple(m for m in first.metrics if all(m in e.metrics for e in evaluations))
    if all(found.metrics == kept for found in evaluations):
        return list(evaluations)
    names = [metric.name for metric in kept if metric.function is not None]

    def restricted(found: PerUser) -> PerUser:
        return found._replace(values={name: found.values[name] for name in names})

    return [
        found._replace(metrics=kept, per_user=restricted(found.per_user), natural=None)
        for found in evaluations
    ]


def _costs(
    name: str, found: Sequence[Outcome], protocol: str, seeds: Sequence[int]
) -> list[Record]:
    """Lists the costs of serving a user, medians over cells."""
    order, evaluation = next(iter(found[0].by_order.items()))
    costs = [outcome.cost for outcome in found if outcome.cost is not None]
    return [
        Record(
            method=name,
            kind=found[0].kind,
            protocol=protocol,
            order=order,
            k=evaluation.ks[-1],
            metric=metric,
            mean=float(np.median([getattr(cost, metric) for cost in costs])),
            low=None,
            high=None,
            seeds=tuple(seeds),
        )
        for metric in Cost._fields
        if costs
    ]

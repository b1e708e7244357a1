"""All methods under all protocols, tuned alike and judged alike, cell by cell."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from metajax import baselines, recipes
from metajax.assembly import predicts_ratings
from metajax.baselines import Baseline
from metajax.data.dataset import Dataset, fingerprint
from metajax.data.datasets import load
from metajax.evaluation import concatenate
from metajax.guards import ConstantPredictionsError, NonFinitePredictionsError
from metajax.harness.cells import Cell, Outcome, cell_file, read_cell, write_cell
from metajax.harness.cost import cost_of
from metajax.harness.folder import open_folder
from metajax.harness.methods import Method, Trained, judge, trained, tuned
from metajax.harness.protocols import FOLDS, Split, prepare
from metajax.harness.protocols import protocols as known_protocols
from metajax.harness.tables import Judged, table
from metajax.recipes import Recipe
from metajax.settings import check_name
from metajax.training import DivergedError

__all__ = ["Compared", "cells_of", "compare", "method_names"]

# What the figures of a cell mean; another number makes all cells unfinished.
_VERSION = 1


class Compared(NamedTuple):
    """What a comparison found."""

    records: list[dict[str, Any]]
    """Every figure, as in `metajax.comparisons`."""
    notes: list[str]
    """A sentence for each cell in which a method could not be judged."""


def method_names() -> list[str]:
    """Lists what can be compared: every simple baseline, then every recipe."""
    return [baseline.name for baseline in baselines.registry] + recipes.names()


def cells_of(
    methods: Sequence[str] | None = None,
    protocols: Sequence[str] = ("P1", "P2"),
    folds: Sequence[int] = range(FOLDS),
    seeds: Sequence[int] = (0,),
) -> list[Cell]:
    """Lists the cells of a comparison, those of one split side by side.

    Args:
        methods: Names, of `method_names`; None means all.
        protocols: `P1`, `P2` or `P2-newest`.
        folds: In [0, 5); under P2 which draws.
        seeds: Repetitions, >= 0.

    Returns:
        The cells. A method that only orders items has none where ratings alone are judged.

    Raises:
        ValueError: If a list is empty, repeats itself, or holds something unknown.
    """
    methods = method_names() if methods is None else methods
    lists = {"methods": methods, "protocols": protocols, "folds": folds, "seeds": seeds}
    for what, values in lists.items():
        if not len(values) or len(set(values)) < len(values):
            raise ValueError(f"{what} must be distinct and at least one, got {list(values)}.")
    for name in methods:
        check_name(name, method_names(), "method")
    for name in protocols:
        check_name(name, known_protocols, "protocol")
    if not all(0 <= fold < FOLDS for fold in folds):
        raise ValueError(f"folds must be in [0, {FOLDS}), got {list(folds)}.")
    if min(seeds) < 0:
        raise ValueError(f"seeds must be >= 0, got {list(seeds)}.")
    return [
        Cell(method, protocol, fold, seed)
        for seed in seeds
        for fold in folds
        for protocol in protocols
        for method in methods
        if known_protocols[protocol].ranked or _predicts_ratings(method)
    ]


def compare(
    data: Dataset | str = "ml-100k",
    methods: Sequence[str] | None = None,
    *,
    protocols: Sequence[str] = ("P1", "P2"),
    folds: Sequence[int] = range(FOLDS),
    seeds: Sequence[int] = (0,),
    trials: int | None = None,
    changes: Mapping[str, Any] | None = None,
    folder: str | os.PathLike[str] | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Compared:
    """Tunes and judges methods under the same protocols, and compares them user by user.

    Each method is tuned on validation users and refitted with them. Cells (a method on a fold) that
    the folder holds finished are not judged again, so what was stopped goes on where it was, and
    another method or repetition adds to what is there. Code is not part of what a cell is known
    by: after changing a method, take another folder.

    Args:
        data: The data, or the name or path that `data.load` takes.
        methods: Names, of `method_names`; None means every simple baseline and every recipe.
        protocols: As in `cells_of`.
        folds: As in `cells_of`.
        seeds: As in `cells_of`.
        trials: How many settings of its grid each method tries on the validation users, baselines
            included; None means all.
        changes: Settings of all learned methods that are not their defaults.
        folder: Where finished cells are kept; None keeps none.
        on_stage: Called with what each of `cells_of` is when its turn comes, and at the end once
            more, for the intervals.

    Returns:
        The figures, and what could not be judged.

    Raises:
        ValueError: If an argument is out of range, a setting means nothing, the data do not suit a
            protocol, or the folder holds something else.
        OSError: If the folder cannot be written.

    Example:
        >>> found = compare("synthetic", ["item_mean", "eb_fold_in"], protocols=["P1"], folds=[0])
        >>> [r["mean"] < 1 for r in found.records if (r["metric"], r["k"]) == ("rmse", 5)][:2]
        [True, True]
    """
    if trials is not None and trials < 1:
        raise ValueError(f"trials must be >= 1, got {trials}.")
    cells = cells_of(methods, protocols, folds, seeds)
    plans = {cell: _plan(cell, trials, changes or {}) for cell in cells}
    dataset = load(data) if isinstance(data, str) else data
    facts = fingerprint(dataset)
    kept = None if folder is None else open_folder(Path(folder), facts)
    outcomes: dict[Cell, Outcome] = {}
    split: Split | None = None
    at: tuple[Any, ...] = ()
    shared: dict[Any, Trained] = {}
    for cell in cells:
        on_stage(f"{cell.method}, {cell.protocol}, fold {cell.fold}, seed {cell.seed}")
        conditions = {"version": _VERSION, "data": facts, **plans[cell].conditions}
        file = None if kept is None else cell_file(kept, cell, conditions)
        outcome = None if file is None else read_cell(file)
        if outcome is None:
            if split is None or at != cell[1:]:
                split = prepare(cell.protocol, dataset, fold=cell.fold, seed=cell.seed)
                at, shared = cell[1:], {}
            outcome = _judged(plans[cell], split, shared)
            if file is not None:
                write_cell(file, outcome)
        outcomes[cell] = outcome
    on_stage("intervals")
    return _compared(outcomes)


class _Plan(NamedTuple):
    """A method before it has seen data."""

    kind: Literal["baseline", "learned"]
    tune: Callable[[Split, dict[Any, Trained]], dict[str, Method]]
    """`tune(split, shared)` makes it ready to be judged, panel by panel."""
    conditions: dict[str, Any]
    """What its figures depend on."""


def _plan(cell: Cell, trials: int | None, changes: Mapping[str, Any]) -> _Plan:
    method = _method_of(cell.method)
    conditions: dict[str, Any] = {"cell": cell, "grid": [dict(c) for c in method.grid[:trials]]}
    if isinstance(method, Baseline):
        simple = method
        return _Plan("baseline", lambda s, _: tuned(simple, s, trials=trials), conditions)
    settings = recipes.settings_for(cell.method, **changes)
    settings = replace(settings, fold=cell.fold, seed=cell.seed)
    conditions |= {"settings": asdict(settings), "trained_as": method.trained_as}

    def tune(split: Split, shared: dict[Any, Trained]) -> dict[str, Method]:
        return trained(method, split, settings, trials=trials, shared=shared)

    return _Plan(method.kind, tune, conditions)


def _method_of(name: str) -> Baseline | Recipe:
    simple = {baseline.name: baseline for baseline in baselines.registry}
    return simple.get(name) or recipes.recipe_of(name)


def _predicts_ratings(name: str) -> bool:
    method = _method_of(name)
    if isinstance(method, Baseline):
        return method.predicts == "rating"
    return predicts_ratings(recipes.settings_for(name))


def _judged(plan: _Plan, split: Split, shared: dict[Any, Trained]) -> Outcome:
    """Tunes, refits and judges one method on one split."""
    try:
        methods = plan.tune(split, shared)
        by_order = {panel: judge(method, split, panel) for panel, method in methods.items()}
    except (ConstantPredictionsError, DivergedError, NonFinitePredictionsError) as error:
        return Outcome(plan.kind, {}, {}, None, str(error))
    first, method = next(iter(methods.items()))
    settings = {panel: method.settings for panel, method in methods.items()}
    # Of few shots alone: what a thousand cost is another question.
    cost = cost_of(method, split, first) if split.ranked else None
    return Outcome(plan.kind, by_order, settings, cost, "")


def _compared(outcomes: Mapping[Cell, Outcome]) -> Compared:
    """Joins the cells of each method and lists what they found."""
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
    return Compared(records, notes)


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

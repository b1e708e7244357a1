"""Comparison of methods under the same protocols, tuned and judged alike, cell by cell."""

import contextlib
import functools
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from metajax import cluster, registry, storage
from metajax.baselines import Baseline
from metajax.data.dataset import Dataset, fingerprint
from metajax.data.datasets import load
from metajax.data.memory import OutOfMemoryError
from metajax.data.splits import Split
from metajax.evaluation.cells import (
    Cell,
    Outcome,
    bytes_of,
    cell_file,
    open_folder,
    read_cell,
    write_cell,
)
from metajax.evaluation.cost import cost_of
from metajax.evaluation.memory import naming_memory_errors
from metajax.evaluation.metrics import Metric, metric_of, table_with
from metajax.evaluation.protocols import FOLDS, Preparation, prepare
from metajax.evaluation.protocols import protocols as known_protocols
from metajax.evaluation.records import Kind
from metajax.evaluation.tables import Compared, compared, omitting_errors
from metajax.evaluation.tuning import FittedMethod, Trained, cross_fitted, judge, trained, tuned
from metajax.evaluation.workers import in_processes
from metajax.fields import check_name
from metajax.methods import Method, to_dict
from metajax.registry import method_of, predicts_ratings, settings_for

__all__ = [
    "cells_of",
    "compare",
    "method_names",
    "method_of",
    "protocols_of",
]


def method_names() -> list[str]:
    """Names of the methods of one domain: every baseline, then every trained method."""
    return registry.baseline_names(domains=1) + registry.names(domains=1)


def cells_of(
    methods: Sequence[str | Baseline | Method] | None = None,
    protocols: Sequence[str] | Mapping[str, Preparation] | None = None,
    folds: Sequence[int] = range(FOLDS),
    seeds: Sequence[int] = (0,),
    *,
    dataset: Dataset | None = None,
) -> list[Cell]:
    """Lists the cells of a comparison, those of one method side by side.

    Args:
        methods: Names, of `method_names`, or methods of one's own; None means all that suit the
            data.
        protocols: `P1`, `P2` or `P2-newest`; or one's own by name. None means P1, and P2 of
            a log of ratings.
        folds: In [0, 5); under P2 which draws.
        seeds: Repetitions, >= 0.
        dataset: The data; None means a log of ratings.

    Returns:
        The cells. A method that only orders items has none where ratings alone are judged.

    Raises:
        ValueError: If a list is empty, repeats itself, or holds something unknown, or something
            that needs ratings where the log has none.
    """
    if methods is None:
        methods = [n for n in method_names() if dataset is None or _suits(method_of(n), dataset)]
    protocols = _protocols(protocols, dataset)
    names = [method if isinstance(method, str) else method.name for method in methods]
    lists = {"methods": names, "protocols": protocols, "folds": folds, "seeds": seeds}
    for what, values in lists.items():
        if not len(values) or len(set(values)) < len(values):
            raise ValueError(f"{what} must be distinct and at least one, got {list(values)}.")
    known = registry.baseline_names() + registry.names()
    for name, method in zip(names, methods, strict=True):
        found = method_of(method)
        if dataset is not None:
            registry.check_suits(found, dataset)
        if name in known and not isinstance(method, str) and found != method_of(name):
            raise ValueError(f"methods must have names of their own, got {name!r}, a known one.")
    preparations = protocols_of(protocols)
    if not all(0 <= fold < FOLDS for fold in folds):
        raise ValueError(f"folds must be in [0, {FOLDS}), got {list(folds)}.")
    if min(seeds) < 0:
        raise ValueError(f"seeds must be >= 0, got {list(seeds)}.")
    return [
        Cell(name, protocol, fold, seed)
        for name, method in zip(names, methods, strict=True)
        for seed in seeds
        for fold in folds
        for protocol, preparation in preparations.items()
        if preparation.ranks(dataset) or _predicts_ratings(method)
    ]


def _suits(method: Method | Baseline, dataset: Dataset) -> bool:
    rated = not (dataset.implicit and method.needs_ratings)
    return rated and registry.too_large(method, len(dataset.items.ids)) is None


def _protocols(
    protocols: Sequence[str] | Mapping[str, Preparation] | None, dataset: Dataset | None
) -> Sequence[str] | Mapping[str, Preparation]:
    """Returns the protocols given, or by default those that suit the data."""
    implicit = dataset is not None and dataset.implicit
    if protocols is None:
        return ("P1",) if implicit else ("P1", "P2")
    if implicit and dataset is not None:
        for name, preparation in protocols_of(protocols).items():
            if preparation.ranked is False:
                raise ValueError(
                    f"protocol {name} judges ratings, and {dataset.name} {dataset.unrated}: take "
                    "P1 or P2, which judge lists."
                )
    return protocols


def protocols_of(
    protocols: Sequence[str] | Mapping[str, Preparation],
) -> Mapping[str, Preparation]:
    """Returns the chosen protocols by name.

    Raises:
        ValueError: If a name is unknown.
    """
    if isinstance(protocols, Mapping):
        return protocols
    for name in protocols:
        check_name(name, known_protocols, "protocol")
    return {name: known_protocols[name] for name in protocols}


class _Shared(NamedTuple):
    """Options of all cells of a comparison."""

    trials: int | None
    """The number of settings of its grid that each method tries; None means all."""
    changes: Mapping[str, Any]
    """Settings of learned methods that are not their defaults."""
    metrics: tuple[Metric, ...]
    """Metrics that the table does not have."""
    own: Mapping[str, Baseline | Method]
    """Methods that the registry does not have, by name."""
    one_model: bool
    """True to judge one setting for all panels, too."""
    cross_fit: bool
    """True to choose settings by cross-fitting."""
    ordered: int | None
    """Size of the catalogue whose order trained methods learn, of a log without ratings."""


class _Plan(NamedTuple):
    """A method before it is fitted."""

    kind: Kind
    """Baseline or learned method."""
    tune: Callable[[Split, dict[Any, Trained], bool], dict[str, FittedMethod]]
    """`tune(split, fits, one_model)`: the fitted method of each panel."""
    conditions: dict[str, Any]
    """Conditions of its figures."""
    group: str
    """The method whose training it shares, or its own name."""
    one_model: bool
    """True to judge one setting for all panels, too."""


def _plan_of(cell: Cell, shared: _Shared) -> _Plan:
    """Plans a cell; raises ValueError for an invalid setting."""
    method, trials = shared.own.get(cell.method) or method_of(cell.method), shared.trials
    conditions: dict[str, Any] = {"cell": cell, "grid": [dict(c) for c in method.grid[:trials]]}
    if shared.metrics:
        conditions["metrics"] = [metric.name for metric in shared.metrics]
    if cell.method in shared.own:
        conditions["own"] = True
    if shared.one_model:
        conditions["one_model"] = True
    if shared.cross_fit:
        conditions["cross_fit"] = True
    if isinstance(method, Baseline):
        simple = method
        choose = partial(cross_fitted, seed=cell.seed) if shared.cross_fit else tuned
        return _Plan(
            simple.kind,
            lambda s, _, one_model: choose(simple, s, trials=trials, one_model=one_model),
            conditions,
            cell.method,
            shared.one_model,
        )
    group = method.trained_as or method
    settings = settings_for(method, **registry.changes_for(method, shared.changes))
    if shared.ordered is not None:
        settings = registry.ordering(settings, shared.ordered)
    settings = replace(settings, fold=cell.fold, seed=cell.seed)
    conditions |= {"settings": to_dict(settings), "trained_as": group.name}

    choose_updates = partial(cross_fitted, seed=cell.seed) if shared.cross_fit else trained

    def tune(split: Split, fits: dict[Any, Trained], one_model: bool) -> dict[str, FittedMethod]:
        return choose_updates(
            method, split, settings=settings, trials=trials, one_model=one_model, shared=fits
        )

    return _Plan(method.kind, tune, conditions, group.name, shared.one_model)


def _predicts_ratings(method: str | Baseline | Method) -> bool:
    method = method_of(method)
    if isinstance(method, Baseline):
        return method.predicts_ratings
    return predicts_ratings(settings_for(method))


# What the figures of a cell mean; another number makes all cells unfinished.
_VERSION = 3

# What every process reads; only while there are several.
_DATA = "data.tmp"

# Folds and draws in memory at once.
_SPLITS = 64

# A method's programs are of no use to the next, and take some 8,000 memory mappings of the 65,530
# that Linux grants a process.
_METHODS = 3


def compare(
    data: Dataset | str = "ml-100k",
    methods: Sequence[str | Baseline | Method] | None = None,
    *,
    protocols: Sequence[str] | Mapping[str, Preparation] | None = None,
    folds: Sequence[int] = range(FOLDS),
    seeds: Sequence[int] = (0,),
    metrics: Sequence[Callable[..., jax.Array] | Metric] = (),
    trials: int | None = None,
    one_model: bool = False,
    cross_fit: bool = False,
    changes: Mapping[str, Any] | None = None,
    folder: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    ray: str | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
    on_lost: Callable[[str], None] = lambda line: None,
) -> Compared:
    """Tunes and judges methods under the same protocols, and compares them user by user.

    Each method is tuned on validation users and refitted with them. Rankings under P1 are judged by
    two readings of the same scores: the rest of the pool, which a larger K would show, is no
    candidate (records of P1), or is asked for (records of P1-natural). Finished cells (a
    method on a fold) in the folder are not judged again, so a stopped comparison resumes, and
    further methods or repetitions are added. Cells are identified by settings, not by code: after
    changing a method, take another folder.

    Args:
        data: The data, or the name or path that `data.load` takes.
        methods: Names, of `method_names`, or methods of one's own; None means every simple
            baseline and every trained method of one domain, those that need no ratings where the
            log has none.
        protocols: `P1`, `P2` or `P2-newest`; or one's own by name, which
            identifies it in finished cells. None means P1, and P2 of
            a log of ratings.
        folds: In [0, 5); under P2 which draws.
        seeds: Repetitions, >= 0.
        metrics: Metrics of one's own, as in `evaluate`; finished cells identify them by name.
        trials: Number of settings of its grid that each method tries, baselines included; None
            means all.
        one_model: True to add a row, "NAME, one model", for each method that chose different
            settings for different panels: it has the settings with the lowest mean loss over them.
        cross_fit: True to choose settings, and numbers of updates, by cross-fitting over training
            and validation users, `cross_fitted`, instead of on validation users alone; under P1.
        changes: Settings of trained methods that are not their defaults: shared ones, options of
            all methods that have them, and tables of options by a method's name.
        folder: Folder of finished cells; None keeps none.
        jobs: Number of processes, each with its share of the methods; they must be able to import
            methods and metrics of one's own.
        ray: Cluster whose CPUs judge the cells instead, as in `cluster.connected`: `local`, `auto`
            or the address of its head. This process alone writes to the folder.
        on_stage: Called with a text of each cell when it starts (with several jobs or a cluster,
            when it is finished), and at the end once more, for the intervals.
        on_lost: Called with a line when a worker of the cluster was lost, whose work begins anew.

    Returns:
        The figures, and the methods that could not be judged.

    Raises:
        ValueError: If an argument is out of range, a setting is invalid, the data do not suit a
            protocol, or the folder holds something else.
        LockedError: If another process compares in this folder.
        OSError: If the folder cannot be written.
        WorkersError: If one of several processes failed, or was killed three times.
        ImportError: If a cluster is named and the extra `ray` is not installed.
        ClusterError: If the cluster cannot be used, or a worker failed or was lost three times.

    Example:
        >>> found = compare("synthetic", ["item_mean", "eb_fold_in"], protocols=["P1"], folds=[0])
        >>> at_five = [r for r in found.records if (r.metric, r.k) == ("rmse", 5)]
        >>> {r.method: r.mean < 1.05 for r in at_five}
        {'item_mean': False, 'eb_fold_in': True}
    """
    for name, value in (("trials", trials), ("jobs", jobs)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}.")
    if jobs > 1 and folder is None:
        raise ValueError(f"jobs must be 1 where no folder keeps what is finished, got {jobs}.")
    if ray is not None and (folder is None or jobs > 1):
        need = f"jobs must be 1, got {jobs}" if jobs > 1 else "a folder must keep what is finished"
        raise ValueError(f"{need} where a Ray cluster judges.")
    if cross_fit:
        protocols = ("P1",) if protocols is None else protocols
        for name, preparation in protocols_of(protocols).items():
            if not preparation.ranked:  # Also where it depends on the log.
                raise ValueError(
                    f"cross-fitting chooses settings for cold users, as in P1, not for {name}."
                )
    cells_of(methods, protocols, folds, seeds)  # Refuses what is unknown before data are loaded.
    known = registry.baseline_names() + registry.names()
    own = {m.name: m for m in methods or () if not isinstance(m, str) and m.name not in known}
    own_metrics = tuple(map(metric_of, metrics))
    table_with(own_metrics, length=1)  # Refuses what is no metric before anything is fitted.
    dataset = load(data) if isinstance(data, str) else data
    cells = cells_of(methods, protocols, folds, seeds, dataset=dataset)
    ordered = len(dataset.interactions.item_ids) if dataset.implicit else None
    shared = _Shared(trials, changes or {}, own_metrics, own, one_model, cross_fit, ordered)
    plans = {cell: _plan_of(cell, shared) for cell in cells}
    prepared = dict(protocols_of(_protocols(protocols, dataset)))
    if jobs > 1:
        _check_importable(shared, prepared)
    split = functools.lru_cache(maxsize=_SPLITS)(partial(_split, dataset, prepared))
    facts = fingerprint(dataset)
    with contextlib.nullcontext() if folder is None else open_folder(Path(folder), facts) as kept:
        todo = [_Todo(cell, plans[cell], _file(kept, cell, plans[cell], facts)) for cell in cells]
        reported: set[Cell] = set()
        if ray is not None:
            reported = _on_cluster(ray, (dataset, prepared), todo, shared, on_stage, on_lost)
        elif jobs > 1 and kept is not None:
            reported = _in_processes(kept, (dataset, prepared), todo, shared, jobs, on_stage)

        def report(cell: Cell) -> None:
            if cell not in reported:
                on_stage(_text(cell))

        outcomes = _outcomes(split, todo, shared.metrics, report)
    on_stage("intervals")
    return compared(outcomes)


class _Todo(NamedTuple):
    """A cell to evaluate."""

    cell: Cell
    plan: _Plan
    file: Path | None
    """Its file once it is finished."""


def _file(kept: Path | None, cell: Cell, plan: _Plan, facts: Mapping[str, Any]) -> Path | None:
    conditions = {"version": _VERSION, "data": facts, **plan.conditions}
    return None if kept is None else cell_file(kept, cell, conditions)


def _split(
    dataset: Dataset, protocols: Mapping[str, Preparation], protocol: str, fold: int, seed: int
) -> Split:
    return prepare(protocols[protocol], dataset, fold=fold, seed=seed)


def _outcomes(
    split: Callable[[str, int, int], Split],
    todo: Sequence[_Todo],
    metrics: Sequence[Metric],
    on_cell: Callable[[Cell], None],
) -> dict[Cell, Outcome]:
    """Reads the cells that are finished and judges the others, one by one."""
    return {cell: outcome for cell, outcome, _ in _judging(split, todo, metrics, on_cell)}


def _judging(
    split: Callable[[str, int, int], Split],
    todo: Sequence[_Todo],
    metrics: Sequence[Metric],
    on_cell: Callable[[Cell], None],
) -> Iterator[tuple[Cell, Outcome, bool]]:
    """Yields each cell, its outcome, and whether that may be kept."""
    groups: list[str] = []  # of which something was judged
    fits: dict[tuple[Any, ...], dict[Any, Trained]] = {}
    for cell, plan, file in todo:
        on_cell(cell)
        lasting = True
        outcome = None if file is None else read_cell(file, metrics)
        if outcome is None:
            if plan.group not in groups[-1:]:
                groups.append(plan.group)
                fits = {}
                if len(groups) % _METHODS == 0:
                    jax.clear_caches()
            try:
                with naming_memory_errors(cell.method):
                    trainings = fits.setdefault(cell[1:], {})
                    outcome = _judged(plan, split(*cell[1:]), metrics, trainings)
                if file is not None:
                    write_cell(file, outcome)
            except OutOfMemoryError as error:
                # Not kept: another time there may be more memory.
                outcome, lasting = Outcome(plan.kind, {}, {}, {}, None, str(error)), False
        yield cell, outcome, lasting


def _check_importable(shared: _Shared, protocols: Mapping[str, Preparation]) -> None:
    """Refuses methods, metrics and protocols that another process cannot import."""
    named = {value.name: value for value in (*shared.metrics, *shared.own.values())}
    for name, value in {**protocols, **named}.items():
        try:
            pickle.dumps(value)
        except (AttributeError, TypeError, pickle.PicklingError) as error:
            raise ValueError(
                f"jobs must be 1 where {name!r} cannot be imported by another process: {error}."
            ) from None


def _text(cell: Cell) -> str:
    return f"{cell.method}, {cell.protocol}, fold {cell.fold}, seed {cell.seed}"


def _in_processes(
    kept: Path,
    data: tuple[Dataset, Mapping[str, Preparation]],
    todo: Sequence[_Todo],
    shared: _Shared,
    jobs: int,
    on_stage: Callable[[str], None],
) -> set[Cell]:
    """Deals out the methods that are not finished to processes, and waits for their cells."""
    groups = _unfinished(todo, shared)
    left = {file: cell for cells in groups.values() for cell, file in cells}
    reported: set[Cell] = set()

    def report_finished() -> None:
        for file in [file for file in left if file.exists()]:
            cell = left.pop(file)
            reported.add(cell)
            on_stage(_text(cell))

    if groups:
        path = kept / _DATA
        storage.write_pieces(path, [pickle.dumps(data)])
        try:
            shares = [(path, cells, shared) for cells in groups.values()]
            in_processes(_work, shares, jobs=jobs, waiting=report_finished)
        finally:
            path.unlink(missing_ok=True)
    return reported


def _unfinished(todo: Sequence[_Todo], shared: _Shared) -> dict[str, list[tuple[Cell, Path]]]:
    """Returns the cells to judge and their files, by the method whose training they share."""
    groups: dict[str, list[tuple[Cell, Path]]] = {}
    for cell, plan, file in todo:
        if file is not None and read_cell(file, shared.metrics) is None:
            file.unlink(missing_ok=True)  # A damaged one.
            groups.setdefault(plan.group, []).append((cell, file))
    return groups


def _on_cluster(
    address: str,
    data: tuple[Dataset, Mapping[str, Preparation]],
    todo: Sequence[_Todo],
    shared: _Shared,
    on_stage: Callable[[str], None],
    on_lost: Callable[[str], None],
) -> set[Cell]:
    """Has a cluster judge what is not finished, and writes the files of its cells."""
    groups, reported = _unfinished(todo, shared), set[Cell]()
    if not groups:
        return reported
    files = {cell: file for cells in groups.values() for cell, file in cells}
    with cluster.connected(address) as ray:
        shares = [[cell for cell, _ in cells] for cells in groups.values()]
        # A compiled program serves all cells of a method; where that leaves processes without
        # work, those of a fold, which may share a training.
        if len(shares) < ray.cluster_resources().get("CPU", 1):
            folds: dict[tuple[str, tuple[Any, ...]], list[Cell]] = {}
            for group, cells in groups.items():
                for cell, _ in cells:
                    folds.setdefault((group, cell[1:]), []).append(cell)
            shares = list(folds.values())
        found = cluster.streamed(ray, _judged_there, (*data, shared), shares, on_lost=on_lost)
        for cell, content in found:
            if content is not None:
                storage.write_file(files[cell], content)
                reported.add(cell)
                on_stage(_text(cell))
    return reported


def _judged_there(
    given: tuple[Dataset, Mapping[str, Preparation], _Shared], cells: Sequence[Cell]
) -> Iterator[bytes | None]:
    """Yields the content of each cell's file; None where another process had better judge it."""
    dataset, prepared, shared = given
    split = functools.lru_cache(maxsize=_SPLITS)(partial(_split, dataset, prepared))
    todo = [_Todo(cell, _plan_of(cell, shared), None) for cell in cells]
    for _, outcome, lasting in _judging(split, todo, shared.metrics, lambda cell: None):
        yield bytes_of(outcome) if lasting else None
    jax.clear_caches()


def _work(share: tuple[Path, list[tuple[Cell, Path]], _Shared]) -> None:
    path, cells, shared = share
    todo = [_Todo(cell, _plan_of(cell, shared), file) for cell, file in cells]
    _outcomes(_splits_of(path), todo, shared.metrics, lambda cell: None)
    jax.clear_caches()


@functools.lru_cache(maxsize=1)
def _splits_of(path: Path) -> Callable[[str, int, int], Split]:
    """Reads the data in a process that evaluates several methods, once."""
    dataset, protocols = pickle.loads(path.read_bytes())
    return functools.lru_cache(maxsize=_SPLITS)(partial(_split, dataset, protocols))


def _judged(
    plan: _Plan, split: Split, metrics: Sequence[Metric], fits: dict[Any, Trained]
) -> Outcome:
    """Tunes, refits and judges one method on one split."""
    try:
        methods = plan.tune(split, fits, False)
        by_order = {
            panel: judge(method, split, panel, metrics=metrics) for panel, method in methods.items()
        }
        by_one = plan.tune(split, fits, True) if plan.one_model else {}
        # Equal settings are equal parameters.
        differ = {p for p, method in by_one.items() if method.settings != methods[p].settings}
        one_model = {
            panel: judge(method, split, panel, metrics=metrics)
            if panel in differ
            else by_order[panel]
            for panel, method in by_one.items()
            if differ
        }
    except omitting_errors as error:
        return Outcome(plan.kind, {}, {}, {}, None, str(error))
    first, method = next(iter(methods.items()))
    settings = {panel: method.settings for panel, method in methods.items()}
    # For few shots alone.
    cost = cost_of(method, split, first) if split.ranked else None
    return Outcome(plan.kind, by_order, one_model, settings, cost, "")

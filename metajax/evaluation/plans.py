"""What a comparison is going to do: which methods, on which parts of the data, tuned how."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal, NamedTuple

from metajax import baselines, cross_domain
from metajax import methods as registry
from metajax.baselines import Baseline
from metajax.evaluation.cells import Cell
from metajax.evaluation.methods import Method, Trained, trained, tuned
from metajax.evaluation.protocols import FOLDS, Preparation, Split
from metajax.evaluation.protocols import protocols as known_protocols
from metajax.methods import Recipe
from metajax.methods.assembly import predicts_ratings
from metajax.methods.settings import check_name

__all__ = ["Plan", "cells_of", "method_names", "method_of", "plan_of", "protocols_of"]


def method_names() -> list[str]:
    """Lists what can be compared on one domain: every simple baseline, then every recipe."""
    return [baseline.name for baseline in baselines.registry] + registry.names(domains=1)


def cells_of(
    methods: Sequence[str] | None = None,
    protocols: Sequence[str] | Mapping[str, Preparation] = ("P1", "P2"),
    folds: Sequence[int] = range(FOLDS),
    seeds: Sequence[int] = (0,),
) -> list[Cell]:
    """Lists the cells of a comparison, those of one method side by side.

    Args:
        methods: Names, of `method_names`; None means all.
        protocols: `P1`, `P2` or `P2-newest`; or one's own by name.
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
    of_two = [baseline.name for baseline in cross_domain.of_two_domains]
    known = list(dict.fromkeys([*method_names(), *of_two, *registry.names()]))
    for name in methods:
        check_name(name, known, "method")
    preparations = protocols_of(protocols)
    if not all(0 <= fold < FOLDS for fold in folds):
        raise ValueError(f"folds must be in [0, {FOLDS}), got {list(folds)}.")
    if min(seeds) < 0:
        raise ValueError(f"seeds must be >= 0, got {list(seeds)}.")
    return [
        Cell(method, protocol, fold, seed)
        for method in methods
        for seed in seeds
        for fold in folds
        for protocol, preparation in preparations.items()
        if preparation.ranked or _predicts_ratings(method)
    ]


def protocols_of(
    protocols: Sequence[str] | Mapping[str, Preparation],
) -> Mapping[str, Preparation]:
    """Returns the protocols that are asked for, by name.

    Raises:
        ValueError: If there is none of a name.
    """
    if isinstance(protocols, Mapping):
        return protocols
    for name in protocols:
        check_name(name, known_protocols, "protocol")
    return {name: known_protocols[name] for name in protocols}


class Plan(NamedTuple):
    """A method before it has seen data."""

    kind: Literal["baseline", "learned"]
    """Whether the method is one of those to beat."""
    tune: Callable[[Split, dict[Any, Trained]], dict[str, Method]]
    """`tune(split, shared)` makes it ready to be judged, panel by panel."""
    conditions: dict[str, Any]
    """What its figures depend on."""
    group: str
    """The method whose training it shares, or its own name."""


def plan_of(cell: Cell, trials: int | None, changes: Mapping[str, Any]) -> Plan:
    """Plans a cell.

    Args:
        cell: Which.
        trials: How many settings of its grid the method tries; None means all.
        changes: Settings of learned methods that are not their defaults.

    Returns:
        The plan.

    Raises:
        ValueError: If there is no such method, or a setting means nothing.
    """
    method = method_of(cell.method)
    conditions: dict[str, Any] = {"cell": cell, "grid": [dict(c) for c in method.grid[:trials]]}
    if isinstance(method, Baseline):
        simple = method
        return Plan(
            "baseline", lambda s, _: tuned(simple, s, trials=trials), conditions, cell.method
        )
    settings = registry.settings_for(cell.method, **changes)
    settings = replace(settings, fold=cell.fold, seed=cell.seed)
    conditions |= {"settings": asdict(settings), "trained_as": method.trained_as}

    def tune(split: Split, shared: dict[Any, Trained]) -> dict[str, Method]:
        return trained(method, split, settings, trials=trials, shared=shared)

    return Plan(method.kind, tune, conditions, method.trained_as or cell.method)


def method_of(name: str) -> Baseline | Recipe:
    """Returns the baseline or the recipe of a name.

    Raises:
        ValueError: If there is none.
    """
    known = (*baselines.registry, *cross_domain.of_two_domains)
    simple = {baseline.name: baseline for baseline in known}
    return simple.get(name) or registry.recipe_of(name)


def _predicts_ratings(name: str) -> bool:
    method = method_of(name)
    if isinstance(method, Baseline):
        return method.predicts == "rating"
    return predicts_ratings(registry.settings_for(name))

"""Search spaces of methods, and the loss of one trial of a search on the validation users.

A space names the settings that a search may change; ranges belong to the fields of the settings
(`metajax.fields.bounded`), to `Method.ranges` or to `Baseline.ranges`. A problem says all that
`metajax.search.study` needs to know of what it searches.
"""

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, NamedTuple, Protocol

import numpy as np

from metajax import registry
from metajax.baselines import Baseline
from metajax.data.cold_users import cold_users
from metajax.data.dataset import Dataset, fingerprint
from metajax.evaluation.memory import naming_memory_errors
from metajax.evaluation.protocols import check_dataset
from metajax.evaluation.tuning import check_ranked, train_on, trial_losses
from metajax.fields import Choices, Search, searched, to_json
from metajax.knowledge import GraphSettings, KnowledgeGraph, train_links
from metajax.methods import Method, Settings

__all__ = [
    "ColdUsers",
    "Links",
    "Objective",
    "Problem",
    "defaults_of",
    "setting_of",
    "space_of",
]

Objective = Callable[[Mapping[str, Any], Callable[[int, float], None]], float]
"""`objective(chosen, report)`: the validation loss with some settings, lower is better; it calls
`report(step, loss)` after every validation on the way, which may raise to end the trial."""

GRID = "setting"
"""Name of the choice among the settings of a grid, counted from 0."""


def space_of(method: str | Method | Baseline) -> dict[str, Search]:
    """Returns the search space of a method.

    Args:
        method: The method, or its name.

    Returns:
        By the names of settings, the values to try. Of a closed form without ranges it is a choice
        among the settings of its grid; empty where there is nothing to choose.

    Raises:
        ValueError: If there is no such method.

    Example:
        >>> print(space_of("item_mean")["item_shrinkage"])
        0.5 to 50, log scale
    """
    method = registry.method_of(method)
    if isinstance(method, Baseline):
        if method.ranges or len(method.grid) < 2:
            return dict(method.ranges)
        return {GRID: Choices(tuple(range(len(method.grid))))}
    space = {**searched(Settings), **searched(method.options), **method.ranges}
    defaults = _values_of(registry.settings_for(method))
    for name in dict.fromkeys(name for changes in method.grid for name in changes):
        if name not in space:
            tried = [defaults[name], *(c[name] for c in method.grid if name in c)]
            space[name] = Choices(tuple(dict.fromkeys(tried)))
    return space


def defaults_of(method: str | Method | Baseline) -> dict[str, Any]:
    """Returns the default of each setting in the search space of a method.

    Raises:
        ValueError: If there is no such method.
    """
    method, space = registry.method_of(method), space_of(method)
    if isinstance(method, Method):
        known = _values_of(registry.settings_for(method))
    elif method.ranges:
        arguments = inspect.signature(method.fit).parameters.values()
        known = {a.name: a.default for a in arguments if a.default is not a.empty}
        known |= method.grid[0]
    else:
        known = {GRID: 0}
    return {name: known[name] for name in space}


def _values_of(settings: Any) -> dict[str, Any]:
    return {**vars(settings), **vars(settings.options)}


def setting_of(baseline: Baseline, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a closed form's fit.

    Args:
        baseline: The closed form.
        chosen: A point of its search space.
    """
    if baseline.ranges:
        return {**baseline.grid[0], **chosen}
    return dict(baseline.grid[chosen.get(GRID, 0)])


class Problem(Protocol):
    """A search problem: the space, the loss of a point in it, and the facts that identify it."""

    @property
    def space(self) -> dict[str, Search]:
        """The values to try, by the names of settings."""
        ...

    @property
    def defaults(self) -> dict[str, Any]:
        """The point to try first."""
        ...

    @property
    def seed(self) -> int:
        """Seed of the draws."""
        ...

    @property
    def warmup(self) -> int:
        """Step before which no trial is ended early."""
        ...

    def facts(self) -> dict[str, Any]:
        """Returns what its losses depend on, as JSON holds it.

        `method`, `data` (its name), `digest`, `measure` (the loss), `protocol`, `fold`, `seed`,
        `version` of the package, `settings` that are the same in all trials, and `space`.
        """
        ...

    def objective(self) -> Objective:
        """Prepares the data; returns the loss of a point."""
        ...


class ColdUsers(NamedTuple):
    """The search for the settings of a method on the validation users of a fold.

    The loss is what `metajax train` chooses by: of a method trained by updates the lowest of its
    validation curve, of a closed form the mean of `tuning.trial_losses`.
    """

    dataset: Dataset
    """The data."""
    settings: Settings
    """Settings of the method, with those that the search leaves alone."""
    fixed: frozenset[str] = frozenset()
    """Names of settings to keep as they are."""

    @property
    def space(self) -> dict[str, Search]:
        """The search space of the method without the settings that are kept."""
        found = space_of(self.settings.method)
        return {name: values for name, values in found.items() if name not in self.fixed}

    @property
    def defaults(self) -> dict[str, Any]:
        """The defaults of the method."""
        found = defaults_of(self.settings.method)
        return {name: found[name] for name in self.space}

    @property
    def seed(self) -> int:
        """Seed of the settings."""
        return self.settings.seed

    @property
    def warmup(self) -> int:
        """A quarter of the updates."""
        return self.settings.updates // 4

    def facts(self) -> dict[str, Any]:
        """Returns what the losses depend on."""
        baseline = registry.closed_form_of(self.settings)
        settings = json.loads(registry.to_json(self.settings))
        rated = registry.predicts_ratings(registry.settings_on(self.settings, self.dataset))
        rated = rated and not self.dataset.implicit
        measure = "validation loss (1 - NDCG@10)"
        if rated and baseline is not None and baseline.predicts == "both":
            measure = "validation loss (RMSE in standardised labels + 1 - NDCG@10)"
        elif rated:
            measure = "validation RMSE" + ("" if baseline is None else " in standardised labels")
        return {
            "method": self.settings.method,
            "data": self.settings.data,
            "digest": fingerprint(self.dataset),
            "measure": measure,
            "protocol": "P1",
            "fold": self.settings.fold,
            "seed": self.seed,
            "version": version("metajax"),
            "settings": settings,
            "space": {name: str(values) for name, values in self.space.items()},
        }

    def objective(self) -> Objective:
        """Splits the users; returns the loss of a point.

        Raises:
            ValueError: If the data cannot be learned from, or do not suit the method.
        """
        check_dataset(self.dataset)
        method = registry.method_of(self.settings.method)
        if method.two_domains:
            raise ValueError(
                f"method {method.name!r} needs two domains, a source and a target, got one."
            )
        settings = registry.settings_on(self.settings, self.dataset)
        split = cold_users(self.dataset, fold=settings.fold, seed=settings.seed)
        if self.dataset.implicit or not registry.predicts_ratings(settings):
            check_ranked(split)
        baseline = method if isinstance(method, Baseline) else None

        def loss(chosen: Mapping[str, Any], report: Callable[[int, float], None]) -> float:
            with naming_memory_errors(method.name):
                if baseline is not None:
                    losses = trial_losses(baseline, split, setting_of(baseline, chosen))
                    return float(np.mean(list(losses.values())))
                candidate = registry.with_changes(settings, **chosen)
                lowest = np.inf
                for progress, row in train_on(
                    split, candidate, registry.first_progress(candidate, split.training)
                ):
                    if row.validation is not None:
                        report(row.step, row.validation)
                        lowest = float(progress.best_loss)
                return lowest

        return loss


class Links(NamedTuple):
    """The search for the settings of link prediction on validation triples of a graph."""

    training: KnowledgeGraph
    """Training triples."""
    validation: KnowledgeGraph
    """Validation triples, at least one; the loss is 1 - their MRR."""
    settings: GraphSettings
    """The settings that the search leaves alone."""
    fixed: frozenset[str] = frozenset()
    """Names of settings to keep as they are."""

    @property
    def space(self) -> dict[str, Search]:
        """The values to try."""
        found = searched(self.settings)
        return {name: values for name, values in found.items() if name not in self.fixed}

    @property
    def defaults(self) -> dict[str, Any]:
        """The default settings."""
        return {name: getattr(GraphSettings(), name) for name in self.space}

    @property
    def seed(self) -> int:
        """Seed of the settings."""
        return self.settings.seed

    @property
    def warmup(self) -> int:
        """A quarter of the epochs."""
        return self.settings.epochs // 4

    def facts(self) -> dict[str, Any]:
        """Returns what the losses depend on."""
        digest = hashlib.sha256()
        for graph in (self.training, self.validation):
            digest.update(np.ascontiguousarray(graph.triples).tobytes())
        return {
            "method": self.settings.score,
            "data": self.settings.source,
            "digest": {
                "triples": self.training.count,
                "validation triples": self.validation.count,
                "sha256": digest.hexdigest(),
            },
            "measure": "1 - MRR of validation triples",
            "protocol": "validation triples",
            "fold": 0,
            "seed": self.seed,
            "version": version("metajax"),
            "settings": json.loads(to_json(self.settings)),
            "space": {name: str(values) for name, values in self.space.items()},
        }

    def objective(self) -> Objective:
        """Returns the loss of a point.

        Raises:
            ValueError: If there are no validation triples.
        """
        if not self.validation.count:
            raise ValueError("share must be above 0: a search needs validation triples.")

        def loss(chosen: Mapping[str, Any], report: Callable[[int, float], None]) -> float:
            candidate = dataclasses.replace(self.settings, **chosen)
            lowest = np.inf
            for progress, row in train_links(self.training, self.validation, candidate):
                if row.validation is not None:
                    report(row.epoch, 1 - row.validation)
                    lowest = float(progress.best_loss)
            return lowest

        return loss

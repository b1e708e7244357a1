"""A training run and its folder: everything to go on with it, judge it or serve from it.

RUN/settings.json     the settings
RUN/data.json         which data: counts, digest
RUN/domains.json      of a transfer, which two domains
RUN/schema.json       how users and items are encoded
RUN/metrics.jsonl     a line a dispatch
RUN/checkpoints/      the training progress, verified when read
RUN/report.json, report.html
"""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from metajax import checkpoint
from metajax.cross_domain import domain_pair as crossing
from metajax.cross_domain.domain_pair import Crossing
from metajax.cross_domain.domains import Domains
from metajax.cross_domain.users import CrossUsers, cross_users
from metajax.data import datasets, schema
from metajax.data.cold_users import ColdUsers, cold_users
from metajax.data.dataset import Dataset, fingerprint, shapes_of
from metajax.evaluation import check_ratings, train_on
from metajax.methods import settings
from metajax.methods.assembly import adaptation_of, first_progress, progress_like
from metajax.methods.settings import Settings
from metajax.runs.folder import (
    CHECKPOINTS,
    GRAPH,
    SETTINGS,
    read_json,
    recorded,
    restored,
    warn_of_damage,
)
from metajax.runs.recommendation import Recommender, catalogue_of
from metajax.training import Progress, Row

__all__ = [
    "Run",
    "create",
    "load",
    "open_run",
    "resumed",
    "settings_of",
    "train_run",
]

_DOMAINS = "domains.json"


class Run(NamedTuple):
    """An open run."""

    folder: Path
    """Where it lives."""
    settings: Settings
    """How it is trained."""
    dataset: Dataset
    """What on."""
    users: ColdUsers | CrossUsers
    """The fold: who trains, who validates, who is cold."""
    crossing: Crossing | None = None
    """Of a transfer, which two domains."""


def create(
    folder: Path,
    chosen: Settings,
    loaded: Dataset | Domains,
    crossed: Crossing | None = None,
) -> tuple[Run, Progress]:
    """Makes a run's folder and writes down what it is going to be.

    Nothing is made before everything that can be refused has been looked at.

    Args:
        folder: A folder that does not exist yet.
        chosen: The settings.
        loaded: What `chosen.data` was loaded as, or `crossed`.
        crossed: Of a transfer, which two domains; `chosen.data` is then its target.

    Returns:
        The open run, and its progress before the first update.

    Raises:
        ValueError: If the data cannot be learned from, or the settings do not fit them.
        OSError: If the folder exists or cannot be written.
    """
    # Where a relative path leads depends on where one stands.
    if crossed is not None:
        crossed = crossing.absolute(crossed)
        chosen = replace(chosen, data=crossed.main)
    if chosen.data not in datasets.names():
        chosen = replace(chosen, data=str(Path(chosen.data).resolve()))
    run = _prepared(folder, chosen, loaded, crossed)
    progress = first_progress(chosen, run.users.training)
    folder.mkdir(parents=True)
    checkpoint.write_file(folder / SETTINGS, settings.to_json(chosen))
    if crossed is not None:
        checkpoint.write_file(folder / _DOMAINS, crossing.to_json(crossed))
    checkpoint.write_file(
        folder / "data.json", json.dumps(fingerprint(run.dataset), indent=1) + "\n"
    )
    checkpoint.write_file(folder / "schema.json", json.dumps(_schemas(run.users), indent=1) + "\n")
    # So that a run that is killed before its first validation can be resumed.
    checkpoint.save(folder / CHECKPOINTS, 0, progress)
    return run, progress


def open_run(folder: Path, *, progress: Callable[[int, int | None], None] | None = None) -> Run:
    """Opens a run that `create` made.

    Args:
        folder: Its folder.
        progress: Called while its data are fetched, if they are no longer at hand.

    Returns:
        The run.

    Raises:
        ValueError: If the folder holds no run, or its data have changed since.
    """
    chosen = settings_of(folder)
    crossed = None
    if (folder / _DOMAINS).exists():
        crossed = crossing.from_json(folder / _DOMAINS)
        loaded = crossing.load_domains(crossed, chosen.reading(), progress=progress)
    else:
        loaded = datasets.load(chosen.data, progress=progress, **chosen.reading())
    dataset = loaded.dataset if isinstance(loaded, Domains) else loaded
    if read_json(folder / "data.json") != fingerprint(dataset):
        raise ValueError(
            f"{chosen.data}: the data have changed since {folder} was trained on them."
        )
    run = _prepared(folder, chosen, loaded, crossed)
    if read_json(folder / "schema.json") != _schemas(run.users):
        raise ValueError(f"{folder / 'schema.json'}: does not fit the data of this run.")
    return run


def settings_of(folder: Path) -> Settings:
    """Reads the settings of a run.

    Raises:
        ValueError: If the folder holds no run, or one on a graph.
    """
    if (folder / GRAPH).is_file():
        raise ValueError(f"{folder}: this run is on a graph: ask it by metajax graph complete.")
    if not (folder / SETTINGS).is_file():
        raise ValueError(f"{folder}: no run is here (there is no settings.json).")
    return settings.from_json(folder / SETTINGS)


def resumed(run: Run, *, on_skip: Callable[[int, str], None] = warn_of_damage) -> Progress:
    """Reads the last good checkpoint.

    Args:
        run: An open run.
        on_skip: Called with the step and the reason for each damaged checkpoint passed over.

    Returns:
        The progress it holds.

    Raises:
        CheckpointError: If there is none.
        ValueError: If the settings have been changed since.
    """
    like = progress_like(run.settings, run.users.training)
    return restored(run.folder, like, on_skip=on_skip)


def train_run(
    run: Run,
    progress: Progress,
    *,
    on_row: Callable[[Row], None] = lambda row: None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Progress, bool]:
    """Trains, and writes metrics and checkpoints as it goes.

    Args:
        run: An open run.
        progress: From `create` or `resumed`.
        on_row: Called after each dispatch.
        stop: Asked after each dispatch; if it says so the run is saved and left.

    Returns:
        The last progress, and whether training has come to its end.

    Raises:
        DivergedError: As `training.train`; what was saved before stays.
        CheckpointError: If a checkpoint cannot be written; older ones stay.
        OSError: If the metrics cannot be written.
    """
    steps = train_on(run.users, run.settings, progress)
    return recorded(run.folder, progress, steps, on_row=on_row, stop=stop)


def load(
    folder: str | os.PathLike[str], *, on_skip: Callable[[int, str], None] = warn_of_damage
) -> Recommender:
    """Loads a trained run to recommend from.

    Args:
        folder: The run's folder.
        on_skip: As in `resumed`.

    Returns:
        A recommender with the parameters that validated best.

    Raises:
        ValueError: If no run is there.
        CheckpointError: If it has no good checkpoint.
    """
    run = open_run(Path(folder))
    return Recommender(
        adaptation_of(run.settings, shapes_of(run.users.training)),
        resumed(run, on_skip=on_skip).best,
        run.users.user_schema,
        catalogue_of(
            run.dataset.items, run.users.training.item_features, run.users.training.item_domain
        ),
        run.dataset.scale,
    )


def _prepared(
    folder: Path, chosen: Settings, loaded: Dataset | Domains, crossed: Crossing | None
) -> Run:
    if isinstance(loaded, Domains):
        check_ratings(loaded.dataset)
        users = cross_users(loaded, fold=chosen.fold, seed=chosen.seed)
        return Run(folder, chosen, loaded.dataset, users, crossed)
    check_ratings(loaded)
    return Run(folder, chosen, loaded, cold_users(loaded, fold=chosen.fold, seed=chosen.seed))


def _schemas(users: ColdUsers | CrossUsers) -> dict[str, Any]:
    schemas = {"user": users.user_schema, "item": users.item_schema}
    return {name: json.loads(schema.to_json(value)) for name, value in schemas.items()}

"""Training runs: a folder each, from which training resumes to the same bits, or is served.

    RUN/settings.json     the settings
    RUN/data.json         counts and digest of the data
    RUN/domains.json      the two domains of a transfer
    RUN/schema.json       how users and items are encoded
    RUN/graph.json        of a run on a knowledge graph, in place of the three above: names, triples
                          of each part, links, what was left out
    RUN/metrics.jsonl     a line a dispatch, or an epoch of a graph
    RUN/checkpoints/      the training progress, verified when read
    RUN/report.json       figures; report.html shows them

`create_folder`, `resumed` and `train_run` serve every kind of run: see `Trainable`.
"""

import json
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from metajax import checkpoint, fields, files, registry
from metajax.cross_domain.domains import (
    DomainPair,
    Domains,
    load_domains,
    with_absolute_paths,
)
from metajax.cross_domain.users import cross_users
from metajax.data import datasets, schema
from metajax.data.cold_users import cold_users
from metajax.data.dataset import Dataset, fingerprint, shapes_of
from metajax.data.splits import Split
from metajax.evaluation import check_ratings, train_on
from metajax.methods import Settings
from metajax.registry import adaptation_of, first_progress, predicts_ratings, progress_like
from metajax.runs.recommendation import Recommender, catalogue_of
from metajax.training import Progress

__all__ = [
    "Run",
    "Trainable",
    "create",
    "create_folder",
    "free_folder",
    "last_good",
    "load",
    "open_run",
    "read_json",
    "resumed",
    "settings_of",
    "train",
    "train_run",
    "warn_of_damage",
]

CHECKPOINTS = "checkpoints"
GRAPH = "graph.json"
SETTINGS = "settings.json"
_DOMAINS = "domains.json"


class Trainable(Protocol):
    """An open run of any kind."""

    @property
    def folder(self) -> Path:
        """Its folder."""
        ...

    def progress_like(self) -> Progress:
        """Returns a progress of the shapes and dtypes of this run's, cheaply."""
        ...

    def steps(self, progress: Progress) -> Iterable[tuple[Progress, Any]]:
        """Trains.

        Args:
            progress: Initial progress.

        Returns:
            Each next progress, with a NamedTuple of figures that has `step` and `validation`; the
            latter is None where the run was not validated.
        """
        ...


class Run(NamedTuple):
    """An open run."""

    folder: Path
    """Its folder."""
    settings: Settings
    """Its settings."""
    dataset: Dataset
    """Its data."""
    users: Split
    """The fold: training, validation and cold users."""
    pair: DomainPair | None = None
    """The two domains of a transfer."""

    def progress_like(self) -> Progress:
        """Returns a progress of the shapes and dtypes of this run's."""
        return progress_like(self.settings, self.users.training)

    def steps(self, progress: Progress) -> Iterable[tuple[Progress, Any]]:
        """Trains with the run's settings on its fold, as `Trainable.steps`."""
        return train_on(self.users, self.settings, progress)


def create(
    folder: Path,
    chosen: Settings,
    loaded: Dataset | Domains,
    pair: DomainPair | None = None,
) -> tuple[Run, Progress]:
    """Creates a run and its folder.

    Everything is validated before anything is written.

    Args:
        folder: A folder that does not exist yet.
        chosen: The settings.
        loaded: The data of `chosen.data`, or of `pair`.
        pair: The two domains of a transfer; `chosen.data` becomes its target.

    Returns:
        The open run, and its progress before the first update.

    Raises:
        ValueError: If the data cannot be learned from, or the settings do not fit them.
        OSError: If the folder exists or cannot be written.
    """
    if pair is not None:
        pair = with_absolute_paths(pair)
        chosen = replace(chosen, data=pair.main)
    chosen = _absolute(chosen)
    run = _prepared(folder, chosen, loaded, pair)
    progress = first_progress(chosen, run.users.training)
    contents = {SETTINGS: registry.to_json(chosen)}
    if pair is not None:
        contents[_DOMAINS] = fields.to_json(pair)
    for name, facts in (("data", fingerprint(run.dataset)), ("schema", _schemas(run.users))):
        contents[f"{name}.json"] = json.dumps(facts, indent=1) + "\n"
    create_folder(folder, contents, progress)
    return run, progress


def open_run(folder: Path, *, progress: Callable[[int, int | None], None] | None = None) -> Run:
    """Opens a run that `create` made.

    Args:
        folder: Its folder.
        progress: Called while its data are downloaded, if they are not cached.

    Returns:
        The run.

    Raises:
        ValueError: If the folder holds no run, or its data have changed since.
    """
    chosen = settings_of(folder)
    pair = None
    if (folder / _DOMAINS).exists():
        pair = fields.from_json(folder / _DOMAINS, DomainPair, "the domains of a run")
        loaded = load_domains(pair, chosen.reading(), progress=progress)
    else:
        loaded = datasets.load(chosen.data, progress=progress, **chosen.reading())
    dataset = loaded.dataset if isinstance(loaded, Domains) else loaded
    if read_json(folder / "data.json") != fingerprint(dataset):
        raise ValueError(
            f"{chosen.data}: the data have changed since {folder} was trained on them."
        )
    run = _prepared(folder, chosen, loaded, pair)
    if read_json(folder / "schema.json") != _schemas(run.users):
        raise ValueError(f"{folder / 'schema.json'}: does not fit the data of this run.")
    return run


def settings_of(folder: Path) -> Settings:
    """Reads the settings of a run.

    Raises:
        ValueError: If the folder holds no run, or one on a graph.
    """
    if (folder / GRAPH).is_file():
        raise ValueError(f"{folder}: this is a run on a graph: use metajax graph complete.")
    if not (folder / SETTINGS).is_file():
        raise ValueError(f"{folder}: no run is here (there is no settings.json).")
    return registry.from_json(folder / SETTINGS)


def create_folder(folder: Path, contents: Mapping[str, str], progress: Progress) -> None:
    """Makes the folder of a run.

    Args:
        folder: A folder that does not exist yet.
        contents: Text of each file by name.
        progress: The progress before the first update, saved so that a run that is killed before
            its first validation can be resumed.

    Raises:
        OSError: If the folder exists or cannot be written.
        CheckpointError: If the progress cannot be saved.
    """
    folder.mkdir(parents=True)
    for name, text in contents.items():
        checkpoint.write_file(folder / name, text)
    checkpoint.save(folder / CHECKPOINTS, 0, progress)


def free_folder(name: str) -> Path:
    """Returns a folder in `runs` that does not exist yet: the name, numbered if it is taken."""
    folder, n = Path("runs") / name, 1
    while folder.exists():
        n += 1
        folder = Path("runs") / f"{name}-{n}"
    return folder


def warn_of_damage(step: int, reason: str) -> None:
    """Warns of a damaged checkpoint that was passed over."""
    warnings.warn(f"checkpoint of update {step} is damaged and left out: {reason}", stacklevel=2)


def resumed(run: Trainable, *, on_skip: Callable[[int, str], None] = warn_of_damage) -> Progress:
    """Reads the last good checkpoint of a run.

    Args:
        run: An open run.
        on_skip: Called with the step and the reason for each damaged checkpoint passed over.

    Returns:
        The progress it holds.

    Raises:
        CheckpointError: If there is none.
        ValueError: If the settings have been changed since.
    """
    try:
        return checkpoint.restore(run.folder / CHECKPOINTS, run.progress_like(), on_skip=on_skip)[1]
    except ValueError as error:
        raise ValueError(f"{run.folder / SETTINGS}: do not fit the checkpoint: {error}") from None


def train_run(
    run: Trainable,
    progress: Progress,
    *,
    on_row: Callable[[Any], None] = lambda row: None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Progress, bool]:
    """Trains, and writes metrics and checkpoints as it goes.

    Args:
        run: An open run.
        progress: From its creation, or from `resumed`.
        on_row: Called with each row of figures, after a dispatch or an epoch.
        stop: Called after each row; once it returns True the run is saved and left.

    Returns:
        The last progress, and whether training has come to its end.

    Raises:
        DivergedError: As `training.train`; what was saved before stays.
        CheckpointError: If a checkpoint cannot be written; older ones stay.
        OSError: If the metrics cannot be written.
        ValueError: If there are metrics already, which are of no run.
    """
    metrics = run.folder / "metrics.jsonl"
    _cut(metrics, int(progress.state.step))
    latest = progress
    for latest, row in run.steps(progress):
        with metrics.open("a") as file:
            file.write(json.dumps(row._asdict()) + "\n")
        stopped = stop()
        if row.validation is not None or stopped:
            checkpoint.save(run.folder / CHECKPOINTS, row.step, latest)
        on_row(row)
        if stopped:
            return latest, False
    return latest, True


def train(
    folder: str | os.PathLike[str],
    chosen: Settings,
    *,
    on_row: Callable[[Any], None] = lambda row: None,
    stop: Callable[[], bool] = lambda: False,
) -> Recommender:
    """Trains a method on a data set in a folder of its own, or resumes where that was stopped.

    Args:
        folder: The run's folder; one that exists must hold a run of the same settings.
        chosen: The settings; their `data` is a name or a path.
        on_row: As in `train_run`.
        stop: As in `train_run`.

    Returns:
        A recommender with the parameters that validated best, as `load` returns.

    Raises:
        ValueError: If the folder holds a run of other settings or another folder's content, or as
            `create` and `open_run`.
        DivergedError: If training diverged; what was saved before stays.
        CheckpointError: If a checkpoint cannot be written or no good one can be read.
        DataUnavailable: If the data cannot be had.
        OSError: If the folder cannot be written.
    """
    folder = Path(folder)
    if folder.exists():
        run = open_run(folder)
        if run.settings != _absolute(chosen):
            raise ValueError(f"{folder}: the run was begun with other settings.")
        progress = resumed(run)
    else:
        loaded = datasets.load(chosen.data, **chosen.reading())
        run, progress = create(folder, chosen, loaded)
    progress, _ = train_run(run, progress, on_row=on_row, stop=stop)
    return _recommender(run, progress)


def last_good(folder: Path) -> str:
    """One sentence that names the last checkpoint of a run."""
    found = checkpoint.steps(folder / CHECKPOINTS)
    if not found:
        return "There is no checkpoint yet."
    return f"The last good checkpoint is of update {found[-1]}, in {folder / CHECKPOINTS}."


def read_json(path: Path) -> Any:
    """Reads a file of a run.

    Raises:
        ValueError: If it cannot be read; names it.
    """
    try:
        return files.read_json(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}.") from None


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
    return _recommender(run, resumed(run, on_skip=on_skip))


def _recommender(run: Run, progress: Progress) -> Recommender:
    training = run.users.training
    return Recommender(
        adaptation_of(run.settings, shapes_of(training)),
        progress.best,
        run.users.user_schema,
        catalogue_of(run.dataset.items, training.item_features, training.item_domain),
        run.dataset.scale,
        run.users.labels,
        predicts_ratings(run.settings),
    )


def _absolute(chosen: Settings) -> Settings:
    # Where a relative path leads depends on the working directory.
    if chosen.data in datasets.names():
        return chosen
    return replace(chosen, data=str(Path(chosen.data).resolve()))


def _prepared(
    folder: Path, chosen: Settings, loaded: Dataset | Domains, pair: DomainPair | None
) -> Run:
    if isinstance(loaded, Domains):
        check_ratings(loaded.dataset)
        users = cross_users(loaded, fold=chosen.fold, seed=chosen.seed)
        return Run(folder, chosen, loaded.dataset, users, pair)
    check_ratings(loaded)
    return Run(folder, chosen, loaded, cold_users(loaded, fold=chosen.fold, seed=chosen.seed))


def _schemas(users: Split) -> dict[str, Any]:
    schemas = {"user": users.user_schema, "item": users.item_schema}
    return {name: json.loads(schema.to_json(value)) for name, value in schemas.items()}


def _cut(metrics: Path, step: int) -> None:
    """Drops the rows after a step, which a killed run wrote past its checkpoint."""
    lines = metrics.read_text().splitlines(keepends=True) if metrics.exists() else []
    # A killed run may also have left half a line.
    whole = [line for line in lines if line.endswith("\n")]
    try:
        kept = [line for line in whole if json.loads(line)["step"] <= step]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{metrics}: not the metrics of a run: {error}") from None
    checkpoint.write_file(metrics, "".join(kept))

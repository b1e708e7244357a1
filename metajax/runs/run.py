"""Training runs: a folder each, from which training resumes to the same bits, or is served.

A closed form is trained by tuning its grid and fitting the choice (`evaluation.fit_on`); a step is
a setting tried, and the parameters are bytes (`metajax.parameters`).

    RUN/settings.json     the settings
    RUN/data.json         counts and digest of the data
    RUN/domains.json      the two domains of a transfer
    RUN/schema.json       how users and items are encoded
    RUN/catalogue.json    items, scale and sizes, and in item_features.npz their encoded features
    RUN/graph.json        of a run on a knowledge graph, in place of those above but settings.json:
                          names, triples of each part, links, what was left out
    RUN/metrics.jsonl     a line a dispatch, a setting tried, or an epoch of a graph
    RUN/checkpoints/      the training progress, and digests of the files above
    RUN/judged/           measurements of each method that was judged, each with its sha256
    RUN/report.json       figures; report.html shows them; their digests are in report.sha256
    RUN/lock              the process that trains, while it does

To train on and to judge a run its data are needed; to recommend from it, its folder is enough.
`resumed` and `train_run` serve every kind of run: see `Trainable`; `metajax.runs.folder` makes and
verifies the folders.
"""

import json
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from metajax import checkpoint, evaluation, fields, locks, parameters, registry
from metajax.cross_domain.domains import (
    DomainPair,
    Domains,
    load_domains,
    with_absolute_paths,
)
from metajax.cross_domain.users import cross_users
from metajax.data import datasets, schema
from metajax.data.cold_users import cold_users
from metajax.data.dataset import Dataset, fingerprint, shapes_of, units_of
from metajax.data.splits import Split
from metajax.evaluation import check_dataset, check_ranked, train_on
from metajax.methods import Settings
from metajax.registry import (
    adaptation_of,
    check_domains,
    closed_form_of,
    first_progress,
    params_like,
    predicts_ratings,
    progress_like,
    settings_on,
)
from metajax.runs import serving
from metajax.runs.catalogue import catalogue_of
from metajax.runs.folder import (
    CHECKPOINTS,
    Claim,
    check_files,
    check_report,
    claim,
    make,
    open_metrics,
    read_json,
)
from metajax.runs.recommender import Recommender
from metajax.training import Progress
from metajax.types import Params

__all__ = [
    "Run",
    "Trainable",
    "create",
    "load",
    "open_run",
    "resumed",
    "settings_of",
    "train",
    "train_run",
    "warn_of_damage",
    "with_absolute_data",
]

GRAPH = "graph.json"
SETTINGS = "settings.json"
_DATA = "data.json"
_DOMAINS = "domains.json"
_SCHEMA = "schema.json"


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
        closed_form = closed_form_of(self.settings)
        if closed_form is not None:
            return evaluation.begin_fit(closed_form)
        return progress_like(self.settings, self.users.training)

    def steps(self, progress: Progress) -> Iterable[tuple[Progress, Any]]:
        """Trains with the run's settings on its fold, as `Trainable.steps`."""
        closed_form = closed_form_of(self.settings)
        if closed_form is not None:
            return evaluation.fit_on(closed_form, self.users, progress)
        return train_on(self.users, self.settings, progress)

    def params(self, progress: Progress) -> Params:
        """Returns the parameters that validated best.

        Raises:
            ValueError: If there are none, because the fit of a closed form did not come to its end.
        """
        return _params_of(self.folder, self.settings, progress.best)


def create(
    folder: Path | Claim,
    chosen: Settings,
    loaded: Dataset | Domains,
    pair: DomainPair | None = None,
) -> tuple[Run, Progress]:
    """Creates a run and its folder.

    Everything is validated before anything is written.

    Args:
        folder: A folder that does not exist yet, or a claim to one.
        chosen: The settings.
        loaded: The data of `chosen.data`, or of `pair`.
        pair: The two domains of a transfer; `chosen.data` becomes its target.

    Returns:
        The open run, and its progress before the first update.

    Raises:
        ValueError: If the data cannot be learned from, or the settings do not fit them.
        OSError: If the folder exists or cannot be written.
    """
    if not isinstance(folder, Claim):
        with claim(folder) as claimed:
            return create(claimed, chosen, loaded, pair)
    if pair is not None:
        pair = with_absolute_paths(pair)
        chosen = replace(chosen, data=pair.main)
    chosen = with_absolute_data(chosen)
    if isinstance(loaded, Dataset):
        _check_named(chosen, loaded)
    run = _prepared(folder.folder, chosen, loaded, pair)
    chosen, training = run.settings, run.users.training
    closed_form = closed_form_of(chosen)
    if closed_form is None:
        progress = first_progress(chosen, training)
    else:
        check_domains(closed_form, chosen, training)
        progress = evaluation.begin_fit(closed_form)
    contents: dict[str, str | bytes] = {SETTINGS: registry.to_json(chosen)}
    if pair is not None:
        contents[_DOMAINS] = fields.to_json(pair)
    for name, facts in ((_DATA, fingerprint(run.dataset)), (_SCHEMA, _schemas(run.users))):
        contents[name] = json.dumps(facts, indent=1) + "\n"
    catalogue = catalogue_of(run.dataset.items, training.item_features, training.item_domain)
    scale, grades = units_of(run.dataset)
    served = serving.Served(catalogue, scale, run.users.labels, shapes_of(training), grades)
    contents |= serving.contents_of(served)
    make(folder, contents, progress)
    return run, progress


def open_run(folder: Path, *, progress: Callable[[int, int | None], None] | None = None) -> Run:
    """Opens a run that `create` made.

    Args:
        folder: Its folder.
        progress: Called while its data are downloaded, if they are not cached.

    Returns:
        The run.

    Raises:
        ValueError: If the folder holds no run, a file of it is damaged, or its data have changed
            since.
        CheckpointError: If it has no good checkpoint.
    """
    _check_kind(folder)
    check_files(folder)
    chosen = settings_of(folder)
    pair = None
    if (folder / _DOMAINS).exists():
        pair = fields.from_json(folder / _DOMAINS, DomainPair, "the domains of a run")
        loaded = load_domains(pair, chosen.reading(), progress=progress)
    else:
        loaded = datasets.load(chosen.data, progress=progress, **chosen.reading())
    dataset = loaded.dataset if isinstance(loaded, Domains) else loaded
    if read_json(folder / _DATA) != fingerprint(dataset):
        raise ValueError(
            f"{chosen.data}: the data have changed since {folder} was trained on them."
        )
    run = _prepared(folder, chosen, loaded, pair)
    if read_json(folder / _SCHEMA) != _schemas(run.users):
        raise ValueError(f"{folder / _SCHEMA}: does not fit the data of this run.")
    return run


def settings_of(folder: Path) -> Settings:
    """Reads the settings of a run.

    Raises:
        ValueError: If the folder holds no run, or one on a graph.
    """
    _check_kind(folder)
    return registry.from_json(folder / SETTINGS)


def _check_kind(folder: Path) -> None:
    if (folder / GRAPH).is_file():
        raise ValueError(f"{folder}: this is a run on a graph: use metajax graph complete.")
    if not (folder / SETTINGS).is_file() and not (folder / CHECKPOINTS).is_dir():
        raise ValueError(f"{folder}: no run is here (there is no settings.json).")


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
    return _restored(run.folder, run.progress_like(), on_skip=on_skip)[1]


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
        stop: Called after each row, before and after `on_row`; once it returns True the run is
            saved and left.

    Returns:
        The last progress, and whether training has come to its end.

    Raises:
        DivergedError: As `training.train`; what was saved before stays.
        CheckpointError: If a checkpoint cannot be written; older ones stay. If there is none of
            this progress.
        LockedError: If another process trains the run.
        OSError: If the metrics cannot be written.
        ValueError: If a file of the run is damaged; names it.
    """
    with locks.locked(run.folder):
        latest, saved = progress, int(progress.state.step)
        metrics = open_metrics(run.folder, saved)

        def save(step: int) -> None:
            nonlocal saved
            if step > saved:
                checkpoint.save(run.folder / CHECKPOINTS, step, latest, files=metrics.synced())
                saved = step

        for latest, row in run.steps(progress):
            metrics.add(row)
            if row.validation is not None or stop():
                save(row.step)
            on_row(row)
            # Once more: a signal may have come while the row was shown.
            if stop():
                save(row.step)
                return latest, False
        save(int(latest.state.step))
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
        if run.settings != settings_on(with_absolute_data(chosen), run.dataset):
            raise ValueError(f"{folder}: the run was begun with other settings.")
        progress = resumed(run)
    else:
        loaded = datasets.load(chosen.data, **chosen.reading())
        run, progress = create(folder, chosen, loaded)
    train_run(run, progress, on_row=on_row, stop=stop)
    return load(folder)


def load(
    folder: str | os.PathLike[str], *, on_skip: Callable[[int, str], None] = warn_of_damage
) -> Recommender:
    """Loads a trained run to recommend from; its data are not read.

    Args:
        folder: The run's folder.
        on_skip: As in `resumed`.

    Returns:
        A recommender with the parameters that validated best.

    Raises:
        ValueError: If no run is there, a file of it is damaged, which is named, or the fit of a
            closed form did not come to its end.
        CheckpointError: If it has no good checkpoint.
    """
    folder = Path(folder)
    _check_kind(folder)
    check_files(folder)
    check_report(folder)
    chosen = settings_of(folder)
    served = serving.read(folder)
    user_schema = schema.from_json(json.dumps(read_json(folder / _SCHEMA)["user"]))
    like = b"" if closed_form_of(chosen) else params_like(chosen, served.shapes)
    _, best = _restored(folder, like, part=".best", on_skip=on_skip)
    params = _params_of(folder, chosen, best)
    return Recommender(
        adaptation_of(chosen, served.shapes),
        params,
        user_schema,
        served.catalogue,
        served.scale,
        served.labels,
        predicts_ratings(chosen) and served.scale is not None,
        served.grades,
        registry.blend_of(chosen.method),
    )


def _params_of(folder: Path, chosen: Settings, best: Any) -> Params:
    """Returns the parameters of the `best` of a progress."""
    if closed_form_of(chosen) is None:
        return best
    if not best:
        raise ValueError(
            f"{folder}: {chosen.method} is not fitted to the end: metajax train --resume {folder}."
        )
    return parameters.from_bytes(best)


def _restored(folder: Path, like: Any, **options: Any) -> tuple[int, Any]:
    try:
        return checkpoint.restore(folder / CHECKPOINTS, like, **options)
    except ValueError as error:
        raise ValueError(f"{folder / SETTINGS}: do not fit the checkpoint: {error}") from None


def with_absolute_data(chosen: Settings) -> Settings:
    """Returns settings whose paths of data do not depend on the working directory."""
    tables: dict[str, Any] = {
        name: str(Path(path).resolve())
        for name in ("users", "items")
        if (path := getattr(chosen, name)) is not None
    }
    data = chosen.data
    if data not in datasets.names():
        data = str(Path(data).resolve())
    return replace(chosen, data=data, **tables)


def _check_named(chosen: Settings, loaded: Dataset) -> None:
    """Refuses settings that name other data, or other options of reading them, than were loaded."""
    if loaded.options is None:
        return
    name = loaded.name if loaded.name in datasets.names() else str(Path(loaded.name).resolve())
    if name != chosen.data:
        raise ValueError(
            f"settings must name the data that are given, got data={chosen.data!r} and the data "
            f"of {loaded.name!r}."
        )
    given = with_absolute_data(Settings(data=chosen.data, **loaded.options)).reading()
    wanted = chosen.reading()
    for option in sorted(given.keys() | wanted.keys()):
        one, other = given.get(option), wanted.get(option)
        # The command line has places of columns as text.
        if one != other and str(one) != str(other):
            raise ValueError(
                f"settings must have the options with which the data were loaded, {option} "
                f"{one!r}, got {other!r}."
            )


def _prepared(
    folder: Path, chosen: Settings, loaded: Dataset | Domains, pair: DomainPair | None
) -> Run:
    dataset = loaded.dataset if isinstance(loaded, Domains) else loaded
    check_dataset(dataset)
    chosen = settings_on(chosen, dataset)
    if isinstance(loaded, Domains):
        users = cross_users(loaded, fold=chosen.fold, seed=chosen.seed)
    else:
        users = cold_users(loaded, fold=chosen.fold, seed=chosen.seed)
    # Of two domains with ratings `check_domains` refuses what predicts none.
    if dataset.implicit or not (predicts_ratings(chosen) or isinstance(loaded, Domains)):
        check_ranked(users)
    return Run(folder, chosen, dataset, users, pair)


def _schemas(users: Split) -> dict[str, Any]:
    schemas = {"user": users.user_schema, "item": users.item_schema}
    return {name: json.loads(schema.to_json(value)) for name, value in schemas.items()}

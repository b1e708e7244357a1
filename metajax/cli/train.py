"""The command `metajax train`, and functions that training commands share."""

import contextlib
import importlib.util
import shlex
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from metajax import cluster, evaluation, runs
from metajax.cli import console, signals, sources
from metajax.cli.evaluate import judge, open_run, scope_of
from metajax.data import datasets
from metajax.data.dataset import Dataset
from metajax.evaluation.closed_forms import Trials
from metajax.fields import names_of, rounded
from metajax.methods import Settings
from metajax.registry import (
    closed_form_of,
    closed_form_settings,
    method_of,
    predicts_ratings,
    settings_for,
    too_large,
)
from metajax.runs import judging
from metajax.search import study
from metajax.training import DivergedError, Progress

__all__ = [
    "Spread",
    "check_report",
    "check_resume",
    "claimed",
    "prepare",
    "preparing",
    "resumed",
    "studied",
    "suited",
    "train",
    "train_and_judge",
    "train_to_end",
]

prepare = sources.of_training

Spread = Callable[[runs.Run], runs.Trainable]
"""Spreads the training of a run over several processes."""


def train(
    settings: Annotated[Settings | None, Parameter(name="*")] = None,
    *,
    run: Path | None = None,
    resume: Path | None = None,
    from_study: Path | None = None,
    report: bool = True,
    baselines: str = "",
    judge_users: int = judging.Scope().users,
    workers: int | None = None,
    ray: str | None = None,
    asynchronous: bool = False,
) -> int:
    """Trains a method on one fold's users, then judges it on its cold users.

    A closed form, such as eb_fold_in, is tuned on the validation users and fitted to them as well.

    Args:
        settings: The settings.
        run: Folder of the run; must not exist. Default: runs/DATA-METHOD, numbered if taken.
        resume: Folder of a run to resume, with its own settings.
        from_study: File of a study of `metajax tune`: its method, data and best settings.
        report: Evaluate on the cold users at the end, with the baselines.
        baselines: Names of the baselines, separated by commas; by default all that suit the data.
        judge_users: Most cold users to judge, drawn by the seed.
        workers: Number of processes that train together, which Ray launches. Default: 1; with --ray
            one for each GPU, or else for each node.
        ray: Ray cluster that they run on: HOST:PORT, or auto for the one of this machine. Default:
            local, one that is started here and ends with the command.
        asynchronous: Let workers send gradients to a parameter server without waiting for each
            other; each is of all users of a meta-batch, and losses depend on chance.
    """
    scope = scope_of(baselines, judge_users)
    if report:
        check_report()
    typed = getattr(settings, "typed", frozenset())
    named, settings = getattr(settings, "named", True), sources.plain(settings)
    found = None
    if from_study is not None:
        if resume is not None:
            raise ValueError("--resume and --from-study exclude each other.")
        named, (found, settings) = True, studied(from_study, settings, typed)
    if resume is not None:
        check_resume(resume, run, settings, settings_for(sources.TRAINED), runs.settings_of)
    trained = settings if resume is None else runs.settings_of(resume)
    with _processes(trained, workers, ray, asynchronous) as spread:
        if resume is not None:
            opened, progress = resumed(resume)
            return train_and_judge(opened, progress, scope if report else None, spread)
        with contextlib.ExitStack() as stack:
            claim = None if run is None else stack.enter_context(runs.claim(run))
            with console.fetching(settings.data) as fetched:
                dataset = datasets.load(settings.data, progress=fetched, **settings.reading())
            console.notes(dataset)
            if found is not None:
                study.check_data(found, dataset)
            if not named:
                settings = suited(settings, dataset)
            console.reductions(settings.method, dataset)
            default = f"{Path(settings.data).stem}-{settings.method}"
            claim = claim or stack.enter_context(claimed(None, default))
            with console.preparing(preparing(settings)):
                opened, progress = runs.create(claim, settings, dataset)
        return train_and_judge(opened, progress, scope if report else None, spread)


@contextlib.contextmanager
def _processes(
    settings: Settings, workers: int | None, address: str | None, asynchronous: bool
) -> Iterator[Spread]:
    """Connects to the cluster whose processes train, where there is to be one.

    Args:
        settings: Those of the run.
        workers: The option `--workers`.
        address: The option `--ray`.
        asynchronous: The option `--asynchronous`.

    Yields:
        What spreads a run over the processes; the run itself where this one trains alone.
    """
    if workers is not None:
        runs.check_workers(settings, workers, divide=not asynchronous)
    if address is None and workers in (None, 1):
        if asynchronous:
            raise ValueError("--asynchronous needs several --workers, or a cluster, --ray.")
        yield lambda run: run
        return
    address = address or "local"
    with contextlib.ExitStack() as stack:
        with console.busy("Starting Ray" if address == "local" else f"Connecting to {address}"):
            ray = stack.enter_context(cluster.connected(address, cpus=workers or 1))
        count = cluster.most_workers(ray) if workers is None else workers
        runs.check_workers(settings, count, divide=not asynchronous)
        kind = runs.ParameterServer if asynchronous else runs.DataParallel
        yield lambda run: kind(run, count, address, console.error)


def studied(path: Path, settings: Settings, typed: Collection[str]) -> tuple[study.Study, Settings]:
    """Reads a study of `metajax tune`.

    Args:
        path: Its file.
        settings: Those of the command line.
        typed: The options that were given there.

    Returns:
        The study, and its settings with the values of its best trial; data that are named may lie
        elsewhere, and the caller checks that they are the same.

    Raises:
        ValueError: If another method is named, or a setting, which the study has.
    """
    found = study.read(path)
    chosen = study.settings_of(found)
    if "method" in typed and settings.method != chosen.method:
        raise ValueError(
            f"{path}: a study of another method, {chosen.method}; got {settings.method}."
        )
    for name in typed:
        if name in set(names_of(Settings)) - {"data", "method"} or "." in name:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} must be left out: --from-study has the settings.")
    return found, replace(chosen, data=settings.data) if "data" in typed else chosen


def preparing(settings: Settings) -> str:
    """Names the work before the first update."""
    pretrained = getattr(settings.options, "pretrained", False)
    return "Pretraining item factors" if pretrained else f"Initialising {settings.method}"


def suited(settings: Settings, dataset: Dataset) -> Settings:
    """Returns settings of the default method for the data, where none is named.

    Args:
        settings: Those of a method that was not named.
        dataset: The data.

    Returns:
        The same; for a log without ratings those of a method that orders items, with the shared
        settings that were changed: attentive neighbours where training is by updates, and of a
        transfer a closed form, `sources.LISTED_ACROSS`; `sources.UPDATED` and `sources.TRAINED`
        where these have no room for the items.
    """
    if not dataset.implicit or settings.method not in (sources.UPDATED, sources.ACROSS):
        return settings
    plain = settings_for(settings.method)
    names = [name for name in names_of(Settings) if name not in ("method", "options")]
    changed = {n: getattr(settings, n) for n in names if getattr(settings, n) != getattr(plain, n)}
    updated = settings.method == sources.UPDATED or changed.keys() - set(closed_form_settings)
    chosen = "attentive_neighbours" if updated else sources.LISTED_ACROSS
    if too_large(method_of(chosen), len(dataset.items.ids)) is not None:
        chosen = sources.UPDATED if updated else sources.TRAINED
    return settings_for(chosen, **changed)


def claimed(run: Path | None, default: str) -> AbstractContextManager[runs.Claim]:
    """Claims the folder of a new run before any work is done for it.

    Args:
        run: The option `--run`.
        default: Name in `runs` where it is not given; numbered if that is taken.

    Returns:
        A context manager that yields the claim.
    """
    return runs.claim(Path("runs") / default, numbered=True) if run is None else runs.claim(run)


def check_report(instead: str = ", or --no-report") -> None:
    """Refuses to train when the report could not be written.

    Args:
        instead: End of the error: the option that does without.

    Raises:
        ValueError: If a package is missing.
    """
    for package in ("jinja2", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"the report needs {package}: pip install 'metajax[cli]'{instead}.")


def check_resume(
    resume: Path,
    run: Path | None,
    settings: Any,
    default: Any,
    settings_of: Callable[[Path], Any],
    others: Any = None,
) -> None:
    """Refuses options that have no effect on a run that is resumed.

    Args:
        resume: Folder of the run.
        run: The option `--run`.
        settings: The settings that were given.
        default: Those that are given without any option.
        settings_of: Reads the settings of a run.
        others: Any other option; false where none is given.

    Raises:
        ValueError: If `run` or another option is given, or settings other than the run's.
    """
    if run is not None:
        raise ValueError(f"--resume writes to {resume}, so --run must be left out, got {run}.")
    if settings not in (default, settings_of(resume)) or others:
        raise ValueError(f"--resume continues with the settings of {resume}; give no others.")


def resumed(folder: Path) -> tuple[runs.Run, Progress]:
    """Opens a run at its last checkpoint, and prints how far it is."""
    opened = open_run(folder)
    with console.busy("Reading the last good checkpoint"):
        progress = runs.resumed(opened, on_skip=console.skipped)
    console.say(f"Resuming {folder} at {_place(progress)}.")
    return opened, progress


def train_and_judge(
    opened: runs.Run,
    progress: Progress,
    scope: judging.Scope | None,
    spread: Spread = lambda run: run,
) -> int:
    """Trains a run to its end with a bar, then judges it.

    Args:
        opened: The run.
        progress: Its progress.
        scope: The baselines and users to judge it by; None writes no report.
        spread: Spreads the run over several processes.

    Returns:
        The exit status.

    Raises:
        ValueError: If training diverged.
    """
    settings, folder = opened.settings, opened.folder
    if scope is not None:
        judging.stages(opened, scope)  # Refuses a baseline that does not suit the data.
    began = time.monotonic()
    sizes = [len(part) for part in opened.users.fold]
    console.say(
        f"{settings.method} on {opened.dataset.name}, fold {settings.fold}: {sizes[0]} users "
        f"train, {sizes[1]} validate, {sizes[2]} are cold. Run folder: {folder}"
    )
    start, best = int(progress.state.step), float(progress.best_loss)
    closed_form = closed_form_of(settings)
    if closed_form is None:
        patience, best_step = settings.patience * settings.validate_every, int(progress.best_step)
        bar = console.training(
            settings.updates, settings.tasks, start, best, patience=patience, best_step=best_step
        )
    else:
        bar = console.trials(evaluation.steps_of(closed_form), start, best)
    command = "train" if opened.pair is None else "transfer"
    progress = train_to_end(spread(opened), progress, bar, command)
    best, step = float(progress.best_loss), int(progress.best_step)
    if closed_form is None:
        measure = "RMSE" if predicts_ratings(settings) else "loss (1 - NDCG@10)"
        console.say(f"Best validation {measure} {rounded(best, '.4f')} at update {step}.")
        if int(progress.state.step) < settings.updates:
            console.say(
                f"Early stopping ended training at update {int(progress.state.step)} of "
                f"{settings.updates}: {settings.patience} validations brought no lower loss."
            )
    elif step:
        chosen = ", ".join(f"{n}={value}" for n, value in closed_form.grid[step - 1].items())
        with_settings = f"{len(closed_form.grid)} settings with {chosen or 'the defaults'}"
        if best < float("inf"):
            console.say(f"Best validation loss {rounded(best, '.4f')}, of {with_settings}.")
        else:
            console.say(f"Validation tells no setting from another: the first, of {with_settings}.")
    if scope is None:
        return 0
    return judge(opened, scope, trained_in=None if start else time.monotonic() - began)


def _place(progress: Progress) -> str:
    """Says how far training is."""
    unit = "setting" if isinstance(progress.state, Trials) else "update"
    return f"{unit} {int(progress.state.step)}"


def train_to_end(
    run: runs.Trainable,
    progress: Progress,
    bar: AbstractContextManager[Callable[[Any], None]],
    command: str,
) -> Progress:
    """Trains a run; a signal saves it after the dispatch under way.

    Args:
        run: An open run of any kind.
        progress: Its progress.
        bar: Yields the function to call with each row of figures.
        command: The command whose `--resume` continues the run.

    Returns:
        The last progress.

    Raises:
        Stopped: After a signal; says how to resume.
        ValueError: If training diverged, or a cluster failed; names the last good checkpoint.
    """
    outcome = None
    with signals.collected() as caught:
        try:
            with bar as on_row:
                outcome = runs.train_run(
                    run, progress, on_row=caught.interruptible(on_row), stop=lambda: bool(caught)
                )
        except (DivergedError, cluster.ClusterError) as problem:
            raise ValueError(f"{problem} {runs.last_good(run.folder)}") from None
        except OSError:
            if outcome is None:  # Else the terminal of the bar is gone, and the run is saved.
                raise
    assert outcome is not None
    progress, _ = outcome
    folder = shlex.quote(str(run.folder))
    caught.raise_stopped(
        f"saved at {_place(progress)}. Resume: metajax {command} --resume {folder}"
    )
    return progress

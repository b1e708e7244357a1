"""What the commands that make, resume and judge a run have in common."""

import importlib.util
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metajax import report, runs
from metajax.cli import console, signals
from metajax.methods import assembly
from metajax.runs import folder as run_folder
from metajax.runs import judging
from metajax.training import DivergedError, Progress

__all__ = [
    "check_report",
    "free_folder",
    "judge",
    "open_run",
    "resumed",
    "show",
    "skipped",
    "train_and_judge",
]


def check_report() -> None:
    """Refuses to begin what could not be reported in the end.

    Raises:
        ValueError: If a package is missing.
    """
    for package in ("jinja2", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            raise ValueError(
                f"the report needs {package}: pip install 'metajax[cli]', or --no-report."
            )


def free_folder(name: str) -> Path:
    """Returns a folder for a run that does not exist yet."""
    folder, n = Path("runs") / name, 1
    while folder.exists():
        n += 1
        folder = Path("runs") / f"{name}-{n}"
    return folder


def open_run(folder: Path) -> runs.Run:
    """Opens a run, with a bar if its data have to be fetched."""
    with console.fetching("data") as fetched:
        return runs.open_run(folder, progress=fetched)


def resumed(folder: Path) -> tuple[runs.Run, Progress]:
    """Opens a run where it was left, and says so."""
    opened = open_run(folder)
    with console.busy("Reading the last good checkpoint"):
        progress = runs.resumed(opened, on_skip=skipped)
    print(f"Going on with {folder} at update {int(progress.state.step)}.")
    return opened, progress


def skipped(step: int, reason: str) -> None:
    """Says that a checkpoint is left out."""
    console.error(f"checkpoint of update {step} is damaged and left out: {reason}")


def train_and_judge(
    opened: runs.Run, progress: Progress, *, report: bool, trials: int | None = None
) -> int:
    """Trains a run to its end with a bar, then judges it.

    Args:
        opened: The run.
        progress: Where it is.
        report: Whether to judge it.
        trials: How many settings of its grid each baseline tries; None means all.

    Returns:
        The exit status.

    Raises:
        ValueError: If training diverged.
    """
    settings, folder = opened.settings, opened.folder
    sizes = [len(part) for part in opened.users.fold]
    print(
        f"{settings.learner} on {opened.dataset.name}, fold {settings.fold}: {sizes[0]} users "
        f"train, {sizes[1]} validate, {sizes[2]} are cold. Run folder: {folder}"
    )
    with signals.collected() as caught:
        start = int(progress.state.step)
        best = float(progress.best_loss)
        with console.training(settings.updates, settings.tasks, start, best) as on_row:
            try:
                progress, finished = runs.train_run(
                    opened, progress, on_row=on_row, stop=lambda: bool(caught)
                )
            except DivergedError as problem:
                raise ValueError(f"{problem} {run_folder.last_good(folder)}") from None
    if not finished:
        command = "train" if opened.crossing is None else "transfer"
        step = int(progress.state.step)
        print(f"Saved at update {step}. Go on: metajax {command} --resume {folder}")
        return 130 if caught[0] == signal.SIGINT else 0
    measure = "RMSE" if assembly.predicts_ratings(settings) else "loss (1 - NDCG@10)"
    best, step = float(progress.best_loss), int(progress.best_step)
    print(f"Best validation {measure} {best:.4f} at update {step}.")
    return judge(opened, trials=trials) if report else 0


def judge(run: runs.Run, *, trials: int | None = None) -> int:
    """Judges a run, prints its table, writes its report.

    Args:
        run: A trained run.
        trials: As in `train_and_judge`.

    Returns:
        The exit status.
    """
    params = runs.resumed(run, on_skip=skipped).best
    try:
        with signals.terminable(), console.stages("Judging", judging.stages(run)) as begin:
            records, notes = judging.judge_run(run, params, trials=trials, on_stage=begin)
    except KeyboardInterrupt as stopped:
        console.error(f"stopped; the run is saved. Judge it: metajax evaluate {run.folder}")
        return 0 if isinstance(stopped, signals.Terminated) else 130
    show(records, notes, judging.write_report(run, records, notes))
    return 0


def show(records: Sequence[Any], notes: Sequence[str], page: Path, *, brief: bool = False) -> None:
    """Prints a table, what to know about it, and where more is."""
    from rich.console import Console

    Console().print(report.terminal_table(records, brief=brief))
    for note in notes:
        print(note)
    print(f"{judging.headline(records)}\nReport: {page}")

"""The command `metajax tune`."""

import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from metajax import report, runs, search, storage
from metajax.cli import console, signals, sources
from metajax.cli.train import check_report, suited
from metajax.data import datasets
from metajax.methods import Settings
from metajax.search import study

__all__ = ["prepare", "search_and_report", "tune"]

prepare = sources.of_training


def tune(
    settings: Annotated[Settings | None, Parameter(name="*")] = None,
    *,
    trials: int = 30,
    workers: int = 1,
    storage_file: Annotated[Path | None, Parameter(name="--storage")] = None,
) -> None:
    """Searches for the settings of a method on the validation users; resumes where it stopped.

    Settings that are given, here, in the environment or in a file, are kept; the others that the
    method has ranges for are searched, its defaults first.

    Args:
        settings: The settings.
        trials: Number of trials in all, those before a restart included.
        workers: Number of processes, each with one thread; 1 means one process with all threads.
        storage_file: File of the study; one that exists must be of the same method, data and
            settings. Default: runs/DATA-METHOD-study.jsonl. The page is beside it, .html.
    """
    given, named = getattr(settings, "given", frozenset()), getattr(settings, "named", True)
    chosen = runs.with_absolute_data(sources.plain(settings))
    check_report("")
    with console.fetching(chosen.data) as fetched:
        dataset = datasets.load(chosen.data, progress=fetched, **chosen.reading())
    console.notes(dataset)
    if not named:
        chosen = suited(chosen, dataset)
    console.reductions(chosen.method, dataset)
    problem = search.ColdUsers(dataset, chosen, frozenset(given))
    default = f"{Path(chosen.data).stem}-{chosen.method}-study.jsonl"
    path = storage_file or Path("runs") / default
    search_and_report(problem, path, trials, workers)
    console.say(f"Train with it: metajax train --from-study {shlex.quote(str(path))}")


def search_and_report(problem: search.Problem, path: Path, trials: int, workers: int) -> None:
    """Searches with a bar, prints the best trial, and writes the page of the study.

    Args:
        problem: What to search.
        path: File of the study.
        trials: Number of trials.
        workers: Number of processes.

    Raises:
        Stopped: After a signal; says how to resume.
    """
    total = study.number_of_trials(problem.space, trials)
    if total < trials:
        console.error(f"note: the search space has {total} points, and so many trials are made.")
    saved = f"stopped; the trials that ended are in {path}. The same command resumes."
    with signals.stoppable(saved), console.searching(total) as on_trials:
        found = study.tune(problem, path, trials=trials, workers=workers, on_trials=on_trials)
    page = path.with_suffix(".html")
    storage.write_file(page, report.study_page(found))
    best = study.best_of(found)
    values = ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in best.chosen.items()
    )
    console.say(f"Best {found.facts['measure']} {best.loss:.4f}, in trial {best.index} of {total}.")
    console.say(f"Settings: {values or 'the defaults, there is nothing to choose'}.")
    console.say(f"Page: {page}")

"""The command `metajax evaluate`, and the table that commands print."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from metajax import report, runs
from metajax.cli import console, signals
from metajax.runs import judging

__all__ = ["conclude", "evaluate", "failure_of", "judge", "open_run"]


def evaluate(run: Annotated[Path, Parameter(name="run")], /) -> int:
    """Evaluates a run and the simple baselines on the cold users of its fold.

    Args:
        run: Folder of the run.
    """
    return judge(open_run(run))


def open_run(folder: Path) -> runs.Run:
    """Opens a run, with a bar if its data have to be downloaded."""
    with console.fetching("data") as fetched:
        return runs.open_run(folder, progress=fetched)


def judge(run: runs.Run, *, trials: int | None = None) -> int:
    """Evaluates a run, writes its report, prints its table.

    Args:
        run: A trained run.
        trials: As in `train_and_judge`.

    Returns:
        The exit status.
    """
    params = run.params(runs.resumed(run, on_skip=console.skipped))
    saved = f"stopped; the run is saved. Judge it: metajax evaluate {run.folder}"
    with signals.collected() as caught:
        with (
            signals.stoppable(saved),
            console.stages("Judging", judging.stages(run)) as begin,
        ):
            records, notes = judging.judge_run(run, params, trials=trials, on_stage=begin)
        unwritten = failure_of(lambda: judging.write_report(run, records, notes))
    return conclude(records, notes, run.folder, caught, unwritten)


def failure_of(write: Callable[[], Any]) -> OSError | None:
    """Writes something; returns the error where it cannot be written, to be raised later."""
    try:
        write()
    except OSError as problem:
        return problem
    return None


def conclude(
    records: Sequence[Any],
    notes: Sequence[str],
    folder: Path,
    caught: signals.Collected,
    unwritten: OSError | None,
    *,
    brief: bool = False,
) -> int:
    """Prints what was judged, after it was written.

    Args:
        records: The figures.
        notes: Sentences about them.
        folder: Folder of the report.
        caught: Signals that came while it was written.
        unwritten: The error if it could not be written: the figures are all that there is then.
        brief: As in `report.terminal_table`.

    Returns:
        The exit status.

    Raises:
        Stopped: If a signal came while the report was written.
        OSError: If it could not be written.
    """
    page = folder / "report.html"
    if unwritten is None:
        caught.raise_stopped(f"stopped; the report is {page}.")
    Console().print(report.terminal_table(records, brief=brief))
    for note in notes:
        console.say(note)
    console.say(judging.headline(records))
    if unwritten is not None:
        raise unwritten
    console.say(f"Report: {page}")
    return 0

"""The command `metajax evaluate`, and the table that commands print."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from metajax import report, runs
from metajax.cli import console
from metajax.runs import judging

__all__ = ["evaluate", "judge", "open_run", "show"]


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
    """Evaluates a run, prints its table, writes its report.

    Args:
        run: A trained run.
        trials: As in `train_and_judge`.

    Returns:
        The exit status.
    """
    params = runs.resumed(run, on_skip=console.skipped).best
    saved = f"stopped; the run is saved. Judge it: metajax evaluate {run.folder}"
    with (
        console.terminable(saved),
        console.stages("Judging", judging.stages(run)) as begin,
    ):
        records, notes = judging.judge_run(run, params, trials=trials, on_stage=begin)
    show(records, notes, judging.write_report(run, records, notes))
    return 0


def show(records: Sequence[Any], notes: Sequence[str], page: Path, *, brief: bool = False) -> None:
    """Prints a table, its notes and the path of the report."""
    Console().print(report.terminal_table(records, brief=brief))
    for note in notes:
        console.say(note)
    console.say(judging.headline(records))
    console.say(f"Report: {page}")

"""The command `metajax evaluate`, and the table that commands print."""

import json
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from metajax import engine, evaluation, report, runs
from metajax.cli import console, signals, sources
from metajax.data import datasets
from metajax.data.reading import Reading
from metajax.evaluation.records import order_name, select
from metajax.fields import check_name, rounded
from metajax.registry import all_baselines, all_methods
from metajax.runs import judging

__all__ = ["conclude", "evaluate", "failure_of", "judge", "open_run", "prepare", "scope_of"]

prepare = sources.of_reading


def evaluate(
    run: Annotated[Path, Parameter(name="run")],
    /,
    *,
    baselines: str = "",
    judge_users: int = judging.Scope().users,
    data: str | None = None,
    seed: int = 0,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    reading: Annotated[Reading | None, Parameter(name="*")] = None,
) -> int:
    """Evaluates a run on the cold users of its fold, or a model on the users of another log.

    Of a run, methods that were judged before it was stopped are not judged again.

    Args:
        run: Folder of the run, judged beside the baselines; or of a model that metajax fit wrote.
        baselines: Of a run: names of the baselines, separated by commas; by default all that suit
            the data.
        judge_users: Of a run: most cold users to judge, drawn by its seed.
        data: Of a model: a newer log, whose users that the model was not fitted to are judged.
        seed: Of a model: seed of the order of interactions at the same time.
        as_json: Of a model: print the figures as a JSON list.
        reading: Options of reading the newer log.
    """
    scope = scope_of(baselines, judge_users)
    if not engine.is_model(run):
        if data is not None or reading is not None or as_json or seed:
            raise ValueError(
                f"{run} is no model of metajax fit: a run is judged on cold users of its own data, "
                "and takes no --data, options of reading, --seed or --json."
            )
        return judge(open_run(run), scope)
    if scope != judging.Scope():
        raise ValueError(f"{run} is a model: --baselines and --judge-users are for a run.")
    if data is None:
        raise ValueError(
            f"{run} has no data to be judged on: give a log of users that the model was not fitted "
            f"to, metajax evaluate {run} --data NEWER.csv."
        )
    with console.busy(f"Loading {run}"):
        model = engine.load(run)
    with console.fetching(data) as fetched:
        options = {} if reading is None else reading.reading()
        dataset = datasets.load(data, progress=fetched, **options)
    console.notes(dataset)
    with console.busy("Judging"):
        found = engine.judged_on(model, dataset, seed=seed)
    for note in found.notes:
        console.error(f"note: {note}.")
    if as_json:
        print(json.dumps(found.to_json()))
        return 0
    _print(found.records, data)
    return 0


_SHOWN = {"rmse": "RMSE (lower is better)", "ndcg@10": "NDCG@10 (higher is better)"}


def _print(records: Sequence[evaluation.Record], data: str) -> None:
    """Prints the figures of one method with their intervals."""
    own = select(records, protocol=records[0].protocol)  # Others are of the natural reading.
    first, metrics = own[0], [m for m in _SHOWN if select(own, metric=m)]
    console.say(f"{first.method} on new users of {data}, {order_name(first.order)}:")
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for name in ("K", "users", *(_SHOWN[metric] for metric in metrics)):
        table.add_column(name, justify="right")
    for k in sorted({record.k for record in own}):
        row = {record.metric: record for record in select(own, k=k)}
        figures = (row.get(metric) for metric in metrics)
        table.add_row(str(k), f"{row[metrics[0]].users:,}", *map(_with_interval, figures))
    Console().print(table)
    console.say(
        "K interactions are shown, those after the tenth are asked for; [95 % bootstrap intervals "
        "over users]. No baseline is fitted here: metajax compare judges methods side by side."
    )


def _with_interval(record: evaluation.Record | None) -> str:
    if record is None:
        return ""
    ends = (record.mean, record.low or 0.0, record.high or 0.0)
    return "{} [{}, {}]".format(*(rounded(end, ".3f") for end in ends))


def scope_of(baselines: str, judge_users: int, trials: int | None = None) -> judging.Scope:
    """Reads the options that leave out a part of an evaluation.

    Args:
        baselines: Names, separated by commas; empty means all.
        judge_users: Most cold users.
        trials: As in `judging.Scope`.

    Raises:
        ValueError: If one is out of range, or there is no such baseline.
    """
    if judge_users < 1:
        raise ValueError(f"--judge-users must be >= 1, got {judge_users}.")
    names = tuple(name.strip() for name in baselines.split(",") if name.strip())
    known = [m.name for m in (*all_baselines(), *all_methods()) if m.kind == "baseline"]
    for name in names:
        check_name(name, known, "--baselines")
    return judging.Scope(names or None, judge_users, trials)


def open_run(folder: Path) -> runs.Run:
    """Opens a run, with a bar if its data have to be downloaded."""
    with console.fetching("data") as fetched:
        return runs.open_run(folder, progress=fetched)


def judge(
    run: runs.Run,
    scope: judging.Scope = judging.Scope(),  # noqa: B008
    *,
    trained_in: float | None = None,
) -> int:
    """Evaluates a run, writes its report, prints its table.

    Args:
        run: A trained run.
        scope: The baselines and the users.
        trained_in: Seconds of its training, where it was trained just now.

    Returns:
        The exit status.
    """
    params = run.params(runs.resumed(run, on_skip=console.skipped))
    again = ["metajax", "evaluate", str(run.folder)]
    again += [] if scope.baselines is None else ["--baselines", ",".join(scope.baselines)]
    if scope.users != judging.Scope().users:
        again += ["--judge-users", str(scope.users)]
    saved = f"stopped; the run is saved. Judge it: {shlex.join(again)}"
    began = time.monotonic()
    with signals.collected() as caught:
        with (
            signals.stoppable(saved),
            console.stages("Judging", judging.stages(run, scope)) as begin,
        ):
            found = judging.judge_run(run, params, scope, on_stage=begin)
        times = {} if trained_in is None else {"training": trained_in}
        times["judging"] = time.monotonic() - began
        unwritten = failure_of(lambda: judging.write_report(run, found, scope, times=times))
    notes = [*found.notes, *found.advice, *report.weight_lines(found.weights)]
    return conclude(found.records, notes, run.folder, caught, unwritten)


def failure_of(write: Callable[[], Any]) -> OSError | None:
    """Calls a function that writes; returns its OSError, to be raised later, or None."""
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

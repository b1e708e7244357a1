"""Progress bars and messages of the command line; plain lines in a log."""

import contextlib
import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from metajax import steps
from metajax.characters import visible
from metajax.fields import rounded

if TYPE_CHECKING:
    from metajax.data.dataset import Dataset
    from metajax.evaluation.closed_forms import Trial
    from metajax.knowledge import Epoch
    from metajax.knowledge.extraction import Status
    from metajax.search.study import Tried
    from metajax.training import Row

__all__ = [
    "busy",
    "close_output",
    "epochs",
    "error",
    "escape_unencodable",
    "extracting",
    "fetching",
    "notes",
    "preparing",
    "reductions",
    "say",
    "searching",
    "skipped",
    "stages",
    "starting",
    "training",
    "trials",
]

# A line of a log every so many seconds is enough.
_SECONDS = 5.0


def say(line: object) -> None:
    """Prints a line on standard output, with control characters written out."""
    print(visible(line))


def error(message: str) -> None:
    """Prints one line on standard error."""
    # Standard error may be closed, or its reader gone; there is nobody else to tell.
    with contextlib.suppress(OSError, ValueError):
        print(f"metajax: {visible(' '.join(message.split()))}", file=sys.stderr, flush=True)


def notes(dataset: "Dataset") -> None:
    """Prints on standard error what the reader of a data set left out or merged."""
    for note in dataset.notes:
        error(f"note: {note}.")


def reductions(method: str, dataset: "Dataset") -> None:
    """Prints on standard error what a method leaves out for so large a catalogue."""
    from metajax import registry  # Takes JAX, before which a line is shown.

    for line in registry.reductions(method, len(dataset.items.ids)):
        error(f"note: {method}: {line}.")


def escape_unencodable() -> None:
    """Escapes the characters that the encoding of standard output or error lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def close_output() -> None:
    """Discards the rest of standard output, whose reader has closed it."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def skipped(step: int, reason: str) -> None:
    """Prints that a damaged checkpoint is left out."""
    error(f"checkpoint of update {step} is damaged and left out: {reason}")


def starting() -> contextlib.AbstractContextManager[None]:
    """Shows that JAX is being imported, where it is not yet."""
    return contextlib.nullcontext() if "jax" in sys.modules else busy("Starting JAX")


@contextlib.contextmanager
def busy(what: str) -> Iterator[None]:
    """Shows a spinner for work of unknown length."""
    from rich.text import Text

    console, what = _console(), visible(what)
    if not console.is_terminal:
        console.print(f"{what} ...", soft_wrap=True)
        yield
        return
    with console.status(Text(what)):
        yield


@contextlib.contextmanager
def preparing(what: str) -> Iterator[None]:
    """Shows a spinner, and a bar instead of it while the work inside counts its steps."""
    console, began = _console(), time.monotonic()
    with contextlib.ExitStack() as stack:
        spinner = stack.enter_context(contextlib.ExitStack())
        spinner.enter_context(busy(what))
        bars = stack.enter_context(contextlib.ExitStack())
        current: tuple[str, int] | None = None
        advance: Callable[[int], None] = lambda done: None  # noqa: E731

        def on_step(work: str, done: int, total: int) -> None:
            nonlocal current, advance
            if current != (work, total) or not done:
                spinner.close()  # A terminal has room for one of them.
                bars.close()
                current = (work, total)
                advance = bars.enter_context(_bar(f"{what}, {work}", total, 0, {}))
            # Quick work needs no line in a log.
            if console.is_terminal or time.monotonic() - began >= _SECONDS:
                advance(done)

        stack.enter_context(steps.listening(on_step))
        yield


@contextlib.contextmanager
def fetching(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """Draws a bar while bytes arrive; draws nothing if none do.

    Args:
        what: Name of the download.

    Yields:
        `progress(done, total)`.
    """
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TimeRemainingColumn(),
    )
    console, what = _console(), visible(what)
    bar = progress.Progress(*columns, console=console, transient=True)
    task: progress.TaskID | None = None
    with contextlib.ExitStack() as stack:

        def update(done: int, total: int | None) -> None:
            nonlocal task
            if task is None:
                task = bar.add_task(f"Fetching {what}", total=None)
                if console.is_terminal:
                    stack.enter_context(bar)
                else:
                    console.print(f"Fetching {what} ...", soft_wrap=True)
            bar.update(task, completed=done, total=total)

        yield update


@contextlib.contextmanager
def training(
    updates: int,
    tasks: int,
    start: int = 0,
    best: float = float("inf"),
    *,
    patience: float = float("inf"),
    best_step: int = 0,
) -> Iterator[Callable[["Row"], None]]:
    """Draws a bar with the loss, the pace and the time left; it ends where early stopping does.

    Args:
        updates: Updates in all.
        tasks: Tasks an update.
        start: Updates already made.
        best: The lowest validation loss so far.
        patience: Updates without a lower one after which training stops.
        best_step: The update it was reached at.

    Yields:
        `on_row(row)`.
    """
    began = time.monotonic()
    facts = {"loss": "loss -", "best": "best -", "pace": "compiling"}
    if best < float("inf"):
        facts["best"] = f"best {rounded(best, '.4f')}"
    with _bar("Meta-training", updates, start, facts) as advance:

        def on_row(row: "Row") -> None:
            nonlocal best, best_step
            facts["loss"] = f"loss {row.loss:.4f}"
            if row.validation is not None:
                if row.validation < best:
                    best, best_step = row.validation, row.step
                facts["best"] = f"best {rounded(best, '.4f')}"
            pace = (row.step - start) * tasks / max(time.monotonic() - began, 1e-9)
            facts["pace"] = f"{pace:,.0f} tasks/s"
            if row.step < updates and row.step - best_step >= patience:
                facts["pace"] = f"early stopping, of {updates} updates"
                advance(row.step, row.step)
            else:
                advance(row.step)

        yield on_row


@contextlib.contextmanager
def trials(
    total: int, start: int = 0, best: float = float("inf")
) -> Iterator[Callable[["Trial"], None]]:
    """Draws a bar over the settings that a closed form tries, and its last fit.

    Args:
        total: Steps in all.
        start: Steps already made.
        best: The lowest validation loss so far.

    Yields:
        `on_trial(row)`.
    """
    facts = {"best": "best -" if best == float("inf") else f"best {rounded(best, '.4f')}"}
    facts["work"], done = "", start

    with contextlib.ExitStack() as stack:
        advance = stack.enter_context(_bar("Fitting", total, start, facts))

        def on_step(work: str, at: int, of: int) -> None:
            facts["work"] = visible(f"{work} {at}/{of}")
            advance(done)

        def on_trial(row: "Trial") -> None:
            nonlocal best, done
            done, facts["work"] = row.step, ""
            if row.validation is not None:
                best = min(best, row.validation)
                facts["best"] = f"best {rounded(best, '.4f')}"
            advance(row.step)

        stack.enter_context(steps.listening(on_step))
        yield on_trial


@contextlib.contextmanager
def searching(total: int) -> Iterator[Callable[[Sequence["Tried"]], None]]:
    """Draws a bar over the trials of a search, with the lowest loss so far.

    Args:
        total: Trials in all.

    Yields:
        `on_trials(tried)`, to be called with the trials that have ended.
    """
    facts, done = {"best": "best -", "pruned": "", "failed": ""}, -1
    with _bar("Tuning", total, 0, facts) as advance:

        def on_trials(tried: Sequence["Tried"]) -> None:
            nonlocal done
            if len(tried) == done:
                return
            done = len(tried)
            finished = [trial.loss for trial in tried if trial.state == "finished"]
            if finished:
                facts["best"] = f"best {rounded(min(finished), '.4f')}"
            for state in ("pruned", "failed"):
                count = sum(trial.state == state for trial in tried)
                facts[state] = f"{count} {state}" if count else ""
            advance(min(done, total))

        yield on_trials


@contextlib.contextmanager
def epochs(
    total: int, triples: int, start: int = 0, best: float = 0.0
) -> Iterator[Callable[["Epoch"], None]]:
    """Draws a bar with the loss, the validation MRR, and the pace.

    Args:
        total: Epochs in all.
        triples: Triples an epoch.
        start: Epochs already made.
        best: The highest validation MRR so far.

    Yields:
        `on_epoch(row)`.
    """
    began = time.monotonic()
    facts = {"loss": "loss -", "mrr": "MRR -", "best": "best -", "pace": "compiling"}
    if best:
        facts["best"] = f"best {best:.4f}"
    with _bar("Training", total, start, facts) as advance:

        def on_epoch(row: "Epoch") -> None:
            nonlocal best
            facts["loss"] = f"loss {row.loss:.4f}"
            if row.validation is not None:
                best = max(best, row.validation)
                facts["mrr"], facts["best"] = f"MRR {row.validation:.4f}", f"best {best:.4f}"
            pace = (row.epoch - start) * triples / max(time.monotonic() - began, 1e-9)
            facts["pace"] = f"{pace:,.0f} triples/s"
            advance(row.epoch)

        yield on_epoch


@contextlib.contextmanager
def extracting(total: int, *, priced: bool) -> Iterator[Callable[["Status"], None]]:
    """Draws a bar over texts, with the tokens and what they cost.

    Args:
        total: Number of texts.
        priced: True to show a price.

    Yields:
        `on_status(status)`.
    """
    facts = {"tokens": "0 tokens", **({"cost": "cost 0"} if priced else {})}
    with _bar("Extracting", total, 0, facts) as advance:

        def on_status(status: "Status") -> None:
            facts["tokens"] = f"{sum(status.usage):,} tokens"
            if priced:
                facts["cost"] = f"cost {rounded(status.cost, '.4f')}"
            advance(status.done)

        yield on_status


@contextlib.contextmanager
def stages(what: str, total: int) -> Iterator[Callable[[str], None]]:
    """Draws a bar over named stages.

    Args:
        what: Name of the work.
        total: The number of stages.

    Yields:
        `begin(name)`, to be called at the start of each stage.
    """
    facts = {"stage": ""}
    done = -1
    with _bar(what, total, 0, facts) as advance:

        def begin(stage: str) -> None:
            nonlocal done
            done += 1
            facts["stage"] = visible(stage)
            advance(done)

        yield begin


@contextlib.contextmanager
def _bar(what: str, total: int, start: int, facts: dict[str, str]) -> Iterator[Callable[..., None]]:
    """Yields `advance(done, total=total)`, which also shows the current values of `facts`."""
    console = _console()
    if not console.is_terminal:
        last = -_SECONDS

        def print_line(done: int, total: int = total) -> None:
            nonlocal last
            if time.monotonic() - last >= _SECONDS or done >= total:
                last = time.monotonic()
                shown = "  ".join(facts.values())
                console.print(f"{what} {done}/{total}  {shown}", highlight=False)

        yield print_line
        return

    from rich import progress

    shown: Any = facts
    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(bar_width=24),
        progress.MofNCompleteColumn(),
        *(progress.TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in facts),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console, refresh_per_second=8) as bar:
        task = bar.add_task(what, total=total, completed=start, **shown)
        yield lambda done, total=total: bar.update(task, completed=done, total=total, **shown)


def _console() -> Any:
    from rich.console import Console

    # Names of files and of stages may have brackets.
    return Console(stderr=True, markup=False)

"""The command `metajax report`."""

from pathlib import Path, PurePath
from typing import Annotated

from cyclopts import Parameter

from metajax import storage
from metajax.cli import console

__all__ = ["report"]


def report(
    events: Annotated[str, Parameter(name="events")],
    /,
    *,
    output: Path | None = None,
    last: int | None = None,
) -> None:
    """Reports the outcomes of lists in a log of events, by arm; also while it is served.

    Success by number of interactions, of first lists and of first positions, users who are back
    after 1 and 7 days, coverage, and what each arm would have done by the lists of the others.

    Args:
        events: Log of events, sqlite:///FILE or postgresql://HOST/DATABASE.
        output: HTML file for the same with curves; must not exist.
        last: Number of newest lists that are read; by default all.
    """
    try:
        from metajax.serving import databases, outcome_page, outcomes, store
    except ModuleNotFoundError as problem:
        raise ImportError(
            f"metajax report needs {problem.name}: install the extra, 'metajax[serve]'."
        ) from None
    if output is not None and output.exists():
        raise ValueError(f"--output must not exist, got {output}.")
    if last is not None and last < 1:
        raise ValueError(f"--last must be >= 1, got {last}.")
    name = databases.database_of(events).name
    with console.busy(f"Reading {name}"), store.reading(events) as db:
        log = outcomes.read_log(db, most=last)
    if not len(log.user):
        raise ValueError(f"{name}: holds no list yet, of {log.events:,} events.")
    found = outcomes.summary(log)
    console.say(f"{name}: {log.events:,} events of {log.users:,} users")
    for line in outcome_page.lines_of(found):
        console.say(line)
    if output is not None:
        storage.write_file(output, outcome_page.page_of(found, PurePath(name).name))
        console.say(f"Page: {output}")

"""Strengths of events: views, carts and purchases of one log by their weights."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from metajax.data.readers.text import DataError, shown
from metajax.data.reading import Reading, weights_of
from metajax.files import Option

__all__ = ["check_weights_used", "event_notes", "event_weights"]

_SHOWN = 8


def event_weights(
    file: str | Path, column: str, events: Sequence[str], reading: Reading
) -> dict[str, float]:
    """Returns the weight of each event.

    Args:
        file: The log, for the error.
        column: The column of events, for the error.
        events: Distinct events of the log.
        reading: Gives weights.

    Raises:
        DataError: If an event of the log has no weight.
    """
    weights = weights_of(reading.weights or "")
    for event in sorted(events):
        if event not in weights:
            raise DataError(
                f"the event {shown(event)} has no weight; the events are "
                f"{_listed(sorted(events))}; give each a weight, 0 to leave it out, such as ",
                Option("weights", f"{reading.weights},{event}=0"),
                ".",
                file=file,
                column=column,
            )
    return weights


def check_weights_used(
    file: str | Path, column: str, events: Iterable[str], reading: Reading
) -> None:
    """Refuses weights of events that are not in the log.

    Args:
        file: The log, for the error.
        column: The column of events, for the error.
        events: All events of the log.
        reading: Gives weights.

    Raises:
        DataError: If a weight is of no event of the log.
    """
    found = sorted(set(events))
    for event in weights_of(reading.weights or ""):
        if event not in found:
            raise DataError(
                f"there is no event {shown(event)}, which has a weight; the events are "
                f"{_listed(found)}.",
                file=file,
                column=column,
            )


def event_notes(counts: Counter[str]) -> tuple[str, ...]:
    """Says that each event counts as an interaction, and how many there are of each kind."""
    by_count = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    listed = _listed([f"{event} ({count:,})" for event, count in by_count])
    return (f"every event is an interaction, whichever it is: {listed}; weights weigh them",)


def _listed(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

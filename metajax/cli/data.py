"""The command `metajax data`."""

from typing import Annotated

from cyclopts import Parameter

from metajax.cli import console, sources
from metajax.data import datasets
from metajax.data.inspection import problems, summary
from metajax.data.reading import Reading

__all__ = ["data", "prepare"]

prepare = sources.of_reading


def data(
    source: Annotated[str, Parameter(name="source")],
    /,
    reading: Annotated[Reading, Parameter(name="*")] = Reading(),  # noqa: B008
    *,
    support: int = 10,
) -> None:
    """Prints counts, density, cold users and items, and problems of a data set.

    Args:
        source: A name (ml-100k, ml-1m, ..., synthetic) or a path.
        reading: Options of reading it.
        support: Users with no more interactions than this count as cold.
    """
    with console.fetching(source) as fetched:
        dataset = datasets.load(source, progress=fetched, **reading.reading())
    console.notes(dataset)
    for name, value in summary(dataset, support=support).items():
        console.say(f"{name:<14} {value}")
    found = problems(dataset, support)
    console.say(f"{'problems':<14} {len(found) or 'none'}")
    for line in found:
        console.say(f"  - {line}")

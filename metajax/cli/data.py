"""The command `metajax data`."""

from typing import Annotated, Literal

from cyclopts import Parameter

from metajax.cli import console
from metajax.data import datasets
from metajax.data.inspection import problems, summary
from metajax.methods import Settings

__all__ = ["data"]


def data(
    source: Annotated[str, Parameter(name="source")],
    /,
    *,
    user_column: str | None = None,
    item_column: str | None = None,
    rating_column: str | None = None,
    time_column: str | None = None,
    duplicates: Literal["error", "last"] = "error",
    scale: tuple[float, float] | None = None,
    support: int = 10,
) -> None:
    """Prints counts, density, cold users and items, and problems of a data set.

    Args:
        source: A name (ml-100k, synthetic) or a path.
        user_column: Column of the user in a table, if it is not recognised.
        item_column: Column of the item.
        rating_column: Column of the rating.
        time_column: Column of the time.
        duplicates: Treatment of repeated ratings of an item by a user: error, or keep the last.
        scale: Lowest and highest rating.
        support: Users with no more interactions than this count as cold.
    """
    reading = Settings(
        user_column=user_column,
        item_column=item_column,
        rating_column=rating_column,
        time_column=time_column,
        duplicates=duplicates,
        scale=scale,
    ).reading()
    with console.fetching(source) as fetched:
        dataset = datasets.load(source, progress=fetched, **reading)
    for name, value in summary(dataset, support=support).items():
        console.say(f"{name:<14} {value}")
    found = problems(dataset, support)
    console.say(f"{'problems':<14} {len(found) or 'none'}")
    for line in found:
        console.say(f"  - {line}")

"""The command `metajax recommend`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from metajax import runs
from metajax.cli import console
from metajax.runs import recommendation

__all__ = ["recommend"]


def recommend(
    run: Annotated[Path, Parameter(name="run")],
    /,
    *,
    ratings: str = "",
    user: str = "",
    top: int = 10,
    source: bool = False,
) -> None:
    """Adapts to a new user and prints recommended items.

    Args:
        run: Folder of the run.
        ratings: "Star Wars=5, Fargo=4": titles or ids, and the user's ratings of them. After a
            transfer, "source:Emma=5, target:Emma=4" where both domains have the title.
        user: "age=30, gender=F": the user's attributes; those left out count as missing.
        top: Number of items.
        source: After a transfer, recommend items of the source as well.
    """
    rated = recommendation.parse_numbers(
        recommendation.parse_pairs(ratings, "--ratings"), "--ratings"
    )
    attributes = recommendation.parse_pairs(user, "--user")
    with console.busy(f"Loading {run}"):
        recommender = runs.load(run, on_skip=console.skipped)
    for line in recommendation.recommend(recommender, rated, attributes, top=top, source=source):
        console.say(f"{line.score:5.2f}  {line.title}")

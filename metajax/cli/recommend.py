"""The command `metajax recommend`."""

import json
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from metajax import engine, runs
from metajax.cli import console
from metajax.data.schema import unseen_values
from metajax.fields import rounded
from metajax.runs import recommendation

__all__ = ["recommend"]


def recommend(
    run: Annotated[Path, Parameter(name="run")],
    /,
    *,
    ratings: str = "",
    items: str = "",
    user: str = "",
    top: int = 10,
    source: bool = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Adapts to a new user and prints recommended items: score, title and id.

    Args:
        run: Folder of the run, or of a model that metajax fit wrote.
        ratings: "Star Wars=5, Fargo=4": titles or ids, and the user's ratings of them, or counts
            where the log has those. After a transfer, "source:Emma=5, target:Emma=4" where both
            domains have the title.
        items: "p1, p2": titles or ids of items the user has met, for a run on a log without
            ratings.
        user: "age=30, gender=F": the user's attributes; those left out count as missing.
        top: Number of items.
        source: After a transfer, recommend items of the source as well.
        as_json: Print a JSON list of objects with id, title and score.
    """
    if ratings and items:
        raise ValueError("--ratings and --items exclude each other.")
    seen: Any = recommendation.parse_numbers(
        recommendation.parse_pairs(ratings, "--ratings"), "--ratings"
    )
    attributes = recommendation.parse_pairs(user, "--user")
    with console.busy(f"Loading {run}"):
        if engine.is_model(run):
            recommender = engine.load(run).recommender
        else:
            recommender = runs.load(run, on_skip=console.skipped)
    if items:
        seen = recommendation.parse_names(recommender.catalogue, items)
    found = recommendation.recommend(recommender, seen, attributes, top=top, source=source)
    for note in unseen_values(recommender.user_schema, attributes):
        console.error(f"note: {note}")
    if as_json:
        print(json.dumps([{"id": f.item_id, "title": f.title, "score": f.score} for f in found]))
        return
    for line in found:
        known_by = "" if line.item_id == line.title else f"  [{line.item_id}]"
        console.say(f"{rounded(line.score, '5.2f')}  {line.title}{known_by}")

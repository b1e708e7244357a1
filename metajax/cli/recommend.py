"""The command `metajax recommend`."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from metajax import engine, report, runs
from metajax.cli import console
from metajax.data import readers
from metajax.data.schema import unseen_values
from metajax.fields import rounded
from metajax.runs import lists
from metajax.runs.catalogue import parse_names
from metajax.runs.recommender import liked_rating
from metajax.runs.scores import scored_at_once

__all__ = ["parse_numbers", "parse_pairs", "recommend", "shares_of"]


def recommend(
    run: Annotated[Path, Parameter(name="run")],
    /,
    *,
    ratings: str = "",
    items: str = "",
    user: str = "",
    top: int = 10,
    exclude: str = "",
    only: str = "",
    category: str = "",
    explain: Annotated[bool, Parameter(negative="")] = False,
    users: Path | None = None,
    attributes: Path | None = None,
    output: Path | None = None,
    source: bool = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Adapts to a new user and prints recommended items: score, title and id.

    Args:
        run: Folder of the run, or of a model that metajax fit wrote.
        ratings: "Star Wars=5, Fargo=4": titles or ids, and the user's ratings of them, or counts
            where the log has those. After a transfer, "source:Emma=5, target:Emma=4" where both
            domains have the title.
        items: "p1, p2": titles or ids of items the user likes or, for a run on a log without
            ratings, has met. In a run on ratings they count as rated with the median of its
            relevant ratings.
        user: "age=30, gender=F": the user's attributes; those left out count as missing.
        top: Number of items.
        exclude: "Star Wars, 50": titles or ids of items that are not recommended.
        only: "Star Wars, 50": titles or ids of the only items that are recommended.
        category: "genres=Comedy, year=1995": attributes that a recommended item must have.
        explain: Print the user's items that raised each score most, and by how much: the score less
            what it is without that rating. Beneath them stand, of a method that blends experts, the
            largest parts of the score that orders items, less its mean over all that the user has
            not met, as shares of all such parts; and attributes, and facts of a graph, that the
            item shares with items that the user rates above the middle of the scale.
        users: A log of many users to recommend to, such as a CSV of user, item and rating.
        attributes: A table of their attributes; by default a file users.csv (or alike) beside it.
        output: File of their recommendations, .csv or .parquet; must not exist.
        source: After a transfer, recommend items of the source as well.
        as_json: Print a JSON list of objects with id, title and score; with --explain also
            reasons, facts, and experts, whose parts sum to the item's lead.
    """
    if ratings and items:
        raise ValueError("--ratings and --items exclude each other.")
    one = {"--ratings": ratings, "--items": items, "--user": user}
    given = [
        name for name, value in {**one, "--explain": explain, "--json": as_json}.items() if value
    ]
    if users is not None and given:
        raise ValueError(f"--users is a file of many users, so {given[0]} must be left out.")
    for name, value, needed in (("--users", users, output), ("--output", output, users)):
        if value is not None and needed is None:
            other = "--output" if name == "--users" else "--users"
            raise ValueError(
                f"{name} needs {other}: a log of many users, and a file of their lists."
            )
    if attributes is not None and users is None:
        raise ValueError(f"--attributes are those of --users, which is missing; got {attributes}.")
    if output is not None:
        lists.check_output(output)
    seen: Any = parse_numbers(parse_pairs(ratings, "--ratings"), "--ratings")
    described = parse_pairs(user, "--user")
    having = parse_pairs(category, "--category")
    with console.busy(f"Loading {run}"):
        if engine.is_model(run):
            recommender = engine.load(run).recommender
        else:
            recommender = runs.load(run, on_skip=console.skipped)
    catalogue = recommender.catalogue
    among = runs.candidates(
        catalogue,
        exclude=parse_names(catalogue, exclude),
        only=parse_names(catalogue, only) if only else None,
        category=having,
    )
    if users is not None and output is not None:
        _recommend_all(recommender, users, attributes, output, top=top, source=source, among=among)
        return
    if items:
        seen = parse_names(catalogue, items)
        _say_liked(recommender)
    found = runs.recommend(
        recommender, seen, described, top=top, source=source, among=among, explain=explain
    )
    for note in unseen_values(recommender.user_schema, described):
        console.error(f"note: {note}")
    if not found:
        console.error("note: no item is left: the user has met all that may be recommended.")
    if as_json:
        print(json.dumps([_object(line, explain=explain) for line in found]))
        return
    for line in found:
        known_by = "" if line.item_id == line.title else f"  [{line.item_id}]"
        console.say(f"{rounded(line.score, '5.2f')}  {line.title}{known_by}")
        for title, change in line.reasons:
            console.say(f"       {rounded(change, '+.2f')} by {title}")
        if shares := shares_of(line.experts):
            console.say(f"       experts: {shares}")
        for fact in line.facts:
            liked = ", ".join(fact.titles)
            console.say(f"       same {fact.relation} as {liked}: {fact.value}")


_NAMED = 3


def shares_of(experts: Sequence[tuple[str, float]]) -> str:
    """Writes the experts with the largest parts of a score.

    Args:
        experts: As in `runs.Recommendation`.

    Returns:
        Each part as a share of the sizes of all parts, negative where it is; "" of no experts.

    Example:
        >>> shares_of([("EASE", 1.5), ("popularity", 0.5)])
        'EASE 75 %, popularity 25 %'
    """
    whole = sum(abs(part) for _, part in experts)
    if not whole:
        return ""
    ordered = sorted(experts, key=lambda pair: -abs(pair[1]))
    named, others = ordered[:_NAMED], ordered[_NAMED:]
    said = [f"{name} {report.percent(part / whole)}" for name, part in named]
    if others:
        rest = sum(abs(part) for _, part in others) / whole
        said.append(f"{len(others)} others {report.percent(rest)}")
    return ", ".join(said)


def parse_pairs(text: str, argument: str) -> dict[str, str]:
    """Reads `name=value, name=value`; a name may hold commas, a value may not.

    Args:
        text: The argument's value.
        argument: The argument's name, for errors.

    Returns:
        Names and values as strings, in order.

    Raises:
        ValueError: If the text is not of that form or a name occurs twice.

    Example:
        >>> parse_pairs("Good, The Bad and The Ugly, The=5, Fargo = 4", "--ratings")
        {'Good, The Bad and The Ugly, The': '5', 'Fargo': '4'}
    """
    pairs: dict[str, str] = {}
    rest = text.strip()
    while rest:
        match = re.match(r"(.+?)\s*=\s*([^,=]*?)\s*(?:,\s*|$)", rest)
        if not match or not match[2]:
            raise ValueError(f"{argument} must read 'name=value, name=value', got {rest!r}.")
        if match[1] in pairs:
            raise ValueError(f"{argument} must name {match[1]!r} once, got it twice.")
        pairs[match[1]] = match[2]
        rest = rest[match.end() :]
    return pairs


def parse_numbers(pairs: Mapping[str, str], argument: str) -> dict[str, float]:
    """Reads the values of `parse_pairs` as numbers.

    Raises:
        ValueError: If one is no number.
    """
    numbers = {}
    for name, value in pairs.items():
        try:
            numbers[name] = float(value)
        except ValueError:
            raise ValueError(f"{argument} must rate by numbers, got {name}={value}.") from None
    return numbers


def _object(line: runs.Recommendation, *, explain: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"id": line.item_id, "title": line.title, "score": line.score}
    if explain:
        found["reasons"] = [{"title": title, "change": c} for title, c in line.reasons]
        found["facts"] = [fact._asdict() for fact in line.facts]
        if line.experts:
            found["lead"] = sum(part for _, part in line.experts)
            found["experts"] = [{"expert": name, "part": part} for name, part in line.experts]
    return found


def _say_liked(recommender: runs.Recommender) -> None:
    """Says what items without ratings count as, for a method that has learned from ratings."""
    liked = liked_rating(recommender)
    if liked is not None:
        console.error(
            f"note: the items have no ratings and count as rated {liked:g}, the median of the "
            "relevant ratings."
        )


def _recommend_all(
    recommender: runs.Recommender,
    users: Path,
    attributes: Path | None,
    output: Path,
    **options: Any,
) -> None:
    """Writes the lists of all users of a log."""
    reading = {} if attributes is None else {"users": str(attributes)}
    log = readers.read(users, **reading)
    for note in log.notes:
        console.error(f"note: {note}.")
    if log.scale is None:
        _say_liked(recommender)
    size = scored_at_once(len(recommender.catalogue.ids))
    batches = -(-len(log.interactions.users) // size)
    with console.stages("Recommending", batches) as begin:
        found = list(lists.recommend_log(recommender, log, begin=begin, **options))
        begin("done")
    lists.write_lists(output, found)
    console.say(f"{len(found):,} users: {output}.")

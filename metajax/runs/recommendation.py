"""Recommendation to new users: a few ratings and attributes in, a ranked list of titles out."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metajax.data.schema import encode_rows
from metajax.display import grid
from metajax.runs.catalogue import allowed_items, finder, finder_by_id
from metajax.runs.explanation import experts_of, facts_of, reasons_of
from metajax.runs.facts import CommonFact
from metajax.runs.recommender import Ratings, Recommender, Seen, labelled, seen_of
from metajax.runs.scores import (
    NOT_FINITE,
    ROUNDING,
    Ranked,
    check_finite,
    ranked_items,
    score_all,
    scored_at_once,
)

__all__ = [
    "Recommendation",
    "Recommendations",
    "predict",
    "recommend",
    "recommend_batch",
    "similar",
]


class Recommendation(NamedTuple):
    """One line of a recommendation."""

    title: str
    """Title of the item."""
    score: float
    """The predicted rating, on its scale; of a method that only orders items its score."""
    item_id: str
    """Id of the item in the data set."""
    deviation: float | None = None
    """Standard deviation of the rating: half of the interval of one on either side of the predicted
    one, cut off at the ends of the scale. None of a method that predicts no variance."""
    reasons: tuple[tuple[str, float], ...] = ()
    """Where an explanation was asked for: titles of the user's items that raised the score most,
    and by how much, the largest first."""
    experts: tuple[tuple[str, float], ...] = ()
    """Where an explanation was asked for, of a method that blends experts: each expert and its part
    of the item's lead, the largest first. The lead is the score that orders items, less its mean
    over all items that the user has not met; the parts sum to it."""
    facts: tuple[CommonFact, ...] = ()
    """Where an explanation was asked for: facts that the item shares with items that the user rates
    above the middle of the scale, or in a log without ratings has met; the rarest first."""


class Recommendations(list[Recommendation]):
    """A list of items, best first, which a notebook shows as a table."""

    def _repr_html_(self) -> str:
        columns: dict[str, list[str]] = {
            "": [str(place) for place in range(1, len(self) + 1)],
            "title": [line.title for line in self],
            "score": [f"{line.score:.2f}" for line in self],
            "±": ["" if line.deviation is None else f"{line.deviation:.2f}" for line in self],
            "raised by": ["; ".join(f"{t} {c:+.2f}" for t, c in line.reasons) for line in self],
            "the same": [
                "; ".join(f"{f.relation}: {f.value}" for f in line.facts) for line in self
            ],
        }
        shown = {name: cells for name, cells in columns.items() if any(cells)}
        return grid(list(shown), list(zip(*shown.values(), strict=True)))


def recommend(
    recommender: Recommender,
    ratings: Ratings,
    user: Mapping[str, Any] | None = None,
    *,
    top: int = 10,
    source: bool = False,
    among: np.ndarray | None = None,
    explain: bool = False,
) -> Recommendations:
    """Adapts to one user and ranks the items they have not rated.

    Args:
        recommender: A trained method.
        ratings: Title or id of an item to the user's rating of it, a whole number being an id; may
            be empty. Where there are two domains `source:` or `target:` in front of a title names
            its domain. Or a sequence of titles or ids, of items that the user has met or likes; for
            a method that has learned from ratings each counts as rated `liked_rating`. For a method
            of a log without ratings also to the strength of the interaction, in the unit of the
            log, such as a count.
        user: Attributes by name; those left out count as missing.
        top: Number of items, at least 1; at most all.
        source: True to recommend items of the source domain too, where there is one.
        among: `[I]` bool, the items that may be recommended, as from `candidates`; None: all.
        explain: True to add `Recommendation.reasons`, `experts` and `facts`. Reasons are
            counterfactuals: the method adapts once more without each rating, and the reason's
            figure is the score with the rating less the score without it. This is exact for any
            method, but of one rating at a time: two ratings that say the same hide each other.
            Ratings are not cut off at the ends of their scale here.

    Returns:
        The best items, best first.

    Raises:
        KeyError: If a title or an attribute is unknown; names the nearest.
        TypeError: If an item is named by something else.
        ValueError: If a title means several items, an item is rated twice, a rating is off the
            scale or missing, `among` has another shape, or `top` < 1.
    """
    seen = seen_of(recommender, ratings, user)
    found = _best(recommender, [seen], top, source, among)[0]
    if found is None:
        raise ValueError(f"{NOT_FINITE}.")
    if not explain or not found:
        return found
    place = finder_by_id(recommender.catalogue)
    items = [place(line.item_id) for line in found]
    explained = zip(
        found,
        *(of(recommender, seen, items) for of in (reasons_of, experts_of, facts_of)),
        strict=True,
    )
    return Recommendations(
        line._replace(reasons=reasons, experts=experts, facts=facts)
        for line, reasons, experts, facts in explained
    )


def recommend_batch(
    recommender: Recommender,
    ratings: Sequence[Ratings],
    users: Sequence[Mapping[str, Any] | None] | None = None,
    *,
    top: int = 10,
    source: bool = False,
    among: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    by_id: bool = False,
) -> list[Recommendations]:
    """Adapts to many users at once, and ranks the items that each of them has not rated.

    Users are scored in blocks that fit the host's memory. Numbers of users and of ratings are
    padded to powers of two, so that batches of similar sizes share one compiled program.

    Args:
        recommender: A trained method.
        ratings: For each user the ratings, as in `recommend`.
        users: For each user the attributes by name, or None for none; None: for no user any.
        top: Number of items, at least 1; at most all.
        source: True to recommend items of the source domain too, where there is one.
        among: As in `recommend`.
        names: For each user the name in errors; None: the position.
        by_id: True if items are named by ids alone, so that an id that is another item's title is
            an id.

    Returns:
        For each user the list that `recommend` returns.

    Raises:
        KeyError: As `recommend`; names the user.
        ValueError: As `recommend`, or if `users` or `names` is not as long as `ratings`.
    """
    users = [None] * len(ratings) if users is None else users
    names = list(map(str, range(len(ratings)))) if names is None else names
    for name, given in (("users", users), ("names", names)):
        if len(given) != len(ratings):
            raise ValueError(
                f"{name} must be as many as ratings, {len(ratings)}, got {len(given)}."
            )
    seen = []
    find = finder_by_id(recommender.catalogue) if by_id else finder(recommender.catalogue)
    unknown = encode_rows(recommender.user_schema, [{}])[0]
    for n, (rated, user) in enumerate(zip(ratings, users, strict=True)):
        try:
            features = encode_rows(recommender.user_schema, [user])[0] if user else unknown
            seen.append(Seen(*labelled(recommender, rated, find), features))
        except (KeyError, ValueError) as error:
            raise type(error)(f"user {names[n]}: {error.args[0]}") from None
    found = []
    for n, best in enumerate(_best(recommender, seen, top, source, among)):
        if best is None:
            raise ValueError(f"user {names[n]}: {NOT_FINITE}.")
        found.append(best)
    return found


def predict(
    recommender: Recommender,
    ratings: Ratings,
    items: Sequence[str | int],
    user: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """Predicts one user's ratings of some items.

    Args:
        recommender: A trained method.
        ratings: The user's ratings, as in `recommend`.
        items: n titles or ids, rated ones too.
        user: As in `recommend`.

    Returns:
        `[n]` float64 predicted ratings, in the unit of the log and within its scale; of a method
        that only orders items its scores.

    Raises:
        KeyError: If a title or an attribute is unknown; names the nearest.
        TypeError: If `items` is one text, or an item is named by something else.
        ValueError: As `recommend`.
    """
    if isinstance(items, str):
        raise TypeError(f"items must be a sequence of titles or ids, got {items!r}.")
    find = finder(recommender.catalogue)
    asked = [find(item) for item in items]
    scored = score_all(recommender, [seen_of(recommender, ratings, user, find)])
    scores = np.asarray(scored.scores, np.float64)[0, asked]
    check_finite(scores)
    return recommender.labels.outside(scores) if recommender.predicts_ratings else scores


def similar(
    recommender: Recommender,
    item: str | int,
    *,
    top: int = 10,
    among: np.ndarray | None = None,
) -> Recommendations:
    """Ranks items by how much liking one of them raises their scores.

    The similarity of an item to the given one is a difference of its scores, of two users without
    attributes: one whose only rating is the best one of the given item, and one whose only rating
    is the worst one of it. Where there are no ratings they are one who met the given item and one
    who met nothing. It is defined by what the method has learned, for any method, and it is not
    symmetric: an item on which tastes differ much is raised more than one that all like alike.

    Args:
        recommender: A trained method.
        item: A title or an id, as in `find_item`.
        top: Number of items, at least 1; at most all others.
        among: As in `recommend`.

    Returns:
        The most similar items first; `score` is the similarity, in units of the scores that order
        recommendations: standardised ratings (1 to 5) of a method that predicts ratings.

    Raises:
        KeyError: If no item has the title; names the nearest.
        TypeError: If the item is named by something else.
        ValueError: If a title means several items, scores of all items change alike (the method is
            not personalised), `among` has another shape, or `top` < 1.
    """
    if top < 1:
        raise ValueError(f"top must be >= 1, got {top}.")
    catalogue = recommender.catalogue
    given = finder(catalogue)(item)
    name = str(catalogue.ids[given])
    likes: list[Ratings] = [[name], []]
    if recommender.scale is not None:
        worst, best = recommender.scale
        likes = [{name: best}, {name: worst}]
    seen = [seen_of(recommender, one, None, finder_by_id(catalogue)) for one in likes]
    ranks = np.asarray(score_all(recommender, seen).ranks, np.float64)
    check_finite(ranks)
    change = ranks[0] - ranks[1]
    left = allowed_items(catalogue, among)
    left[given] = False
    others = np.delete(change, given)
    if len(others) > 1 and np.ptp(others) <= ROUNDING * max(1.0, np.abs(ranks).max()):
        raise ValueError(
            f"there is nothing to compare: liking {str(catalogue.titles[given])!r} changes the "
            "scores of all items alike, because the method is not personalised or ignores it."
        )
    order = np.argsort(-np.where(left, change, -np.inf), kind="stable")
    return Recommendations(
        Recommendation(str(catalogue.titles[i]), float(change[i]), str(catalogue.ids[i]))
        for i in order[: min(top, int(left.sum()))]
    )


def _best(
    recommender: Recommender,
    seen: Sequence[Seen],
    top: int,
    source: bool,
    among: np.ndarray | None,
) -> list[Recommendations | None]:
    """Returns the best items of each user, None for one whose scores are not finite."""
    if top < 1:
        raise ValueError(f"top must be >= 1, got {top}.")
    catalogue = recommender.catalogue
    allowed = allowed_items(catalogue, among)
    if catalogue.item_domain is not None and not source:
        allowed &= catalogue.item_domain == 1
    if not seen:
        return []
    size = scored_at_once(len(allowed))
    blocks = [seen[start : start + size] for start in range(0, len(seen), size)]
    ahead = ranked_items(recommender, blocks[0], allowed, top)
    lists: list[Recommendations | None] = []
    for block, following in itertools.zip_longest(blocks, blocks[1:]):
        found = Ranked(*(np.asarray(array)[: len(block)] for array in ahead))
        # The device ranks the following block while the host writes the lines of this one.
        if following is not None:
            ahead = ranked_items(recommender, following, allowed, top)
        lists += _lines(recommender, found, top)
    return lists


def _lines(recommender: Recommender, best: Ranked, top: int) -> list[Recommendations | None]:
    """Returns the first lines of each user's list, None where the scores are not finite."""
    items = best.items[:, :top]
    row, place = np.nonzero(items >= 0)
    item, shown = items[row, place], best.scores[row, place]
    deviation: list[float | None] = [None] * len(item)
    if recommender.predicts_ratings:
        # Ordered before what is beyond the scale becomes its end.
        outside = recommender.labels.outside
        if recommender.adaptation.predict_variance is not None:
            around = np.sqrt(best.variances[row, place])
            deviation = (np.abs(outside(shown + around) - outside(shown - around)) / 2).tolist()
        shown = outside(shown)
    catalogue = recommender.catalogue
    titles, ids = catalogue.titles[item].tolist(), catalogue.ids[item].tolist()
    lines = list(
        map(
            Recommendation, map(str, titles), shown.astype(float).tolist(), map(str, ids), deviation
        )
    )
    ends = np.searchsorted(row, np.arange(len(items) + 1)).tolist()
    finite = best.finite.tolist()
    return [
        Recommendations(lines[ends[n] : ends[n + 1]]) if finite[n] else None
        for n in range(len(items))
    ]

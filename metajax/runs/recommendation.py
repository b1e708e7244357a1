"""Recommendation to new users: a few ratings and attributes in, a ranked list of titles out."""

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax import metrics
from metajax.baselines import Blend
from metajax.data.dataset import Table
from metajax.data.labels import BEST, WORST, Grades, Labels
from metajax.data.schema import Schema, encode_rows
from metajax.display import grid
from metajax.fields import suggestion
from metajax.knowledge import SharedFacts
from metajax.runs.facts import CommonFact, common_facts
from metajax.runs.item_index import ItemIndex, find, index_of_items, split_names
from metajax.types import Adaptation, Examples, Inputs, Params, Predict

__all__ = [
    "Best",
    "Catalogue",
    "Recommendation",
    "Recommendations",
    "Recommender",
    "Scored",
    "Seen",
    "catalogue_of",
    "find_item",
    "liked_rating",
    "parse_names",
    "parse_numbers",
    "parse_pairs",
    "predict",
    "recommend",
    "recommend_batch",
    "score_all",
    "scored_at_once",
    "seen_of",
    "similar",
    "titles_of",
]


Ratings = Mapping[Any, float] | Sequence[str | int]

# Users in one call, and scores of users and items on the host: half a gigabyte of three arrays.
_MOST_USERS, _HOST_SCORES = 256, 2**25

# Users of so few ratings are scored one by one to explain a recommendation.
_FEW_ROWS = 16

# Reasons of a recommendation, and the least change of a standardised score that is no rounding.
_REASONS, _ROUNDING = 3, 1e-5


class Catalogue(NamedTuple):
    """The items that can be recommended."""

    ids: np.ndarray
    """`[I]` ids in the data set."""
    titles: np.ndarray
    """`[I]` titles; the id where there is no title."""
    item_features: np.ndarray
    """`[I, Di]` float32 encoded attributes."""
    item_domain: np.ndarray | None = None
    """`[I]` int32, 0 for an item of the source domain and 1 for the target; None: there is one."""
    index: ItemIndex | None = None
    """The items by id and title; None builds it at every call."""
    attributes: Table | None = None
    """Raw attributes of the items, by which `candidates` selects; None: there are none."""
    facts: SharedFacts | None = None
    """Facts of a graph that several items have, by which `recommend` explains; None: there are
    none."""


class Recommender(NamedTuple):
    """A trained method, with the encoding and the catalogue that new users need."""

    adaptation: Adaptation
    """Adaptation and prediction."""
    params: Params
    """Its meta-parameters."""
    user_schema: Schema
    """Encoding of user attributes."""
    catalogue: Catalogue
    """Candidate items."""
    scale: tuple[float, float] | None
    """Worst and best legal rating; None for no bounds."""
    labels: Labels = Labels()
    """How ratings are standardised for the method."""
    rating: bool = True
    """True where its scores are ratings, which are mapped back and kept on their scale."""
    grades: Grades = Grades()
    """Labels of interactions, of a method of a log without ratings."""
    blend: Blend | None = None
    """Of a method that blends experts; None of any other."""


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
        raise ValueError(f"{_NAN}.")
    if not explain or not found:
        return found
    for explained in (_with_reasons, _with_experts, _with_facts):
        found = explained(recommender, seen, found)
    return Recommendations(found)


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
    find = _place_of(recommender.catalogue) if by_id else _finder(recommender.catalogue)
    unknown = encode_rows(recommender.user_schema, [{}])[0]
    for n, (rated, user) in enumerate(zip(ratings, users, strict=True)):
        try:
            features = encode_rows(recommender.user_schema, [user])[0] if user else unknown
            seen.append(Seen(*_labelled(recommender, rated, find), features))
        except (KeyError, ValueError) as error:
            raise type(error)(f"user {names[n]}: {error.args[0]}") from None
    found = []
    for n, best in enumerate(_best(recommender, seen, top, source, among)):
        if best is None:
            raise ValueError(f"user {names[n]}: {_NAN}.")
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
    find = _finder(recommender.catalogue)
    asked = [find(item) for item in items]
    scored = score_all(recommender, [seen_of(recommender, ratings, user, find)])
    scores = np.asarray(scored.scores, np.float64)[0, asked]
    if not np.isfinite(scores).all():
        raise ValueError(f"{_NAN}.")
    return recommender.labels.outside(scores) if _is_rated(recommender) else scores


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
    given = _finder(catalogue)(item)
    name = str(catalogue.ids[given])
    likes: list[Ratings] = [[name], []]
    if recommender.scale is not None:
        worst, best = recommender.scale
        likes = [{name: best}, {name: worst}]
    seen = [seen_of(recommender, one, None, _place_of(catalogue)) for one in likes]
    ranks = np.asarray(score_all(recommender, seen).ranks, np.float64)
    if not np.isfinite(ranks).all():
        raise ValueError(f"{_NAN}.")
    change = ranks[0] - ranks[1]
    left = _allowed(catalogue, among)
    left[given] = False
    others = np.delete(change, given)
    if len(others) > 1 and np.ptp(others) <= _ROUNDING * max(1.0, np.abs(ranks).max()):
        raise ValueError(
            f"there is nothing to compare: liking {str(catalogue.titles[given])!r} changes the "
            "scores of all items alike, because the method is not personalised or ignores it."
        )
    order = np.argsort(-np.where(left, change, -np.inf), kind="stable")
    return Recommendations(
        Recommendation(str(catalogue.titles[i]), float(change[i]), str(catalogue.ids[i]))
        for i in order[: min(top, int(left.sum()))]
    )


_NAN = "the adapted model predicts NaN: these ratings drove it out of range"


class Seen(NamedTuple):
    """One user's ratings and attributes, checked and encoded."""

    items: np.ndarray
    """`[n]` int32 indices in the catalogue."""
    labels: np.ndarray
    """`[n]` float32 ratings."""
    features: np.ndarray
    """`[Du]` float32 encoded attributes."""


def seen_of(
    recommender: Recommender,
    ratings: Ratings,
    user: Mapping[str, Any] | None,
    find: Callable[[str | int], int] | None = None,
) -> Seen:
    """Checks and encodes the ratings and attributes of one user.

    Args:
        recommender: A trained method.
        ratings: As in `recommend`.
        user: As in `recommend`.
        find: Returns the index of an item by its name; None finds titles and ids.

    Raises:
        KeyError: As `recommend`.
        TypeError: As `recommend`.
        ValueError: As `recommend`.
    """
    find = find or _finder(recommender.catalogue)
    features = encode_rows(recommender.user_schema, [user or {}])[0]
    return Seen(*_labelled(recommender, ratings, find), features)


def _labelled(
    recommender: Recommender, ratings: Ratings, find: Callable[[str | int], int]
) -> tuple[np.ndarray, np.ndarray]:
    """Checks one user's ratings, and returns `[n]` items and standardised labels."""
    catalogue = recommender.catalogue
    rated: dict[int, float] = {}
    for title, rating in _pairs(recommender, ratings):
        item = find(title)
        if item in rated:
            raise ValueError(f"ratings must name an item once, got {title!r} twice.")
        rated[item] = _checked(title, float(rating), recommender.scale)
    if recommender.scale is not None:
        standard = np.clip(recommender.labels.inside(list(rated.values())), WORST, BEST)
        rated = dict(zip(rated, standard.tolist(), strict=True))
    elif isinstance(ratings, Mapping) and rated:
        graded = recommender.grades.of(list(rated.values()))
        rated = dict(zip(rated, graded.tolist(), strict=True))
    if catalogue.item_domain is not None:
        # As in every task across domains: the ratings of the source first.
        domain = catalogue.item_domain
        rated = dict(sorted(rated.items(), key=lambda pair: domain[pair[0]]))
    return np.array(list(rated), np.int32), np.array(list(rated.values()), np.float32)


def _pairs(recommender: Recommender, ratings: Ratings) -> Iterable[tuple[str | int, float]]:
    """Pairs of item and label; without ratings of items that are liked, or have been met, a 1."""
    if isinstance(ratings, Mapping):
        return ratings.items()
    if isinstance(ratings, str):
        raise TypeError(f"ratings must be a mapping, or a sequence of items, got {ratings!r}.")
    liked = liked_rating(recommender)
    return [(title, 1.0 if liked is None else liked) for title in ratings]


def liked_rating(recommender: Recommender) -> float | None:
    """Rating that items count as which a user likes and has not rated, such as clicked ones.

    Args:
        recommender: A trained method.

    Returns:
        The median of the relevant ratings that it has learned from, in the unit of the log; None of
        a method of a log without ratings.
    """
    if recommender.scale is None:
        return None
    return float(recommender.labels.outside(recommender.labels.liked))


class Best(NamedTuple):
    """The first k items of B users."""

    items: Any
    """`[B, k]` int32 indices, best first."""
    scores: Any
    """`[B, k]`."""
    deviations: Any
    """`[B, k]` standard deviations of the scores; 0 of a method that predicts none."""
    finite: Any
    """`[B]` bool: all scores of the catalogue are."""


class Scored(NamedTuple):
    """Scores of all items for B users or more, on the device; of ratings in standardised units."""

    scores: Any
    """`[B, I]` predictions."""
    deviations: Any
    """`[B, I]` their standard deviations; 0 of a method that predicts none."""
    ranks: Any
    """`[B, I]` scores that order the items."""
    doubts: Any
    """`[B, I]` standard deviations of the expected ratings, without the noise of a single one; of a
    method without `Adaptation.expectation` those of ratings."""
    best: Best
    """The first items by `ranks`, of equal ones the lower index first."""


class _Best(NamedTuple):
    """The first k items of B users."""

    items: Any
    """`[B, k]` int32 indices, best first; -1 where no item is left."""
    scores: Any
    """`[B, k]`."""
    variances: Any
    """`[B, k]`; 0 of a method that predicts none."""
    finite: Any
    """`[B]` bool: all scores of the catalogue are."""
    asked: Any
    """`[B, k]` scores of k items that were asked for."""


def _is_rated(recommender: Recommender) -> bool:
    return recommender.rating and recommender.scale is not None


def score_all(
    recommender: Recommender,
    seen: Sequence[Seen],
    least: int = 0,
    *,
    doubts: bool = False,
    best: int = 1,
) -> Scored:
    """Scores all items for some users in one compiled call.

    Args:
        recommender: A trained method.
        seen: Of each user; their number is padded to a power of two.
        least: Rows that each support is padded to, at least.
        doubts: True for `Scored.doubts`, which only exploration asks for; False: deviations.
        best: Length of `Scored.best`, or the size of the catalogue where that is less.

    Returns:
        The scores, padded too, which are not finite where the ratings drove the method out of
        range.
    """
    adaptation = recommender.adaptation
    if not _is_rated(recommender):
        adaptation = adaptation._replace(predict_variance=None, expectation=None)
    if not doubts:
        adaptation = adaptation._replace(expectation=None)
    features = recommender.catalogue.item_features
    return _scores(
        adaptation,
        min(best, len(features)),
        recommender.params,
        features,
        _padded_users(seen, least),
    )


def _padded_users(seen: Sequence[Seen], least: int = 0) -> tuple[np.ndarray, ...]:
    """Returns attributes, items, labels and mask of users, whose number is a power of two."""
    size = _padded(max(least, max(len(one.items) for one in seen)), 4)
    batch = _padded(len(seen), 1)
    items, labels = np.zeros((batch, size), np.int32), np.zeros((batch, size), np.float32)
    mask = np.zeros((batch, size), bool)
    features = np.zeros((batch, len(seen[0].features)), np.float32)
    for n, one in enumerate(seen):
        known = slice(0, len(one.items))
        items[n, known], labels[n, known], mask[n, known] = one.items, one.labels, True
        features[n] = one.features
    return features, items, labels, mask


def _allowed(catalogue: Catalogue, among: np.ndarray | None) -> np.ndarray:
    """Returns a new `[I]` bool mask of the items that may be recommended."""
    items = len(catalogue.ids)
    if among is None:
        return np.ones(items, bool)
    if np.shape(among) != (items,) or np.asarray(among).dtype != bool:
        raise ValueError(
            f"among must be a bool for each of the {items} items, got shape {np.shape(among)} of "
            f"{np.asarray(among).dtype}."
        )
    return np.array(among)


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
    allowed = _allowed(catalogue, among)
    if catalogue.item_domain is not None and not source:
        allowed &= catalogue.item_domain == 1
    if not seen:
        return []
    lists: list[Recommendations | None] = []
    size = scored_at_once(len(allowed))
    for start in range(0, len(seen), size):
        found = _best_of(recommender, seen[start : start + size], allowed, top)
        lists += _lines(recommender, found, top)
    return lists


def _best_of(
    recommender: Recommender,
    seen: Sequence[Seen],
    allowed: np.ndarray,
    top: int,
    asked: Sequence[int] = (),
    least: int = 0,
) -> _Best:
    """Returns the best items of some users, and the scores of at most `top` that are asked for."""
    adaptation = recommender.adaptation._replace(expectation=None)
    if not _is_rated(recommender):
        adaptation = adaptation._replace(predict_variance=None)
    # Few lengths are ever compiled.
    length = min(_padded(top, 16), len(allowed))
    places = np.zeros(length, np.int32)
    places[: len(asked)] = asked
    found = _best_items(
        adaptation,
        recommender.params,
        jnp.asarray(recommender.catalogue.item_features),
        _padded_users(seen, least),
        allowed,
        places,
    )
    return _Best(*(np.asarray(array)[: len(seen)] for array in found))


def _lines(recommender: Recommender, best: _Best, top: int) -> list[Recommendations | None]:
    """Returns the first lines of each user's list, None where the scores are not finite."""
    items = best.items[:, :top]
    row, place = np.nonzero(items >= 0)
    item, shown = items[row, place], best.scores[row, place]
    deviation: list[float | None] = [None] * len(item)
    if _is_rated(recommender):
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


def _places(catalogue: Catalogue, found: Sequence[Recommendation]) -> list[int]:
    place = _place_of(catalogue)
    return [place(line.item_id) for line in found]


def _with_experts(
    recommender: Recommender, seen: Seen, found: Sequence[Recommendation]
) -> list[Recommendation]:
    """Adds the experts' parts of the scores, less those of the mean item."""
    blend = recommender.blend
    if blend is None:
        return list(found)
    user = tuple(array[0] for array in _padded_users([seen]))
    parts = np.asarray(
        _parts(
            recommender.adaptation,
            blend.parts,
            recommender.params,
            jnp.asarray(recommender.catalogue.item_features),
            user,
        ),
        np.float64,
    )
    names = blend.names(recommender.params)
    lead = parts - np.delete(parts, seen.items, axis=0).mean(axis=0)
    speaking = set(np.nonzero(parts)[1].tolist())
    explained = []
    for line, i in zip(found, _places(recommender.catalogue, found), strict=True):
        order = np.argsort(-lead[i], kind="stable")
        # One that was dropped has no part in any item.
        told = tuple((names[e], float(lead[i, e])) for e in order.tolist() if e in speaking)
        explained.append(line._replace(experts=told))
    return explained


def _with_facts(
    recommender: Recommender, seen: Seen, found: Sequence[Recommendation]
) -> list[Recommendation]:
    """Adds the facts that items share with those that the user likes."""
    catalogue, liked = recommender.catalogue, seen.items
    if recommender.scale is not None:
        liked = liked[seen.labels > (WORST + BEST) / 2]
    items = _places(catalogue, found)
    facts = common_facts(
        items, liked.tolist(), catalogue.titles, catalogue.attributes, catalogue.facts
    )
    return [line._replace(facts=one) for line, one in zip(found, facts, strict=True)]


def _with_reasons(
    recommender: Recommender, seen: Seen, found: Sequence[Recommendation]
) -> list[Recommendation]:
    """Adds the reasons: scores with all of the user's items, less those without each of them."""
    if not len(seen.items):
        return list(found)
    asked = _places(recommender.catalogue, found)
    rows, size = range(len(seen.items)), scored_at_once(len(recommender.catalogue.ids))
    blocks = []
    for start in range(0, len(rows), size):
        without = [
            seen._replace(items=np.delete(seen.items, n), labels=np.delete(seen.labels, n))
            for n in rows[start : start + size]
        ]
        # In one program with the whole: between two programs the last bits differ. Of few that is
        # the one that has recommended, because to compile another takes longer than they do.
        users = [seen, *without]
        calls = [users] if len(rows) > _FEW_ROWS else [[one] for one in users]
        allowed = np.ones(len(recommender.catalogue.ids), bool)
        found_scores = [
            _best_of(recommender, call, allowed, len(asked), asked, len(rows)).asked
            for call in calls
        ]
        scores = np.concatenate(found_scores)[:, : len(asked)].astype(np.float64)
        if not np.isfinite(scores).all():
            raise ValueError(f"{_NAN}.")
        noise = np.broadcast_to(_ROUNDING * np.maximum(1, np.abs(scores[0])), scores.shape)
        if _is_rated(recommender):
            scores = recommender.labels.outside_on_device(scores)
            noise = noise * recommender.labels.unit
        change = scores[0] - scores[1:]
        blocks.append(np.where(np.abs(change) > noise[1:], change, 0.0))
    change = np.concatenate(blocks)
    # What raises a score lowers the figure where low ratings are good.
    downwards = recommender.scale is not None and recommender.scale[0] > recommender.scale[1]
    raised = -change if downwards else change
    explained = []
    for line, gains, changes in zip(found, raised.T, change.T, strict=True):
        order = np.argsort(-gains, kind="stable")[:_REASONS]
        titles = recommender.catalogue.titles[seen.items[order]]
        reasons = tuple(
            (str(title), float(changes[n]))
            for title, n in zip(titles, order, strict=True)
            if gains[n] > 0
        )
        explained.append(line._replace(reasons=reasons))
    return explained


def scored_at_once(items: int) -> int:
    """Returns how many users to score in one call, so that the scores fit the host's memory.

    Args:
        items: Size of the catalogue.
    """
    return max(1, min(_MOST_USERS, _HOST_SCORES // items))


def catalogue_of(
    items: Table, item_features: np.ndarray, item_domain: np.ndarray | None = None
) -> Catalogue:
    """Builds the catalogue of a data set.

    Args:
        items: The items' table; its first column of text, if any, holds the titles.
        item_features: `[I, Di]` their encoded attributes.
        item_domain: `[I]` 0 for an item of the source domain and 1 for the target; None: there is
            one.

    Returns:
        The catalogue.
    """
    titles = titles_of(items, item_domain)
    index = index_of_items(items.ids.tolist(), titles.tolist())
    return Catalogue(items.ids, titles, item_features, item_domain, index, items)


def titles_of(items: Table, item_domain: np.ndarray | None = None) -> np.ndarray:
    """Titles of items, `[I]`; the id where the table has no title.

    Args:
        items: The table.
        item_domain: As in `catalogue_of`; such an id is that of the item's own log, without the
            domain in front.
    """
    names = items.ids
    if item_domain is not None:
        sides = np.where(np.asarray(item_domain) == 0, "source:", "target:").tolist()
        ids = names.astype(str).tolist()
        names = np.array([name.removeprefix(s) for name, s in zip(ids, sides, strict=True)])
    texts = [name for name, kind in items.kinds.items() if kind == "text"]
    if not texts:
        return names
    return np.where(items.columns[texts[0]] == "", names, items.columns[texts[0]])


def find_item(catalogue: Catalogue, title: str | int) -> int:
    """Finds an item by title or id, exact before whatever the case; see `item_index.find`.

    Args:
        catalogue: The items.
        title: A title or an id, a whole number an id; where there are two domains `source:` or
            `target:` in front of it names its domain.

    Returns:
        Its index in the catalogue.

    Raises:
        TypeError: If it is neither a text nor a whole number.
        KeyError: If no item has it; names the nearest.
        ValueError: If several items have it.
    """
    return _finder(catalogue)(title)


def _place_of(catalogue: Catalogue) -> Callable[[str | int], int]:
    """Returns a function that finds an item by its id alone."""
    place = {str(name): n for n, name in enumerate(catalogue.ids)}

    def find(name: str | int) -> int:
        if str(name) not in place:
            raise KeyError(f"no item has the id {name!r}{suggestion(name, place, most=3)}")
        return place[str(name)]

    return find


def _finder(catalogue: Catalogue) -> Callable[[str | int], int]:
    index = catalogue.index
    if index is None:
        index = index_of_items(catalogue.ids.tolist(), catalogue.titles.tolist())
    return functools.partial(_found, index, catalogue.item_domain)


def parse_names(catalogue: Catalogue, text: str) -> list[str]:
    """Reads titles or ids that are separated by commas; known titles may hold commas.

    Args:
        catalogue: The items.
        text: Such as "p1, p2".

    Returns:
        The names; unknown ones too.
    """
    index = catalogue.index or index_of_items(catalogue.ids.tolist(), catalogue.titles.tolist())
    return split_names(index, text)


def _found(index: ItemIndex, domain: np.ndarray | None, title: str | int) -> int:
    if domain is None or not isinstance(title, str):
        return find(index, title)
    side, _, rest = title.strip().partition(":")
    if side not in ("source", "target"):
        return find(index, title)
    meant = int(side == "target")
    if title.strip() in index.ids:
        return index.ids[title.strip()]
    try:
        return find(index, rest, among=lambda item: int(domain[item]) == meant)
    except KeyError as error:
        end = error.args[0].partition("; ")[2]
        raise KeyError(
            f"no item has the title or id {title!r}{'; ' + end if end else '.'}"
        ) from None


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


def _checked(title: str | int, rating: float, scale: tuple[float, float] | None) -> float:
    low, high = sorted(scale or (-np.inf, np.inf))
    if not low <= rating <= high:
        raise ValueError(f"rating of {title!r} must be in [{low:g}, {high:g}], got {rating:g}.")
    return rating


def _padded(size: int, least: int) -> int:
    """Rounds a size up, so that few sizes are ever compiled."""
    return max(least, 1 << max(size - 1, 0).bit_length())


# Scores of users and items in memory at once: hidden layers multiply it by their width.
_SCORES = 2**16


def _adapted(
    adaptation: Adaptation, params: Params, item_features: jax.Array, user: tuple[jax.Array, ...]
) -> tuple[Any, Inputs]:
    """Adapts to attributes, items, labels and mask of one user; returns all items as inputs too."""
    features, items, labels, mask = user

    def inputs(items: jax.Array) -> Inputs:
        repeated = jnp.broadcast_to(features, (len(items), len(features)))
        return Inputs(repeated, item_features[items], items)

    adapted = adaptation.adapt(params, Examples(inputs(items), labels, mask))
    return adapted, inputs(jnp.arange(len(item_features)))


@functools.partial(jax.jit, static_argnames=("adaptation", "parts"))
def _parts(
    adaptation: Adaptation, parts: Predict, params: Params, item_features: jax.Array, user: Any
) -> jax.Array:
    """Parts of E experts of the scores of all items for one user, `[I, E]`."""
    return parts(params, *_adapted(adaptation, params, item_features, user))


@functools.partial(jax.jit, static_argnames="adaptation")
def _best_items(
    adaptation: Adaptation,
    params: Params,
    item_features: jax.Array,
    users: Any,
    allowed: Any,
    asked: Any,
) -> _Best:
    """Orders the items `[I]` that are allowed and not in the support, for B users.

    As many are returned as there are items `[k]` whose scores are asked for.
    """
    allowed = jnp.asarray(allowed)

    def one(user: tuple[jax.Array, ...]) -> _Best:
        _, known, _, mask = user
        scores, ranks, variances, _ = _of_catalogue(adaptation, params, item_features, user)
        left = allowed.at[known].min(~mask)
        items = metrics.top_items(ranks, k=len(asked), where=left)
        finite = jnp.all(jnp.isfinite(scores)) & jnp.all(jnp.isfinite(ranks))
        return _Best(items, scores[items], variances[items], finite, scores[asked])

    return _mapped(one, users, len(item_features))


@functools.partial(jax.jit, static_argnames=("adaptation", "best"))
def _scores(
    adaptation: Adaptation, best: int, params: Params, item_features: Any, users: Any
) -> Scored:
    """Scores of all items for B users, a power of two, as of `score_all`."""
    item_features = jnp.asarray(item_features)

    def one(user: tuple[jax.Array, ...]) -> Scored:
        scores, ranks, variances, expectation = _of_catalogue(
            adaptation, params, item_features, user
        )
        doubts = variances
        if expectation is not None:
            _, root, own = expectation
            doubts = jnp.sum(root * root, axis=-1) + own
        deviations, items = jnp.sqrt(variances), metrics.top_items(ranks, k=best)
        finite = jnp.all(jnp.isfinite(scores)) & jnp.all(jnp.isfinite(ranks))
        first = Best(items, scores[items], deviations[items], finite)
        return Scored(scores, deviations, ranks, jnp.sqrt(doubts), first)

    return _mapped(one, users, len(item_features))


def _of_catalogue(
    adaptation: Adaptation, params: Params, item_features: jax.Array, user: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array, jax.Array, Any]:
    """Scores of all items for one user, what orders them, variances and expected ratings.

    The variances are 0 and the expectation None of a method that predicts none.
    """
    adapted, catalogue = _adapted(adaptation, params, item_features, user)
    scores = adaptation.predict(params, adapted, catalogue)
    ranks, variances, expectation = scores, jnp.zeros_like(scores), None
    if adaptation.rank is not None:
        ranks = adaptation.rank(params, adapted, catalogue)
    if adaptation.predict_variance is not None:
        variances = adaptation.predict_variance(params, adapted, catalogue)
    if adaptation.expectation is not None:
        expectation = adaptation.expectation(params, adapted, catalogue)
    return scores, ranks, variances, expectation


def _mapped(one: Callable[[Any], Any], users: Any, items: int) -> Any:
    """Applies a function of one user to B users, as many at a time as memory should hold."""
    most = 1 << max(_SCORES // items, 1).bit_length() - 1
    return jax.lax.map(one, users, batch_size=min(most, len(users[0])))

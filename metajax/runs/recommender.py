"""A trained method that serves new users, and their interactions as it takes them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metajax.baselines import Blend
from metajax.data.labels import BEST, WORST, Grades, Labels
from metajax.data.schema import Schema, encode_rows
from metajax.runs.catalogue import Catalogue, finder
from metajax.types import Adaptation, Params

__all__ = [
    "Ratings",
    "Recommender",
    "Seen",
    "labelled",
    "liked_rating",
    "seen_of",
]

Ratings = Mapping[Any, float] | Sequence[str | int]
"""Items that a user has rated, or has met, as in `runs.recommend`."""


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

    @property
    def predicts_ratings(self) -> bool:
        """True where scores are mapped back to ratings on the scale of the log."""
        return self.rating and self.scale is not None


def liked_rating(recommender: Recommender) -> float | None:
    """Rating that stands for a like without a rating, such as a click.

    Args:
        recommender: A trained method.

    Returns:
        The median of the relevant ratings that it has learned from, in the unit of the log; None of
        a method of a log without ratings.
    """
    if recommender.scale is None:
        return None
    return float(recommender.labels.outside(recommender.labels.liked))


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
    find = find or finder(recommender.catalogue)
    features = encode_rows(recommender.user_schema, [user or {}])[0]
    return Seen(*labelled(recommender, ratings, find), features)


def labelled(
    recommender: Recommender, ratings: Ratings, find: Callable[[str | int], int]
) -> tuple[np.ndarray, np.ndarray]:
    """Checks one user's ratings.

    Args:
        recommender: A trained method.
        ratings: As in `recommend`.
        find: As in `seen_of`.

    Returns:
        `[n]` int32 places of the items, and `[n]` float32 labels as the method takes them.

    Raises:
        KeyError: As `recommend`.
        TypeError: As `recommend`.
        ValueError: As `recommend`.
    """
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


def _checked(title: str | int, rating: float, scale: tuple[float, float] | None) -> float:
    low, high = sorted(scale or (-np.inf, np.inf))
    if not low <= rating <= high:
        raise ValueError(f"rating of {title!r} must be in [{low:g}, {high:g}], got {rating:g}.")
    return rating

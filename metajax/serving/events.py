"""Events and lists as they are stored, and the label of each kind of event.

| kind | label for a model of ratings | label for a model without ratings |
| --- | --- | --- |
| `rating` | its value, which must be on the scale of the model | an interaction |
| `like`, `purchase`, `view` | `liked_rating`: the median of the relevant ratings | an interaction |
| `dislike` | the worst rating | none: the item is only left out of lists |

A view counts as `runs.recommend` counts items that are named without a rating. Of several events of
one user and item the newest counts, but a view never replaces another kind.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

__all__ = ["Answer", "Event", "Shown", "labels_of"]

KINDS = ("dislike", "like", "purchase", "rating", "view")
"""Kinds of events."""


class Event(NamedTuple):
    """One thing that a user did."""

    id: str
    """The client's, unique: sent again, it is stored once."""
    user: str
    """Id of the user."""
    item: str
    """Id of the item."""
    kind: str
    """One of `KINDS`."""
    value: float | None
    """Of a rating the rating, in the unit of the model; of other kinds free, such as a price."""
    time: float
    """Seconds since 1970."""
    recommendation_id: str | None = None
    """The answer in which the item was shown; None: in none."""
    arm: str | None = None
    """EXPERIMENT/ARM of that answer, or without one of the user; None: of no experiment."""


class Shown(NamedTuple):
    """An item of a list."""

    item: str
    """Id of the item; its position is that in the list."""
    score: float | None
    """The score that it had."""
    propensity: float
    """Probability with which the policy showed it at this position, after all filters."""


class Answer(NamedTuple):
    """A list that was shown."""

    id: str
    """The `recommendation_id`."""
    user: str | None
    """Id of the user; None of somebody without a record."""
    time: float
    """Seconds since 1970."""
    policy: str
    """Name of the policy that drew the list."""
    model: str
    """Version of the model that scored it."""
    scenario: str | None
    """Name of the place where it is shown, as the client gave it."""
    items: tuple[Shown, ...]
    """The list, first position first."""
    known: int | None = None
    """Number of items of the user's events from which it was drawn; None in logs of old."""
    arm: str | None = None
    """EXPERIMENT/ARM that drew it; None: of no experiment, or the client chose the policy."""
    chances: Mapping[str, float] = {}
    """Probability with which each arm of the experiment that has the same model would have shown
    the first item first."""


def labels_of(
    events: Iterable[Event], *, liked: float | None, worst: float | None
) -> dict[str, float]:
    """Label of each item for adaptation, from the events of one user.

    Args:
        events: Newest first.
        liked: Rating that an item counts as which was liked; None of a model without ratings.
        worst: Worst rating; None of a model without ratings.

    Returns:
        Rating by item, 1 of a model without ratings; the item of the newest event first.

    Example:
        >>> seen = [Event("3", "u", "a", "view", None, 3), Event("2", "u", "b", "dislike", None, 2),
        ...         Event("1", "u", "a", "rating", 2.0, 1)]
        >>> labels_of(seen, liked=4.0, worst=1.0), labels_of(seen, liked=None, worst=None)
        ({'a': 2.0, 'b': 1.0}, {'a': 1.0})
    """
    newest: dict[str, Event] = {}
    for event in events:
        known = newest.setdefault(event.item, event)
        if known.kind == "view" and event.kind != "view":
            newest[event.item] = event
    labels: dict[str, float] = {}
    for item, event in newest.items():
        if event.kind == "dislike":
            if worst is not None:
                labels[item] = worst
        elif liked is None:
            labels[item] = 1.0
        elif event.kind == "rating" and event.value is not None:
            labels[item] = event.value
        else:
            labels[item] = liked
    return labels

"""Bodies of requests and answers, and the checks that every name goes through.

msgspec decodes and checks them, and describes them for the OpenAPI document. Measured against
pydantic 2.14: 1,000 events .32 ms and 1.57 ms, import .12 s and .44 s (two loaded cores,
2026-11-29). Each event of a request is decoded alone, so that one wrong event refuses no other.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from metajax.characters import visible
from metajax.serving.events import Event
from metajax.serving.scoring import RefusedError, Scorer

__all__ = [
    "ActivityAnswer",
    "ArmAnswer",
    "AvailabilityBody",
    "DeletedAnswer",
    "ErrorAnswer",
    "EventBody",
    "EventsAnswer",
    "EventsBody",
    "FactAnswer",
    "FoundItem",
    "ItemBody",
    "ListAnswer",
    "LiveAnswer",
    "ModelAnswer",
    "NewEvent",
    "NewItem",
    "PlaceAnswer",
    "ReadEvents",
    "ReasonAnswer",
    "RejectedEvent",
    "ReloadAnswer",
    "SearchAnswer",
    "ShareAnswer",
    "SimilarAnswer",
    "SimilarItem",
    "StrangerBody",
    "SuccessAnswer",
    "UserAnswer",
    "UserBody",
    "check_name",
    "decoded",
    "read_events",
]

MOST_BYTES = 2**20
"""Size of a body, at most."""

MOST_EVENTS = 1000
"""Events of a request, at most."""

_AHEAD = 86_400.0
"""Seconds that a client's clock may be ahead."""

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Kind = Literal["dislike", "like", "purchase", "rating", "view"]
Text = Annotated[str, Meta(max_length=10_000)]
Attributes = dict[Name, bool | int | float | Text | list[str] | None]


class EventBody(Struct, forbid_unknown_fields=True):
    """One thing that a user did."""

    id: Name
    user: Name
    item: Name
    kind: Kind
    value: float | None = None
    time: Annotated[float, Meta(ge=0)] | None = None
    recommendation_id: Name | None = None


class EventsBody(Struct, forbid_unknown_fields=True):
    """Events to store."""

    events: Annotated[list[Raw], Meta(min_length=1, max_length=MOST_EVENTS)]


class RejectedEvent(Struct):
    """An event that is not stored."""

    index: int
    why: str


class EventsAnswer(Struct):
    """Fate of the events of a request."""

    accepted: int
    duplicates: int
    rejected: list[RejectedEvent]


class NewEvent(Struct, forbid_unknown_fields=True):
    """One thing that somebody without a record did."""

    item: Name
    kind: Kind
    value: float | None = None


class StrangerBody(Struct, forbid_unknown_fields=True):
    """A list for somebody without a record; events in order, the newest last."""

    events: Annotated[list[NewEvent], Meta(max_length=MOST_EVENTS)] = []
    attributes: Attributes = {}
    n: Annotated[int, Meta(ge=1, le=100)] = 10
    policy: Name | None = None
    filter: Annotated[list[Name], Meta(max_length=20)] = []
    exclude: Annotated[list[Name], Meta(max_length=MOST_EVENTS)] = []
    scenario: Name | None = None
    model: Name | None = None
    explain: bool = False


class ReasonAnswer(Struct):
    """An item of the user that raised the score, and by how much."""

    item: str
    title: str
    change: float


class FactAnswer(Struct):
    """A fact that an item shares with items that the user likes."""

    relation: str
    value: str
    titles: list[str]


class PlaceAnswer(Struct):
    """A position of a list."""

    item: str
    title: str
    position: int
    score: float
    standard_error: float | None
    propensity: float
    reasons: list[ReasonAnswer] | UnsetType = UNSET
    facts: list[FactAnswer] | UnsetType = UNSET


class ListAnswer(Struct):
    """A list that was drawn, and is stored under its id."""

    recommendation_id: str
    user: str | None
    policy: str
    model: str
    items: list[PlaceAnswer]
    arm: str | None


class SimilarItem(Struct):
    """An item that is similar to another."""

    item: str
    title: str
    similarity: float


class SimilarAnswer(Struct):
    """Similar items, the most similar first."""

    item: str
    model: str
    items: list[SimilarItem]


class FoundItem(Struct):
    """An item that was searched for."""

    item: str
    title: str


class SearchAnswer(Struct):
    """Items whose titles have the words."""

    model: str
    items: list[FoundItem]


class ModelAnswer(Struct):
    """The model that is served.

    `policy` is that of requests that name none; `beside` are other models that they may name.
    """

    model: str
    method: str
    items: int
    scale: Annotated[list[float], Meta(min_length=2, max_length=2)] | None
    policies: list[str]
    policy: str
    beside: list[str]


class ShareAnswer(Struct):
    """A share of `count`, with its 95 % interval; None of a count of 0."""

    count: int
    share: float | None
    low: float | None
    high: float | None


class SuccessAnswer(Struct):
    """Success of lists for users with so many interactions."""

    interactions: str
    lists: int
    share: float | None
    low: float | None
    high: float | None


class ArmAnswer(Struct):
    """An arm: success of its lists and of first lists, and users back after a day."""

    arm: str
    users: int
    lists: int
    success: ShareAnswer
    first: ShareAnswer
    day: ShareAnswer


class NewItem(Struct):
    """An item that the model does not know."""

    item: str
    title: str
    shown: int
    successes: int
    available: bool


class ActivityAnswer(Struct):
    """Activity: events of each of the last 60 minutes since the start, and the newest lists."""

    model: str
    items: int
    events: int
    users: int
    minutes: list[int]
    success: list[SuccessAnswer]
    arms: list[ArmAnswer]
    new_items: list[NewItem]


class ItemBody(Struct, forbid_unknown_fields=True):
    """Facts of an item."""

    content: Attributes = {}
    available: bool = True
    categories: Annotated[list[Name], Meta(max_length=100)] = []
    expires: Annotated[float, Meta(ge=0)] | None = None


class AvailabilityBody(Struct, forbid_unknown_fields=True):
    """Availability of an item."""

    available: bool


class UserBody(Struct, forbid_unknown_fields=True):
    """Attributes of a user."""

    attributes: Attributes


class UserAnswer(Struct):
    """Everything that is stored of a user; events are the newest first, lists the oldest first."""

    user: str
    attributes: dict[str, Any] | None
    events: list[dict[str, Any]]
    recommendations: list[dict[str, Any]]


class DeletedAnswer(Struct):
    """Numbers of rows that were deleted."""

    events: int
    answers: int
    users: int


class LiveAnswer(Struct):
    """State of the service."""

    status: str
    model: str


class ReloadAnswer(Struct):
    """The model that is served from now on."""

    model: str


class ErrorAnswer(Struct):
    """Why a request is refused, in one line."""

    error: str


class ReadEvents(NamedTuple):
    """The events of a body."""

    events: list[Event]
    """Those that may be stored."""
    index: list[int]
    """Place of each in the body."""
    rejected: list[RejectedEvent]
    """The others."""
    unknown: int
    """Number of items that the model does not know."""


_EVENT = msgspec.json.Decoder(EventBody)


def decoded(body: bytes, kind: Any) -> Any:
    """Decodes a body.

    Args:
        body: JSON.
        kind: A type of this module.

    Raises:
        RefusedError: If it is no JSON, or not of this type; in one line.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except RecursionError:
        raise RefusedError("the body is nested too deep.") from None
    except msgspec.MsgspecError as problem:
        raise RefusedError(_line(problem)) from None


def check_name(what: str, name: str) -> str:
    """Returns an id or another name, checked.

    Args:
        what: The argument, for the error.
        name: The name.

    Raises:
        RefusedError: If it is empty, of more than 256 characters, holds control characters or ends
            as a path of the service does.
    """
    if not 1 <= len(name) <= 256:
        raise RefusedError(f"{what} must have 1 to 256 characters, got {len(name)}.")
    if visible(name) != name:
        raise RefusedError(f"{what} must not hold control characters.")
    if name.endswith(("/recommendations", "/similar")):
        raise RefusedError(f"{what} must not end in /recommendations or /similar.")
    return name


def read_events(body: bytes, scorer: Scorer, now: float, *, unknown: bool = True) -> ReadEvents:
    """Reads the body of a request that stores events.

    Args:
        body: JSON, as of `EventsBody`.
        scorer: The model, whose scale ratings are checked by.
        now: Seconds since 1970, the time of an event without one.
        unknown: True to accept items that the model does not know.

    Raises:
        RefusedError: If it is no such body. A wrong event in it is rejected by its index.
    """
    raws: Sequence[Raw] = decoded(body, EventsBody).events
    found = ReadEvents([], [], [], 0)
    strange = 0
    for index, raw in enumerate(raws):
        try:
            event = _event_of(raw, scorer, now)
            known = scorer.knows(event.item)
            strange += not known
            if not known and not unknown:
                raise RefusedError("item is unknown.")
        except RefusedError as problem:
            found.rejected.append(RejectedEvent(index, str(problem)))
            continue
        found.events.append(event)
        found.index.append(index)
    return found._replace(unknown=strange)


def _event_of(raw: Raw, scorer: Scorer, now: float) -> Event:
    try:
        event = _EVENT.decode(raw)
    except RecursionError:
        raise RefusedError("the event is nested too deep.") from None
    except msgspec.MsgspecError as problem:
        raise RefusedError(_line(problem)) from None
    for what in ("id", "user", "item"):
        check_name(what, getattr(event, what))
    value = event.value
    if value is not None and not math.isfinite(value):
        raise RefusedError("value must be finite.")
    if event.kind == "rating":
        if value is None:
            raise RefusedError("value must be given for a rating.")
        if not scorer.on_scale(value):
            raise RefusedError(f"value is off the scale, got {value:g}.")
    if event.time is not None and not event.time <= now + _AHEAD:
        raise RefusedError("time is in the future.")
    time = now if event.time is None else event.time
    return Event(
        event.id, event.user, event.item, event.kind, event.value, time, event.recommendation_id
    )


def _line(problem: Exception) -> str:
    return visible(str(problem))[:300] + "."

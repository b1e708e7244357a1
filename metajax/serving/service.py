"""Service without HTTP: stores events and users, and draws lists that follow from them.

Everything that is known of a user is read from the store, so that a list always follows from all
events that were acknowledged before it was asked for.
"""

import math
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metajax.runs.recommendation import liked_rating
from metajax.serving import bodies
from metajax.serving.bodies import ListAnswer, PlaceAnswer, RejectedEvent, StrangerBody
from metajax.serving.events import Answer, Event, Shown, labels_of
from metajax.serving.gathering import Gatherer, Job
from metajax.serving.metrics import Metrics
from metajax.serving.scoring import AT_ONCE, Line, ListRequest, RefusedError, Scorer, UnknownError
from metajax.serving.store import Item, Store

__all__ = ["Service", "ServiceSettings", "pair_of"]


_ALL = 2**62


@dataclass(frozen=True)
class ServiceSettings:
    """Settings of a service."""

    policy: str = "greedy"
    """Policy of requests that name none."""
    api_key: str | None = None
    """Key of all requests; None: there is none."""
    admin_key: str | None = None
    """Key of metrics and administration; None: the key of all requests does."""
    unknown_items: bool = True
    """True to store events of items that the model does not know."""
    most_met: int = 1000
    """Newest events of a user whose items are not shown again, and among which labels are."""
    most_requests: int = 256
    """Requests under way, at most; more are answered with 503."""
    most_of_client: int = 64
    """Requests under way of one address, at most; more are answered with 429."""
    client_rate: float | None = None
    """Requests a second of one address, on average, of which those of ten seconds may come at once;
    None: any."""

    def __post_init__(self):
        """Checks the numbers.

        Raises:
            ValueError: If one is out of its range.
        """
        rate = self.client_rate
        if rate is not None and not 0 < rate < math.inf:
            raise ValueError(f"client_rate must be > 0 and finite, got {rate}.")


class Service:
    """A store and a model.

    Args:
        store: The open store; the service closes it.
        scorer: The model, warmed up.
        settings: Settings.
        load: Reads the model folder again; None: it cannot be reloaded.

    Raises:
        RefusedError: If the policy is none of the model, or the store has an item whose content
            does not fit the model.
        StoreError: If the store cannot be read.
    """

    def __init__(
        self,
        store: Store,
        scorer: Scorer,
        settings: ServiceSettings | None = None,
        load: Callable[[], Scorer] | None = None,
    ):
        self.store, self.scorer, self._load = store, scorer, load
        self.settings = ServiceSettings() if settings is None else settings
        scorer.checked_policy(self.settings.policy)
        self._items = store.items()
        scorer.set_items(self._items)
        self.metrics = Metrics()
        self._changing = threading.Lock()
        self._lists = Gatherer(self._draw, most=AT_ONCE, name="lists")

    def close(self) -> None:
        """Finishes what waits, and closes the store."""
        self._lists.close()
        self.store.close()

    def gauges(self) -> dict[str, float]:
        """Present values for the metrics."""
        return {"writes_waiting": self.store.waiting, "lists_waiting": self._lists.waiting}

    def add_events(self, body: bytes) -> bodies.EventsAnswer:
        """Stores events; returns once they are on the disk.

        Raises:
            RefusedError: If the body is no list of events.
            StoreError: If the store cannot be written.
        """
        read = bodies.read_events(
            body, self.scorer, time.time(), unknown=self.settings.unknown_items
        )
        rejected = list(read.rejected)
        accepted = duplicates = 0
        if read.events:
            outcome = self.store.add_events(read.events)
            accepted, duplicates = outcome.accepted, outcome.duplicates
            rejected += [RejectedEvent(read.index[n], why) for n, why in outcome.refused]
        rejected.sort(key=lambda one: one.index)
        self.metrics.events(
            accepted=accepted, duplicate=duplicates, rejected=len(rejected), unknown=read.unknown
        )
        return bodies.EventsAnswer(accepted, duplicates, rejected)

    def list_for(self, user: str, **options: Any) -> ListAnswer:
        """Draws a list for a user, who may be unknown, and stores it.

        Args:
            user: Id of the user; of a deleted one nothing is stored.
            **options: `scenario`, and options of `ListRequest`.

        Raises:
            RefusedError: If an option is none of the model.
            StoreError: If the store cannot be read or written.
        """
        deleted = self.store.is_deleted(user)
        events = [] if deleted else self.store.events_of(user, self.settings.most_met)
        attributes = None if deleted else self.store.attributes_of(user)
        known = None if deleted else user
        return self._listed(known, events, attributes or {}, options)

    def list_for_stranger(self, asked: StrangerBody) -> ListAnswer:
        """Draws a list for somebody without a record, and stores it without a user.

        Raises:
            RefusedError: If something does not fit the model.
            StoreError: If the store cannot be written.
        """
        scorer, events = self.scorer, []
        for n, one in enumerate(asked.events):
            bodies.check_name("item", one.item)
            if one.kind == "rating" and (one.value is None or not scorer.on_scale(one.value)):
                raise RefusedError(f"value of event {n} must be a rating on the scale.")
            events.append(Event(str(n), "", one.item, one.kind, one.value, 0.0))
        options = {
            "n": asked.n,
            "policy": asked.policy,
            "having": [pair_of(text) for text in asked.filter],
            "exclude": asked.exclude,
            "scenario": asked.scenario,
            "explain": asked.explain,
        }
        return self._listed(None, events[::-1], asked.attributes, options)

    def put_item(self, name: str, item: Item) -> None:
        """Stores an item, and serves it from the next request on.

        Raises:
            RefusedError: If its content does not fit the model.
            StoreError: If the store cannot be written.
        """
        with self._changing:
            self.scorer.check_content(item.content)
            self._put_item(name, item)

    def set_available(self, name: str, available: bool) -> None:
        """Changes the availability of an item.

        Raises:
            UnknownError: If nobody knows the item.
            StoreError: If the store cannot be written.
        """
        with self._changing:
            if not self.scorer.knows(name):
                raise UnknownError("no item has this id.")
            given = self._items.get(name, Item())
            self._put_item(name, given._replace(available=available))

    def put_user(self, name: str, attributes: Mapping[str, Any]) -> None:
        """Stores the attributes of a user.

        Raises:
            RefusedError: If one does not fit the model.
            DeletedError: If the user was deleted.
            StoreError: If the store cannot be written.
        """
        self.scorer.check_attributes(attributes)
        self.store.put_user(name, attributes)

    def user(self, name: str) -> bodies.UserAnswer:
        """Returns everything that is stored of a user.

        Raises:
            UnknownError: If nothing is.
            StoreError: If the store cannot be read.
        """
        events = self.store.events_of(name, _ALL)
        attributes, answers = self.store.attributes_of(name), self.store.answers_of(name)
        if not events and not answers and attributes is None:
            raise UnknownError("nothing is stored of this user.")
        shown = [
            {**one._asdict(), "items": [item._asdict() for item in one.items]} for one in answers
        ]
        title_of = self.scorer.title_of
        told = [{**one._asdict(), "title": title_of(one.item)} for one in events]
        return bodies.UserAnswer(name, attributes, told, shown)

    def description(self) -> bodies.ModelAnswer:
        """Tells of the model that is served."""
        scorer = self.scorer
        return bodies.ModelAnswer(
            scorer.version,
            scorer.method,
            len(scorer.ids),
            scorer.recommender.scale,
            list(scorer.policies),
            self.settings.policy,
        )

    def reload(self) -> str:
        """Reads the model folder again, and serves it once it is compiled.

        Returns:
            The version of the model. Until then, and where an error is raised, the old one is
            served.

        Raises:
            RefusedError: If the model cannot be reloaded, or lacks the policy of the service.
            ValueError: As `engine.load`.
        """
        if self._load is None:
            raise RefusedError("this service has no model folder to reload.")
        with self._changing:
            scorer = self._load()
            scorer.checked_policy(self.settings.policy)
            scorer.set_items(self._items)
            self.scorer = scorer
        return scorer.version

    def _put_item(self, name: str, item: Item) -> None:
        self.store.put_item(name, item)
        self._items = {**self._items, name: item}
        self.scorer.set_items(self._items)

    def _listed(
        self,
        user: str | None,
        events: Sequence[Event],
        attributes: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> ListAnswer:
        options = dict(options)
        scenario = options.pop("scenario", None)
        policy = options.pop("policy", None) or self.settings.policy
        scorer, lines = self._lists.result(
            (
                events,
                ListRequest(
                    {},
                    {event.item for event in events},
                    attributes,
                    policy=policy,
                    seed=secrets.randbits(32),
                    **options,
                ),
            )
        )
        name = uuid.uuid4().hex
        shown = tuple(Shown(line.item, line.score, line.propensity) for line in lines)
        self.store.add_answer(
            Answer(name, user, time.time(), policy, scorer.version, scenario, shown)
        )
        explain = options.get("explain", False)
        places = [_place(scorer, line, n, explain=explain) for n, line in enumerate(lines, 1)]
        return ListAnswer(name, user, policy, scorer.version, places)

    def _draw(self, jobs: Sequence[Job]) -> None:
        """Draws the lists of all who wait."""
        scorer = self.scorer  # One of them for the whole call, also while another is loaded.
        liked = liked_rating(scorer.recommender)
        worst = None if scorer.recommender.scale is None else scorer.recommender.scale[0]
        asked = []
        for (events, request), _ in jobs:
            # Ratings may be of an earlier model with another scale.
            rated = [
                event
                for event in events
                if event.kind != "rating" or event.value is None or scorer.on_scale(event.value)
            ]
            asked.append(request._replace(labels=labels_of(rated, liked=liked, worst=worst)))
        for (_, future), lines in zip(jobs, scorer.lists(asked), strict=True):
            if isinstance(lines, RefusedError):
                future.set_exception(lines)
            else:
                future.set_result((scorer, lines))


def pair_of(text: str) -> tuple[str, str]:
    """Reads a filter, `column=value`.

    Raises:
        RefusedError: If it is none.
    """
    column, equals, value = text.partition("=")
    if not equals or not column.strip() or not value.strip():
        raise RefusedError("filter must read column=value.")
    return column.strip(), value.strip()


def _place(scorer: Scorer, line: Line, position: int, *, explain: bool) -> PlaceAnswer:
    found = PlaceAnswer(
        line.item, line.title, position, line.score, line.standard_error, line.propensity
    )
    if explain:
        found.reasons = [
            bodies.ReasonAnswer(item, scorer.title_of(item), change)
            for item, change in line.reasons
        ]
        found.facts = [
            bodies.FactAnswer(fact.relation, fact.value, list(fact.titles)) for fact in line.facts
        ]
    return found

"""Service without HTTP: stores events and users, and draws lists that follow from them.

Everything that is known of a user is read from the store, so that a list always follows from all
events that were acknowledged before it was asked for.
"""

import functools
import json
import logging
import math
import random
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from metajax.characters import visible
from metajax.fields import suggestion
from metajax.runs.recommender import liked_rating
from metajax.serving import bodies, outcomes
from metajax.serving.bodies import ListAnswer, PlaceAnswer, RejectedEvent, StrangerBody
from metajax.serving.events import Answer, Event, Shown, labels_of
from metajax.serving.experiments import Experiment, arm_of
from metajax.serving.gathering import ClosedError, Gatherer, Job
from metajax.serving.metrics import Metrics
from metajax.serving.scoring import AT_ONCE, Line, ListRequest, RefusedError, Scorer, UnknownError
from metajax.serving.store import Item, Store, StoreError

__all__ = ["Service", "ServiceSettings", "pair_of"]


_LOG = logging.getLogger(__name__)

_ALL = 2**62

_PATIENCE = 0.001
"""Seconds for which a list may wait for others: drawn together they cost half."""

# Lists, and seconds for which they are kept, of which the operator is told.
_NEWEST, _TOLD = 20_000, 10.0


@dataclass(frozen=True)
class ServiceSettings:
    """Settings of a service."""

    policy: str = "greedy"
    """Policy of requests that name none. No other loses less where logs are replayed
    (`benchmarks/first_days.py`)."""
    api_key: str | None = None
    """Key of all requests; None: there is none."""
    admin_key: str | None = None
    """Key of metrics and administration; None: the key of all requests does."""
    experiment: Experiment | None = None
    """Arms among which users are split; None: there are none."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """Folders of other models by name, which lists may be asked of."""
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
    kept_mb: int = 64
    """Megabytes of first items of users that are remembered, about a thousand users each, of every
    model; 0 remembers nobody."""

    def __post_init__(self):
        """Checks the numbers.

        Raises:
            ValueError: If one is out of its range.
        """
        rate = self.client_rate
        if rate is not None and not 0 < rate < math.inf:
            raise ValueError(f"client_rate must be > 0 and finite, got {rate}.")
        if self.kept_mb < 0:
            raise ValueError(f"kept_mb must be >= 0, got {self.kept_mb}.")


class _Wanted(NamedTuple):
    """A list that somebody waits for."""

    user: str | None
    """Id; None of somebody without a record."""
    scenario: str | None
    """Where it is shown."""
    arm: str | None
    """EXPERIMENT/ARM that draws it."""
    model: str
    """Name of the model; "" for that of the service."""
    events: Sequence[Event]
    """Newest first."""
    request: ListRequest
    """The list, without labels."""


class Service:
    """A store and a model.

    Args:
        store: The open store; the service closes it.
        scorer: The model, warmed up.
        settings: Settings.
        load: Reads the model folder of an arm again, or of the name "" that of all others; None:
            none can be reloaded.
        others: Models of the arms that have their own, by the name of the arm, and those beside, by
            theirs; warmed up.
        metrics: Metrics; those of one worker where there are several.
        tell_others: Called after an administrator has reloaded the model, for other workers.

    Raises:
        RefusedError: If the policy of the service or of an arm is none of its model, or the store
            has an item whose content does not fit a model.
        StoreError: If the store cannot be read.
    """

    def __init__(
        self,
        store: Store,
        scorer: Scorer,
        settings: ServiceSettings | None = None,
        load: Callable[[str], Scorer] | None = None,
        others: Mapping[str, Scorer] | None = None,
        *,
        metrics: Metrics | None = None,
        tell_others: Callable[[], None] = lambda: None,
    ):
        self.store, self._load = store, load
        self.settings = ServiceSettings() if settings is None else settings
        self._change, self._items = store.items()
        self._scorers = {"": scorer, **(others or {})}
        self._check(self._scorers)
        self.metrics = Metrics() if metrics is None else metrics
        self.tell_others = tell_others
        self._reloading, self._taking, self._telling = (threading.Lock() for _ in range(3))
        self._told: tuple[float, outcomes.Log, list[outcomes.ArmOutcome]] | None = None
        self._lists = Gatherer(self._draw, most=AT_ONCE, name="lists", patience=_PATIENCE)

    @property
    def scorer(self) -> Scorer:
        """The model, of arms that have none of their own too."""
        return self._scorers[""]

    def current(self) -> Scorer:
        """Returns the model, once it knows all that was told of items, also to other processes.

        Raises:
            StoreError: If the store cannot be read.
        """
        if self.store.shared and self.store.items(after=self._change)[1]:
            self._take_changes()
        return self.scorer

    def close(self) -> None:
        """Finishes what waits, and closes the store."""
        self._lists.close()
        self.store.close()

    def gauges(self) -> dict[str, float]:
        """Present values for the metrics."""
        scorers = list(self._scorers.values())
        return {
            "writes_waiting": self.store.waiting,
            "lists_waiting": self._lists.waiting,
            "event_loop_lag_seconds": self.metrics.lag,
            "kept_users": sum(scorer.kept.users for scorer in scorers),
            "kept_bytes": sum(scorer.kept.size for scorer in scorers),
        }

    def add_events(self, body: bytes) -> bodies.EventsAnswer:
        """Stores events; returns once they are on the disk.

        Raises:
            RefusedError: If the body is no list of events.
            StoreError: If the store cannot be written.
        """
        read = bodies.read_events(
            body, self.current(), time.time(), unknown=self.settings.unknown_items
        )
        rejected = list(read.rejected)
        accepted = duplicates = 0
        if read.events:
            experiment, events = self.settings.experiment, read.events
            if experiment is not None:
                events = [one._replace(arm=arm_of(experiment, one.user).name) for one in events]
            outcome = self.store.add_events(events)
            accepted, duplicates = outcome.accepted, outcome.duplicates
            rejected += [RejectedEvent(read.index[n], why) for n, why in outcome.refused]
        rejected.sort(key=lambda one: one.index)
        self.metrics.events(
            accepted=accepted, duplicate=duplicates, rejected=len(rejected), unknown=read.unknown
        )
        return bodies.EventsAnswer(accepted, duplicates, rejected)

    def list_for(self, user: str, **options: Any) -> Future[ListAnswer]:
        """Begins to draw a list for a user, who may be unknown, and to store it.

        Args:
            user: Id of the user; of a deleted one nothing is stored.
            **options: `scenario`, `model`, the name of another model, and options of `ListRequest`.

        Returns:
            The list, once it is stored; or `RefusedError` or `StoreError`, as here.

        Raises:
            RefusedError: If an option is none of the model.
            StoreError: If the store cannot be read or written.
        """
        deleted = self.store.is_deleted(user)
        events = [] if deleted else self.store.events_of(user, self.settings.most_met)
        attributes = None if deleted else self.store.attributes_of(user)
        known = None if deleted else user
        return self._listed(known, events, attributes or {}, options)

    def list_for_stranger(self, asked: StrangerBody) -> Future[ListAnswer]:
        """Begins to draw a list for somebody without a record; it is stored without a user.

        It waits for nothing, so that the event loop may call it.

        Returns:
            As `list_for`.

        Raises:
            RefusedError: If something does not fit the model.
            StoreError: If the store is closed.
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
            "model": asked.model,
            "explain": asked.explain,
        }
        return self._listed(None, events[::-1], asked.attributes, options)

    def put_item(self, name: str, item: Item) -> None:
        """Stores an item, and serves it from the next request on.

        Raises:
            RefusedError: If its content does not fit the model.
            StoreError: If the store cannot be written.
        """
        for scorer in self._scorers.values():
            scorer.check_content(item.content)
        self.store.put_item(name, item)
        self._take_changes()

    def set_available(self, name: str, available: bool) -> None:
        """Changes the availability of an item.

        Raises:
            UnknownError: If nobody knows the item.
            StoreError: If the store cannot be written.
        """
        if not self.current().knows(name):
            raise UnknownError("no item has this id.")
        self.store.set_available(name, available)
        self._take_changes()

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
        title_of = self.current().title_of
        told = [{**one._asdict(), "title": title_of(one.item)} for one in events]
        return bodies.UserAnswer(name, attributes, told, shown)

    def activity(self) -> bodies.ActivityAnswer:
        """Tells the operator what has happened, of the newest lists.

        Raises:
            StoreError: If the store cannot be read.
        """
        with self._telling:
            now = time.monotonic()
            if self._told is None or now - self._told[0] > _TOLD:
                log = self.store.read(functools.partial(outcomes.read_log, most=_NEWEST))
                # .7 s of the processor for so many lists.
                self._told = now, log, outcomes.summary(log, resamples=200)
            _, log, found = self._told
        scorer, items = self.current(), self._items
        new = [name for name in items if not scorer.is_of_model(name)][-50:]
        return bodies.ActivityAnswer(
            scorer.version,
            len(scorer.ids),
            log.events,
            log.users,
            self.metrics.minutes(),
            [bodies.SuccessAnswer(one.label, *_share(one.share)) for one in found[0].by_known],
            [
                bodies.ArmAnswer(
                    one.name,
                    one.users,
                    one.lists,
                    *(bodies.ShareAnswer(*_share(s)) for s in (one.success, one.first, one.day)),
                )
                for one in found
            ],
            [
                bodies.NewItem(
                    name,
                    scorer.title_of(name),
                    log.shown[name],
                    log.liked[name],
                    items[name].available,
                )
                for name in reversed(new)
            ],
        )

    def description(self) -> bodies.ModelAnswer:
        """Tells of the model that is served."""
        scorer = self.scorer
        return bodies.ModelAnswer(
            scorer.version,
            scorer.method,
            len(scorer.ids),
            None if scorer.recommender.scale is None else list(scorer.recommender.scale),
            list(scorer.policies),
            self.settings.policy,
            list(self.settings.beside),
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
        with self._reloading:
            loaded = {name: self._load(name) for name in self._scorers}
            with self._taking:
                self._change, self._items = self.store.items()
                self._check(loaded)
                self._scorers = loaded
        return loaded[""].version

    def try_reload(self) -> str | None:
        """Reloads as `reload` does; where that fails, logs why and returns None."""
        try:
            version = self.reload()
        except (ValueError, OSError, StoreError) as problem:
            self.metrics.reload("failed")
            _LOG.error(json.dumps({"event": "reload failed", "why": visible(problem)}))
            return None
        self.metrics.reload("done")
        _LOG.info(json.dumps({"event": "reloaded", "model": version}))
        return version

    def _check(self, scorers: Mapping[str, Scorer]) -> None:
        """Makes models ready to be served, or raises before any of them is."""
        scorers[""].checked_policy(self.settings.policy)
        experiment = self.settings.experiment
        for arm in () if experiment is None else experiment.arms:
            scorers.get(arm.name, scorers[""]).checked_policy(arm.policy)
        for scorer in scorers.values():
            scorer.set_items(self._items)
            self.store.put_model(scorer.version, len(scorer.ids), scorer.recommender.scale)

    def _take_changes(self) -> None:
        """Takes over what was told of items since it was last looked at.

        Another worker may have checked content by a newer model: what does not fit this one waits
        until it is reloaded.
        """
        with self._taking:
            change, changed = self.store.items(after=self._change)
            if not changed:
                return
            scorers = self._scorers.values()
            for name, item in changed.items():
                try:
                    for scorer in scorers:
                        scorer.check_content(item.content)
                except RefusedError as problem:
                    changed[name] = item._replace(content={})
                    told = {"event": "content does not fit", "why": visible(problem)}
                    _LOG.error(json.dumps(told))
            self._items = {**self._items, **changed}
            for scorer in scorers:
                scorer.set_items(self._items)
            self._change = change

    def _listed(
        self,
        user: str | None,
        events: Sequence[Event],
        attributes: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> Future[ListAnswer]:
        options = dict(options)
        scenario = options.pop("scenario", None)
        policy, named, others = options.pop("policy", None), options.pop("model", None), {}
        if named is not None and named not in self.settings.beside:
            known = suggestion(named, list(self.settings.beside), listed=True)
            raise RefusedError(f"there is no model {named[:100]!r} beside this one{known}")
        model = named or ""
        experiment, arm = self.settings.experiment, None
        # A client that chooses the policy or the model is outside of the experiment.
        if user is not None and experiment is not None and policy is None and named is None:
            arm = arm_of(experiment, user)
            policy, model = arm.policy, arm.name if arm.model is not None else ""
            others = {one.name: one.policy for one in experiment.arms if one.model == arm.model}
        policy = policy or self.settings.policy
        request = ListRequest(
            {},
            {event.item for event in events},
            attributes,
            policy=policy,
            seed=random.getrandbits(32),
            others=others,
            **options,
        )
        of_arm = None if arm is None else arm.name
        try:
            return self._lists.submit(_Wanted(user, scenario, of_arm, model, events, request))
        except ClosedError:
            raise StoreError("the service is closed") from None

    def _draw(self, jobs: Sequence[Job]) -> None:
        """Draws the lists of all who wait, and has them stored."""
        self.current()
        scorers = self._scorers  # The same for the whole call, also while others are loaded.
        drawn: list[tuple[Answer, ListAnswer, Future[ListAnswer]]] = []
        for model in dict.fromkeys(wanted.model for wanted, _ in jobs):
            drawn += self._drawn_by(scorers[model], [job for job in jobs if job[0].model == model])

        def answer(stored: Future[None]) -> None:
            problem = stored.exception()
            for _, found, future in drawn:
                if problem is None:
                    future.set_result(found)
                else:
                    future.set_exception(problem)

        if drawn:
            self.store.begin_answers([one for one, _, _ in drawn]).add_done_callback(answer)

    def _drawn_by(
        self, scorer: Scorer, jobs: Sequence[Job]
    ) -> list[tuple[Answer, ListAnswer, Future[ListAnswer]]]:
        """Returns the lists, to be stored and to be shown; refuses what cannot be drawn."""
        liked = liked_rating(scorer.recommender)
        worst = None if scorer.recommender.scale is None else scorer.recommender.scale[0]
        asked = []
        for wanted, _ in jobs:
            # Ratings may be of an earlier model with another scale.
            rated = [
                event
                for event in wanted.events
                if event.kind != "rating" or event.value is None or scorer.on_scale(event.value)
            ]
            labels = labels_of(rated, liked=liked, worst=worst)
            asked.append(wanted.request._replace(labels=labels))
        drawn = []
        for (wanted, future), lines in zip(jobs, scorer.lists(asked), strict=True):
            if isinstance(lines, RefusedError):
                future.set_exception(lines)
                continue
            name, request = uuid.uuid4().hex, wanted.request
            stored = Answer(
                name,
                wanted.user,
                time.time(),
                request.policy,
                scorer.version,
                wanted.scenario,
                tuple(Shown(line.item, line.score, line.propensity) for line in lines),
                len(request.met),
                wanted.arm,
                lines[0].chances if lines else {},
            )
            places = [
                _place(scorer, line, n, explain=request.explain) for n, line in enumerate(lines, 1)
            ]
            shown = ListAnswer(
                name, wanted.user, request.policy, scorer.version, places, wanted.arm
            )
            drawn.append((stored, shown, future))
        return drawn


def pair_of(text: str) -> tuple[str, str]:
    """Reads a filter, `column=value`.

    Raises:
        RefusedError: If it is none.
    """
    column, equals, value = text.partition("=")
    if not equals or not column.strip() or not value.strip():
        raise RefusedError("filter must read column=value.")
    return column.strip(), value.strip()


def _share(share: outcomes.Share) -> tuple[int, float | None, float | None, float | None]:
    if not share.count:
        return 0, None, None, None
    return share.count, share.value, share.low, share.high


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

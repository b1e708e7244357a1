"""Outcomes of the lists in a log: success, retention, coverage, and off-policy estimates.

A list succeeds where an event names it that is a like, a purchase, a view, or a rating of at least
three quarters up the scale of the model, of one of its items. Users are resampled as a whole for
the intervals, as lists of one user are alike.

An arm is judged by the lists of its own users, and by those of the other arms with the same model:
each list is kept with the probability with which every arm would have shown the first item first,
which weighs its reward (self-normalised inverse propensity scores, as `exploration.evaluate`).
"""

import json
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metajax.exploration.logs import LoggedFeedback
from metajax.exploration.off_policy import bootstrap_ratio
from metajax.serving.databases import Connection

__all__ = [
    "ArmOutcome",
    "ByKnown",
    "Log",
    "OffPolicy",
    "Share",
    "feedback",
    "label_of",
    "read_log",
    "summary",
]

BANDS = ((0, 0), (1, 1), (2, 2), (3, 5), (6, 10), (11, 20), (21, None))
"""First and last number of interactions of each group of lists."""

DAYS = (1, 7)
"""Days after which users are back."""

ALL = "all"
"""Name of the outcome of all lists."""

_GOOD, _DAY = 0.75, 86_400.0


class Log(NamedTuple):
    """L lists in the order in which they were drawn, and what became of them."""

    user: np.ndarray
    """`[L]` int index of the user; of somebody without a record one of their own."""
    recorded: np.ndarray
    """`[L]` bool, False of somebody without a record."""
    time: np.ndarray
    """`[L]` seconds since 1970."""
    arm: list[str | None]
    """Arm of each."""
    known: np.ndarray
    """`[L]` number of items that the user had met; -1: it is not known."""
    success: np.ndarray
    """`[L]` bool, an item of the list succeeded."""
    first: np.ndarray
    """`[L]` bool, the item of the first position did."""
    propensity: np.ndarray
    """`[L]` of that item; 0 of an empty list."""
    chances: list[dict[str, float]]
    """Probability of that item by arm."""
    items: list[list[str]]
    """Ids of each list."""
    shown: Counter[str]
    """Number of lists with an item."""
    liked: Counter[str]
    """Number of lists of which it succeeded."""
    catalogue: int
    """Size of the catalogue of the newest model; 0: it is not known."""
    events: int
    """Number of events in the whole log."""
    users: int
    """Number of users with events in the whole log."""


class Share(NamedTuple):
    """A share, with its 95 % interval."""

    count: int
    """Number of lists or users it is of; of 0 the others mean nothing."""
    value: float
    """From 0 to 1."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""


class ByKnown(NamedTuple):
    """Success of lists for users who had met so many items."""

    label: str
    """Such as 3 to 5."""
    share: Share
    """Share of the lists that succeeded."""


class OffPolicy(NamedTuple):
    """Value of an arm from the lists of the others: success of the first position."""

    lists: int
    """Number of lists of other arms with the same model."""
    value: Share
    """Self-normalised estimate; it may be of no lists."""
    ess: float
    """Effective number of lists, `(sum w)^2 / sum w^2`."""
    note: str
    """Reason for doubt; empty: there is none."""


class ArmOutcome(NamedTuple):
    """Outcome of an arm, or of all lists."""

    name: str
    """EXPERIMENT/ARM, `all`, or `none` of lists outside of an experiment."""
    users: int
    """Number of users with a record."""
    lists: int
    """Number of lists."""
    success: Share
    """Of the lists that succeeded."""
    at_first: Share
    """Of the lists whose first item succeeded."""
    first: Share
    """Of users, those whose first list succeeded."""
    day: Share
    """Of users whose first list is a day old or more, those who asked for one again a day or more
    after it."""
    week: Share
    """The same of seven days."""
    by_known: tuple[ByKnown, ...]
    """Success by number of interactions; groups without lists are left out."""
    items: int
    """Number of items that were shown."""
    coverage: float | None
    """Its share of the catalogue, at most 1; None: the size is not known."""
    off_policy: OffPolicy | None
    """From the lists of other arms; None: there are none."""


def read_log(db: Connection, *, most: int | None = None) -> Log:
    """Reads the lists of a log and what became of them.

    Args:
        db: A connection, as of `store.reading`.
        most: Number of newest lists; None: all.
    """
    last = db.execute("select coalesce(max(rowid), 0) from answers").fetchone()[0]
    after = 0 if most is None else last - most
    scales = {
        version: (worst, best)
        for version, worst, best in db.execute("select version, worst, best from models")
    }
    size = db.execute("select items from models order by rowid desc limit 1").fetchone()
    good: dict[str, set[str]] = {}
    rows = db.execute(
        "select e.recommendation_id, e.item_id, e.kind, e.value, a.model from answers a"
        " join events e on e.recommendation_id = a.id where a.rowid > ?",
        (after,),
    )
    for name, item, kind, value, model in rows:
        if kind in ("like", "purchase", "view") or (
            kind == "rating" and _is_good(value, scales.get(model))
        ):
            good.setdefault(name, set()).add(item)
    place: dict[str, int] = {}
    columns: list[list] = [[] for _ in range(10)]
    shown, liked = Counter[str](), Counter[str]()
    rows = db.execute(
        "select id, user_id, time, arm, known, items, chances from answers where rowid > ?"
        " order by rowid",
        (after,),
    )
    for name, user, time, arm, known, items, chances in rows:
        listed = json.loads(items)
        names = [one[0] for one in listed]
        succeeded = good.get(name, set()).intersection(names)
        shown.update(set(names))
        liked.update(succeeded)
        index = place.setdefault(f"u{user}" if user is not None else f"a{name}", len(place))
        row = (
            *(index, user is not None, time, arm, -1 if known is None else known),
            *(bool(succeeded), bool(names) and names[0] in succeeded),
            *(listed[0][2] if listed else 0.0, json.loads(chances), names),
        )
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    user, recorded, time, arm, known, success, first, propensity, chances, items = columns
    events = db.execute("select count(*) from events").fetchone()[0]
    users = db.execute("select count(distinct user_id) from events").fetchone()[0]
    return Log(
        np.array(user, int),
        np.array(recorded, bool),
        np.array(time, float),
        arm,
        np.array(known, int),
        np.array(success, bool),
        np.array(first, bool),
        np.array(propensity, float),
        chances,
        items,
        shown,
        liked,
        size[0] if size else 0,
        events,
        users,
    )


def feedback(log: Log) -> tuple[LoggedFeedback, list[str]]:
    """The first positions as a log for `exploration.evaluate`, with their propensities.

    Args:
        log: The lists.

    Returns:
        A row for each list that is not empty: the index of its first item, 1 where that succeeded,
        and its propensity; and the ids of the items by that index.
    """
    kept = [n for n, items in enumerate(log.items) if items]
    ids = sorted({log.items[n][0] for n in kept})
    place = {name: n for n, name in enumerate(ids)}
    action = np.array([place[log.items[n][0]] for n in kept], int)
    reward, propensity = log.first[kept].astype(float), log.propensity[kept]
    return LoggedFeedback(action, reward, propensity, conditional=True), ids


def summary(log: Log, *, resamples: int = 2000, seed: int = 0) -> list[ArmOutcome]:
    """Summarises all lists, and then each arm.

    Args:
        log: The lists.
        resamples: Number of bootstrap samples of the users, >= 1.
        seed: Of the samples.

    Returns:
        The outcome of all, and of each arm by name where there is any.
    """
    arms = sorted({arm for arm in log.arm if arm is not None})
    found = [_outcome(log, np.ones(len(log.user), bool), ALL, resamples, seed)]
    if arms:
        of = np.array([arm or "none" for arm in log.arm])
        found += [
            _outcome(log, of == arm, arm, resamples, seed)
            for arm in [*arms, *(["none"] if "none" in of else [])]
        ]
    return found


def label_of(low: int, high: int | None) -> str:
    """Names a group of `BANDS`."""
    return f"{low} or more" if high is None else str(low) if low == high else f"{low} to {high}"


def _outcome(log: Log, rows: np.ndarray, name: str, resamples: int, seed: int) -> ArmOutcome:
    def share(values: np.ndarray, among: np.ndarray) -> Share:
        return _share(values[among], np.ones(int(among.sum())), log.user[among], resamples, seed)

    own = np.flatnonzero(rows & log.recorded)
    # Lists are in order, so that the first of each user is their first one.
    firsts = own[np.unique(log.user[own], return_index=True)[1]]
    of_first = np.zeros(len(rows), bool)
    of_first[firsts] = True
    newest = np.full(int(log.user.max(initial=-1)) + 1, -np.inf)
    np.maximum.at(newest, log.user, log.time)
    end = log.time.max(initial=0.0)
    back = {}
    for days in DAYS:
        since = log.time + days * _DAY
        back[days] = share(newest[log.user] >= since, of_first & (since <= end))
    by_known = []
    for low, high in BANDS:
        inside = rows & (log.known >= low) & (log.known <= (np.inf if high is None else high))
        if inside.any():
            by_known.append(ByKnown(label_of(low, high), share(log.success, inside)))
    items = {item for n in np.flatnonzero(rows) for item in log.items[n]}
    return ArmOutcome(
        name,
        len(firsts),
        int(rows.sum()),
        share(log.success, rows),
        share(log.first, rows),
        share(log.success, of_first),
        back[1],
        back[7],
        tuple(by_known),
        len(items),
        min(1.0, len(items) / log.catalogue) if log.catalogue else None,
        _off_policy(log, name, resamples, seed),
    )


def _off_policy(log: Log, arm: str, resamples: int, seed: int) -> OffPolicy | None:
    rows = np.array(
        [
            n
            for n, (own, chances) in enumerate(zip(log.arm, log.chances, strict=True))
            if own is not None and own != arm and arm in chances and log.propensity[n] > 0
        ],
        int,
    )
    if not len(rows):
        return None
    weight = np.array([log.chances[n][arm] for n in rows]) / log.propensity[rows]
    square = float(np.sum(weight**2))
    ess = float(weight.sum()) ** 2 / square if square else 0.0
    error = float(weight.std()) / np.sqrt(len(rows))
    note = ""
    if abs(weight.mean() - 1) > max(4 * error, 1e-3):
        note = f"the mean weight is {weight.mean():.2f} and not 1: the other arms do not support it"
    elif ess < 30:
        note = f"it rests on {ess:.0f} effective lists"
    value = Share(0, 0.0, 0.0, 0.0)
    if square:
        value = _share(weight * log.first[rows], weight, log.user[rows], resamples, seed)
    return OffPolicy(len(rows), value, ess, note)


def _share(
    values: np.ndarray, weights: np.ndarray, users: np.ndarray, resamples: int, seed: int
) -> Share:
    if not len(values):
        return Share(0, 0.0, 0.0, 0.0)
    found = bootstrap_ratio(
        values[None], weights[None], cluster=users, resamples=resamples, seed=seed
    )
    return Share(len(values), *(float(end[0]) for end in found))


def _is_good(value: float | None, scale: Sequence[float | None] | None) -> bool:
    """True of a rating three quarters up the scale; also of any in a log without a scale."""
    worst, best = scale or (None, None)
    if value is None or worst is None or best is None:
        return True
    return (value - worst) / (best - worst) >= _GOOD

"""The log of events, and what else a service must not lose, in SQLite.

    events       append-only, ordered by sequence number: the source of truth
    answers      lists that were shown, with policy, propensities and version of the model
    items        availability, expiry, categories and content of items
    users        attributes of users
    tombstones   hashes of the ids of deleted users
    models       models that were served: size of the catalogue and scale of ratings
    meta         version of the schema

One thread writes. It takes all requests that wait, runs each inside a savepoint of its own, and
commits them together: a request is stored whole or not at all, and is answered after the commit is
on the disk (write-ahead log, `synchronous=FULL`). Readers have their own connections and never
wait for it. A second process is refused, save one that only reads. A file of an older schema is
upgraded in one transaction when it is opened.

The driver is Python's own: with SQLAlchemy Core the same insertions took 1.3 times as long (3,338
and 2,537 events a second, 100 a transaction, on two loaded cores, 2026-11-29), and its import .8 s.
The statements are standard SQL; of PostgreSQL only the key (`bigint generated always as identity`),
the mark of a parameter and the pragmas differ.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from metajax import locks
from metajax.serving.events import Answer, Event, Shown
from metajax.serving.gathering import ClosedError, Gatherer, Job

__all__ = [
    "DeletedError",
    "Item",
    "Outcome",
    "Store",
    "StoreError",
    "digest_of_user",
    "path_of",
    "reading",
]

_FIRST = (
    "create table meta (name text primary key, value text not null)",
    "create table events ("
    " sequence integer primary key autoincrement,"
    " id text not null unique, user_id text not null, item_id text not null, kind text not null,"
    " value double precision, time double precision not null, recommendation_id text)",
    "create index events_of_user on events (user_id, sequence)",
    "create index events_of_answer on events (recommendation_id)"
    " where recommendation_id is not null",
    "create table answers ("
    " id text primary key, user_id text, time double precision not null, policy text not null,"
    " model text not null, scenario text, items text not null)",
    "create index answers_of_user on answers (user_id)",
    "create table items ("
    " id text primary key, available integer not null, expires double precision,"
    " categories text not null, content text not null)",
    "create table users (id text primary key, attributes text not null)",
    "create table tombstones (digest text primary key)",
)

_STEPS = (
    _FIRST,
    (
        "alter table events add column arm text",
        "alter table answers add column known integer",
        "alter table answers add column arm text",
        "alter table answers add column chances text not null default '{}'",
        "create table models ("
        " version text primary key, items integer not null, worst double precision,"
        " best double precision)",
    ),
)
"""Statements that lead from each version of the schema to the next."""

VERSION = len(_STEPS)
"""Version of the schema; a file of a newer one is refused."""

# Tables with rows of users, and their columns of user ids.
_OF_USERS = (("events", "user_id"), ("answers", "user_id"), ("users", "id"))

EVENT_COLUMNS = "id, user_id, item_id, kind, value, time, recommendation_id, arm"
"""Columns of an event, in the order of the fields of `Event`."""

_ANSWER = "id, user_id, time, policy, model, scenario, items, known, arm, chances"

_WAIT = 5.0
"""Seconds to wait for a lock of the file."""

_MOST_AT_ONCE = 256
"""Requests of one commit."""

_T = TypeVar("_T")


class StoreError(Exception):
    """A store that cannot be read or written now; nothing of the request was stored."""


class DeletedError(ValueError):
    """A user who was deleted, and for whom nothing is stored any more."""


class Item(NamedTuple):
    """Facts of an item that a client has given."""

    available: bool = True
    """False: it is never shown."""
    expires: float | None = None
    """Seconds since 1970 from which on it is never shown; None: it does not expire."""
    categories: tuple[str, ...] = ()
    """Names by which lists are filtered."""
    content: Mapping[str, Any] = {}
    """Attributes by column; they score an item that the model does not know."""


class Outcome(NamedTuple):
    """Fate of the events of one request."""

    accepted: int
    """Number that were stored."""
    duplicates: int
    """Number whose id is stored already."""
    refused: tuple[tuple[int, str], ...]
    """Index and reason of those that are not stored."""


def path_of(url: str) -> Path:
    """Returns the file of the URL of a store.

    Args:
        url: Such as `sqlite:///events.db`, or with four slashes an absolute path.

    Raises:
        ValueError: If it is none of SQLite.

    Example:
        >>> path_of("sqlite:///events.db").name
        'events.db'
    """
    scheme, _, rest = url.partition("://")
    name = rest.removeprefix("/")
    if scheme != "sqlite" or not rest.startswith("/") or not name:
        raise ValueError(f"events must be sqlite:///FILE, got {url!r}.")
    return Path(name)


class Store:
    """An open store; its methods may be called from any thread.

    Args:
        path: File of the database; made if it does not exist.

    Raises:
        ValueError: If the file is no database, or one of a newer schema.
        LockedError: If another process serves it.
        OSError: If it cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise FileNotFoundError(2, "its folder does not exist", str(self.path))
        self._held = self.path.with_name(self.path.name + ".writer")
        self._held.mkdir(exist_ok=True)
        self._lock = locks.acquire(self._held)
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._closed = False
        try:
            writer = self._connect()
            self._prepare(writer)
        except BaseException:
            self._release()
            raise
        self._writer = Gatherer(
            functools.partial(_commit, writer), most=_MOST_AT_ONCE, name="events"
        )

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the writer after what waits is stored, and releases the file."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
        self._writer.close()
        self._release()

    @property
    def waiting(self) -> int:
        """Number of requests that wait for the writer."""
        return self._writer.waiting

    def add_events(self, events: Sequence[Event]) -> Outcome:
        """Stores the events of one request; returns once they are on the disk.

        Args:
            events: The events, in order.

        Returns:
            Their fate. One of a deleted user, or of an answer that was not given to this user, is
            refused.

        Raises:
            StoreError: If the store cannot be written; nothing is stored.
        """
        return self._written(lambda db: _add_events(db, events))

    def add_answer(self, answer: Answer) -> None:
        """Stores a list before it is shown; of a deleted user without their id.

        Raises:
            StoreError: As `add_events`.
        """
        self._written(lambda db: _add_answer(db, answer))

    def put_item(self, name: str, item: Item) -> None:
        """Stores an item in place of an earlier one.

        Raises:
            StoreError: As `add_events`.
        """
        row = (
            name,
            int(item.available),
            item.expires,
            json.dumps(list(item.categories)),
            json.dumps(dict(item.content), allow_nan=False),
        )
        self._written(
            lambda db: (
                db.execute(
                    "insert into items values (?, ?, ?, ?, ?) on conflict (id) do update set"
                    " available = excluded.available, expires = excluded.expires,"
                    " categories = excluded.categories, content = excluded.content",
                    row,
                ).rowcount
            )
        )

    def put_user(self, name: str, attributes: Mapping[str, Any]) -> None:
        """Stores the attributes of a user in place of earlier ones.

        Raises:
            DeletedError: If the user was deleted.
            StoreError: As `add_events`.
        """
        content = json.dumps(dict(attributes), allow_nan=False)

        def put(db: sqlite3.Connection) -> None:
            if _is_deleted(db, name):
                raise DeletedError("the user was deleted.")
            db.execute(
                "insert into users values (?, ?) on conflict (id) do update set"
                " attributes = excluded.attributes",
                (name, content),
            )

        self._written(put)

    def put_model(self, version: str, items: int, scale: tuple[float, float] | None) -> None:
        """Stores the facts of a model that is served from now on.

        Args:
            version: Its version.
            items: Size of its catalogue.
            scale: Worst and best rating; None of a model without ratings.

        Raises:
            StoreError: As `add_events`.
        """
        row = (version, items, *(scale or (None, None)))
        self._written(
            lambda db: (
                db.execute(
                    "insert into models values (?, ?, ?, ?) on conflict (version) do nothing", row
                ).rowcount
            )
        )

    def delete_user(self, name: str) -> dict[str, int]:
        """Deletes everything of a user, and leaves a tombstone that refuses late events.

        Args:
            name: Id of the user, who need not be known.

        Returns:
            Number of rows that were deleted, by table.

        Raises:
            StoreError: As `add_events`.
        """

        def delete(db: sqlite3.Connection) -> dict[str, int]:
            rows = {
                table: db.execute(f"delete from {table} where {column} = ?", (name,)).rowcount
                for table, column in (
                    ("events", "user_id"),
                    ("answers", "user_id"),
                    ("users", "id"),
                )
            }
            db.execute(
                "insert into tombstones values (?) on conflict (digest) do nothing",
                (digest_of_user(name),),
            )
            return rows

        rows = self._written(delete)
        self._empty_log()
        return rows

    def events_of(self, user: str, most: int) -> list[Event]:
        """Reads a user's events, newest first.

        Args:
            user: Id of the user.
            most: Number of them at most.

        Raises:
            StoreError: If the store cannot be read.
        """
        rows = self._read(
            f"select {EVENT_COLUMNS} from events where user_id = ? order by sequence desc limit ?",
            (user, most),
        )
        return [Event(*row) for row in rows]

    def events(self, after: int = 0, most: int = 10_000) -> list[tuple[int, Event]]:
        """Reads the log in order of sequence numbers, which rise but have gaps.

        Args:
            after: Last sequence number that is known.
            most: Number of events at most.

        Returns:
            Sequence number and event.

        Raises:
            StoreError: If the store cannot be read.
        """
        rows = self._read(
            f"select sequence, {EVENT_COLUMNS} from events where sequence > ?"
            " order by sequence limit ?",
            (after, most),
        )
        return [(row[0], Event._make(row[1:])) for row in rows]

    def attributes_of(self, user: str) -> dict[str, Any] | None:
        """Reads the attributes of a user; None if none were given.

        Raises:
            StoreError: If the store cannot be read.
        """
        rows = self._read("select attributes from users where id = ?", (user,))
        return json.loads(rows[0][0]) if rows else None

    def answers_of(self, user: str) -> list[Answer]:
        """Reads the lists that a user was shown, oldest first.

        Raises:
            StoreError: If the store cannot be read.
        """
        rows = self._read(
            f"select {_ANSWER} from answers where user_id = ? order by time, id",
            (user,),
        )
        return [_answer_of(row) for row in rows]

    def answer(self, name: str) -> Answer | None:
        """Reads the list of a `recommendation_id`; None if there is none.

        Raises:
            StoreError: If the store cannot be read.
        """
        rows = self._read(
            f"select {_ANSWER} from answers where id = ?",
            (name,),
        )
        return _answer_of(rows[0]) if rows else None

    def items(self) -> dict[str, Item]:
        """Reads the items that clients have given, by id.

        Raises:
            StoreError: If the store cannot be read.
        """
        rows = self._read(
            "select id, available, expires, categories, content from items order by id"
        )
        return {
            name: Item(bool(available), expires, tuple(json.loads(kinds)), json.loads(content))
            for name, available, expires, kinds, content in rows
        }

    def is_deleted(self, user: str) -> bool:
        """True of a user who was deleted.

        Raises:
            StoreError: If the store cannot be read.
        """
        return bool(
            self._read("select 1 from tombstones where digest = ?", (digest_of_user(user),))
        )

    def read(self, function: Callable[[sqlite3.Connection], _T]) -> _T:
        """Calls a function with a connection that only reads, of one moment.

        Raises:
            StoreError: If the store cannot be read.
        """
        try:
            db = self._reader()
            db.execute("begin")
            try:
                return function(db)
            finally:
                db.execute("rollback")
        except sqlite3.Error as error:
            raise StoreError(str(error)) from None

    def check_writable(self) -> None:
        """Writes something without a meaning.

        Raises:
            StoreError: If the store cannot be written.
        """
        # Another value each time: SQLite does not write what is there already.
        value = str(time.time_ns())
        self._written(
            lambda db: (
                db.execute(
                    "insert into meta values ('checked', ?) on conflict (name) do update set"
                    " value = excluded.value",
                    (value,),
                ).rowcount
            )
        )

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            self.path, timeout=_WAIT, isolation_level=None, check_same_thread=False
        )
        with self._guard:
            self._open.append(db)
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        try:
            db.execute("pragma journal_mode = wal")
            db.execute("pragma synchronous = full")
            # What is deleted is overwritten.
            db.execute("pragma secure_delete = on")
            db.execute("begin immediate")
            known = {row[0] for row in db.execute("select name from sqlite_master")}
            found = _version(db, self.path) if known else 0
            for statement in itertools.chain(*_STEPS[found:]):
                db.execute(statement)
            if found < VERSION:
                db.execute(
                    "insert into meta values ('version', ?) on conflict (name) do update set"
                    " value = excluded.value",
                    (str(VERSION),),
                )
            db.execute("commit")
        except sqlite3.Error as error:
            raise ValueError(f"{self.path}: is no log of events: {error}.") from None

    def _empty_log(self) -> None:
        """Empties the write-ahead log, where deleted rows still are, unless it is in use."""
        with contextlib.suppress(sqlite3.Error):
            db = sqlite3.connect(self.path, timeout=0.2)
            with contextlib.closing(db):
                db.execute("pragma wal_checkpoint(truncate)")

    def _release(self) -> None:
        with self._guard:
            for db in self._open:
                db.close()
            self._open.clear()
        locks.release(self._held, self._lock)
        with contextlib.suppress(OSError):
            self._held.rmdir()

    def _read(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._reader().execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(str(error)) from None

    def _reader(self) -> sqlite3.Connection:
        """Returns the connection of this thread."""
        db = getattr(self._local, "db", None)
        if db is None:
            db = self._local.db = self._connect()
            db.execute("pragma query_only = on")
        return db

    def _written(self, job: Callable[[sqlite3.Connection], _T]) -> _T:
        """Runs a job in the writer's thread; returns after its commit."""
        try:
            return self._writer.result(job)
        except ClosedError:
            raise StoreError("the store is closed") from None


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[sqlite3.Connection]:
    """Opens a log to read it, also beside the process that serves it.

    Args:
        path: File of the database.

    Yields:
        A connection that reads one moment.

    Raises:
        ValueError: If it is no log, or one of another schema.
        OSError: If there is no such file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(2, "there is no such log of events", os.fspath(path))
    try:
        db = sqlite3.connect(
            f"{Path(path).absolute().as_uri()}?mode=ro", timeout=_WAIT, uri=True,
            isolation_level=None,
        )  # fmt: skip
    except sqlite3.Error as error:
        raise ValueError(f"{path}: is no log of events: {error}.") from None
    with contextlib.closing(db):
        try:
            found = _version(db, Path(path))
            db.execute("begin")
        except sqlite3.Error as error:
            raise ValueError(f"{path}: is no log of events: {error}.") from None
        if found < VERSION:
            raise ValueError(
                f"{path}: the log has schema {found} and not {VERSION}: metajax serve upgrades it."
            )
        yield db


def _version(db: sqlite3.Connection, path: Path) -> int:
    """Returns the version of the schema; refuses one that this code does not know."""
    rows = db.execute("select value from meta where name = 'version'").fetchall()
    found = int(rows[0][0]) if rows else 0
    if not 1 <= found <= VERSION:
        raise ValueError(
            f"{path}: the log has schema {found}, this version of metajax reads {VERSION}."
        )
    return found


def _commit(db: sqlite3.Connection, group: Sequence[Job]) -> None:
    """Runs jobs in one transaction, and tells each its result after the commit."""
    done: list[tuple[Future[Any], Any]] = []
    refused: list[tuple[Future[Any], Exception]] = []
    try:
        db.execute("begin immediate")
        for job, future in group:
            db.execute("savepoint request")
            try:
                done.append((future, job(db)))
            # One request must not fail the others. A full disk ends the whole transaction, and
            # then there is nothing to go back to.
            except Exception as error:
                db.execute("rollback to request")
                failed = isinstance(error, sqlite3.Error)
                refused.append((future, StoreError(str(error)) if failed else error))
            db.execute("release request")
        db.execute("commit")
    except sqlite3.Error as error:
        with contextlib.suppress(sqlite3.Error):
            db.execute("rollback")
        problem = StoreError(str(error))
        for _, future in group:
            future.set_exception(problem)
        return
    for future, result in done:
        future.set_result(result)
    for future, problem in refused:
        future.set_exception(problem)


def digest_of_user(user: str) -> str:
    """Hash of the id of a user, by which a tombstone knows them."""
    return hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()


def _is_deleted(db: sqlite3.Connection, user: str) -> bool:
    found = db.execute("select 1 from tombstones where digest = ?", (digest_of_user(user),))
    return found.fetchone() is not None


def _add_events(db: sqlite3.Connection, events: Sequence[Event]) -> Outcome:
    deleted = {user: _is_deleted(db, user) for user in {event.user for event in events}}
    asked = {event.recommendation_id for event in events} - {None}
    shown = {
        name: db.execute("select user_id, arm from answers where id = ?", (name,)).fetchone()
        for name in asked
    }
    accepted, refused = 0, []
    for index, event in enumerate(events):
        if deleted[event.user]:
            refused.append((index, "user was deleted."))
            continue
        if event.recommendation_id is not None:
            row = shown[event.recommendation_id]
            if row is None or row[0] not in (None, event.user):
                refused.append((index, "recommendation_id is none that was given to this user."))
                continue
            event = event._replace(arm=row[1])
        accepted += db.execute(
            f"insert into events ({EVENT_COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?)"
            " on conflict (id) do nothing",
            event,
        ).rowcount
    return Outcome(accepted, len(events) - accepted - len(refused), tuple(refused))


def _add_answer(db: sqlite3.Connection, answer: Answer) -> None:
    user = answer.user
    if user is not None and _is_deleted(db, user):
        user = None
    items = json.dumps([list(shown) for shown in answer.items], allow_nan=False)
    db.execute(
        f"insert into answers ({_ANSWER}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(answer.id, user, answer.time, answer.policy, answer.model, answer.scenario, items),
            *(answer.known, answer.arm, json.dumps(dict(answer.chances), allow_nan=False)),
        ),
    )


def _answer_of(row: Sequence[Any]) -> Answer:
    name, user, time, policy, model, scenario, items, known, arm, chances = row
    shown = tuple(Shown(*one) for one in json.loads(items))
    return Answer(name, user, time, policy, model, scenario, shown, known, arm, json.loads(chances))

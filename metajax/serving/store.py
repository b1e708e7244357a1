"""The log of events, and what else a service must not lose, in SQLite or PostgreSQL.

    events       append-only, ordered by sequence number: the source of truth
    answers      lists that were shown, with policy, propensities and version of the model
    items        availability, expiry, categories, content and last change of items
    users        attributes of users
    tombstones   hashes of the ids of deleted users
    models       models that were served: size of the catalogue and scale of ratings
    meta         version of the schema

One thread of a process writes. It takes all requests that wait, runs each inside a savepoint of its
own, and commits them together: a request is stored whole or not at all, and is answered after the
commit is on the disk. Readers have their own connections and never wait for it. SQLite takes one
process that writes, PostgreSQL several, on several hosts; `databases` has the other differences. A
log of an older schema is upgraded in one transaction when it is opened. A connection that is lost
is opened again by the next request.
"""

import contextlib
import hashlib
import itertools
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

from metajax.serving.databases import Connection, Database, database_of
from metajax.serving.events import Answer, Event, Shown
from metajax.serving.gathering import ClosedError, Gatherer, Job

__all__ = [
    "DeletedError",
    "Item",
    "Outcome",
    "Store",
    "StoreError",
    "digest_of_user",
    "reading",
]

_FIRST = (
    "create table meta (name text primary key, value text not null)",
    "create table events ("
    " sequence {key},"
    " id text not null unique, user_id text not null, item_id text not null, kind text not null,"
    " value double precision, time double precision not null, recommendation_id text)",
    "create index events_of_user on events (user_id, sequence)",
    "create index events_of_answer on events (recommendation_id)"
    " where recommendation_id is not null",
    "create table answers ("
    " id text primary key, user_id text, time double precision not null, policy text not null,"
    " model text not null, scenario text, items text not null{rowid})",
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
        " best double precision{rowid})",
    ),
    (
        "alter table items add column changed bigint not null default 1",
        "create index changes_of_items on items (changed)",
    ),
)
"""Statements that lead from each version of the schema to the next; `key` and `rowid` are of the
database."""

VERSION = len(_STEPS)
"""Version of the schema; a log of a newer one is refused."""

# Tables with rows of users, and their columns of user ids.
_OF_USERS = (("events", "user_id"), ("answers", "user_id"), ("users", "id"))

_EVENT = {
    **dict.fromkeys(("id", "user_id", "item_id", "kind"), "text"),
    **dict.fromkeys(("value", "time"), "double precision"),
    **dict.fromkeys(("recommendation_id", "arm"), "text"),
}

EVENT_COLUMNS = ", ".join(_EVENT)
"""Columns of an event, in the order of the fields of `Event`."""

_ANSWER = "id, user_id, time, policy, model, scenario, items, known, arm, chances"

_MARKS = ", ".join("?" * len(Answer._fields))

_CHANGE = "(select coalesce(max(changed), 0) + 1 from items)"

_READERS = 8
"""Connections of a process that read at once, at most."""

_MOST_AT_ONCE = 256
"""Requests of one commit."""

_T = TypeVar("_T")


class StoreError(Exception):
    """A store that cannot be read or written now.

    Nothing of the request was stored, unless the connection to a server was lost during the commit:
    then nobody knows. Events that are sent again are stored once.
    """


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


class Store:
    """An open store; its methods may be called from any thread.

    Args:
        url: Of the database, as `database_of` reads it; it is made, or its tables are.

    Raises:
        ValueError: If the URL is none, or its database holds no log, or one of a newer schema.
        LockedError: If another process has the file open.
        OSError: If the file cannot be opened.
        ImportError: If the extra of the database is missing.
    """

    def __init__(self, url: str):
        self._database = database_of(url)
        self._database.hold()
        self._writing: Connection | None = None
        self._idle: deque[Connection] = deque()
        self._seats = threading.BoundedSemaphore(_READERS)
        self._guard = threading.Lock()
        self._closed = False
        try:
            self._writing = _prepared(self._database)
        except BaseException:
            self._database.release()
            raise
        self._writer = Gatherer(self._commit, most=_MOST_AT_ONCE, name="events")

    @property
    def name(self) -> str:
        """Name of the database in messages, without a password."""
        return self._database.name

    @property
    def shared(self) -> bool:
        """True where other processes may write."""
        return self._database.shared

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
        for db in (self._writing, *self._idle):
            if db is not None:
                db.close()
        self._idle.clear()
        self._database.release()

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
        return self._written(lambda db: _add_events(self._database, db, events))

    def add_answer(self, answer: Answer) -> None:
        """Stores a list before it is shown; of a deleted user without their id.

        Raises:
            StoreError: As `add_events`.
        """
        self.begin_answers([answer]).result()

    def begin_answers(self, answers: Sequence[Answer]) -> Future[None]:
        """Begins to store lists, as `add_answer` does; all of them are stored or none is.

        Returns:
            None once they are on the disk, or a `StoreError`.

        Raises:
            StoreError: If the store is closed.
        """
        return self._begin(lambda db: _add_answers(db, answers))

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
                    "insert into items (id, available, expires, categories, content, changed)"
                    f" values (?, ?, ?, ?, ?, {_CHANGE}) on conflict (id) do update set"
                    " available = excluded.available, expires = excluded.expires,"
                    " categories = excluded.categories, content = excluded.content,"
                    " changed = excluded.changed",
                    row,
                ).rowcount
            )
        )

    def set_available(self, name: str, available: bool) -> None:
        """Stores the availability of an item, and leaves what else is stored of it.

        Raises:
            StoreError: As `add_events`.
        """
        self._written(
            lambda db: (
                db.execute(
                    "insert into items (id, available, categories, content, changed)"
                    f" values (?, ?, '[]', '{{}}', {_CHANGE}) on conflict (id) do update set"
                    " available = excluded.available, changed = excluded.changed",
                    (name, int(available)),
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

        def put(db: Connection) -> None:
            if _is_deleted(db, name):
                raise DeletedError("the user was deleted.")
            db.execute(
                "insert into users (id, attributes) values (?, ?) on conflict (id) do update set"
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
                    "insert into models (version, items, worst, best) values (?, ?, ?, ?)"
                    " on conflict (version) do nothing",
                    row,
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

        def delete(db: Connection) -> dict[str, int]:
            rows = {
                table: db.execute(f"delete from {table} where {column} = ?", (name,)).rowcount
                for table, column in _OF_USERS
            }
            db.execute(
                "insert into tombstones (digest) values (?) on conflict (digest) do nothing",
                (digest_of_user(name),),
            )
            return rows

        rows = self._written(delete)
        self._database.forget()
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

    def items(self, after: int = 0) -> tuple[int, dict[str, Item]]:
        """Reads the items that clients have given, oldest change first.

        Args:
            after: Last change that is known.

        Returns:
            Number of the last change, and the items that were changed since, by id.

        Raises:
            StoreError: If the store cannot be read.
        """
        rows = self._read(
            "select changed, id, available, expires, categories, content from items"
            " where changed > ? order by changed, id",
            (after,),
        )
        items = {
            name: Item(bool(available), expires, tuple(json.loads(kinds)), json.loads(content))
            for _, name, available, expires, kinds, content in rows
        }
        return (rows[-1][0] if rows else after), items

    def is_deleted(self, user: str) -> bool:
        """True of a user who was deleted.

        Raises:
            StoreError: If the store cannot be read.
        """
        return bool(
            self._read("select 1 from tombstones where digest = ?", (digest_of_user(user),))
        )

    def read(self, function: Callable[[Connection], _T]) -> _T:
        """Calls a function with a connection that only reads, of one moment.

        Raises:
            StoreError: If the store cannot be read.
        """

        def call(db: Connection) -> _T:
            db.execute(self._database.moment)
            try:
                return function(db)
            finally:
                with contextlib.suppress(*self._database.errors):
                    db.execute("rollback")

        return self._by_reader(call)

    def check_writable(self) -> None:
        """Checks that the store can be written, by a row without a meaning.

        Raises:
            StoreError: If the store cannot be written.
        """
        # Another value each time: SQLite does not write what is there already.
        value = str(time.time_ns())
        self._written(
            lambda db: (
                db.execute(
                    "insert into meta (name, value) values ('checked', ?)"
                    " on conflict (name) do update set value = excluded.value",
                    (value,),
                ).rowcount
            )
        )

    def _read(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._by_reader(lambda db: db.execute(statement, values).fetchall())

    def _by_reader(self, function: Callable[[Connection], _T]) -> _T:
        """Calls a function with an idle connection; with another one where that was lost."""
        database = self._database
        with self._seats:
            while True:
                if self._closed:
                    raise StoreError("the store is closed")
                db, kept = None, True
                try:
                    try:
                        db = self._idle.pop()
                    except IndexError:
                        db, kept = database.connect(reads=True), False
                    return function(db)
                except database.errors as error:
                    if db is None or not (kept and database.is_lost(db)):
                        raise StoreError(database.reason(error)) from None
                finally:
                    if db is not None and (self._closed or database.is_lost(db)):
                        db.close()
                    elif db is not None:
                        self._idle.append(db)

    def _written(self, job: Callable[[Connection], _T]) -> _T:
        """Runs a job in the writer's thread; returns after its commit."""
        return self._begin(job).result()

    def _begin(self, job: Callable[[Connection], _T]) -> Future[_T]:
        """Hands a job to the writer's thread; its result comes after its commit."""
        try:
            return self._writer.submit(job)
        except ClosedError:
            raise StoreError("the store is closed") from None

    def _commit(self, group: Sequence[Job]) -> None:
        """Runs jobs in one transaction, and tells each its result after the commit."""
        errors, reason = self._database.errors, self._database.reason
        done: list[tuple[Future[Any], Any]] = []
        refused: list[tuple[Future[Any], Exception]] = []
        try:
            db = self._begun()
            for job, future in group:
                db.execute("savepoint request")
                try:
                    done.append((future, job(db)))
                # One request must not fail the others. A full disk, or a server that is gone, ends
                # the whole transaction, and then there is nothing to go back to.
                except Exception as error:
                    db.execute("rollback to savepoint request")
                    failed = isinstance(error, errors)
                    refused.append((future, StoreError(reason(error)) if failed else error))
                db.execute("release savepoint request")
            db.execute("commit")
        except errors as error:
            if self._writing is not None:
                with contextlib.suppress(*errors):
                    self._writing.execute("rollback")
            problem = StoreError(reason(error))
            for _, future in group:
                future.set_exception(problem)
            return
        for future, result in done:
            future.set_result(result)
        for future, problem in refused:
            future.set_exception(problem)

    def _begun(self) -> Connection:
        """Begins a transaction; through a new connection where the last one was lost."""
        db = self._writing
        if db is not None:
            try:
                self._database.begin(db)
            except self._database.errors:
                if not self._database.is_lost(db):
                    raise
                db.close()
                self._writing = None
            else:
                return db
        self._writing = db = self._database.connect(reads=False)
        self._database.begin(db)
        return db


@contextlib.contextmanager
def reading(url: str) -> Iterator[Connection]:
    """Opens a log to read it, also beside the processes that serve it.

    Args:
        url: Of its database.

    Yields:
        A connection that reads one moment.

    Raises:
        ValueError: If it is no log, or one of another schema.
        OSError: If there is no such file.
    """
    database = database_of(url)
    if not database.exists():
        raise FileNotFoundError(2, "there is no such log of events", database.name)
    with contextlib.ExitStack() as stack:
        with _as_log(database):
            db = stack.enter_context(contextlib.closing(database.connect(reads=True)))
            db.execute(database.moment)
            found = _version(db, database.name)
        if found < VERSION:
            raise ValueError(
                f"{database.name}: the log has schema {found} and not {VERSION}: metajax serve"
                " upgrades it."
            )
        yield db


def _prepared(database: Database) -> Connection:
    """Opens a connection that writes, and makes the tables or upgrades them."""
    with contextlib.ExitStack() as stack, _as_log(database):
        db = stack.enter_context(contextlib.closing(database.connect(reads=False)))
        database.begin(db)
        found = 0 if database.is_empty(db) else _version(db, database.name)
        for statement in itertools.chain(*_STEPS[found:]):
            for name in ("key", "rowid"):
                statement = statement.replace(f"{{{name}}}", getattr(database, name))
            db.execute(statement)
        if found < VERSION:
            db.execute(
                "insert into meta (name, value) values ('version', ?) on conflict (name) do update"
                " set value = excluded.value",
                (str(VERSION),),
            )
        db.execute("commit")
        stack.pop_all()
    return db


@contextlib.contextmanager
def _as_log(database: Database) -> Iterator[None]:
    """Says in one line that something is no log, or cannot be reached."""
    try:
        yield
    except database.errors as error:
        raise ValueError(
            f"{database.name}: is no log of events that can be opened: {database.reason(error)}."
        ) from None


def _version(db: Connection, name: str) -> int:
    """Returns the version of the schema; refuses one that this code does not know."""
    rows = db.execute("select value from meta where name = 'version'").fetchall()
    found = int(rows[0][0]) if rows else 0
    if not 1 <= found <= VERSION:
        raise ValueError(
            f"{name}: the log has schema {found}, this version of metajax reads {VERSION}."
        )
    return found


def digest_of_user(user: str) -> str:
    """Hash of the id of a user, by which a tombstone knows them."""
    return hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()


def _is_deleted(db: Connection, user: str) -> bool:
    found = db.execute("select 1 from tombstones where digest = ?", (digest_of_user(user),))
    return found.fetchone() is not None


def _add_events(database: Database, db: Connection, events: Sequence[Event]) -> Outcome:
    users = {event.user: digest_of_user(event.user) for event in events}
    tombstones = _where_in(db, "select digest from tombstones where digest", users.values())
    gone = {row[0] for row in tombstones}
    asked = {event.recommendation_id for event in events} - {None}
    answers = _where_in(db, "select id, user_id, arm from answers where id", asked)
    shown = {name: (user, arm) for name, user, arm in answers}
    kept, refused = [], []
    for index, event in enumerate(events):
        if users[event.user] in gone:
            refused.append((index, "user was deleted."))
            continue
        if event.recommendation_id is not None:
            row = shown.get(event.recommendation_id)
            if row is None or row[0] not in (None, event.user):
                refused.append((index, "recommendation_id is none that was given to this user."))
                continue
            event = event._replace(arm=row[1])
        kept.append(event)
    accepted = database.insert(db, "events", _EVENT, kept) if kept else 0
    return Outcome(accepted, len(events) - accepted - len(refused), tuple(refused))


def _where_in(db: Connection, statement: str, values: Collection[Any]) -> list[Any]:
    """Selects the rows whose last column named is one of some values: at once, not one by one."""
    if not values:
        return []
    return db.execute(f"{statement} in ({', '.join('?' * len(values))})", list(values)).fetchall()


def _add_answers(db: Connection, answers: Sequence[Answer]) -> None:
    for answer in answers:
        user = answer.user
        if user is not None and _is_deleted(db, user):
            user = None
        items = json.dumps([list(shown) for shown in answer.items], allow_nan=False)
        chances = json.dumps(dict(answer.chances), allow_nan=False)
        row = {**answer._asdict(), "user": user, "items": items, "chances": chances}
        db.execute(f"insert into answers ({_ANSWER}) values ({_MARKS})", tuple(row.values()))


def _answer_of(row: Sequence[Any]) -> Answer:
    name, user, time, policy, model, scenario, items, known, arm, chances = row
    shown = tuple(Shown(*one) for one in json.loads(items))
    return Answer(name, user, time, policy, model, scenario, shown, known, arm, json.loads(chances))

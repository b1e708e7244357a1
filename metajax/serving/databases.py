"""Databases that hold a log of events: all in which SQLite and PostgreSQL differ.

The statements of the store are standard SQL with the marks of SQLite. PostgreSQL is reached
through psycopg 3 (extra `postgres`): it brings libpq, and with it `PGPASSWORD`, `~/.pgpass` and TLS
as they are known, and has wheels. asyncpg is for an event loop, and here threads do the work.

| | SQLite | PostgreSQL |
| --- | --- | --- |
| processes that write | one, which holds a lock beside the file | any number, on any host |
| a transaction that writes | `begin immediate` | holds one advisory lock until its commit |
| order of commits | that of sequence numbers | the same, by that lock |
| durable | write-ahead log, `synchronous = full` | `synchronous_commit` at least `on` |
| deleted rows | overwritten | unreachable, and removed by the server's vacuum |

That lock also keeps an event of a user from coming between their deletion and its tombstone.
"""

import contextlib
import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from metajax import locks

__all__ = ["Connection", "Database", "PostgresDatabase", "SqliteDatabase", "database_of"]

_WAIT = 5
"""Seconds to wait for a lock, or for a connection."""

_FORMS = "events must be sqlite:///FILE or postgresql://HOST/DATABASE"

_LOCK = int.from_bytes(b"metajax", "big")
"""Key of the advisory lock of those who write."""


class Cursor(Protocol):
    """Outcome of a statement."""

    @property
    def rowcount(self) -> int:
        """Number of rows that were changed."""
        ...

    def fetchone(self) -> Any:
        """Returns the next row, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """Returns the rows."""
        ...

    def __iter__(self) -> Any: ...


class Connection(Protocol):
    """A connection outside of transactions, unless one is begun by a statement."""

    def execute(self, statement: str, values: Sequence[Any] = ..., /) -> Cursor:
        """Runs a statement with `?` for each value."""
        ...

    def close(self) -> None:
        """Closes it."""
        ...


class Database(Protocol):
    """A database by its URL; nothing is opened before it is used."""

    name: str
    """Its name in messages, without a password."""
    shared: bool
    """True where several processes may write."""
    key: str
    """Type of a key that counts upwards."""
    rowid: str
    """Definition of the column that counts the rows; SQLite has it by itself."""
    moment: str
    """Statement that begins to read one moment."""
    errors: tuple[type[Exception], ...]
    """What the driver raises."""

    def hold(self) -> None:
        """Takes the right to write for this process.

        Raises:
            LockedError: If another one has it.
            OSError: If it cannot be taken.
        """
        ...

    def release(self) -> None:
        """Gives the right back."""
        ...

    def exists(self) -> bool:
        """False where there is nothing to read, and nothing is to be made."""
        ...

    def connect(self, *, reads: bool) -> Connection:
        """Opens a connection, with `reads` one that cannot write."""
        ...

    def begin(self, db: Connection) -> None:
        """Begins a transaction that no other one writes beside."""
        ...

    def insert(
        self, db: Connection, table: str, types: Mapping[str, str], rows: Sequence[Sequence[Any]]
    ) -> int:
        """Inserts rows in order, but none whose `id` is in the table or comes again.

        Args:
            db: A connection that writes.
            table: Name of the table.
            types: Types by column.
            rows: Values of the columns.

        Returns:
            Number of rows that were inserted.
        """
        ...

    def is_empty(self, db: Connection) -> bool:
        """True where there are no tables."""
        ...

    def is_lost(self, db: Connection) -> bool:
        """True of a connection that is of no more use."""
        ...

    def forget(self) -> None:
        """Removes what deleted rows have left, as far as it can be done."""
        ...

    def reason(self, error: Exception) -> str:
        """Says in one line why something failed, without secrets and rows."""
        ...


def database_of(url: str) -> Database:
    """Returns the database of a URL.

    Args:
        url: Such as `sqlite:///events.db`, with four slashes an absolute path, or
            `postgresql://user@host/database`, as libpq reads it.

    Raises:
        ValueError: If it is none; says nothing of what it holds.
        ImportError: If the extra is missing.

    Example:
        >>> database_of("sqlite:///events.db").name
        'events.db'
    """
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite" and rest.startswith("/") and rest != "/":
        return SqliteDatabase(Path(rest.removeprefix("/")))
    if scheme in ("postgresql", "postgres") and rest:
        return PostgresDatabase(url)
    got = f", got {scheme}://..." if "://" in url and scheme.isalnum() else ""
    raise ValueError(f"{_FORMS}{got}.")


class SqliteDatabase:
    """A file, by Python's own driver.

    With SQLAlchemy Core the same insertions took 1.3 times as long (3,338 and 2,537 events a
    second, 100 a transaction, on two loaded cores, 2026-11-29), and its import .8 s.

    Args:
        path: The file.
    """

    shared = False
    key = "integer primary key autoincrement"
    rowid = ""
    moment = "begin"
    errors: tuple[type[Exception], ...] = (sqlite3.Error,)

    def __init__(self, path: Path):
        self.path, self.name = path, str(path)
        self._held = path.with_name(path.name + ".writer")
        self._lock: int | None = None

    def hold(self) -> None:
        """Locks a folder beside the file."""
        if not self.path.parent.is_dir():
            raise FileNotFoundError(2, "its folder does not exist", self.name)
        self._held.mkdir(exist_ok=True)
        self._lock = locks.acquire(self._held)

    def release(self) -> None:
        """Unlocks it."""
        if self._lock is not None:
            locks.release(self._held, self._lock)
            self._lock = None
        with contextlib.suppress(OSError):
            self._held.rmdir()

    def exists(self) -> bool:
        """True where the file is."""
        return self.path.is_file()

    def connect(self, *, reads: bool) -> Connection:
        """Opens the file."""
        mode = "ro" if reads else "rwc"
        db = sqlite3.connect(
            f"{Path(os.path.abspath(self.path)).as_uri()}?mode={mode}",
            timeout=_WAIT, uri=True, isolation_level=None, check_same_thread=False,
        )  # fmt: skip
        if not reads:
            try:
                db.execute("pragma journal_mode = wal")
                db.execute("pragma synchronous = full")
                # What is deleted is overwritten.
                db.execute("pragma secure_delete = on")
            except sqlite3.Error:
                db.close()
                raise
        return db

    def begin(self, db: Connection) -> None:
        """Locks the file."""
        db.execute("begin immediate")

    def insert(
        self, db: Any, table: str, types: Mapping[str, str], rows: Sequence[Sequence[Any]]
    ) -> int:
        """Runs one prepared statement for each row."""
        columns, marks = ", ".join(types), ", ".join("?" * len(types))
        statement = f"insert into {table} ({columns}) values ({marks}) on conflict (id) do nothing"
        return db.executemany(statement, rows).rowcount

    def is_empty(self, db: Connection) -> bool:
        """True where there are no tables."""
        return db.execute("select 1 from sqlite_master limit 1").fetchone() is None

    def is_lost(self, db: Connection) -> bool:
        """False: a file stays open."""
        return False

    def forget(self) -> None:
        """Empties the write-ahead log, where deleted rows still are, unless it is in use."""
        with contextlib.suppress(sqlite3.Error):
            db = sqlite3.connect(self.path, timeout=0.2)
            with contextlib.closing(db):
                db.execute("pragma wal_checkpoint(truncate)")

    def reason(self, error: Exception) -> str:
        """Returns SQLite's line, which holds no values."""
        return str(error)


class PostgresDatabase:
    """A database of a PostgreSQL server, version 12 or later, by psycopg 3.

    The tables are in the first schema of the search path, which has none of others.

    Args:
        url: As libpq reads it.

    Raises:
        ValueError: If libpq cannot read it.
        ImportError: If the extra is missing.
    """

    shared = True
    key = "bigint generated always as identity primary key"
    rowid = ", rowid bigint generated always as identity unique"
    moment = "begin isolation level repeatable read read only"

    def __init__(self, url: str):
        try:
            import psycopg
            from psycopg.conninfo import conninfo_to_dict
        except ImportError:
            raise ImportError(
                "a log in PostgreSQL needs psycopg: install the extra, 'metajax[postgres]'."
            ) from None
        self._driver: Any = psycopg
        self.errors: tuple[type[Exception], ...] = (psycopg.Error,)
        try:
            self._parts = conninfo_to_dict(url)
        except psycopg.Error:
            # Its line quotes the URL.
            raise ValueError(f"{_FORMS}, and the URL cannot be read.") from None
        place = {name: str(self._parts.get(name) or "") for name in ("host", "port", "dbname")}
        if "@" in "".join(place.values()) or place["port"].strip("0123456789,"):
            raise ValueError(f"{_FORMS}; write @ and / in a password as %40 and %2F.")
        host, port = place["host"], place["port"]
        where = f"?host={quote(host)}" if "/" in host else ""
        address = ("" if where else host) + (f":{port}" if port else "")
        self.name = f"postgresql://{address}/{place['dbname']}{where}"

    def hold(self) -> None:
        """Takes nothing: any number of processes may write."""

    def release(self) -> None:
        """Gives nothing back."""

    def exists(self) -> bool:
        """True: the server says when it is asked."""
        return True

    def connect(self, *, reads: bool) -> Connection:
        """Opens a connection that notices within seconds that the server is gone."""
        options = f"-c lock_timeout={_WAIT}s -c idle_in_transaction_session_timeout={6 * _WAIT}s"
        if reads:
            options += " -c default_transaction_read_only=on"
        given: dict[str, Any] = {
            "connect_timeout": _WAIT,
            "keepalives_idle": 2 * _WAIT,
            "tcp_user_timeout": 2000 * _WAIT,
            "application_name": "metajax",
            **self._parts,
            "options": f"{self._parts.get('options') or ''} {options}".strip(),
        }
        db = self._driver.connect(autocommit=True, **given)
        found = _PostgresConnection(db)
        if not reads:
            # What is acknowledged is on the disk, whatever the server does by default.
            found.execute(
                "select set_config('synchronous_commit', 'on', false)"
                " where current_setting('synchronous_commit') = 'off'"
            )
        return found

    def begin(self, db: Connection) -> None:
        """Waits for the other transactions that write."""
        db.execute("begin")
        db.execute("select pg_advisory_xact_lock(?)", (_LOCK,))

    def insert(
        self, db: Connection, table: str, types: Mapping[str, str], rows: Sequence[Sequence[Any]]
    ) -> int:
        """Sends an array for each column, in one statement for all rows."""
        columns = ", ".join(types)
        arrays = ", ".join(f"?::{kind}[]" for kind in types.values())
        return db.execute(
            f"insert into {table} ({columns}) select {columns}"
            f" from unnest({arrays}) with ordinality as given ({columns}, place) order by place"
            " on conflict (id) do nothing",
            [list(column) for column in zip(*rows, strict=True)],
        ).rowcount

    def is_empty(self, db: Connection) -> bool:
        """True where there are no tables in the schema."""
        found = db.execute("select 1 from pg_tables where schemaname = current_schema() limit 1")
        return found.fetchone() is None

    def is_lost(self, db: Connection) -> bool:
        """True of a connection that was closed by either side."""
        return db.is_lost  # type: ignore[attr-defined]

    def forget(self) -> None:
        """Leaves it to the server's vacuum."""

    def reason(self, error: Exception) -> str:
        """Returns the first line without its details, which show rows, and without the password."""
        primary = getattr(getattr(error, "diag", None), "message_primary", None)
        line = (primary or str(error) or type(error).__name__).splitlines()[0].strip()
        password = self._parts.get("password")
        return line.replace(str(password), "***") if password else line


class _PostgresConnection:
    """A connection that takes the marks of SQLite."""

    def __init__(self, db: Any):
        self._db = db

    @property
    def is_lost(self) -> bool:
        return self._db.closed or self._db.broken

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Cursor:
        return self._db.execute(statement.replace("?", "%s"), values)

    def close(self) -> None:
        self._db.close()

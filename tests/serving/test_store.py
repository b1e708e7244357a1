import contextlib
import subprocess
import sys
import threading
import time
from concurrent.futures import Future

import pytest

from metajax import locks
from metajax.cli.app import main
from metajax.serving import Answer, DeletedError, Event, Item, Shown, Store, StoreError
from metajax.serving import store as store_module
from metajax.serving.databases import database_of
from metajax.serving.store import reading


@pytest.fixture
def url(new_log):
    return new_log()


@pytest.fixture
def store(url):
    with Store(url) as opened:
        yield opened


@contextlib.contextmanager
def direct(url):
    """Yields a connection of our own to the database of a log."""
    with contextlib.closing(database_of(url).connect(reads=False)) as db:
        yield db


def event(number, user="ada", item="p1", kind="view", recommendation_id=None):
    return Event(f"e{number}", user, item, kind, None, 1.7e9 + number, recommendation_id)


def answer(name="r1", user="ada"):
    items = (Shown("p1", 4.5, 0.9), Shown("p2", None, 0.05))
    return Answer(name, user, 1.7e9, "epsilon_greedy", "films", "home", items)


def test_events_are_stored_once_and_in_order(store):
    first = store.add_events([event(1), event(2), event(1)])
    assert (first.accepted, first.duplicates, first.refused) == (2, 1, ())
    again = store.add_events([event(2, item="p9"), event(3, user="bob")])
    assert (again.accepted, again.duplicates) == (1, 1)
    assert [one.id for one in store.events_of("ada", 10)] == ["e2", "e1"]
    assert store.events_of("ada", 1) == [event(2)]
    sequences = [sequence for sequence, _ in store.events()]
    assert sequences == sorted(set(sequences))
    assert store.events(after=sequences[1]) == [(sequences[2], event(3, user="bob"))]


def test_an_event_names_only_answers_that_were_given_to_its_user(store):
    store.add_answer(answer())
    store.add_answer(answer("r2", user=None))
    sent = [
        event(1, recommendation_id="r1"),
        event(2, recommendation_id="none"),
        event(3, user="bob", recommendation_id="r1"),
        event(4, user="bob", recommendation_id="r2"),
    ]
    found = store.add_events(sent)
    assert (found.accepted, [index for index, _ in found.refused]) == (2, [1, 2])
    assert store.answer(store.events_of("ada", 1)[0].recommendation_id) == answer()
    assert store.answer("none") is None


def test_a_deleted_user_leaves_nothing_and_does_not_come_back(store, url, tmp_path):
    name = "ada-whom-nobody-shall-find"
    store.add_events([event(1, user=name), event(2, user="bob")])
    store.put_user(name, {"age": 30})
    store.add_answer(answer(user=name))
    assert (store.attributes_of(name), len(store.answers_of(name))) == ({"age": 30}, 1)
    assert store.delete_user(name) == {"events": 1, "answers": 1, "users": 1}
    late = store.add_events([event(1, user=name), event(5, user=name), event(6, user="bob")])
    assert (late.accepted, [index for index, _ in late.refused]) == (1, [0, 1])
    with pytest.raises(DeletedError, match="deleted"):
        store.put_user(name, {})
    store.add_answer(answer("r9", user=name))  # Of somebody without a record.
    assert store.answer("r9").user is None
    assert (store.events_of(name, 9), store.answers_of(name)) == ([], [])
    assert store.attributes_of(name) is None
    assert store.is_deleted(name)
    assert not store.is_deleted("bob")
    left = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert name.encode() not in left
    if url.startswith("sqlite"):
        assert b"bob" in left


def test_items_and_attributes_are_replaced(store):
    store.put_item("p1", Item(available=False, categories=("new",)))
    store.put_item("p1", Item(expires=5.0, content={"year": 1999}))
    change, items = store.items()
    assert items == {"p1": Item(True, 5.0, (), {"year": 1999})}
    store.set_available("p1", False)
    store.set_available("p2", True)
    last, items = store.items(after=change)
    assert items == {"p1": Item(False, 5.0, (), {"year": 1999}), "p2": Item()}
    assert last > change
    assert store.items(after=last) == (last, {})
    store.put_user("ada", {"age": 1})
    store.put_user("ada", {"age": 2})
    assert store.attributes_of("ada") == {"age": 2}


def test_many_threads_are_committed_together_and_a_bad_job_harms_no_other(store):
    store.delete_user("gone")
    start, outcomes = threading.Barrier(9), []

    def send(n):
        start.wait()
        if n == 8:
            with pytest.raises(DeletedError):
                store.put_user("gone", {})
        else:
            outcomes.append(store.add_events([event(100 * n + m) for m in range(20)]).accepted)

    threads = [threading.Thread(target=send, args=(n,)) for n in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [20] * 8
    assert len(store.events()) == 160


def test_a_request_that_fails_harms_none_of_its_commit(store):
    def half(db):
        db.execute("insert into tombstones (digest) values ('x')")
        db.execute("insert into nothing values (1)")

    jobs = [
        (lambda db: db.execute("create table t (x integer)").rowcount, Future()),
        (half, Future()),
        (lambda db: 1 / 0, Future()),
        (lambda db: db.execute("select count(*) from t, tombstones").fetchone()[0], Future()),
    ]
    store._commit(jobs)
    assert isinstance(jobs[1][1].exception(), StoreError)
    assert isinstance(jobs[2][1].exception(), ZeroDivisionError)
    assert jobs[3][1].result() == 0
    store._writing.execute("begin")  # An error, were the transaction not at its end.
    store._writing.execute("rollback")
    assert store.add_events([event(1)]).accepted == 1


def test_a_store_that_cannot_be_written_says_so_and_recovers(store, url):
    with direct(url) as other:
        values = []
        for _ in range(3):
            store.check_writable()
            values += other.execute("select value from meta where name = 'checked'").fetchall()
        assert len(set(values)) == 3
        other.execute("drop table users")
        with pytest.raises(StoreError, match="users"):
            store.put_user("ada", {})
        assert store.add_events([event(1)]).accepted == 1
    store.close()
    for use in (store.check_writable, store.items):
        with pytest.raises(StoreError, match="closed"):
            use()


def test_a_newer_schema_and_other_databases_are_refused(new_log):
    url = new_log()
    Store(url).close()
    with direct(url) as db:
        db.execute("update meta set value = '99' where name = 'version'")
    with pytest.raises(ValueError, match="schema 99"):
        Store(url)
    url = new_log()
    with direct(url) as db:
        db.execute("create table of_others (x integer)")
    with pytest.raises(ValueError, match="is no log of events"):
        Store(url)
    with pytest.raises(ValueError, match="is no log of events"), reading(url):
        pass


def test_a_second_process_and_another_file_are_refused_by_sqlite(tmp_path):
    url = f"sqlite:///{tmp_path / 'events.db'}"
    with Store(url), pytest.raises(locks.LockedError, match="in use by process"):
        Store(url)
    (tmp_path / "text.db").write_text("no database" * 100)
    with pytest.raises(ValueError, match=r"text.db: is no log of events"):
        Store(f"sqlite:///{tmp_path / 'text.db'}")
    with pytest.raises(OSError, match="folder does not exist"):
        Store(f"sqlite:///{tmp_path / 'none' / 'events.db'}")


def test_several_stores_write_to_postgresql_in_one_order(postgres):
    url, start = postgres.new_url(), threading.Barrier(3)
    seen: list[list[int]] = []

    def write(n):
        with Store(url) as own:
            start.wait()
            for m in range(20):
                own.add_events([event(1000 * n + m), event(m, user="bob")])

    def follow():
        """Reads on from the last number: one that appeared behind it would be missed."""
        with Store(url) as own:
            start.wait()
            numbers, end = [], time.monotonic() + 60
            while len(numbers) < 3 * 20 and time.monotonic() < end:
                numbers += [number for number, _ in own.events(numbers[-1] if numbers else 0)]
            seen.append(numbers)

    threads = [threading.Thread(target=write, args=(n,)) for n in (1, 2)]
    threads += [threading.Thread(target=follow)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Store(url) as store:
        stored = store.events()
    assert len({one.id for _, one in stored}) == len(stored) == 2 * 20 + 20
    assert seen == [[number for number, _ in stored]]


def test_no_event_comes_between_a_deletion_and_its_tombstone(postgres):
    url = postgres.new_url()
    with Store(url) as one, Store(url) as other:
        begun, go = threading.Event(), threading.Event()

        def slow(db):
            found = store_module._add_events(one._database, db, [event(1)])
            begun.set()
            go.wait(20)
            return found

        adding = threading.Thread(target=lambda: one._written(slow))
        deleting = threading.Thread(target=lambda: other.delete_user("ada"))
        adding.start()
        assert begun.wait(20)
        deleting.start()
        deleting.join(0.3)
        assert deleting.is_alive()
        go.set()
        adding.join()
        deleting.join()
        assert one.events_of("ada", 9) == []
        assert one.add_events([event(2)]).refused[0][0] == 0


def test_a_server_that_is_gone_is_waited_for(postgres):
    with Store(postgres.new_url()) as store:
        store.add_events([event(1)])
        postgres.stop()
        try:
            for use in (lambda: store.add_events([event(2)]), store.events, store.check_writable):
                with pytest.raises(StoreError) as found:
                    use()
                assert "\n" not in str(found.value)
        finally:
            postgres.start()
        assert store.add_events([event(1), event(2)]) == (1, 1, ())
        assert [one.id for _, one in store.events()] == ["e1", "e2"]
        # Connections that break while nobody uses them are not noticed by anybody.
        postgres.stop()
        postgres.start()
        assert store.add_events([event(3)]).accepted == 1
        assert len(store.events()) == 3


def test_no_message_shows_a_password(postgres, capsys):
    secret = "s3cret"
    there = postgres.new_url()
    folder = there.partition("host=")[2].partition("&")[0]
    for url in (
        f"postgresql://ada:{secret}@127.0.0.1:1/events",
        f"postgresql://127.0.0.1:1/events?password={secret}",
        f"postgresql://ada:{secret}@word@127.0.0.1:1/events",
        f"postgresql://ada:{secret}/word@127.0.0.1/events",
        f"postgresql://ada:{secret}%zz@127.0.0.1/events",
        f"postgresql://ada:{secret}@127.0.0.1:{secret}/events",
        f"postgresql:///none?host={folder}&user=metajax&password={secret}",
        f"mysql://ada:{secret}@127.0.0.1/events",
        f"ada:{secret}@127.0.0.1",
    ):
        for arguments in (["report", url], ["serve", "none", "--port", "0", "--events", url]):
            assert main(arguments) == 2
            said = capsys.readouterr()
            assert secret not in said.out + said.err, url
            lines = [line for line in said.err.splitlines() if ": note: " not in line]
            assert [line for line in lines if not line.startswith("Reading ")] == lines[-1:]
    assert secret not in database_of(f"postgresql://ada:{secret}@h/events").name


def test_urls_name_databases(postgres):
    assert database_of("sqlite:////srv/events.db").name == "/srv/events.db"
    assert database_of("postgresql://ada:x@h:5433/events").name == "postgresql://h:5433/events"
    assert database_of("postgres:///events?host=/run").name == "postgresql:///events?host=/run"
    for url in ("events.db", "sqlite://", "sqlite:///", "mysql:///a", "postgresql://"):
        with pytest.raises(ValueError, match="events must be sqlite:///FILE or postgresql://"):
            database_of(url)


def test_a_kill_loses_nothing_that_was_acknowledged(url):
    program = f"""
import os, signal, sys
sys.path[:0] = {sys.path!r}
from metajax.serving import Event, Store
store = Store({url!r})
for n in range(30):
    store.add_events([Event(f"e{{n}}-{{m}}", "ada", "p", "view", None, 1.7e9) for m in range(5)])
    print(n, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == -9, run.stderr
    acknowledged = [int(line) for line in run.stdout.split()]
    assert acknowledged == list(range(30))
    with Store(url) as store:
        expected = [f"e{n}-{m}" for n in range(30) for m in range(5)]
        assert [one.id for _, one in store.events()] == expected


def test_a_mistake_in_a_request_is_no_failure_of_the_store_and_fails_no_other(store):
    with pytest.raises(ZeroDivisionError):
        store._written(lambda db: 1 / 0)
    with pytest.raises(StoreError, match="absent"):
        store._written(lambda db: db.execute("delete from absent"))
    store.put_user("ada", {"age": 30})
    assert store.attributes_of("ada") == {"age": 30}


def old_log(url):
    """Makes a log of the first schema."""
    database = database_of(url)
    with direct(url) as db:
        for statement in store_module._STEPS[0]:
            for name in ("key", "rowid"):
                statement = statement.replace(f"{{{name}}}", getattr(database, name))
            db.execute(statement)
        db.execute("insert into meta values ('version', '1')")
        db.execute(
            "insert into events (id, user_id, item_id, kind, time, recommendation_id)"
            " values ('e1', 'ada', 'p1', 'like', 1.0, 'r1')"
        )
        db.execute("insert into answers values ('r1', 'ada', 1.0, 'greedy', 'm', null, '[]')")
        db.execute("insert into items values ('p1', 0, null, '[]', '{}')")


def tables_of(url):
    tables = "select name, sql from sqlite_master order by name"
    if url.startswith("postgresql"):
        tables = (
            "select table_name, column_name, data_type, column_default, is_nullable"
            " from information_schema.columns where table_schema = current_schema() order by 1, 2"
        )
    with direct(url) as db:
        return db.execute(tables).fetchall()


def test_an_older_log_is_upgraded_whole_or_not_at_all(new_log, monkeypatch):
    url, fresh = new_log(), new_log()
    old_log(url)
    before = tables_of(url)
    with pytest.raises(ValueError, match="schema 1 and not 3: metajax serve"), reading(url):
        pass
    steps = (*store_module._STEPS, ("create table more (x integer)", "no statement"))
    with monkeypatch.context() as patched:
        patched.setattr(store_module, "_STEPS", steps)
        patched.setattr(store_module, "VERSION", 4)
        with pytest.raises(ValueError, match="syntax error"):
            Store(url)
    assert tables_of(url) == before
    with Store(url) as store:
        assert store.events() == [(1, Event("e1", "ada", "p1", "like", None, 1.0, "r1"))]
        assert store.answer("r1") == Answer("r1", "ada", 1.0, "greedy", "m", None, ())
        assert store.items() == (1, {"p1": Item(available=False)})
        store.put_item("p2", Item())
        assert store.items(after=1) == (2, {"p2": Item()})
        store.add_events([event(2)])
        assert [number for number, _ in store.events()] == [1, 2]
    with Store(url) as store, reading(url) as db:
        Store(fresh).close()
        assert tables_of(url) == tables_of(fresh)
        with pytest.raises(store._database.errors, match=r"read-?only"):
            db.execute("delete from events")

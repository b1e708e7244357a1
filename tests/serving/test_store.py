import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import Future

import pytest

from metajax import locks
from metajax.serving import Answer, DeletedError, Event, Item, Shown, Store, StoreError, path_of
from metajax.serving import store as store_module
from metajax.serving.store import reading


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "events.db") as opened:
        yield opened


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


def test_a_deleted_user_leaves_nothing_and_does_not_come_back(store, tmp_path):
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
    assert b"bob" in left


def test_items_and_attributes_are_replaced(store):
    store.put_item("p1", Item(available=False, categories=("new",)))
    store.put_item("p1", Item(expires=5.0, content={"year": 1999}))
    assert store.items() == {"p1": Item(True, 5.0, (), {"year": 1999})}
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


def test_a_request_that_fails_harms_none_of_its_commit():
    db = sqlite3.connect(":memory:", isolation_level=None)

    def half(db):
        db.execute("insert into t values (1)")
        db.execute("insert into nothing values (1)")

    jobs = [
        (lambda db: db.execute("create table t (x)").rowcount, Future()),
        (half, Future()),
        (lambda db: db.execute("select count(*) from t").fetchone()[0], Future()),
    ]
    store_module._commit(db, jobs)
    assert isinstance(jobs[1][1].exception(), StoreError)
    assert jobs[2][1].result() == 0
    assert not db.in_transaction


def test_a_store_that_cannot_be_written_says_so_and_recovers(store):
    other = sqlite3.connect(store.path, isolation_level=None)
    versions = []
    for _ in range(3):
        store.check_writable()
        versions += other.execute("pragma data_version").fetchall()
    assert len(set(versions)) == 3
    other.execute("drop table users")
    with pytest.raises(StoreError, match="users"):
        store.put_user("ada", {})
    assert store.add_events([event(1)]).accepted == 1
    other.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.check_writable()


def test_a_second_process_another_file_and_a_newer_schema_are_refused(store, tmp_path):
    with pytest.raises(locks.LockedError, match="in use by process"):
        Store(store.path)
    store.close()
    db = sqlite3.connect(store.path)
    db.execute("update meta set value = '99' where name = 'version'")
    db.commit()
    db.close()
    with pytest.raises(ValueError, match="schema 99"):
        Store(store.path)
    (tmp_path / "text.db").write_text("no database" * 100)
    with pytest.raises(ValueError, match=r"text.db: is no log of events"):
        Store(tmp_path / "text.db")
    with pytest.raises(OSError, match="folder does not exist"):
        Store(tmp_path / "none" / "events.db")


def test_urls_name_files():
    assert path_of("sqlite:////srv/events.db").as_posix() == "/srv/events.db"
    for url in ("events.db", "sqlite://", "sqlite:///", "mysql:///a"):
        with pytest.raises(ValueError, match="events must be sqlite"):
            path_of(url)


def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path):
    program = f"""
import os, signal, sys
sys.path[:0] = {sys.path!r}
from metajax.serving import Event, Store
store = Store({str(tmp_path / "events.db")!r})
for n in range(30):
    store.add_events([Event(f"e{{n}}-{{m}}", "ada", "p", "view", None, 1.7e9) for m in range(5)])
    print(n, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == -9, run.stderr
    acknowledged = [int(line) for line in run.stdout.split()]
    assert acknowledged == list(range(30))
    with Store(tmp_path / "events.db") as store:
        expected = [f"e{n}-{m}" for n in range(30) for m in range(5)]
        assert [one.id for _, one in store.events()] == expected


def test_a_mistake_in_a_request_is_no_failure_of_the_store_and_fails_no_other(tmp_path):
    with Store(tmp_path / "events.db") as store:
        with pytest.raises(ZeroDivisionError):
            store._written(lambda db: 1 / 0)
        with pytest.raises(StoreError, match="no such table"):
            store._written(lambda db: db.execute("delete from absent"))
        store.put_user("ada", {"age": 30})
        assert store.attributes_of("ada") == {"age": 30}


def old_log(path):
    """Makes a log of the first schema."""
    db = sqlite3.connect(path, isolation_level=None)
    for statement in store_module._STEPS[0]:
        db.execute(statement)
    db.execute("insert into meta values ('version', '1')")
    db.execute("insert into events values (5, 'e1', 'ada', 'p1', 'like', null, 1.0, 'r1')")
    db.execute("insert into answers values ('r1', 'ada', 1.0, 'greedy', 'm', null, '[]')")
    db.close()


def test_an_older_log_is_upgraded_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "events.db"
    old_log(path)
    with pytest.raises(ValueError, match="schema 1 and not 2: metajax serve"), reading(path):
        pass
    steps = (*store_module._STEPS, ("create table more (x)", "no statement"))
    with monkeypatch.context() as patched:
        patched.setattr(store_module, "_STEPS", steps)
        patched.setattr(store_module, "VERSION", 3)
        with pytest.raises(ValueError, match="syntax error"):
            Store(path)
    db = sqlite3.connect(path)
    assert db.execute("select value from meta where name = 'version'").fetchall() == [("1",)]
    assert "arm" not in str(db.execute("select sql from sqlite_master").fetchall())
    db.close()
    with Store(path) as store:
        assert store.events() == [(5, Event("e1", "ada", "p1", "like", None, 1.0, "r1"))]
        assert store.answer("r1") == Answer("r1", "ada", 1.0, "greedy", "m", None, ())
        store.add_events([event(2)])
        assert [number for number, _ in store.events()] == [5, 6]
    with Store(path) as store, reading(path) as db:
        fresh = Store(tmp_path / "fresh.db")
        tables = "select name, sql from sqlite_master order by name"
        assert store.read(lambda own: own.execute(tables).fetchall()) == fresh.read(
            lambda own: own.execute(tables).fetchall()
        )
        fresh.close()
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            db.execute("delete from events")

"""Slow clients, full disks, locks, clocks and random requests: an answer, and nothing lost."""

import contextlib
import json
import os
import shutil
import signal
import socket
import time
import urllib.request
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metajax.serving import app, server
from metajax.serving.app import document
from metajax.serving.scoring import scorer_of

# What these tests are about does not depend on the kind of store.
one_store = pytest.mark.parametrize("new_log", ["sqlite"], indirect=True)


def event(number, **changes):
    return {"id": f"e{number}", "user": "ada", "item": "3", "kind": "like", **changes}


def asked(address, path="/v1/health/live", **options):
    with urllib.request.urlopen(f"http://{address[0]}:{address[1]}{path}", **options) as answer:
        return json.load(answer)


@one_store
def test_a_body_that_does_not_come_is_waited_for_a_while_only(serve, listening, monkeypatch):
    monkeypatch.setattr(app, "_SECONDS", 0.2)
    service, _ = serve()
    with listening(service) as address, socket.create_connection(address) as slow:
        slow.sendall(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        slow.settimeout(20)
        assert slow.recv(1000).startswith(b"HTTP/1.1 408 ")
        assert asked(address)["status"] == "live"


@pytest.mark.slow
@one_store
def test_a_thousand_open_connections_and_one_that_never_reads_hold_up_nobody(serve, listening):
    service, _ = serve()
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(listening(service))
        for _ in range(1000):
            stack.enter_context(socket.create_connection(address))
        lazy = stack.enter_context(socket.create_connection(address))
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        with contextlib.suppress(OSError):
            lazy.settimeout(2)
            for _ in range(500):
                lazy.sendall(b"GET /v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        start = time.monotonic()
        assert asked(address, timeout=30)["status"] == "live"
        assert len(asked(address, "/v1/users/ada/recommendations", timeout=30)["items"]) == 10
        assert time.monotonic() - start < 20


@one_store
def test_answers_do_not_wait_for_acknowledgements(serve, listening):
    service, _ = serve()
    with listening(service) as address, socket.create_connection(address):
        pass
    with server.listen("127.0.0.1", 0) as place:
        assert place.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@contextlib.contextmanager
def full_disk(store):
    """Lets a store fail as it does on a full disk."""
    if store.name.startswith("postgresql"):
        store._written(
            lambda db: (
                db.execute(
                    "create function fail() returns trigger language plpgsql as $$ begin"
                    " raise exception using errcode = 'disk_full', message = 'no space'; end $$"
                ).rowcount
            )
        )
        store._written(
            lambda db: (
                db.execute(
                    "create trigger full_disk before insert on events execute function fail()"
                ).rowcount
            )
        )
        yield
        store._written(lambda db: db.execute("drop trigger full_disk on events").rowcount)
        return
    # SQLite reports a file that may not grow as it reports a full disk.
    limit = "pragma max_page_count = {}"
    store._written(lambda db: db.execute(limit.format(1)).fetchone())
    yield
    store._written(lambda db: db.execute(limit.format(10**6)).fetchone())


def test_a_full_disk_is_an_answer_loses_nothing_and_recovers(serve):
    service, call = serve()
    assert call("POST", "/v1/events", {"events": [event(1)]}).status == 200
    many = [event(n, item="x" * 200) for n in range(100, 400)]
    with full_disk(service.store):
        found = call("POST", "/v1/events", {"events": many})
    assert (found.status, found.headers["retry-after"]) == (503, "1")
    assert found.content == {"error": "the store cannot be used now; send it again."}
    assert [one.id for _, one in service.store.events()] == ["e1"]
    assert call("POST", "/v1/events", {"events": many}).content["accepted"] == 300
    assert len(service.store.events()) == 301


def test_a_locked_database_is_an_answer_and_recovers(serve, monkeypatch):
    service, call = serve()
    database = service.store._database
    wait = "set lock_timeout = 50" if database.shared else "pragma busy_timeout = 50"
    service.store._written(lambda db: db.execute(wait).rowcount)
    other = database.connect(reads=False)
    database.begin(other)
    found = call("POST", "/v1/events", {"events": [event(1)]})
    assert (found.status, "locked" in str(found.content)) == (503, False)
    # Who only reads does not wait.
    assert call("GET", "/v1/users/nobody").status == 404
    assert call("GET", "/v1/health/ready").status == 503
    other.execute("rollback")
    other.close()
    assert call("POST", "/v1/events", {"events": [event(1)]}).status == 200


@pytest.mark.parametrize("new_log", ["postgresql"], indirect=True)
def test_a_server_that_is_gone_is_an_answer_and_recovers(serve, postgres, caplog):
    service, call = serve()
    path = "/v1/users/ada/recommendations"
    assert call("GET", path).status == 200
    postgres.stop()
    try:
        for method, where, body in (
            ("POST", "/v1/events", {"events": [event(1)]}),
            ("GET", path, None),
            ("GET", "/v1/users/ada", None),
            ("GET", "/v1/health/ready", None),
        ):
            found = call(method, where, body)
            assert (found.status, found.headers["retry-after"]) == (503, "1")
            assert found.content == {"error": "the store cannot be used now; send it again."}
        assert call("GET", "/v1/health/live").status == 200
    finally:
        postgres.start()
    assert call("POST", "/v1/events", {"events": [event(1)]}).content["accepted"] == 1
    assert call("GET", path).status == 200
    assert [one.id for one in service.store.events_of("ada", 9)] == ["e1"]
    assert all("\n" not in record.message for record in caplog.records)


def test_a_clock_that_goes_back_changes_no_order(serve, monkeypatch):
    service, call = serve()
    now = [2e9]
    monkeypatch.setattr(time, "time", lambda: now[0])
    call("POST", "/v1/events", {"events": [event(1, kind="rating", value=5)]})
    now[0] -= 1e9
    call("POST", "/v1/events", {"events": [event(2, kind="rating", value=1)]})
    found = call("GET", "/v1/users/ada").content["events"]
    assert [(one["id"], one["time"]) for one in found] == [("e2", 1e9), ("e1", 2e9)]
    newest = service.store.events_of("ada", 9)
    assert [one.value for one in newest] == [1.0, 5.0]
    assert call("GET", "/v1/users/ada/recommendations").status == 200


@one_store
def test_a_signal_reloads_the_model_and_a_damaged_one_keeps_the_old(serve, model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    service, call = serve(load=lambda _: scorer_of(folder, policies=("greedy",)))
    before = service.scorer
    with server.reloading() as begin:
        # While it starts.
        os.kill(os.getpid(), signal.SIGHUP)
        begin(service)
        end = time.monotonic() + 60
        while service.scorer is before and time.monotonic() < end:
            time.sleep(0.01)
        assert service.scorer is not before
        before = service.scorer
        (folder / "model.json").write_text("{}")
        os.kill(os.getpid(), signal.SIGHUP)
        while service.metrics.reloads["failed"] == 0 and time.monotonic() < end:
            time.sleep(0.01)
    assert service.scorer is before
    assert service.metrics.reloads == {"done": 1, "failed": 1}
    assert call("GET", "/v1/users/ada/recommendations").status == 200
    assert 'metajax_reloads_total{fate="failed"} 1\n' in call("GET", "/metrics").content


DOCUMENT = document()
NAMES = ["ada", "3", "new", "a/b", "é", "\u202e", ""]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


def fitting(schema):
    """Values of a JSON schema, near it, or none of it."""
    if "$ref" in schema:
        return fitting(DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        return st.one_of(*map(fitting, schema["anyOf"]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds = {
        "string": st.sampled_from(["ada", "3", "new", "a/b", "é", "\u202e", ""])
        | st.text(max_size=40),
        "integer": st.integers(-(2**70), 2**70) | st.integers(1, 100),
        "number": st.floats() | st.floats(1, 5),
        "boolean": st.booleans(),
        "null": st.none(),
    }
    kind = schema.get("type")
    if kind == "array":
        return st.lists(fitting(schema.get("items", {})), max_size=4)
    if kind == "object" and "properties" in schema:
        parts = {name: fitting(one) for name, one in schema["properties"].items()}
        return st.fixed_dictionaries({}, optional=parts)
    if kind == "object":
        values = schema.get("additionalProperties")
        inner = fitting(values) if isinstance(values, dict) else JSON
        names = st.sampled_from(["class", "title", "age", "gender"]) | st.text(max_size=8)
        return st.dictionaries(names, inner, max_size=4)
    return kinds.get(kind, JSON)


@st.composite
def requests(draw):
    path, method, one = draw(st.sampled_from(OPERATIONS))
    query = []
    for parameter in one["parameters"]:
        value = draw(fitting(parameter["schema"]) | JSON)
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(value))
        elif draw(st.booleans()):
            values = value if isinstance(value, list) else [value]
            query += [(parameter["name"], str(v)) for v in values]
    if draw(st.integers(0, 20)) == 0:
        query.append((draw(st.text(max_size=8)), "x"))
    body = None
    if "requestBody" in one:
        schema = one["requestBody"]["content"]["application/json"]["schema"]
        body = draw(fitting(schema) | JSON | st.binary(max_size=50))
    return method, path, query, body


OPERATIONS = [
    (path, method.upper(), one)
    for path, methods in DOCUMENT["paths"].items()
    for method, one in methods.items()
    if one["operationId"] != "reload"
]


def check(call, request):
    method, path, query, body = request
    clean = [(name.encode("utf-8", "replace").decode(), value.encode("utf-8", "replace").decode())
             for name, value in query]  # fmt: skip
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    found = call(method, path.encode("utf-8", "replace").decode(), raw, query=clean)
    assert found.status < 500, (request, found)
    assert found.status not in (403, 429), (request, found)
    if found.status >= 400 and "rejected" not in found.content:
        assert set(found.content) == {"error"}
        line = found.content["error"]
        assert "\n" not in line
        assert len(line) < 2000
        for secret in ("Traceback", ".py", "sqlite", "postgres", "select ", "/work", "/tmp"):
            assert secret not in line.replace(quote(path), ""), line


@pytest.mark.slow
def test_random_requests_find_no_unforeseen_error(serve):
    _, call = serve()

    @settings(
        max_examples=150, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(requests())
    def run(request):
        check(call, request)

    run()


@pytest.mark.slow
@one_store
def test_ten_thousand_random_requests_find_no_unforeseen_error(serve):
    _, call = serve()

    @settings(
        max_examples=10_000, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(requests())
    def run(request):
        check(call, request)

    run()

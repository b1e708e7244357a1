import asyncio
import contextlib
import itertools
import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import pytest

from metajax import engine
from metajax.data import load as load_data
from metajax.serving import server
from metajax.serving.app import app_of
from metajax.serving.scoring import Scorer, scorer_of
from metajax.serving.service import Service, ServiceSettings
from metajax.serving.store import Store


class Answered(NamedTuple):
    status: int
    content: Any
    headers: dict[str, str]
    read: int


class Client:
    """Calls an ASGI application in this process."""

    def __init__(self, app):
        self.app = app

    def __call__(
        self, method, path, body=None, *, query=(), headers=None, pieces=None, client="127.0.0.1"
    ):
        """Sends a request; `pieces` are of a body without a length, `read` counts those taken."""
        if pieces is None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            pieces = [b""] if body is None else [content]
        named = {"content-length": str(len(pieces[0]))} if len(pieces) == 1 else {}
        sent = {**named, **(headers or {})}
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": path, "raw_path": quote(path).encode(), "root_path": "",
            "query_string": urlencode(query).encode(), "server": ("testserver", 80),
            "client": (client, 4321),
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        }  # fmt: skip
        taken, found = [0], []

        async def receive():
            number = taken[0]
            taken[0] += 1
            if number >= len(pieces):
                return {"type": "http.disconnect"}
            more = number + 1 < len(pieces)
            return {"type": "http.request", "body": pieces[number], "more_body": more}

        async def send(message):
            found.append(message)

        asyncio.run(self.app(scope, receive, send))
        headers = {name.decode(): value.decode() for name, value in found[0]["headers"]}
        raw = b"".join(message.get("body", b"") for message in found[1:])
        is_json = headers.get("content-type") == "application/json"
        content = json.loads(raw) if is_json else raw.decode()
        return Answered(found[0]["status"], content, headers, taken[0])


class PostgresServer:
    """A server of this test session, on a socket in a folder of its own and on no port."""

    def __init__(self, programs: Path, folder: Path):
        self._programs, self._folder = programs, folder
        self._schemas = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None
        # It refuses to run as root.
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            names = [user.pw_name for user in pwd.getpwall()]
            user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
            self._user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(folder, user.pw_uid, user.pw_gid)
        self._run("initdb", "-D", str(folder / "data"), "-U", "metajax", "-A", "trust", "-E",
                  "UTF8", "--locale=C", "--no-sync")  # fmt: skip
        self.start()

    def start(self) -> None:
        arguments = ("-D", str(self._folder / "data"), "-k", str(self._folder), "-c",
                     "listen_addresses=", "-c", "fsync=off")  # fmt: skip
        self._process = subprocess.Popen(
            [self._programs / "postgres", *arguments], cwd=self._folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self._user,
        )  # fmt: skip
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(subprocess.CalledProcessError):
                return self._run("psql", "-h", str(self._folder), "-U", "metajax", "-c", "select 1",
                                 "postgres")  # fmt: skip
            assert time.monotonic() < end, "PostgreSQL did not start"
            time.sleep(0.05)

    def stop(self) -> None:
        """Stops it at once: it breaks all connections, and recovers when it starts."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()

    def new_url(self) -> str:
        """Returns the URL of a new schema."""
        name = f"log{next(self._schemas)}"
        self._run("psql", "-h", str(self._folder), "-U", "metajax", "-c", f"create schema {name}",
                  "postgres")  # fmt: skip
        path = f"postgresql:///postgres?user=metajax&host={self._folder}"
        return f"{path}&options=-csearch_path%3D{name}"

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, *arguments], cwd=self._folder, check=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self._user,
        )  # fmt: skip


@pytest.fixture(scope="session")
def postgres():
    """A server, where its programs are installed."""
    pytest.importorskip("psycopg")
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    folders = [one for one in folders if (one / "postgres").exists() and (one / "psql").exists()]
    if not folders:
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="metajax-"))
    server = PostgresServer(folders[-1], folder)
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def new_log(request, tmp_path):
    """Returns the URL of a new log, of each kind of store."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres").new_url
    numbers = itertools.count()
    return lambda: f"sqlite:///{tmp_path / f'events{next(numbers)}.db'}"


@pytest.fixture(scope="session")
def model(small, tmp_path_factory):
    """A model folder: users have ages and genders, items titles and classes."""
    fitted = engine.fit(load_data(small), "eb_fold_in", trials=1)
    return engine.save(fitted, tmp_path_factory.mktemp("served") / "model")


@pytest.fixture(scope="session")
def scorer(model) -> Scorer:
    return scorer_of(model, policies=("greedy", "epsilon_greedy", "thompson"))


@contextlib.contextmanager
def _listening(service):
    """Serves on a free port of this machine, with all bounds of the server."""
    place = server.listen("127.0.0.1", 0)
    running = server.uvicorn_of(service)
    running.config.lifespan = "off"
    thread = threading.Thread(target=lambda: asyncio.run(running.serve([place])))
    thread.start()
    try:
        yield place.getsockname()[:2]
    finally:
        running.should_exit = running.force_exit = True
        thread.join()
        place.close()


@pytest.fixture
def listening():
    """Serves a service on a port, as a context; yields the host and the port."""
    return _listening


@pytest.fixture
def client_of():
    """Returns a client of a service."""
    return lambda service: Client(app_of(service))


@pytest.fixture
def serve(scorer, new_log):
    """Opens the service on a new store, and returns it with a client."""
    opened = []

    def begin(load=None, others=None, **settings):
        store = Store(new_log())
        service = Service(store, scorer, ServiceSettings(**settings), load, others)
        opened.append(service)
        return service, Client(app_of(service))

    yield begin
    for service in opened:
        service.close()
    scorer.set_items({})

import asyncio
import json
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import pytest

from metajax import engine
from metajax.data import load as load_data
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


@pytest.fixture(scope="session")
def model(small, tmp_path_factory):
    """A model folder: users have ages and genders, items titles and classes."""
    fitted = engine.fit(load_data(small), "eb_fold_in", trials=1)
    return engine.save(fitted, tmp_path_factory.mktemp("served") / "model")


@pytest.fixture(scope="session")
def scorer(model) -> Scorer:
    return scorer_of(model, policies=("greedy", "epsilon_greedy", "thompson"))


@pytest.fixture
def serve(scorer, tmp_path):
    """Opens the service on a new store, and returns it with a client."""
    opened = []

    def begin(load=None, **settings):
        store = Store(tmp_path / f"{len(opened)}.db")
        service = Service(store, scorer, ServiceSettings(**settings), load)
        opened.append(service)
        return service, Client(app_of(service))

    yield begin
    for service in opened:
        service.close()
    scorer.set_items({})

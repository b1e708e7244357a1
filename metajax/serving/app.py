"""The HTTP interface under /v1, and its OpenAPI document, from one table of operations.

Every error is one line of JSON, `{"error": ...}`, and shows no path, statement or key. Work is done
in threads, so that a slow commit holds up no other request.
"""

import asyncio
import contextlib
import functools
import hashlib
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from importlib.metadata import version
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from metajax.characters import visible
from metajax.fields import suggestion
from metajax.serving import bodies
from metajax.serving.bodies import MOST_BYTES, check_name
from metajax.serving.defects import log_defect
from metajax.serving.limits import Limits, is_loopback
from metajax.serving.pages import PAGES, page
from metajax.serving.scoring import POLICIES, RefusedError, UnknownError
from metajax.serving.service import Service, pair_of
from metajax.serving.store import DeletedError, Item, StoreError

__all__ = ["OPERATIONS", "Operation", "app_of", "document"]

_LOG = logging.getLogger(__name__)
_SECONDS = 30.0
"""Time for a client to send its body."""

_WATCHED = 0.5
"""Seconds between two looks at the event loop."""

_JSON = "application/json"


class Operation(NamedTuple):
    """One operation of the interface."""

    method: str
    """Of HTTP."""
    path: str
    """Pattern of the path."""
    name: str
    """Its `operationId`."""
    summary: str
    """One line."""
    call: Callable[[Service, "Asked"], Any]
    """Does it, in a thread; returns the answer, or with a status a pair, or a future of it."""
    answer: Any
    """Type of the answer; None: text."""
    body: Any = None
    """Type of the body; None: there is none."""
    query: Sequence[str] = ()
    """Parameters of the query."""
    key: str = "api"
    """Key that it needs: api, admin or none."""
    waits: bool = True
    """False of one that waits for nothing, and needs no thread."""


class Asked(NamedTuple):
    """A request."""

    path: Mapping[str, str]
    """Parameters of the path."""
    query: Mapping[str, list[str]]
    """Values of the query by name."""
    body: bytes
    """The body."""


class _HttpError(Exception):
    def __init__(self, status: int, line: str, headers: Mapping[str, str] | None = None):
        super().__init__(line)
        self.status, self.headers = status, headers


_PARAMETERS: dict[str, dict[str, Any]] = {
    "n": {"type": "integer", "minimum": 1, "maximum": 100, "default": 10},
    "policy": {"type": "string", "enum": list(POLICIES)},
    "filter": {
        "type": "array",
        "items": {"type": "string"},
        "description": "column=value that items must have, once for each; category=NAME is of "
        "the categories of an item.",
    },
    "exclude": {
        "type": "array",
        "items": {"type": "string"},
        "description": "Ids of items that are not shown, once for each.",
    },
    "scenario": {"type": "string", "maxLength": 256, "description": "Where the list is shown."},
    "model": {
        "type": "string",
        "maxLength": 256,
        "description": "Name of a model that is served beside the other.",
    },
    "explain": {"type": "boolean", "default": False},
    "query": {"type": "string", "maxLength": 256, "description": "Words of a title."},
}


def _add_events(service: Service, asked: Asked) -> Any:
    answer = service.add_events(asked.body)
    return (200 if answer.accepted or answer.duplicates else 422), answer


def _list_for(service: Service, asked: Asked) -> Any:
    query = asked.query
    scenario, policy, model = (_one(query, name) for name in ("scenario", "policy", "model"))
    if scenario is not None:
        check_name("scenario", scenario)
    if model is not None:
        check_name("model", model)
    return service.list_for(
        asked.path["user"],
        n=_number(query),
        policy=policy,
        having=[pair_of(text) for text in query.get("filter", [])],
        exclude=[check_name("exclude", name) for name in query.get("exclude", [])],
        scenario=scenario,
        model=model,
        explain=_flag(query, "explain"),
    )


def _list_for_stranger(service: Service, asked: Asked) -> Any:
    return service.list_for_stranger(bodies.decoded(asked.body, bodies.StrangerBody))


def _similar(service: Service, asked: Asked) -> Any:
    item, scorer = asked.path["item"], service.current()
    found = scorer.similar(item, _number(asked.query))
    return bodies.SimilarAnswer(item, scorer.version, [bodies.SimilarItem(*one) for one in found])


def _search(service: Service, asked: Asked) -> Any:
    text, scorer = _one(asked.query, "query") or "", service.current()
    if len(text) > 256:
        raise RefusedError(f"query must have at most 256 characters, got {len(text):,}.")
    found = scorer.search(text, _number(asked.query))
    return bodies.SearchAnswer(scorer.version, [bodies.FoundItem(*one) for one in found])


def _model(service: Service, asked: Asked) -> Any:
    return service.description()


def _put_item(service: Service, asked: Asked) -> Any:
    body = bodies.decoded(asked.body, bodies.ItemBody)
    item = Item(body.available, body.expires, tuple(body.categories), body.content)
    service.put_item(asked.path["item"], item)
    return body


def _set_available(service: Service, asked: Asked) -> Any:
    body = bodies.decoded(asked.body, bodies.AvailabilityBody)
    service.set_available(asked.path["item"], body.available)
    return body


def _put_user(service: Service, asked: Asked) -> Any:
    body = bodies.decoded(asked.body, bodies.UserBody)
    service.put_user(asked.path["user"], body.attributes)
    return body


def _user(service: Service, asked: Asked) -> Any:
    return service.user(asked.path["user"])


def _delete_user(service: Service, asked: Asked) -> Any:
    return bodies.DeletedAnswer(**service.store.delete_user(asked.path["user"]))


def _live(service: Service, asked: Asked) -> Any:
    return bodies.LiveAnswer("live", service.scorer.version)


def _ready(service: Service, asked: Asked) -> Any:
    service.store.check_writable()
    return bodies.LiveAnswer("ready", service.scorer.version)


def _metrics(service: Service, asked: Asked) -> Any:
    return service.metrics.text(service.gauges(), service.scorer.version)


def _reload(service: Service, asked: Asked) -> Any:
    version = service.try_reload()
    if version is None:
        raise RefusedError("the model folder cannot be read; the earlier model is still served.")
    service.tell_others()
    return bodies.ReloadAnswer(version)


def _activity(service: Service, asked: Asked) -> Any:
    return service.activity()


def _document(service: Service, asked: Asked) -> Any:
    return document()


_LIST = ("n", "policy", "filter", "exclude", "scenario", "model", "explain")

OPERATIONS = (
    Operation(
        "POST", "/v1/events", "addEvents", "Stores 1 to 1,000 events.", _add_events,
        bodies.EventsAnswer, bodies.EventsBody,
    ),
    Operation(
        "GET", "/v1/users/{user}/recommendations", "recommend", "Draws a list for a user.",
        _list_for, bodies.ListAnswer, query=_LIST,
    ),
    Operation(
        "POST", "/v1/recommendations", "recommendToStranger",
        "Draws a list for somebody without a record.", _list_for_stranger, bodies.ListAnswer,
        bodies.StrangerBody, waits=False,
    ),
    Operation(
        "GET", "/v1/items/{item}/similar", "similarItems", "Ranks items by similarity to one.",
        _similar, bodies.SimilarAnswer, query=("n",),
    ),
    Operation(
        "GET", "/v1/items", "searchItems", "Finds items by words of their titles.", _search,
        bodies.SearchAnswer, query=("query", "n"),
    ),
    Operation(
        "GET", "/v1/model", "describeModel", "Tells of the model that is served.", _model,
        bodies.ModelAnswer,
    ),
    Operation(
        "PUT", "/v1/items/{item}", "putItem",
        "Stores facts of an item; one that is new to the model is scored by its content.",
        _put_item, bodies.ItemBody, bodies.ItemBody,
    ),
    Operation(
        "PATCH", "/v1/items/{item}", "setAvailable", "Shows or hides an item at once.",
        _set_available, bodies.AvailabilityBody, bodies.AvailabilityBody,
    ),
    Operation(
        "PUT", "/v1/users/{user}", "putUser", "Stores the attributes of a user.", _put_user,
        bodies.UserBody, bodies.UserBody,
    ),
    Operation(
        "GET", "/v1/users/{user}", "getUser", "Returns everything that is stored of a user.",
        _user, bodies.UserAnswer,
    ),
    Operation(
        "DELETE", "/v1/users/{user}", "deleteUser",
        "Deletes everything of a user, and refuses events that come later.", _delete_user,
        bodies.DeletedAnswer,
    ),
    Operation(
        "GET", "/v1/health/live", "live", "Tells that the service runs.", _live,
        bodies.LiveAnswer, key="none",
    ),
    Operation(
        "GET", "/v1/health/ready", "ready", "Tells that events can be stored.", _ready,
        bodies.LiveAnswer, key="none",
    ),
    Operation(
        "GET", "/metrics", "metrics", "Metrics in the text format of Prometheus.", _metrics, None,
        key="admin",
    ),
    Operation(
        "POST", "/v1/admin/reload", "reload", "Reads the model folder again.", _reload,
        bodies.ReloadAnswer, key="admin",
    ),
    Operation(
        "GET", "/v1/admin/activity", "activity", "Tells what has happened.", _activity,
        bodies.ActivityAnswer, key="admin",
    ),
    Operation(
        "GET", "/v1/openapi.json", "openapi", "This document.", _document, dict, key="none"
    ),
)  # fmt: skip
"""All operations."""


def app_of(service: Service) -> Starlette:
    """Builds the ASGI application, which closes the service when it ends.

    Args:
        service: The service.
    """
    settings = service.settings
    limits = Limits(settings.most_requests, settings.most_of_client, settings.client_rate)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        watching = asyncio.create_task(_watch(service))
        yield
        watching.cancel()
        await run_in_threadpool(service.close)

    # Whole paths first, and then the longer ones: an id may hold a slash.
    ordered = sorted(OPERATIONS, key=lambda one: ("{" in one.path, -one.path.count("/")))
    paths = dict.fromkeys(one.path for one in ordered)
    routes = []
    for path in paths:
        here = {one.method: one for one in ordered if one.path == path}
        pattern = path.replace("{user}", "{user:path}").replace("{item}", "{item:path}")
        endpoint = functools.partial(_answered, service, here, limits)
        routes.append(Route(pattern, endpoint, methods=list(here), name=path))
    routes += [
        Route(path, functools.partial(_page, name), name=path) for path, name in PAGES.items()
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _unrouted})
    app.router.redirect_slashes = False
    return app


async def _watch(service: Service) -> None:
    """Measures by how much the event loop comes late: time in which nobody is answered.

    What it finds is left for the other workers with their counts.
    """
    while True:
        before = time.perf_counter()
        await asyncio.sleep(_WATCHED)
        service.metrics.lag = max(0.0, time.perf_counter() - before - _WATCHED)
        await run_in_threadpool(service.metrics.share, service.gauges())


async def _page(name: str, request: Request) -> Response:
    found = page(name)
    headers = {
        "Content-Security-Policy": found.policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    return Response(found.content, headers=headers, media_type="text/html")


async def _unrouted(request: Request, problem: Exception) -> Response:
    status = problem.status_code if isinstance(problem, HTTPException) else 500
    lines = {404: "there is no such path.", 405: "this path does not take this method."}
    return _json(status, bodies.ErrorAnswer(lines.get(status, "the request is refused.")))


async def _answered(
    service: Service, operations: Mapping[str, Operation], limits: Limits, request: Request
) -> Response:
    """Answers a request, whatever happens."""
    began = time.perf_counter()
    operation = operations["GET" if request.method == "HEAD" else request.method]
    client = request.client.host if request.client else ""
    # Of health, so that whoever supervises the service does not take a busy one for a dead one.
    refusal = None if operation.key == "none" else limits.enter(client)
    try:
        if refusal is not None:
            status, wait = refusal
            raise _HttpError(status, "too many requests.", {"Retry-After": str(wait)})
        response = await _result(service, operation, request)
    except _HttpError as problem:
        response = _json(problem.status, bodies.ErrorAnswer(str(problem)), problem.headers)
    except UnknownError as problem:
        response = _json(404, bodies.ErrorAnswer(str(problem)))
    except RefusedError as problem:
        response = _json(422, bodies.ErrorAnswer(_one_line(problem)))
    except DeletedError as problem:
        response = _json(410, bodies.ErrorAnswer(str(problem)))
    except StoreError as problem:
        _LOG.error(json.dumps({"event": "store failed", "why": visible(problem)}))
        said = bodies.ErrorAnswer("the store cannot be used now; send it again.")
        response = _json(503, said, {"Retry-After": "1"})
    except ClientDisconnect:
        response = _json(400, bodies.ErrorAnswer("the client has gone."))
    except Exception as problem:
        log_defect(problem)
        response = _json(500, bodies.ErrorAnswer("unforeseen error."))
    finally:
        if refusal is None and operation.key != "none":
            limits.leave(client)
    seconds = time.perf_counter() - began
    service.metrics.request(operation.method, operation.path, response.status_code, seconds)
    line = {
        "event": "request",
        "method": operation.method,
        "path": operation.path,
        "status": response.status_code,
        "ms": round(1000 * seconds, 2),
    }
    _LOG.info(json.dumps(line))
    return response


async def _result(service: Service, operation: Operation, request: Request) -> Response:
    _check_site(service, request)
    _check_key(service, operation, request)
    query: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        if name not in operation.query:
            end = suggestion(name[:100], operation.query, listed=True)
            raise _HttpError(400, _one_line(f"there is no parameter {name[:100]!r}{end}"))
        query.setdefault(name, []).append(value)
    path = {name: check_name(name, value) for name, value in request.path_params.items()}
    body = b"" if operation.body is None else await _body_of(request)
    asked = Asked(path, query, body)
    if operation.waits:
        found = await run_in_threadpool(operation.call, service, asked)
    else:
        found = operation.call(service, asked)
    if isinstance(found, Future):
        found = await asyncio.wrap_future(found)
    if operation.answer is None:
        return Response(found, media_type="text/plain; version=0.0.4")
    status, answer = found if isinstance(found, tuple) else (200, found)
    return _json(status, answer)


def _check_site(service: Service, request: Request) -> None:
    """Refuses what a page of another site asks of a service that needs no key.

    A browser sends such a request from the operator's own machine, which loopback does not keep
    out, and a name that resolves to loopback makes it look like one of the same site.
    """
    if service.settings.api_key is not None:
        return
    if not _fits(request.headers.get("host"), request.headers.get("origin")):
        raise _HttpError(403, "requests of other sites are refused.")


@functools.lru_cache(maxsize=256)
def _fits(host: str | None, origin: str | None) -> bool:
    try:
        fits = host is None or is_loopback(urlsplit(f"//{host}").hostname or "")
        return fits and (origin is None or urlsplit(origin).netloc == host)
    except ValueError:
        return False


def _check_key(service: Service, operation: Operation, request: Request) -> None:
    settings = service.settings
    needed = settings.api_key
    if operation.key == "admin" and settings.admin_key is not None:
        needed = settings.admin_key
    if operation.key == "none" or needed is None:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    # Of equal length, whatever was given.
    pair = [hashlib.sha256(key.strip().encode()).digest() for key in (given, needed)]
    if not hmac.compare_digest(*pair) or scheme.lower() != "bearer":
        headers = {"WWW-Authenticate": "Bearer"}
        raise _HttpError(401, "the key is missing or wrong.", headers)


async def _body_of(request: Request) -> bytes:
    """Reads a body, and no further than it may reach."""
    said = request.headers.get("content-length", "")
    too_large = _HttpError(413, f"the body must be at most {MOST_BYTES:,} bytes.")
    if said.isdecimal() and (len(said) > 18 or int(said) > MOST_BYTES):
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > MOST_BYTES:
                    raise too_large
    except TimeoutError:
        raise _HttpError(408, "the body did not come in time.") from None
    return bytes(body)


def _json(status: int, content: Any, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, dict(headers or {}), media_type=_JSON)


def _one_line(problem: object) -> str:
    return visible(" ".join(str(problem).split()))


def _one(query: Mapping[str, list[str]], name: str) -> str | None:
    values = query.get(name, [])
    if len(values) > 1:
        raise RefusedError(f"{name} must be given once.")
    return values[0] if values else None


def _number(query: Mapping[str, list[str]]) -> int:
    text = _one(query, "n")
    if text is None:
        return 10
    if not (text.isascii() and text.isdecimal() and len(text) <= 3 and 1 <= int(text) <= 100):
        raise RefusedError("n must be a whole number from 1 to 100.")
    return int(text)


def _flag(query: Mapping[str, list[str]], name: str) -> bool:
    text = _one(query, name)
    if text not in (None, "true", "false"):
        raise RefusedError(f"{name} must be true or false.")
    return text == "true"


_STATUSES = {
    "400": "The query is wrong.",
    "401": "The key is missing or wrong.",
    "404": "Nothing is known by this id.",
    "408": "The body did not come in time.",
    "410": "The user was deleted.",
    "413": "The body is too large.",
    "422": "The body, an id or a value is wrong.",
    "403": "The request comes from a page of another site.",
    "429": "Too many requests of this client.",
    "503": "The store cannot be used now, or too many requests are under way.",
}


def document() -> dict[str, Any]:
    """Returns the OpenAPI document, version 3.1."""
    types = [
        kind for one in OPERATIONS for kind in (one.body, one.answer) if kind not in (None, dict)
    ]
    types = list(dict.fromkeys([*types, bodies.EventBody, bodies.ErrorAnswer]))
    references, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    reference = dict(zip(types, references, strict=True))
    # An event is decoded alone; the document shows it where it stands.
    components["EventsBody"]["properties"]["events"]["items"] = reference[bodies.EventBody]
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        names = [part[1:-1] for part in one.path.split("/") if part.startswith("{")]
        identifier = {"type": "string", "minLength": 1, "maxLength": 256}
        parameters = [
            {"name": name, "in": "path", "required": True, "schema": identifier} for name in names
        ]
        parameters += [
            {"name": name, "in": "query", "required": False, "schema": _PARAMETERS[name]}
            for name in one.query
        ]
        kind = "text/plain" if one.answer is None else _JSON
        schema = {"type": "string" if one.answer is None else "object"}
        answer = {"schema": reference.get(one.answer, schema)}
        responses = {"200": {"description": "Done.", "content": {kind: answer}}}
        error = {"schema": reference[bodies.ErrorAnswer]}
        for status, why in _STATUSES.items():
            own = answer if one.name == "addEvents" and status == "422" else error
            responses[status] = {"description": why, "content": {_JSON: own}}
        described: dict[str, Any] = {
            "operationId": one.name,
            "summary": one.summary,
            "parameters": parameters,
            "responses": responses,
            "security": [] if one.key == "none" else [{"key": []}],
        }
        if one.body is not None:
            content = {_JSON: {"schema": reference[one.body]}}
            described["requestBody"] = {"required": True, "content": content}
        paths.setdefault(one.path, {})[one.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "metajax", "version": version("metajax")},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }

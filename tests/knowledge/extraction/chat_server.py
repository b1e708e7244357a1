"""A local server of the chat completions protocol, with answers and faults as told."""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = ["ChatServer", "Fault", "Request"]

# Answers the claims of one text: each with relation, value, quote and confidence.
Answering = Callable[[str], Sequence[dict[str, Any]]]


class Request(NamedTuple):
    """A request as the server got it."""

    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def texts(self) -> list[str]:
        """Contents of its texts."""
        return [one["content"] for one in json.loads(self.body["messages"][1]["content"])]


class Fault(NamedTuple):
    """What the server does instead of answering as it should."""

    status: int = 200
    body: str | None = None
    """Body of the response; None for one of an error."""
    headers: Mapping[str, str] = MappingProxyType({})
    content: str | None = None
    """Content of the model's message."""
    finish: str = "stop"
    refusal: str | None = None
    counts: bool = True
    """False leaves the usage out."""
    seconds: float = 0.0
    """Delay before the answer."""
    drops: bool = False
    """True closes the connection without an answer."""
    error: Mapping[str, Any] = MappingProxyType({})
    """More of the error of a status code."""


class ChatServer:
    """Serves on a free port of this machine until it is closed."""

    def __init__(self, answering: Answering):
        self.answering = answering
        self.faults: list[tuple[str, Fault]] = []
        """Words of a text, and what happens once to the next request with it; "" is in any."""
        self.always: dict[str, Fault] = {}
        """The same, each time."""
        self.requests: list[Request] = []
        self.most_at_once = 0
        self._now, self._lock = 0, threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                server._serve(self)

            def log_message(self, format, *arguments):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    @property
    def texts(self) -> list[str]:
        """Texts that were asked for, in order, each as often as it was."""
        return [text for request in self.requests for text in request.texts]

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        size = int(handler.headers["content-length"])
        body = json.loads(handler.rfile.read(size))
        request = Request(body, {k.lower(): v for k, v in handler.headers.items()})
        with self._lock:
            self.requests.append(request)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            fault = self._fault(request)
        try:
            self._answer(handler, request, fault)
        except (BrokenPipeError, ConnectionResetError):
            pass  # The client has gone.
        finally:
            with self._lock:
                self._now -= 1

    def _fault(self, request: Request) -> Fault:
        whole = "\n".join(request.texts)
        for n, (words, fault) in enumerate(self.faults):
            if words in whole:
                del self.faults[n]
                return fault
        return next((f for words, f in self.always.items() if words in whole), Fault())

    def _answer(self, handler: BaseHTTPRequestHandler, request: Request, fault: Fault) -> None:
        time.sleep(fault.seconds)
        if fault.drops:
            handler.close_connection = True
            return
        if fault.status != 200:
            body = fault.body
            if body is None:
                body = json.dumps({"error": {"message": "no", "type": "test", **fault.error}})
        else:
            body = self._completion(request, fault) if fault.body is None else fault.body
        data = body.encode()
        handler.send_response(fault.status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(data)))
        for name, value in fault.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    def _completion(self, request: Request, fault: Fault) -> str:
        content = fault.content
        if content is None:
            facts = [
                {"text": n, **fact}
                for n, text in enumerate(request.texts, 1)
                for fact in self.answering(text)
            ]
            content = json.dumps({"facts": facts}, ensure_ascii=False)
        message = {"role": "assistant", "content": content}
        if fault.refusal is not None:
            message |= {"content": None, "refusal": fault.refusal}
        choice = {"index": 0, "message": message, "finish_reason": fault.finish, "logprobs": None}
        completion: dict[str, Any] = {
            "id": "x", "object": "chat.completion", "created": 0, "model": request.body["model"],
            "choices": [choice],
        }  # fmt: skip
        if fault.counts:
            # About as many as there are: four letters a token.
            given = len(json.dumps(request.body["messages"])) // 4
            taken = len(content) // 4
            completion["usage"] = {
                "prompt_tokens": given, "completion_tokens": taken, "total_tokens": given + taken,
            }  # fmt: skip
        return json.dumps(completion)

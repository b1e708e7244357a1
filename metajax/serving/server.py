"""The service on a socket: who may reach it, its keys, and uvicorn."""

import contextlib
import gc
import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import uvicorn

from metajax.data.fetch import DataUnavailable, cache_folder
from metajax.files import read_bytes
from metajax.serving.app import app_of
from metajax.serving.connections import IdleConnections
from metajax.serving.databases import database_of
from metajax.serving.experiments import Arm
from metajax.serving.limits import is_loopback
from metajax.serving.metrics import Metrics
from metajax.serving.scoring import Scorer, scorer_of
from metajax.serving.service import Service, ServiceSettings
from metajax.serving.store import Store, StoreError
from metajax.serving.workers import Keeper, supervise

__all__ = ["keep_compiled", "key_of", "listen", "reloading", "serve", "uvicorn_of"]

_SHORTEST = 16

_MOST_WORKERS = 64

_KEPT_ALIVE, _HEADER, _TAKEN = 15, 20.0, 30.0
"""Seconds without a request, until its header must be whole, and in which a client must take some
of its answer."""


def key_of(path: str | os.PathLike[str]) -> str:
    """Reads a key from a file, without the blanks around it.

    Raises:
        ValueError: If it has less than 16 characters, or characters that a header cannot hold.
        OSError: If the file cannot be read.
    """
    content = read_bytes(Path(path)).strip()
    if len(content) < _SHORTEST or not all(0x21 <= byte < 0x7F for byte in content):
        raise ValueError(
            f"{os.fspath(path)}: a key must be {_SHORTEST} or more visible characters of ASCII."
        )
    return content.decode("ascii")


def keep_compiled() -> None:
    """Keeps compiled programs in the folder of cached data, so that a restart takes seconds.

    Where the environment names another folder (JAX_COMPILATION_CACHE_DIR), or there is none for
    data, nothing is changed.
    """
    config: Any = jax.config
    if config.jax_compilation_cache_dir is not None:
        return
    with contextlib.suppress(DataUnavailable):
        config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
        config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def listen(host: str, port: int) -> socket.socket:
    """Opens the socket of a service.

    Args:
        host: Address.
        port: Port; 0 takes a free one.

    Raises:
        ValueError: If the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as problem:
        why = problem.strerror or str(problem)
        raise ValueError(f"cannot listen on --host {host} --port {port}: {why}.") from None
    # asyncio leaves it to a socket of this kind, and without it each answer waits 40 ms for an
    # acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


@contextlib.contextmanager
def reloading() -> Iterator[Callable[[Service], None]]:
    """Reloads the model at each SIGHUP; a model that cannot be read leaves the old one served.

    Elsewhere than in the main thread, or on a system without the signal, nothing is done.

    Yields:
        A function that takes the service once there is one; a signal before counts then.
    """
    number = getattr(signal, "SIGHUP", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        yield lambda service: None
        return
    served: list[Service] = []
    early = threading.Event()

    def reload(*_: Any) -> None:
        if not served:
            early.set()
            return
        # In a thread, as it takes as long as a start.
        threading.Thread(target=served[0].try_reload, daemon=True).start()

    def begin(service: Service) -> None:
        served.append(service)
        if early.is_set():
            reload()

    before = signal.signal(number, reload)
    try:
        yield begin
    finally:
        signal.signal(number, before)


def _compared(arms: Sequence[Arm], name: str) -> list[str]:
    """Names the policies of the arms that share the model of an arm, or of the service."""
    own = next((arm.model for arm in arms if arm.name == name), None)
    return [arm.policy for arm in arms if arm.model == own]


def serve(
    model: str | os.PathLike[str],
    *,
    events: str = "sqlite:///events.db",
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    settings: ServiceSettings | None = None,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serves a model until a signal ends it.

    Args:
        model: Folder of the model.
        events: URL of the log of events.
        host: Address to listen at; one that other machines reach needs a key.
        port: Port; 0 takes a free one.
        workers: Number of processes that answer.
        settings: Settings.
        ready: Called with the address once everything is compiled and the socket is open.

    Raises:
        ValueError: If an argument is wrong, another process serves the log, or the model is
            damaged.
        OSError: If the log cannot be opened.
    """
    settings = ServiceSettings() if settings is None else settings
    if settings.api_key is None and not is_loopback(host):
        raise ValueError(
            f"--host {host} can be reached by others, which needs a key: give --api-key-file."
        )
    if not 0 <= port < 2**16:
        raise ValueError(f"--port must be from 0 to 65535, got {port}.")
    if not 1 <= workers <= _MOST_WORKERS:
        raise ValueError(f"--workers must be from 1 to {_MOST_WORKERS}, got {workers}.")
    database = database_of(events)
    if workers > 1 and not database.shared:
        raise ValueError(
            f"--workers {workers} needs a log that several processes may write: give --events"
            f" postgresql://HOST/DATABASE, got {database.name}."
        )
    if settings.admin_key is None and settings.api_key is not None:
        settings = replace(settings, admin_key=settings.api_key)
    shown = f"[{host}]" if ":" in host else host
    # Before anything is compiled.
    with listen(host, port) as listening:
        address = f"http://{shown}:{listening.getsockname()[1]}"
        what = (listening, os.fspath(model), events, settings)
        if workers == 1:
            _answer(*what, ready=lambda: ready(address))
        else:
            with tempfile.TemporaryDirectory() as folder:
                arguments = (*what, Path(folder))
                supervise(_work, arguments, workers=workers, ready=lambda: ready(address))


def _work(
    keeper: Keeper,
    listening: socket.socket,
    model: str,
    events: str,
    settings: ServiceSettings,
    folder: Path,
) -> None:
    """Answers as one of several workers."""
    _answer(
        listening,
        model,
        events,
        settings,
        ready=lambda: keeper.tell("ready"),
        metrics=Metrics(folder=folder),
        tell_others=lambda: keeper.tell("reloaded"),
    )


def _answer(
    listening: socket.socket,
    model: str,
    events: str,
    settings: ServiceSettings,
    *,
    ready: Callable[[], None],
    **of_worker: Any,
) -> None:
    """Answers on a socket until a signal ends this process."""
    keep_compiled()
    with contextlib.ExitStack() as stack:
        begin = stack.enter_context(reloading())
        store = stack.enter_context(Store(events))
        experiment = settings.experiment
        arms = () if experiment is None else experiment.arms
        folders = {"": model, **{arm.name: arm.model for arm in arms if arm.model is not None}}
        folders |= settings.beside

        def load(name: str) -> Scorer:
            kept = settings.kept_mb * 2**20
            return scorer_of(folders[name], compared=_compared(arms, name), kept_bytes=kept)

        scorer, *scorers = map(load, folders)
        others = dict(zip(list(folders)[1:], scorers, strict=True))
        try:
            service = Service(store, scorer, settings, load, others, **of_worker)
        except StoreError as problem:
            raise ValueError(f"{store.name}: {problem}.") from None
        logging.getLogger("metajax.serving").setLevel(logging.INFO)
        running = uvicorn_of(service)
        # What is there now stays: a collection that looks at all of it holds up every request.
        gc.collect()
        gc.freeze()
        begin(service)
        ready()
        with contextlib.suppress(KeyboardInterrupt):
            running.run(sockets=[listening])


def uvicorn_of(service: Service) -> uvicorn.Server:
    """Returns the HTTP server of a service, with all its bounds.

    Args:
        service: The service, which it closes when it ends.
    """

    async def look() -> None:
        idle.cut()

    config = uvicorn.Config(
        app_of(service),
        log_config=None,
        access_log=False,
        server_header=False,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="on",
        proxy_headers=False,
        timeout_keep_alive=_KEPT_ALIVE,
        timeout_graceful_shutdown=10,
        callback_notify=look,
        timeout_notify=1,
    )
    server = uvicorn.Server(config)
    idle = IdleConnections(lambda: server.server_state.connections, header=_HEADER, taken=_TAKEN)
    return server

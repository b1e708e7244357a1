"""The command `metajax serve`."""

import logging
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from metajax.cli import console

__all__ = ["serve"]


def serve(
    model: Annotated[Path, Parameter(name="model")],
    /,
    *,
    events: str = "sqlite:///events.db",
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key_file: Path | None = None,
    admin_key_file: Path | None = None,
    policy: str = "greedy",
    refuse_unknown_items: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Serves a model over HTTP: events in, lists out. Needs the extra serve.

    Args:
        model: Folder of a model that metajax fit wrote.
        events: Log of events, sqlite:///FILE; made if it does not exist.
        host: Address to listen at. Other than loopback it needs --api-key-file.
        port: Port to listen at; 0 takes a free one.
        api_key_file: File with the key that requests must bring: "Authorization: Bearer KEY".
        admin_key_file: File with the key of metrics and administration; by default the same.
        policy: Policy of requests that name none: greedy, epsilon_greedy, softmax, ucb, thompson.
        refuse_unknown_items: Refuse events of items that the model does not know.
    """
    try:
        from metajax.serving import server, service
    except ModuleNotFoundError as problem:
        raise ImportError(
            f"metajax serve needs {problem.name}: install the extra, 'metajax[serve]'."
        ) from None
    settings = service.ServiceSettings(
        policy=policy,
        api_key=None if api_key_file is None else server.key_of(api_key_file),
        admin_key=None if admin_key_file is None else server.key_of(admin_key_file),
        unknown_items=not refuse_unknown_items,
    )
    logging.basicConfig(format="%(message)s")
    console.error(f"note: compiling {model} for requests.")
    server.serve(
        model,
        events=events,
        host=host,
        port=port,
        settings=settings,
        ready=lambda address: console.say(f"Serving {model} at {address}"),
    )

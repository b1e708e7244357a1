"""The command `metajax serve`."""

import logging
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from metajax.cli import console

__all__ = ["serve"]


def serve(
    model: Annotated[Path | None, Parameter(name="model")] = None,
    /,
    *,
    demo: Annotated[bool, Parameter(negative="")] = False,
    events: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    api_key_file: Path | None = None,
    admin_key_file: Path | None = None,
    policy: str = "greedy",
    beside: Annotated[tuple[Path, ...], Parameter(negative="")] = (),
    experiment: Path | None = None,
    client_rate: float | None = None,
    kept_mb: int = 64,
    refuse_unknown_items: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Serves a model over HTTP: events in, lists out. Needs the extra serve.

    A page to try it is at /, one for the operator at /operator.

    Args:
        model: Folder of a model that metajax fit wrote.
        demo: Serve the engine on MovieLens-100K, fitted if there is none yet, and open the page.
        events: Log of events, sqlite:///FILE or postgresql://HOST/DATABASE; made if it does not
            exist. By default events.db here, of --demo beside its model. A password is better left
            to PGPASSWORD or ~/.pgpass.
        host: Address to listen at. Other than loopback it needs --api-key-file.
        port: Port to listen at; 0 takes a free one.
        workers: Processes that answer at the port; more than one need a log in PostgreSQL.
        api_key_file: File with the key that requests must bring: "Authorization: Bearer KEY".
        admin_key_file: File with the key of metrics and administration; by default the same.
        policy: Policy of requests that name none: greedy, epsilon_greedy, softmax, ucb, thompson.
        beside: Folders of other models, of which lists may be asked by the name of the folder; the
            page shows them side by side. Of --demo a baseline, item_knn.
        experiment: TOML file of arms among which users are split, each with a policy and a share:
            name = "autumn", then tables such as [arms.explore] with policy, share and model.
        client_rate: Requests a second from one address, on average; more are answered with 429.
            Each worker counts its own.
        kept_mb: Megabytes for the lists of users whose events are the same as before, a thousand
            users each; of each model and worker.
        refuse_unknown_items: Refuse events of items that the model does not know.
    """
    try:
        from metajax.serving import demo as demonstration
        from metajax.serving import experiments, server, service
    except ModuleNotFoundError as problem:
        raise ImportError(
            f"metajax serve needs {problem.name}: install the extra, 'metajax[serve]'."
        ) from None
    if demo == (model is not None):
        raise ValueError("the folder of a model must be given, or --demo, and not both.")
    if len({path.name for path in beside}) < len(beside):
        raise ValueError("--beside must be folders of different names.")
    settings = service.ServiceSettings(
        policy=policy,
        beside={path.name: str(path) for path in beside},
        api_key=None if api_key_file is None else server.key_of(api_key_file),
        admin_key=None if admin_key_file is None else server.key_of(admin_key_file),
        unknown_items=not refuse_unknown_items,
        client_rate=client_rate,
        kept_mb=kept_mb,
        experiment=None if experiment is None else experiments.read_experiment(experiment),
    )
    if model is None:
        events = events or f"sqlite:///{demonstration.demo_folder() / 'events.db'}"
        with console.fetching(demonstration.DATA) as fetched:
            model = demonstration.demo_model(progress=fetched, begin=_fitting)
        baseline = demonstration.demo_model(method="item_knn")
        settings = replace(settings, beside={**settings.beside, "item_knn": str(baseline)})
    logging.basicConfig(format="%(message)s")
    console.error(f"note: compiling {model} for requests.")
    server.serve(
        model,
        events=events or "sqlite:///events.db",
        host=host,
        port=port,
        workers=workers,
        settings=settings,
        ready=lambda address: _ready(model, address, shown=demo),
    )


def _fitting() -> None:
    console.error("note: fitting the engine, which takes minutes; it is kept for the next time.")


def _ready(model: Path, address: str, *, shown: bool) -> None:
    console.say(f"Serving {model} at {address}")
    if shown:
        webbrowser.open(address)

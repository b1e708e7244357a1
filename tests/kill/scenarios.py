"""Work that is killed: in this process as functions, in processes as commands.

A scenario is begun and gone on with as a person does: where its folder is there it is resumed,
else it is begun anew. What it comes to is compared by bits.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metajax import evaluation, knowledge, registry, runs
from metajax.cross_domain.domains import DomainPair, load_domains
from metajax.data import datasets
from metajax.knowledge import GraphSettings
from metajax.runs import graph as graph_runs

__all__ = ["Scenario", "bits_of", "command_of", "scenarios", "trouble_in", "write_data"]

NAMES = ("train", "graph train", "transfer", "compare")
METHODS = ("item_mean", "item_user_bias", "popularity")

_SHARED = {"updates": 20, "tasks": 4, "query": 5, "per_dispatch": 5, "validate_every": 10}
_MAML = {"rank": 2, "width": 4, "embedding": 2, "steps": 1}
_GRAPH = {
    "share": 0.1, "width": 4, "margin": 3.0, "negatives": 4, "batch": 32, "epochs": 4,
    "validate_every": 2,
}  # fmt: skip


class Scenario(NamedTuple):
    """Something that is killed."""

    name: str
    """The command."""
    go: Callable[[Path], Any]
    """`go(folder)` begins it, or goes on with it, to its end."""


def write_data(folder: Path) -> None:
    """Writes a log of books, one of films by the same 40 people, and a graph of the films."""
    rng = np.random.default_rng(0)
    taste = rng.normal(size=40)
    for name in ("books", "films"):
        rows, quality = ["user,item,rating,timestamp"], rng.normal(size=16)
        for user in range(40):
            for item in rng.permutation(16)[:13]:
                rating = np.clip(round(3 + taste[user] + quality[item] + 0.3 * rng.normal()), 1, 5)
                rows.append(f"u{user},{name}{item},{rating:g},{rng.integers(1000)}")
        (folder / f"{name}.csv").write_text("\n".join(rows) + "\n")
    rows = [
        f"film{n}\t{kind}\t{kind}{n % m}" for n in range(40) for kind, m in (("a", 3), ("b", 5))
    ]
    (folder / "films.tsv").write_text("\n".join(rows) + "\n")


def scenarios(data: Path) -> list[Scenario]:
    """Returns the scenarios on the data of `write_data`; what can be loaded before is."""
    settings = registry.settings_for("maml", data=str(data / "films.csv"), **_SHARED, **_MAML)
    dataset = datasets.load(settings.data)

    def train(folder: Path) -> None:
        if folder.exists():
            run = runs.open_run(folder)
            runs.train_run(run, runs.resumed(run))
        else:
            runs.train_run(*runs.create(folder, settings, dataset))

    graph_settings = GraphSettings(str(data / "films.tsv"), **_GRAPH)
    graph = knowledge.read_graph(graph_settings.source)

    def train_graph(folder: Path) -> None:
        if folder.exists():
            run = graph_runs.open_run(folder)
            progress = runs.resumed(run)
        else:
            run, progress = graph_runs.create(folder, graph_settings, graph)
        progress, _ = runs.train_run(run, progress)
        graph_runs.write_report(run, graph_runs.judge(run, progress.best))

    pair = DomainPair(source=str(data / "books.csv"), target=str(data / "films.csv"))
    options = {**_SHARED, "rank": 1}
    informed = registry.settings_for("informed_ridge", **options)
    domains = load_domains(pair, {})

    def transfer(folder: Path) -> None:
        if folder.exists():
            run = runs.open_run(folder)
            runs.train_run(run, runs.resumed(run))
        else:
            runs.train_run(*runs.create(folder, informed, domains, pair))

    def compare(folder: Path) -> None:
        evaluation.compare(dataset, METHODS, protocols=["P1"], folds=[0], trials=1, folder=folder)

    return [
        Scenario(name, go)
        for name, go in zip(NAMES, (train, train_graph, transfer, compare), strict=True)
    ]


def command_of(name: str, data: Path, folder: Path) -> list[str]:
    """Returns the arguments of a command that begins a scenario, or goes on with it."""
    if name.startswith("compare"):
        return [
            "compare", f"--data={data / 'films.csv'}", f"--methods={','.join(METHODS)}",
            "--protocols=P1", "--folds=1", "--trials=1", "--jobs=2", f"--folder={folder}",
        ]  # fmt: skip
    words = name.split()
    ends = [] if name == "graph train" else ["--no-report"]
    if folder.exists():
        return [*words, f"--resume={folder}", *ends]
    if name == "graph train":
        return [*words, f"--source={data / 'films.tsv'}", f"--run={folder}", *_options(_GRAPH)]
    if name == "train":
        own = {f"maml.{option}": value for option, value in _MAML.items()}
        chosen = [f"--data={data / 'films.csv'}", *_options({**_SHARED, **own})]
    else:
        chosen = [f"--source={data / 'books.csv'}", f"--target={data / 'films.csv'}"]
        chosen += _options({**_SHARED, "informed_ridge.rank": 1})
    return [*words, f"--run={folder}", *chosen, *ends]


def _options(values: dict[str, Any]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]


def bits_of(folder: Path) -> dict[str, str]:
    """Returns a digest of everything in a folder that does not depend on time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name in ("report.html", "report.sha256"):
            continue
        name, content = str(path.relative_to(folder)), path.read_bytes()
        if path.suffix == ".npz" and path.parent.name == "cells":
            outcome = evaluation.cells.read_cell(path)
            assert outcome is not None, path
            content = repr(
                [
                    [(field, np.asarray(value).tobytes()) for field, value in facts]
                    for panel in outcome.by_order.values()
                    for facts in [panel.per_user._asdict().items()]
                    for facts in [[pair for pair in facts if pair[0] != "values"]]
                ]
            ).encode()
        elif name == "report.json":
            rows = json.loads(content)
            if isinstance(rows, list):
                rows = [row for row in rows if row["metric"] != "adapt_us"]
            content = json.dumps(rows).encode()
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def trouble_in(folder: Path, wanted: dict[str, str]) -> str:
    """Says what of a finished folder is not as it would be without a kill; empty if nothing is.

    Args:
        folder: The folder.
        wanted: `bits_of` one whose process was not killed.
    """
    found = bits_of(folder)
    if found != wanted:
        differ = {name for name in {*found, *wanted} if found.get(name) != wanted.get(name)}
        return f"other bits: {', '.join(sorted(differ))}"
    left = _leftovers(folder)
    return f"left over: {', '.join(left)}" if left else ""


def _leftovers(folder: Path) -> list[str]:
    """Lists what only an unfinished process may leave."""
    found = [*folder.parent.glob("*.tmp"), *folder.rglob("*.tmp"), *folder.rglob("lock")]
    return [str(path.relative_to(folder.parent)) for path in found]

"""Knowledge graphs: what is in one, what may be wrong with it, and what is missing in it."""

import functools
import shlex
import signal
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from metajax.cli import console, sources
from metajax.cli.train import free_folder
from metajax.data import datasets
from metajax.data.fetch import DataUnavailable
from metajax.knowledge import (
    KnowledgeGraph,
    graph_names,
    inspection,
    item_entities,
    link_by_prefix,
    load_graph,
    readers,
)
from metajax.knowledge.readers import Statements
from metajax.runs import folder as run_folder
from metajax.runs import graph_runs
from metajax.runs.graph_runs import GraphRun
from metajax.runs.graph_settings import GraphSettings
from metajax.runs.recommendation import Catalogue, find_item, titles_of
from metajax.training import DivergedError

__all__ = ["command", "prepare"]

prepare = functools.partial(sources.without_config, kind=GraphSettings)

command = App(name="graph", help=__doc__)


@command.default
def inspect(
    source: Annotated[str, Parameter(name="source")],
    /,
    *,
    link: Path | None = None,
    item_prefix: str | None = None,
    data: str | None = None,
    literals: Literal["error", "attributes"] = "error",
) -> None:
    """Tells what is in a knowledge graph: counts, its relations, problems.

    Args:
        source: A name (ml-100k) or a file: .ttl, .nt, .kg, or .tsv of head, relation, tail.
        link: A .link file of RecBole: which entity each item is.
        item_prefix: What stands before an item's id in the name of its entity.
        data: A name or path of the log whose items the links are of.
        literals: What texts and numbers are where an entity could stand: an error, or attributes.
    """
    found, statements = _loaded(source, link, item_prefix, literals)
    item_ids = None
    if data is not None:
        with console.fetching(data) as fetched:
            item_ids = datasets.load(data, progress=fetched).interactions.item_ids
        item_entities(found, item_ids)

    for name, value in inspection.summary(found).items():
        print(f"{name:<14} {value}")
    table = Table(box=None, pad_edge=False)
    # Whole, however narrow the terminal: other commands ask for the name.
    table.add_column("relation", overflow="fold")
    for heading in ("triples", "heads", "tails", "tails of one triple"):
        table.add_column(heading, justify="right")
    for name, *counts in inspection.relation_table(found):
        # As text, because a name may have brackets.
        table.add_row(Text(name), *(f"{count:,}" for count in counts))
    Console().print(table, highlight=False)
    lines = inspection.problems(found, statements, item_ids)
    print(f"{'problems':<14} {len(lines) or 'none'}")
    for line in lines:
        print(f"  - {line}")


@command.command
def train(
    settings: Annotated[GraphSettings, Parameter(name="*")] = GraphSettings(),  # noqa: B008
    *,
    run: Path | None = None,
    resume: Path | None = None,
) -> int:
    """Learns embeddings of a graph, then ranks triples that training has not seen.

    Args:
        settings: The settings.
        run: Folder of the run; must not exist. Default: runs/SOURCE-SCORE, numbered if taken.
        resume: Folder of a run to go on with, with the settings it was begun with.
    """
    if resume is not None:
        if run is not None:
            raise ValueError(f"--resume writes to {resume}, so --run must be left out, got {run}.")
        if settings not in (GraphSettings(), graph_runs.settings_of(resume)):
            raise ValueError(f"--resume goes on with the settings of {resume}; give no others.")
        opened = graph_runs.open_run(resume)
        progress = graph_runs.resumed(opened, on_skip=console.skipped)
        print(f"Going on with {resume} at update {int(progress.state.step)}.")
    elif not settings.source:
        raise ValueError("source must be the name of a graph, or a file; got none.")
    else:
        graph_runs.predictor_of(settings)  # Refuses before anything is read.
        chosen = (settings.source, settings.link, settings.item_prefix, settings.literals)
        found, _ = _loaded(*chosen)
        with console.busy("Splitting the triples"):
            folder = run or free_folder(f"{Path(settings.source).stem}-{settings.score.lower()}")
            opened, progress = graph_runs.create(folder, settings, found)
    folder, settings = opened.folder, opened.settings
    _tell(opened)
    updates = -(-opened.split.training.count // settings.batch)
    start, best = int(progress.state.step) // updates, 1 - float(progress.best_loss)
    with (
        console.collected() as caught,
        console.epochs(
            settings.epochs, opened.split.training.count, start, max(best, 0.0)
        ) as on_epoch,
    ):
        try:
            progress, finished = graph_runs.train_run(
                opened, progress, on_epoch=on_epoch, stop=lambda: bool(caught)
            )
        except DivergedError as problem:
            raise ValueError(f"{problem} {run_folder.last_good(folder)}") from None
    if not finished:
        step = int(progress.state.step)
        print(f"Saved at update {step}. Go on: metajax graph train --resume {folder}")
        return 130 if caught[0] == signal.SIGINT else 0
    best, epoch = 1 - float(progress.best_loss), int(progress.best_step) // updates
    print(f"Best validation MRR {best:.4f} in epoch {epoch}.")
    try:
        with console.terminable(), console.busy("Ranking the test triples"):
            metrics = graph_runs.judge(opened, progress.best)
    except KeyboardInterrupt as stopped:
        console.error(f"stopped; the run is saved. Rank: metajax graph train --resume {folder}")
        return 0 if isinstance(stopped, console.Terminated) else 130
    _show(opened, metrics)
    return 0


@command.command
def complete(
    run: Annotated[Path, Parameter(name="run")],
    /,
    *,
    entity: str,
    relation: str,
    side: Literal["tail", "head"] = "tail",
    top: int = 10,
    known: bool = False,
    data: str | None = None,
) -> None:
    """Prints what a graph most likely lacks: the best tails, or heads, of an entity and a relation.

    Args:
        run: Folder of a run of `metajax graph train`.
        entity: Name of the entity that is given, or title of the item that it is: the head, or
            with --side head the tail.
        relation: Name of the relation.
        side: What is asked for.
        top: How many candidates.
        known: Show known triples too, marked.
        data: A name or path of the log whose items the links are of, for their titles; by default
            that of the graph's name.
    """
    with console.busy(f"Loading {run}"):
        opened = graph_runs.open_run(run)
        progress = graph_runs.resumed(opened, on_skip=console.skipped)
    if not int(progress.best_step):
        raise ValueError(
            f"{run}: no epoch has been validated yet, so that nothing is known to be learned. "
            f"Go on: metajax graph train --resume {run}"
        )
    titles = _titles(opened, data)
    entity = _meant(opened, titles, entity)
    found = graph_runs.answers(
        opened,
        progress.best,
        entity=entity,
        relation=relation,
        side=side,
        top=top,
        keep_known=known,
    )
    margin = opened.settings.margin
    called = f"{entity} ({titles[entity]})" if entity in titles else entity
    ends = (called, "?") if side == "tail" else ("?", called)
    print(f" --{relation}--> ".join(ends))
    for answer in found.answers:
        notes = [titles[answer.entity]] if answer.entity in titles else []
        notes += ["known"] if answer.known else []
        print("  ".join([f"{answer.score + margin:6.2f}", answer.entity, *notes]))
    if found.known and not known:
        print(f"{found.known} known triples are left out; --known shows them.")


def _loaded(
    source: str, link: str | Path | None, item_prefix: str | None, literals: Any
) -> tuple[KnowledgeGraph, Statements | None]:
    """Loads a graph; beside it what its file says, for the lines."""
    statements = None
    if source in graph_names():
        if link is not None:
            raise ValueError(f"--link belongs to a file; {source} has its own links.")
        with console.fetching(source) as fetched:
            found = load_graph(source, progress=fetched)
    elif Path(source).exists():
        statements = readers.read_statements(source)
        found = readers.with_links(readers.graph_of(statements, literals=literals), link)
    else:
        found = load_graph(source)  # Tells what else it could be.
    if item_prefix is not None:
        found = link_by_prefix(found, item_prefix)
    return found, statements


def _tell(run: GraphRun) -> None:
    """Says what is trained on, and what is not."""
    training, settings = run.split.training, run.settings
    print(
        f"{settings.score} on {settings.source}: {training.count:,} triples train, "
        f"{run.split.validation.count:,} validate, {run.split.test.count:,} are asked for in the "
        f"end; {len(training.entities.names):,} entities, "
        f"{len(training.relations.names):,} relations. Run folder: {run.folder}"
    )
    told = [f"{count:,} that {why}" for why, count in run.split.left_out.items() if count]
    if told:
        print(f"Triples left out: {', '.join(told)}.")


def _show(run: GraphRun, metrics: dict[str, dict[str, float]]) -> None:
    """Prints how test triples rank, and what to do next."""
    entities = len(run.split.training.entities.names)
    print(
        f"{2 * run.split.test.count:,} queries, the head and the tail of each test triple, ranked "
        f"among all {entities:,} entities but those of other known triples:"
    )
    table = Table("", *metrics, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name in ("mrr", "hits@1", "hits@3", "hits@10", "amri"):
        shown = name.upper() if name in ("mrr", "amri") else name
        table.add_row(shown, *(f"{found[name]:.3f}" for found in metrics.values()))
    Console().print(table, highlight=False)
    print(
        "Ties count as in the middle, optimistic: first, pessimistic: last. Heads, tails: half of "
        "the queries.\nFrequency: what is often there is right. AMRI: 0 is a random order, 1 is "
        "perfect."
    )
    head, relation, _ = run.split.test.triples[0]
    given = {
        "entity": run.split.test.entities.names[head],
        "relation": run.split.test.relations.names[relation],
    }
    words = " ".join(f"--{name} {shlex.quote(value)}" for name, value in given.items())
    print(f"Next: metajax graph complete {shlex.quote(str(run.folder))} {words}")


def _titles(run: GraphRun, data: str | None) -> dict[str, str]:
    """Finds what people call the items that entities are."""
    source, links = run.settings.source, run.split.training.links
    if data is not None and not links:
        raise ValueError(f"--data names items, and no entity of {run.folder} is one; got {data}.")
    if data is None and (source not in datasets.names() or not links):
        return {}
    try:
        with console.fetching(data or source) as fetched:
            items = datasets.load(data or source, progress=fetched).items
    except DataUnavailable as problem:
        if data is not None:
            raise
        console.error(f"titles are left out: {problem}")
        return {}
    names = run.split.training.entities.names
    entity = item_entities(run.split.training, items.ids).tolist()
    return {names[at]: title for at, title in zip(entity, titles_of(items), strict=True) if at >= 0}


def _meant(run: GraphRun, titles: dict[str, str], entity: str) -> str:
    """Finds an entity by its name, or by the title of its item."""
    names = run.split.training.entities
    if not titles or entity in names.index or entity in run.split.unseen["entity"]:
        return entity
    called = np.array([titles.get(name, name) for name in names.names])
    nothing = np.zeros((len(called), 0), np.float32)
    return names.names[find_item(Catalogue(np.array(names.names), called, nothing), entity)]

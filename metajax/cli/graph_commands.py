"""The command line's part about knowledge graphs."""

import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from metajax.cli import complete_command, console, signals
from metajax.runs.graph_settings import GraphSettings

if TYPE_CHECKING:
    from metajax.knowledge import KnowledgeGraph
    from metajax.knowledge.readers import Statements
    from metajax.runs.graph_runs import GraphRun

__all__ = ["graph"]

graph = App(
    name="graph",
    help="Knowledge graphs: what is in one, what may be wrong with it, and what is missing in it.",
)
graph.command(complete_command.complete)


@graph.default
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
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from metajax.data import datasets
    from metajax.knowledge import inspection, item_entities

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


@graph.command
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
    with console.busy("Starting JAX"):
        from metajax.cli import run_commands
        from metajax.runs import folder as run_folder
        from metajax.runs import graph_runs
        from metajax.training import DivergedError

    if resume is not None:
        if run is not None:
            raise ValueError(f"--resume writes to {resume}, so --run must be left out, got {run}.")
        if settings not in (GraphSettings(), graph_runs.settings_of(resume)):
            raise ValueError(f"--resume goes on with the settings of {resume}; give no others.")
        opened = graph_runs.open_run(resume)
        progress = graph_runs.resumed(opened, on_skip=run_commands.skipped)
        print(f"Going on with {resume} at update {int(progress.state.step)}.")
    elif not settings.source:
        raise ValueError("source must be the name of a graph, or a file; got none.")
    else:
        graph_runs.predictor_of(settings)  # Refuses before anything is read.
        chosen = (settings.source, settings.link, settings.item_prefix, settings.literals)
        found, _ = _loaded(*chosen)
        with console.busy("Splitting the triples"):
            folder = run or run_commands.free_folder(
                f"{Path(settings.source).stem}-{settings.score.lower()}"
            )
            opened, progress = graph_runs.create(folder, settings, found)
    folder, settings = opened.folder, opened.settings
    _tell(opened)
    updates = -(-opened.parts.training.count // settings.batch)
    start, best = int(progress.state.step) // updates, 1 - float(progress.best_loss)
    with (
        signals.collected() as caught,
        console.epochs(
            settings.epochs, opened.parts.training.count, start, max(best, 0.0)
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
        with signals.terminable(), console.busy("Ranking the test triples"):
            metrics = graph_runs.judge(opened, progress.best)
    except KeyboardInterrupt as stopped:
        console.error(f"stopped; the run is saved. Rank: metajax graph train --resume {folder}")
        return 0 if isinstance(stopped, signals.Terminated) else 130
    _show(opened, metrics)
    return 0


def _loaded(
    source: str, link: str | Path | None, item_prefix: str | None, literals: Any
) -> "tuple[KnowledgeGraph, Statements | None]":
    """Loads a graph; beside it what its file says, for the lines."""
    from metajax.knowledge import graph_names, link_by_prefix, load_graph, readers

    statements = None
    if source in graph_names():
        if link is not None:
            raise ValueError(f"--link belongs to a file; {source} has its own links.")
        with console.fetching(source) as fetched:
            found = load_graph(source, progress=fetched)
    elif Path(source).exists():
        statements = readers.read_statements(source)
        found = readers.linked(readers.graph_of(statements, literals=literals), link)
    else:
        found = load_graph(source)  # Tells what else it could be.
    if item_prefix is not None:
        found = link_by_prefix(found, item_prefix)
    return found, statements


def _tell(run: "GraphRun") -> None:
    """Says what is trained on, and what is not."""
    training, settings = run.parts.training, run.settings
    print(
        f"{settings.score} on {settings.source}: {training.count:,} triples train, "
        f"{run.parts.validation.count:,} validate, {run.parts.test.count:,} are asked for in the "
        f"end; {len(training.entities.names):,} entities, "
        f"{len(training.relations.names):,} relations. Run folder: {run.folder}"
    )
    told = [f"{count:,} that {why}" for why, count in run.parts.left_out.items() if count]
    if told:
        print(f"Triples left out: {', '.join(told)}.")


def _show(run: "GraphRun", metrics: dict[str, dict[str, float]]) -> None:
    """Prints how test triples rank, and what to do next."""
    from rich.console import Console
    from rich.table import Table

    entities = len(run.parts.training.entities.names)
    print(
        f"{2 * run.parts.test.count:,} queries, the head and the tail of each test triple, ranked "
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
    head, relation, _ = run.parts.test.triples[0]
    given = {
        "entity": run.parts.test.entities.names[head],
        "relation": run.parts.test.relations.names[relation],
    }
    words = " ".join(f"--{name} {shlex.quote(value)}" for name, value in given.items())
    print(f"Next: metajax graph complete {shlex.quote(str(run.folder))} {words}")

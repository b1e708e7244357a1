"""Knowledge graphs: inspection, training of embeddings, completion, and facts from texts."""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from metajax import runs, search
from metajax.characters import visible
from metajax.cli import console, extraction, signals, sources
from metajax.cli.evaluate import failure_of
from metajax.cli.train import check_report, check_resume, claimed, train_to_end
from metajax.cli.tune import search_and_report
from metajax.data import datasets
from metajax.data.fetch import DataUnavailable
from metajax.knowledge import (
    GraphSettings,
    GraphSplit,
    KnowledgeGraph,
    Vocabulary,
    graph_names,
    inspection,
    item_entities,
    leaked_triples,
    link_by_prefix,
    load_graph,
    predictor_of,
    readers,
)
from metajax.knowledge.extraction import EndpointSettings
from metajax.knowledge.readers import Statements
from metajax.runs import graph as graph_runs
from metajax.runs.catalogue import titles_of
from metajax.runs.graph import GraphRun
from metajax.runs.item_index import find, index_of_items
from metajax.search import study

__all__ = ["command", "prepare"]

command = App(name="graph", help=__doc__)
"""The command with its subcommands."""
command.command(extraction.extract)
command.command(extraction.review)


def prepare(config: Path | None, tokens: tuple[str, ...]) -> tuple[list[Any], tuple[str, ...]]:
    """Prepares the command as `sources.without_config`."""
    kind = EndpointSettings if tokens[1:2] == ("extract",) else GraphSettings
    return sources.without_config(config, tokens, kind)


@command.default
def inspect(
    source: Annotated[str, Parameter(name="source")],
    /,
    *,
    link: Path | None = None,
    item_prefix: str | None = None,
    data: str | None = None,
    literals: Literal["error", "attributes"] = "error",
    base_iri: str | None = None,
) -> None:
    """Prints counts, relations and problems of a knowledge graph.

    Args:
        source: A name (ml-100k) or a file: RDF (.ttl, .nt, .rdf, ...), .kg, or .tsv or .csv of
            head, relation and tail; or a folder with files train, valid and test.
        link: A RecBole .link file: the entity of each item.
        item_prefix: Prefix of an item's id in the name of its entity.
        data: A name or path of the log whose items are linked.
        literals: Literals in the place of a tail: an error, or attributes.
        base_iri: What relative IRIs are relative to; by default the address of the file.
    """
    found, statements = _loaded(source, link, item_prefix, literals, base_iri)
    item_ids = None
    if data is not None:
        with console.fetching(data) as fetched:
            item_ids = datasets.load(data, progress=fetched).interactions.item_ids
        item_entities(found, item_ids)

    for name, value in inspection.summary(found).items():
        console.say(f"{name:<14} {value}")
    table = Table(box=None, pad_edge=False)
    # Whole in narrow terminals too: names are arguments of other commands.
    table.add_column("relation", overflow="fold")
    for heading in ("triples", "heads", "tails", "tails of one triple"):
        table.add_column(heading, justify="right")
    for name, *counts in inspection.relation_table(found):
        # As text, because a name may have brackets.
        table.add_row(Text(visible(name)), *(f"{count:,}" for count in counts))
    Console().print(table, highlight=False)
    lines = inspection.problems(found, statements, item_ids)
    console.say(f"{'problems':<14} {len(lines) or 'none'}")
    for line in lines:
        console.say(f"  - {line}")


@command.command
def train(
    settings: Annotated[GraphSettings, Parameter(name="*")] = GraphSettings(),  # noqa: B008
    *,
    run: Path | None = None,
    resume: Path | None = None,
    from_study: Path | None = None,
) -> int:
    """Trains embeddings of a knowledge graph, then ranks held-out test triples.

    Args:
        settings: The settings.
        run: Folder of the run; must not exist. Default: runs/SOURCE-SCORE, numbered if taken.
        resume: Folder of a run to resume, with its own settings.
        from_study: File of a study of `metajax graph tune`: its graph and best settings.
    """
    found_study = None
    if from_study is not None:
        found_study = study.read(from_study)
        chosen = study.graph_settings_of(found_study)
        if resume is not None or settings not in (GraphSettings(), GraphSettings(settings.source)):
            raise ValueError("--from-study has the settings; give no others but the source.")
        settings = dataclasses.replace(chosen, source=settings.source or chosen.source)
    if resume is not None:
        check_resume(resume, run, settings, GraphSettings(), graph_runs.settings_of)
        opened = graph_runs.open_run(resume)
        progress = runs.resumed(opened, on_skip=console.skipped)
        console.say(f"Resuming {resume} at update {int(progress.state.step)}.")
    elif not settings.source:
        raise ValueError("source must be the name of a graph, or a file; got none.")
    else:
        predictor_of(settings)  # Refuses before anything is read.
        with claimed(run, f"{Path(settings.source).stem}-{settings.score.lower()}") as claim:
            found, parts = _parts(settings)
            with console.busy("Splitting the triples"):
                if found_study is not None:
                    split = graph_runs.split_of(settings, found, parts)
                    study.check_digest(found_study, _problem(settings, split).facts())
                opened, progress = graph_runs.create(claim, settings, found, parts)
    folder, settings = opened.folder, opened.settings
    _print_split(opened)
    updates = -(-opened.split.training.count // settings.batch)
    start, best = int(progress.state.step) // updates, 1 - float(progress.best_loss)
    triples = opened.split.training.count
    bar = console.epochs(settings.epochs, triples, start, max(best, 0.0))
    progress = train_to_end(opened, progress, bar, "graph train")
    if not opened.split.test.count:
        console.say("Trained on all triples: none is left to rank.")
        _print_next(opened, opened.split.training)
        return 0
    if opened.split.validation.count:
        best, epoch = 1 - float(progress.best_loss), int(progress.best_step) // updates
        console.say(f"Best validation MRR {best:.4f} in epoch {epoch}.")
    saved = f"stopped; the run is saved. Rank: metajax graph train --resume {folder}"
    with signals.collected() as caught:
        with signals.stoppable(saved), console.busy("Ranking the test triples"):
            metrics = graph_runs.judge(opened, progress.best)
        unwritten = failure_of(lambda: graph_runs.write_report(opened, metrics))
    caught.raise_stopped(f"stopped; the ranks are in {folder / 'report.json'}.")
    _print_ranks(opened, metrics)
    if unwritten is not None:
        raise unwritten
    return 0


@command.command
def tune(
    settings: Annotated[GraphSettings, Parameter(name="*")] = GraphSettings(),  # noqa: B008
    *,
    trials: int = 30,
    workers: int = 1,
    storage_file: Annotated[Path | None, Parameter(name="--storage")] = None,
) -> None:
    """Searches for settings by the ranks of validation triples; resumes where it stopped.

    Settings that are no defaults are kept; of the others margin, temperature, negatives and rate
    are searched.

    Args:
        settings: The settings.
        trials: Number of trials in all, those before a restart included.
        workers: Number of processes, each with one thread.
        storage_file: File of the study; one that exists must be of the same score, graph and
            settings. Default: runs/SOURCE-SCORE-study.jsonl. The page is beside it, .html.
    """
    if not settings.source:
        raise ValueError("source must be the name of a graph, or a file; got none.")
    predictor_of(settings)
    check_report("")
    found, parts = _parts(settings)
    with console.busy("Splitting the triples"):
        split = graph_runs.split_of(settings, found, parts)
    if settings.source not in graph_names():
        settings = dataclasses.replace(settings, source=str(Path(settings.source).resolve()))
    default = f"{Path(settings.source).stem}-{settings.score.lower()}-study.jsonl"
    path = storage_file or Path("runs") / default
    search_and_report(_problem(settings, split), path, trials, workers)
    console.say(f"Train with it: metajax graph train --from-study {shlex.quote(str(path))}")


def _problem(settings: GraphSettings, split: GraphSplit) -> search.Links:
    plain = GraphSettings()
    names = [field.name for field in dataclasses.fields(GraphSettings)]
    fixed = frozenset(n for n in names if getattr(settings, n) != getattr(plain, n))
    return search.Links(split.training, split.validation, settings, fixed)


def _parts(settings: GraphSettings) -> tuple[KnowledgeGraph, Sequence[KnowledgeGraph] | None]:
    """Loads a graph, and its parts where the source has them in files."""
    names = ("source", "link", "item_prefix", "literals", "base_iri")
    found, statements = _loaded(*[getattr(settings, name) for name in names])
    parts = None if statements is None else readers.parts_of(found, statements)
    if parts is not None and settings.share != GraphSettings.share:
        raise ValueError(
            f"share must be left out, because {settings.source} has files train and test; "
            f"got {settings.share}."
        )
    return found, parts


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
    """Prints the most plausible missing tails, or heads, of an entity and a relation.

    Args:
        run: Folder of a run of `metajax graph train`.
        entity: Name or label of the known entity, or title of its item: the head, or with --side
            head the tail.
        relation: Name or label of the relation.
        side: The missing element.
        top: Number of candidates.
        known: Show known triples too, marked.
        data: A name or path of the log whose items are linked, for their titles; by default that
            of the graph's name.
    """
    with console.busy(f"Loading {run}"):
        opened = graph_runs.open_run(run)
        progress = runs.resumed(opened, on_skip=console.skipped)
    if not int(progress.best_step):
        raise ValueError(
            f"{run}: no epoch has been validated yet. Resume: metajax graph train --resume {run}"
        )
    titles = opened.split.labels | _titles(opened, data)
    vocabularies = opened.split.training.entities, opened.split.training.relations
    entity = _name_of(opened, "entity", vocabularies[0], titles, entity)
    relation = _name_of(opened, "relation", vocabularies[1], titles, relation)
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
    console.say(f" --{relation}--> ".join(ends))
    for answer in found.answers:
        notes = [titles[answer.entity]] if answer.entity in titles else []
        notes += ["known"] if answer.known else []
        console.say("  ".join([f"{answer.score + margin:6.2f}", answer.entity, *notes]))
    if found.known and not known:
        console.say(f"{found.known} known triples are left out; --known shows them.")


def _loaded(
    source: str,
    link: str | Path | None,
    item_prefix: str | None,
    literals: Any,
    base_iri: str | None,
) -> tuple[KnowledgeGraph, Statements | None]:
    """Loads a graph, and the statements of its file for line numbers."""
    statements = None
    if source in graph_names():
        if link is not None:
            raise ValueError(f"--link belongs to a file; {source} has its own links.")
        with console.fetching(source) as fetched:
            found = load_graph(source, progress=fetched)
    elif Path(source).exists():
        statements = readers.read_statements(source, base_iri=base_iri)
        found = readers.with_links(readers.graph_of(statements, literals=literals), link)
    else:
        found = load_graph(source)  # Raises, with a suggestion.
    if item_prefix is not None:
        found = link_by_prefix(found, item_prefix)
    return found, statements


def _print_split(run: GraphRun) -> None:
    """Prints the sizes of the split."""
    training, settings = run.split.training, run.settings
    console.say(
        f"{settings.score} on {settings.source}: {training.count:,} training triples, "
        f"{run.split.validation.count:,} validation, {run.split.test.count:,} test; "
        f"{len(training.entities.names):,} entities, "
        f"{len(training.relations.names):,} relations. Run folder: {run.folder}"
    )
    reasons = [f"{count:,} that {why}" for why, count in run.split.left_out.items() if count]
    if reasons:
        console.say(f"Triples left out: {', '.join(reasons)}.")


def _print_ranks(run: GraphRun, metrics: dict[str, dict[str, float]]) -> None:
    """Prints the ranks of test triples, and the next command."""
    test, entities = run.split.test, len(run.split.training.entities.names)
    console.say(
        f"{2 * test.count:,} queries, the head and the tail of each test triple, ranked "
        f"among all {entities:,} entities but those of other known triples:"
    )
    table = Table("", *metrics, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name in ("mrr", "hits@1", "hits@3", "hits@10", "amri"):
        shown = name.upper() if name in ("mrr", "amri") else name
        table.add_row(shown, *(f"{found[name]:.3f}" for found in metrics.values()))
    Console().print(table, highlight=False)
    console.say(
        "Ties: realistic ranks them in the middle, optimistic first, pessimistic last. Heads, "
        "tails: half of the queries."
    )
    console.say(
        "Frequency: candidates by their frequency in training. AMRI: 0 is a random order, 1 is "
        "perfect."
    )
    reverse = int(leaked_triples(run.split.training, test).sum())
    if reverse and not run.split.symmetric:
        console.say(
            f"{reverse:,} of {test.count:,} test triples join entities that a training triple "
            "joins in the opposite direction: that flatters the ranks."
        )
    _print_next(run, test)


def _print_next(run: GraphRun, part: KnowledgeGraph) -> None:
    """Prints a command that completes a triple."""
    head, relation, _ = part.triples[0]
    given = {"entity": part.entities.names[head], "relation": part.relations.names[relation]}
    options = " ".join(f"--{name} {shlex.quote(value)}" for name, value in given.items())
    console.say(f"Next: metajax graph complete {shlex.quote(str(run.folder))} {options}")


def _titles(run: GraphRun, data: str | None) -> dict[str, str]:
    """Titles of the items that are entities, by entity name."""
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


def _name_of(
    run: GraphRun, what: str, names: Vocabulary, titles: dict[str, str], asked: str
) -> str:
    """Name of an entity or a relation, from its name, its label or the title of its item."""
    others = (*run.split.unseen[what], *run.split.folded)
    if asked in names.index or asked in others or not titles.keys() & names.index.keys():
        return asked
    index = index_of_items(names.names, [titles.get(name, name) for name in names.names])
    return names.names[find(index, asked)]

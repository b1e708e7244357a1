"""The commands `metajax graph extract` and `metajax graph review`."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text as Cell

from metajax import locks
from metajax.characters import visible
from metajax.cli import console, signals
from metajax.knowledge import KnowledgeGraph, load_graph, read_graph, write_turtle
from metajax.knowledge import extraction as extracting
from metajax.knowledge.extraction import (
    Decision,
    EndpointSettings,
    Extraction,
    Review,
    Reviewed,
    Schema,
    Text,
)
from metajax.knowledge.extraction.extract import journal_file

__all__ = ["extract", "review"]

# Lines of a list; the files hold the rest.
_SHOWN = 20
_SAMPLE = 20
_ANSWERS: dict[str, Decision | None] = {"a": "accepted", "r": "rejected", "s": "", "q": None}


def extract(
    texts: Annotated[Path, Parameter(name="texts")],
    /,
    settings: Annotated[EndpointSettings, Parameter(name="*")] = EndpointSettings(),  # noqa: B008
    *,
    schema: Path,
    output: Path,
    propose: bool = False,
    items: str = "items",
    item_column: str | None = None,
    text_columns: str = "",
    title_column: str | None = None,
    accept_above: float | None = None,
    similarity: float = 0.9,
    graph: str | None = None,
    truth: Path | None = None,
) -> int:
    """Extracts facts about items from texts, by a language model or, without --model, by rules.

    The folder keeps every answer: the same command goes on where it was stopped, and costs nothing
    once all is answered. Nothing is in the graph before it is accepted.

    Args:
        texts: CSV, TSV, JSON lines or Parquet of items and their texts.
        settings: The model, its endpoint and the budget.
        schema: The relations to extract, .toml or .json.
        output: Folder of the facts; another extraction into it is another batch.
        propose: Let the model propose relations from a sample of the texts, write them to --schema,
            and ask whether to go on with them.
        items: What the items are, in the plural, for the model: films. With --propose.
        item_column: Column of the items' ids, if its name is unusual.
        text_columns: Columns of text, separated by commas, if their names are unusual.
        title_column: Column of titles, if its name is unusual.
        accept_above: Least confidence of facts that are accepted without a person, 0 to 1.
        similarity: Least similarity of names that are taken for one.
        graph: A name (ml-100k) or a file of a graph, whose names are right.
        truth: Triples as .tsv or .csv that are right, to measure precision and recall against.
    """
    if settings.endpoint is not None and not settings.model:
        raise ValueError("--endpoint belongs to --model, which is missing.")
    columns = [name.strip() for name in text_columns.split(",") if name.strip()]
    read = extracting.read_texts(
        texts, item_column=item_column, text_columns=columns, title_column=title_column
    )
    for note in read.notes:
        console.error(f"note: {note}.")
    if propose:
        _propose(read.texts, items, settings, schema, output)
    relations = extracting.read_schema(schema)
    known = () if graph is None else extracting.known_names(_graph(graph))
    right = None if truth is None else read_graph(truth)
    saved = "stopped; every answer is saved. The same command goes on."
    priced = bool(settings.price_input or settings.price_output)
    with (
        signals.stoppable(saved),
        console.extracting(len(read.texts), priced=priced) as on_status,
    ):
        found = extracting.extract(
            read.texts,
            relations,
            output,
            settings=settings if settings.model else None,
            accept_above=accept_above,
            threshold=similarity,
            known=known,
            on_status=on_status,
        )
    _print_extraction(found, read.texts, settings, priced=priced)
    if right is not None:
        _print_precision(found, read.texts, right)
    _print_review(found.review, output)
    if found.stopped:
        console.error(
            f"{found.stopped} ends the run: {found.unasked} texts are left. A larger one goes on."
        )
    return 2 if found.stopped or found.failed else 0


def review(
    folder: Annotated[Path, Parameter(name="folder")],
    /,
    *,
    accept_above: float | None = None,
    ask: bool = False,
    withdraw: str | None = None,
    similarity: float = 0.9,
    graph: str | None = None,
    item_prefix: str = "",
    output: Path | None = None,
) -> None:
    """Reviews extracted facts, and writes the graph of those that are accepted.

    Decisions are in the column `decision` of facts.csv, and for merged names of names.csv:
    accepted, rejected or nothing. This command applies them.

    Args:
        folder: Folder of `metajax graph extract`.
        accept_above: Least confidence of facts that are accepted without a person, 0 to 1.
        ask: Ask in the terminal about each fact that nobody has decided about.
        withdraw: A batch whose facts are removed for good.
        similarity: Least similarity of names that are taken for one.
        graph: A name (ml-100k) or a file of a graph, whose names are right, to add the facts to.
        item_prefix: Prefix of an item's id in the name of its entity in that graph.
        output: File (.ttl) of that graph with the accepted facts.
    """
    if (output is None) != (graph is None):
        raise ValueError("--graph and --output belong together: a graph, and one with the facts.")
    if output is not None and output.suffix.lower() != ".ttl":
        raise ValueError(f"--output must end in .ttl, got {output}.")
    if not (folder / "schema.toml").exists():
        raise ValueError(f"{folder}: is no folder of `metajax graph extract`.")
    given = None if graph is None else _graph(graph)
    with locks.locked(folder), signals.stoppable("stopped; the decisions so far are saved."):
        found = extracting.review(
            folder,
            accept_above=accept_above,
            withdraw=withdraw,
            threshold=similarity,
            known=() if given is None else extracting.known_names(given),
            decide=_decide if ask else None,
        )
    _print_review(found, folder)
    if given is not None and output is not None:
        larger, more = extracting.merge_into(given, found, item_prefix=item_prefix)
        write_turtle(larger, output)
        console.say(f"{output}: {larger.count:,} triples, {more:,} of them new.")


def _propose(
    texts: Sequence[Text], items: str, settings: EndpointSettings, path: Path, output: Path
) -> None:
    """Writes proposed relations, and asks whether to go on with them."""
    if not settings.model:
        raise ValueError("--propose belongs to --model, which is missing.")
    if path.exists():
        raise ValueError(f"--schema must not exist with --propose, got {path}.")
    if path.suffix.lower() != ".toml":
        raise ValueError(f"--schema must end in .toml with --propose, got {path}.")
    output.mkdir(parents=True, exist_ok=True)
    with locks.locked(output), console.busy("Asking for relations"):
        journal = extracting.open_journal(output / journal_file)
        sample = texts[:: max(1, len(texts) // _SAMPLE)][:_SAMPLE]
        schema = extracting.propose(sample, items, settings, journal)
    extracting.write_schema(schema, path)
    console.say(f"Proposed relations, in {path}:")
    for relation in schema.relations:
        values = f" Values: {', '.join(relation.values)}." if relation.values else ""
        console.say(f"  {relation.name}: {relation.description}{values}")
    if not sys.stdin.isatty() or _answer("Extract these? [y/N] ") not in ("y", "yes"):
        raise ValueError(
            f"nothing is extracted: check {path}, write confirmed = true, and leave --propose out."
        )
    confirmed = Schema(schema.relations, schema.items)
    extracting.write_schema(confirmed, path)


def _decide(row: Reviewed, tail: str, left: int) -> Decision | None:
    fact = row.fact
    called = "" if tail == fact.name else f" (in the text: {fact.name})"
    console.say(f"{left} left. {fact.item} --{fact.relation}--> {tail}{called}")
    console.say(f'  {fact.confidence:.2f} {fact.origin.model}: "{fact.quote}"')
    while True:
        answer = _answer("accept (a), reject (r), skip (s), stop (q)? ")
        if answer[:1] in _ANSWERS:
            return _ANSWERS[answer[:1]]


def _answer(question: str) -> str:
    """Asks in the terminal; the end of the input stops."""
    try:
        return input(question).strip().lower()
    except EOFError:
        return "q"


def _graph(source: str) -> KnowledgeGraph:
    with console.fetching(source) as fetched:
        return load_graph(source, progress=fetched)


def _print_extraction(
    found: Extraction, texts: Sequence[Text], settings: EndpointSettings, *, priced: bool
) -> None:
    console.say(f"Batch {found.batch}: {len(found.facts):,} facts from {len(texts):,} texts.")
    if settings.model:
        cost = f", cost {found.cost:.4f}" if priced else ""
        console.say(
            f"{found.requests:,} responses in this run; the folder has used "
            f"{found.usage.input:,} tokens in, {found.usage.output:,} out{cost}."
        )
    if found.refusals:
        console.say(f"{found.refusals:,} texts the model would not work on.")
    for reason, count in found.refused.most_common():
        console.say(f"  {count:,} claims left out: {reason}.")
    if found.failed:
        console.error(f"{len(found.failed):,} texts have no usable answer; a later run asks again:")
        for item, reason in list(found.failed.items())[:_SHOWN]:
            console.error(f"  {item}: {reason}")


def _print_precision(found: Extraction, texts: Sequence[Text], right: KnowledgeGraph) -> None:
    names, relations = right.entities.names, right.relations.names
    items = {text.item for text in texts}
    true = [(names[h], relations[r], names[t]) for h, r, t in right.triples if names[h] in items]
    tails = found.review.tails
    own = [(f.item, f.relation, tails[f.relation, f.name]) for f in found.facts]
    table = Table("relation", "precision", "recall", "found", "true", box=None, pad_edge=False)
    for relation, values in extracting.precision_recall(own, true).items():
        table.add_row(
            Cell(visible(relation)),
            f"{values.precision:.3f}",
            f"{values.recall:.3f}",
            str(values.found),
            str(values.true),
        )
    Console().print(table, highlight=False)


def _print_review(found: Review, folder: Path) -> None:
    """Prints what was merged, what contradicts, and the batches; and the next command."""
    if found.merges:
        console.say(f"Names taken for one: {len(found.merges)}, in {folder / 'names.csv'}.")
    for kind, merge in found.merges[:_SHOWN]:
        console.say(
            f"  {kind}: {merge.name} is {merge.resolved} ({merge.how}, {merge.similarity:.2f})"
        )
    if found.contradictions:
        console.say(f"Contradictions, for a person to decide: {len(found.contradictions)}.")
    for one in found.contradictions[:_SHOWN]:
        console.say(f"  {one.item} --{one.relation}--> {' or '.join(one.tails)}")
    table = Table("batch", "facts", "accepted", "rejected", box=None, pad_edge=False)
    accepted = {id(row) for row in found.accepted}
    for batch in dict.fromkeys(row.fact.origin.batch for row in found.rows):
        rows = [row for row in found.rows if row.fact.origin.batch == batch]
        counts = (
            len(rows),
            sum(id(row) in accepted for row in rows),
            sum(row.decision == "rejected" for row in rows),
        )
        table.add_row(Cell(visible(batch)), *map(str, counts))
    Console().print(table, highlight=False)
    if found.accepted:
        console.say(f"{len(found.triples):,} triples: {folder / 'graph.tsv'}")
    if len(found.accepted) < len(found.rows):
        quoted = shlex.quote(str(folder))
        console.say(
            f"Next: decide in {folder / 'facts.csv'}, or metajax graph review {quoted} --ask, or "
            "--accept-above 0.9"
        )

"""A folder of extracted facts: review, resolution of names, contradictions, and the graph.

    schema.toml      the relations
    answers.jsonl    answers of models, which are never asked for again
    facts.csv        every fact with its provenance, and a column for a person's decision
    names.csv        spellings that were merged, likewise
    graph.tsv        the accepted triples with their provenance
    graph.ttl        the accepted triples as Turtle
    provenance.ttl   their provenance, as reified statements in the terms of PROV-O

The last three are made from the others: whatever is withdrawn or rejected is gone from them.

References:
    Lebo, Sahoo and McGuinness (eds.), PROV-O: The PROV Ontology, W3C Recommendation 2013.
"""

import csv
import importlib.util
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from metajax import files, storage
from metajax.data.readers.text import TextTable, number_of, quoted
from metajax.files import DataError
from metajax.knowledge.extraction.facts import Fact, Origin
from metajax.knowledge.extraction.names import Merge, merged_names
from metajax.knowledge.extraction.provenance import Statement, write_provenance
from metajax.knowledge.extraction.schema import Relation, Schema, folded, read_schema
from metajax.knowledge.graph import KnowledgeGraph, add_triples, graph_from_names, labels_of
from metajax.knowledge.readers import write_turtle

__all__ = [
    "Contradiction",
    "Decision",
    "Review",
    "Reviewed",
    "add_batch",
    "check_review",
    "known_names",
    "merge_into",
    "read_facts",
    "review",
    "write_facts",
]

Decision = Literal["", "accepted", "rejected"]
"""Review status of a fact or a merge; "" is undecided."""

_FACTS, _NAMES = "facts.csv", "names.csv"
_GRAPHS = ("graph.tsv", "graph.ttl", "provenance.ttl")
_COLUMNS = (
    "decision", "item", "relation", "tail", "name", "confidence", "note", "quote", "start", "end",
    "model", "prompt", "time", "batch",
)  # fmt: skip
_NAME_COLUMNS = ("decision", "kind", "name", "resolved", "how", "similarity", "facts")
_TSV = ("head", "relation", "tail", "confidence", "quote", "start", "end")
_PROVENANCE = (*_TSV[3:], *Origin._fields)
_MOST_BYTES = 2**30
# A spreadsheet computes cells that begin so.
_COMPUTED = ("=", "+", "-", "@", "'")


class Reviewed(NamedTuple):
    """A fact and what was decided about it."""

    fact: Fact
    """The fact."""
    decision: Decision = ""
    """A person's decision."""


class Contradiction(NamedTuple):
    """More tails of an item than a relation can have."""

    item: str
    """The item's id."""
    relation: str
    """Name of the relation."""
    tails: tuple[str, ...]
    """The tails."""


class Review(NamedTuple):
    """State of a folder of facts."""

    rows: tuple[Reviewed, ...]
    """Every fact, in the order of the file."""
    tails: Mapping[tuple[str, str], str]
    """Relation and spelling to the resolved name."""
    accepted: tuple[Reviewed, ...]
    """The facts that are in the graph."""
    merges: tuple[tuple[str, Merge], ...]
    """Kind of name, and merge."""
    contradictions: tuple[Contradiction, ...]
    """Among facts that are not rejected."""

    @property
    def triples(self) -> list[tuple[str, str, str]]:
        """The accepted triples, distinct and sorted."""
        return sorted(
            {(f.item, f.relation, self.tails[f.relation, f.name]) for f, _ in self.accepted}
        )


def add_batch(rows: Iterable[Reviewed], facts: Sequence[Fact], batch: str) -> list[Reviewed]:
    """Adds the facts of a batch, in the place of those that it had before.

    Args:
        rows: The facts so far.
        facts: All facts of the batch.
        batch: Its name.

    Returns:
        The facts of other batches, and those of this one; decisions and times are kept.
    """
    rows = list(rows)
    before = {_identity(row.fact): row for row in rows if row.fact.origin.batch == batch}
    added = []
    for fact in facts:
        known = before.get(_identity(fact))
        if known is None:
            added.append(Reviewed(fact))
            continue
        origin = fact.origin._replace(time=known.fact.origin.time)
        added.append(Reviewed(fact._replace(origin=origin), known.decision))
    return [row for row in rows if row.fact.origin.batch != batch] + added


def review(
    folder: str | Path,
    *,
    accept_above: float | None = None,
    withdraw: str | None = None,
    threshold: float = 0.9,
    known: Collection[str] = (),
    decide: Callable[[Reviewed, str, int], Decision | None] | None = None,
) -> Review:
    """Applies decisions, resolves names, and writes the graph of the accepted facts.

    A fact is accepted by a person, or where nobody has decided by its confidence, unless it
    contradicts another one. Merges of names hold until a person rejects them in `names.csv`.

    Args:
        folder: Of `extract`; the caller holds its lock.
        accept_above: Least confidence of facts that need no person, 0 to 1; None accepts none.
        withdraw: A batch, all of whose facts are removed for good.
        threshold: Least similarity of names that are merged, as in `merged_names`.
        known: Names that are right, as in `merged_names`.
        decide: `decide(row, tail, left)` asks a person about an undecided fact, the most confident
            first; None ends the questions. What was decided is kept, also where it raises.

    Returns:
        The state of the folder.

    Raises:
        ValueError: If an option is out of range, or there is no such batch.
        DataError: If a file of the folder is missing or damaged.
        OSError: If a file cannot be written.
    """
    folder = Path(folder)
    check_review(accept_above, threshold)
    schema = read_schema(folder / "schema.toml")
    rows = read_facts(folder)
    if withdraw is not None:
        batches = list(dict.fromkeys(row.fact.origin.batch for row in rows))
        if withdraw not in batches:
            raise ValueError(f"no batch {withdraw!r}; there are {', '.join(batches) or 'none'}.")
        rows = [row for row in rows if row.fact.origin.batch != withdraw]
    refused = _refused(folder)
    merges = _merges(rows, schema, threshold, known, refused)
    tails = _tails(rows, schema, merges)
    if decide is not None:
        try:
            _ask(rows, tails, decide)
        finally:
            write_facts(folder, rows, tails, _contradictions(rows, tails, schema))
    contradictions = _contradictions(rows, tails, schema)
    against = {(c.item, c.relation) for c in contradictions}
    accepted = tuple(
        row
        for row in rows
        if row.decision == "accepted"
        or (
            accept_above is not None
            and not row.decision
            and row.fact.confidence >= accept_above
            and (row.fact.item, row.fact.relation) not in against
        )
    )
    found = Review(tuple(rows), tails, accepted, tuple(merges), contradictions)
    write_facts(folder, rows, tails, contradictions)
    _write_names(folder, found, schema, refused)
    _write_graph(folder, found)
    return found


def check_review(accept_above: float | None, threshold: float) -> None:
    """Checks options of `review`.

    Raises:
        ValueError: If one is out of range.
    """
    if accept_above is not None and not 0 <= accept_above <= 1:
        raise ValueError(f"accept_above must be 0 to 1, got {accept_above}.")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be > 0 and <= 1, got {threshold}.")


def known_names(graph: KnowledgeGraph) -> tuple[str, ...]:
    """Names of a graph's entities for people: their labels, where it has any."""
    return tuple(dict.fromkeys(labels_of(graph).values())) or graph.entities.names


def merge_into(
    graph: KnowledgeGraph, found: Review, *, item_prefix: str = ""
) -> tuple[KnowledgeGraph, int]:
    """Adds the accepted triples to a graph.

    Args:
        graph: A graph; its links, if it has any, say which entity an item is. A tail that is the
            label of one entity alone is that entity.
        found: From `review`.
        item_prefix: Prefix of an item's id in the name of its entity, where it is not linked.

    Returns:
        The larger graph, and the number of triples that it did not have.
    """
    names, labels = graph.entities.names, labels_of(graph)
    linked = {item: names[entity] for item, entity in graph.links}
    often = Counter(labels.values())
    entity = {label: name for name, label in labels.items() if often[label] == 1}
    larger = add_triples(
        graph,
        [(linked.get(h, item_prefix + h), r, entity.get(t, t)) for h, r, t in found.triples],
    )
    return larger, larger.count - graph.count


def read_facts(folder: str | Path) -> list[Reviewed]:
    """Reads the facts of a folder; none where there is no file yet.

    Raises:
        DataError: If the file is damaged; names line and column.
    """
    path = Path(folder) / _FACTS
    if not path.exists():
        return []
    table = _table(path, _COLUMNS)
    rows = []
    for n, line in enumerate(table.lines):
        cell = {name: _shown_cell(table.columns[name][n]) for name in _COLUMNS}
        try:
            origin = Origin(*(cell[name] for name in Origin._fields))
            start, end, confidence = (number_of(cell[c]) for c in ("start", "end", "confidence"))
            fact = Fact(
                cell["item"], cell["relation"], cell["name"], cell["quote"], int(start), int(end),
                confidence, origin,
            )  # fmt: skip
        except ValueError as error:
            raise DataError(str(error), file=path, line=line) from None
        rows.append(Reviewed(fact, _decision(cell["decision"], path, line)))
    return rows


def write_facts(
    folder: Path,
    rows: Sequence[Reviewed],
    tails: Mapping[tuple[str, str], str],
    contradictions: Iterable[Contradiction] = (),
) -> None:
    """Writes the facts of a folder for review.

    Only the column `decision` is read back as a person left it; `tail` and `note` are computed.

    Raises:
        OSError: If the file cannot be written.
    """
    against = {(c.item, c.relation): c for c in contradictions}
    lines = []
    for fact, decision in rows:
        contradiction = against.get((fact.item, fact.relation))
        note = f"one of {len(contradiction.tails)}" if contradiction else ""
        tail = tails.get((fact.relation, fact.name), fact.name)
        named = (fact.item, fact.relation, tail, fact.name, f"{fact.confidence:g}", note)
        lines.append((decision, *named, fact.quote, fact.start, fact.end, *fact.origin))
    _write_csv(Path(folder) / _FACTS, _COLUMNS, lines)


def _ask(
    rows: list[Reviewed],
    tails: Mapping[tuple[str, str], str],
    decide: Callable[[Reviewed, str, int], Decision | None],
) -> None:
    """Puts the decisions of a person into the rows, each as soon as it is made."""
    undecided = [n for n, row in enumerate(rows) if not row.decision]
    undecided.sort(key=lambda n: (-rows[n].fact.confidence, n))
    for left, n in zip(range(len(undecided), 0, -1), undecided, strict=True):
        fact = rows[n].fact
        decision = decide(rows[n], tails[fact.relation, fact.name], left)
        if decision is None:
            return
        rows[n] = rows[n]._replace(decision=decision)


def _merges(
    rows: Sequence[Reviewed],
    schema: Schema,
    threshold: float,
    known: Collection[str],
    refused: Mapping[str, set[tuple[str, str]]],
) -> list[tuple[str, Merge]]:
    relations = {relation.name: relation for relation in schema.relations}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for fact, decision in rows:
        relation = relations.get(fact.relation, Relation(fact.relation))
        if not relation.values and decision != "rejected":
            counts[relation.kind or relation.name][fact.name] += 1
    found = []
    for kind, names in sorted(counts.items()):
        forms = {folded(name) for name in names}
        # Of a large graph the names that have anything to do with these.
        blocks = {_initials(form) for form in forms}
        near = [name for name in known if _initials(folded(name)) in blocks]
        merges = merged_names(
            names, threshold=threshold, known=near, refused=refused.get(kind, set())
        )
        found += [(kind, merge) for merge in merges]
    return found


def _initials(form: str) -> str:
    return "".join(word[0] for word in form.split())


def _tails(
    rows: Sequence[Reviewed], schema: Schema, merges: Iterable[tuple[str, Merge]]
) -> dict[tuple[str, str], str]:
    kinds = {relation.name: relation.kind or relation.name for relation in schema.relations}
    resolved = {(kind, merge.name): merge.resolved for kind, merge in merges}
    return {
        (fact.relation, fact.name): resolved.get(
            (kinds.get(fact.relation, fact.relation), fact.name), fact.name
        )
        for fact, _ in rows
    }


def _contradictions(
    rows: Sequence[Reviewed], tails: Mapping[tuple[str, str], str], schema: Schema
) -> tuple[Contradiction, ...]:
    most = {relation.name: relation.most for relation in schema.relations if relation.most}
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for fact, decision in rows:
        if fact.relation in most and decision != "rejected":
            found[fact.item, fact.relation].add(tails[fact.relation, fact.name])
    return tuple(
        Contradiction(item, relation, tuple(sorted(names)))
        for (item, relation), names in sorted(found.items())
        if len(names) > most[relation]
    )


def _refused(folder: Path) -> dict[str, set[tuple[str, str]]]:
    """Reads the merges that a person has rejected, by kind."""
    path, found = folder / _NAMES, defaultdict(set)
    if path.exists():
        table = _table(path, _NAME_COLUMNS)
        for n, line in enumerate(table.lines):
            cell = {name: _shown_cell(table.columns[name][n]) for name in _NAME_COLUMNS}
            if _decision(cell["decision"], path, line) == "rejected":
                found[cell["kind"]].add((cell["name"], cell["resolved"]))
    return found


def _write_names(
    folder: Path, found: Review, schema: Schema, refused: Mapping[str, set[tuple[str, str]]]
) -> None:
    kinds = {relation.name: relation.kind or relation.name for relation in schema.relations}
    count = Counter((kinds.get(f.relation, f.relation), f.name) for f, _ in found.rows)
    lines = [
        ("", kind, merge.name, merge.resolved, merge.how, f"{merge.similarity:.3f}",
         count[kind, merge.name])
        for kind, merge in found.merges
    ]  # fmt: skip
    lines += [
        ("rejected", kind, name, resolved, "", "", count[kind, name])
        for kind, pairs in sorted(refused.items())
        for name, resolved in sorted(pairs)
    ]
    _write_csv(folder / _NAMES, _NAME_COLUMNS, lines)


def _write_graph(folder: Path, found: Review) -> None:
    """Writes the accepted triples, or removes the files where there is none."""
    if not found.accepted:
        for name in _GRAPHS:
            (folder / name).unlink(missing_ok=True)
        storage.sync(folder)
        return
    rows = sorted(
        (f.item, f.relation, found.tails[f.relation, f.name], f"{f.confidence:g}", f.quote,
         str(f.start), str(f.end), *f.origin)
        for f, _ in found.accepted
    )  # fmt: skip
    lines = ["\t".join(row) for row in ((*_TSV, *Origin._fields), *rows)]
    storage.write_file(folder / "graph.tsv", "\n".join(lines) + "\n")
    if importlib.util.find_spec("pyoxigraph") is None:
        return
    write_turtle(graph_from_names(found.triples), folder / "graph.ttl")
    statements = [Statement(row[:3], dict(zip(_PROVENANCE, row[3:], strict=True))) for row in rows]
    write_provenance(statements, folder / "provenance.ttl")


def _table(path: Path, columns: Sequence[str]) -> TextTable:
    table = quoted(files.read_bytes(path, most=_MOST_BYTES), str(path))
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise DataError(
            f"no column {missing[0]!r}; save it as CSV with commas and its header.",
            file=path,
            line=1,
        )
    return table


def _decision(text: str, path: Path, line: int) -> Decision:
    found = text.strip().lower()
    for decision in ("", "accepted", "rejected"):
        if found in (decision, decision.removesuffix("ed"), decision[:1]):
            return decision
    raise DataError(
        f"must be accepted, rejected or empty, got {text!r}.",
        file=path,
        line=line,
        column="decision",
    )


def _identity(fact: Fact) -> tuple[str, str, str]:
    return fact.item, fact.relation, fact.name


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        cells = map(str, row)
        writer.writerow([f"'{c}" if c.startswith(_COMPUTED) else c for c in cells])
    storage.write_file(path, text.getvalue())


def _shown_cell(cell: str) -> str:
    return cell[1:] if cell.startswith("'") else cell

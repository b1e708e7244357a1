"""Readers of knowledge graphs: Turtle, N-Triples, RecBole `.kg` and `.link`, and TSV.

A new format is a function that returns `Statements`, and its suffix in `_READERS`.

References:
    Beckett et al., RDF 1.1 Turtle, W3C Recommendation 2014; Beckett, RDF 1.1 N-Triples, likewise;
    parsed by pyoxigraph, which streams. RecBole: Zhao et al., RecBole: Towards a unified,
    comprehensive and efficient framework for recommendation algorithms, CIKM 2021,
    arXiv:2011.01731, section 3.2.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, unquote

from metajax import storage
from metajax.data.fetch import is_verified
from metajax.data.readers import DataError
from metajax.data.readers.text import TextTable, delimited
from metajax.files import read_bytes
from metajax.knowledge.graph import KnowledgeGraph, add_triples, graph_from_names

__all__ = [
    "ML_100K_LINK_SHA256",
    "Statements",
    "graph_of",
    "read_graph",
    "read_link",
    "read_statements",
    "with_links",
    "write_turtle",
]

Literals = Literal["error", "attributes"]

# RecBole's link file of MovieLens-100K, whose item ids are those of MovieLens-20M.
ML_100K_LINK_SHA256 = "524dca2c3d62619688ab99b3ec53ea2acb9b64d38eafec3e02bdd0dc6bb7d948"

# IRI prefix of names that are no IRIs.
_BASE = "urn:metajax:"

_KG = ("head_id", "relation_id", "tail_id")
_LINK = ("item_id", "entity_id")
_TSV = ("head", "relation", "tail")
_STRING = "http://www.w3.org/2001/XMLSchema#string"


class Statements(NamedTuple):
    """The statements of a file, in its order."""

    file: str
    """Path, for error messages."""
    triples: Sequence[tuple[str, str, str]]
    """Names of head, relation and tail."""
    lines: Sequence[int] | None
    """Line of each triple, from 1; None where the parser does not report it."""
    attributes: Sequence[tuple[str, str, str, str]] = ()
    """Entity, name, value and kind of each literal."""


def read_graph(
    path: str | Path, *, link: str | Path | None = None, literals: Literals = "error"
) -> KnowledgeGraph:
    """Reads a graph in the format of the file's suffix.

    Args:
        path: As in `read_statements`.
        link: A RecBole `.link` file: the entity of each item of a log.
        literals: As in `graph_of`.

    Returns:
        The graph.

    Raises:
        ImportError: If the format needs a package that is not installed.
        DataError: If a file is missing or malformed, or a link points to an entity that is not in
            the graph.
    """
    return with_links(graph_of(read_statements(path), literals=literals), link)


def read_statements(path: str | Path) -> Statements:
    """Reads a file of triples in the format of its suffix.

    Args:
        path: `.kg` (RecBole: tab-separated columns head_id, relation_id and tail_id), `.tsv` or
            `.txt` (tab-separated head, relation and tail; a first line of these names is a header),
            `.ttl` or `.nt` (RDF: names are IRIs without `urn:metajax:`, blank nodes are numbered in
            order of appearance, literals become attributes). All UTF-8, without quoting.

    Returns:
        Its statements; without lines from Turtle.

    Raises:
        ImportError: If the format needs pyoxigraph, and it is not installed.
        DataError: If the suffix is unknown, or the file is missing or malformed; names file, line
            and column.
    """
    reader = _READERS.get(Path(path).suffix.lower())
    if reader is None:
        raise DataError(f"the name must end in one of {', '.join(_READERS)}.", file=path)
    return reader(path)


def graph_of(statements: Statements, *, literals: Literals = "error") -> KnowledgeGraph:
    """Builds the graph of a file's statements.

    Args:
        statements: From `read_statements`.
        literals: Literals in the place of a tail are an "error", or become "attributes".

    Returns:
        The graph.

    Raises:
        ValueError: If `literals` is neither.
        DataError: If there is a literal where it is an error, or no triple.
    """
    if literals not in ("error", "attributes"):
        raise ValueError(f"literals must be 'error' or 'attributes', got {literals!r}.")
    file = statements.file
    if statements.attributes and literals == "error":
        entity, name, value, _ = statements.attributes[0]
        raise DataError(
            f"{len(statements.attributes)} literals where an entity is needed, the first of them "
            f"{value!r} as {name!r} of {entity!r}; literals='attributes' keeps them as attributes.",
            file=file,
        )
    if not statements.triples:
        raise DataError("there is no triple.", file=file)
    return graph_from_names(statements.triples, attributes=statements.attributes)


def with_links(graph: KnowledgeGraph, link: str | Path | None) -> KnowledgeGraph:
    """Adds the links of a RecBole `.link` file, if given.

    Raises:
        DataError: As `read_graph`.
    """
    if link is None:
        return graph
    if is_verified(Path(link), ML_100K_LINK_SHA256):
        raise DataError(
            "its item ids are MovieLens-20M's; the graph named 'ml-100k' comes with right ones.",
            file=link,
        )
    pairs = read_link(link)
    try:
        return add_triples(graph, [], links=pairs)
    except ValueError as error:
        raise DataError(str(error), file=link) from None


def _read_kg(path: str | Path) -> Statements:
    """Reads a RecBole `.kg` file."""
    return _statements(_atomic(path, _KG), _KG)


def _read_tsv(path: str | Path) -> Statements:
    """Reads three columns, with or without a header."""
    table = delimited(read_bytes(path), str(path), "\t", header=_TSV)
    statements = _statements(table, _TSV)
    if tuple(name.lower() for name in statements.triples[0]) != _TSV:
        return statements
    return statements._replace(triples=statements.triples[1:], lines=table.lines[1:])


def read_link(path: str | Path) -> list[tuple[str, str]]:
    """Reads item ids and their entities from a RecBole `.link` file.

    Args:
        path: Tab-separated, without quoting, with columns item_id and entity_id.

    Raises:
        DataError: If the file is missing or malformed, or an item is linked twice.
    """
    table = _atomic(path, _LINK)
    _no_empty(table, _LINK)
    pairs = list(zip(*(table.columns[name] for name in _LINK), strict=True))
    seen: dict[str, int] = {}
    for (item, _), line in zip(pairs, table.lines, strict=True):
        if item in seen:
            raise DataError(
                f"{item!r} is linked twice, first in line {seen[item]}.",
                file=path,
                line=line,
                column="item_id",
            )
        seen[item] = line
    return pairs


def _read_rdf(path: str | Path) -> Statements:
    """Reads Turtle or N-Triples."""
    ox = _oxigraph()
    data, turtle = read_bytes(path), Path(path).suffix.lower() == ".ttl"
    known = ox.RdfFormat.TURTLE if turtle else ox.RdfFormat.N_TRIPLES
    blanks: dict[str, str] = {}
    names: dict[str, str] = {}

    def name_of(term: Any) -> str:
        if isinstance(term, ox.BlankNode):
            return blanks.setdefault(term.value, f"_:b{len(blanks)}")
        if not isinstance(term, ox.NamedNode):
            raise DataError(f"statements about statements are not supported: {term}.", file=path)
        iri = term.value
        if iri not in names:
            names[iri] = unquote(iri[len(_BASE) :]) if iri.startswith(_BASE) else iri
        return names[iri]

    triples, attributes, lines = [], [], []
    places = None if turtle else _lines_of_statements(data)
    try:
        for quad in ox.parse(data, known):
            head, relation = name_of(quad.subject), name_of(quad.predicate)
            line = None if places is None else next(places)
            if isinstance(quad.object, ox.Literal):
                attributes.append((head, relation, quad.object.value, _kind_of(quad.object)))
            else:
                triples.append((head, relation, name_of(quad.object)))
                lines.append(line)
    except SyntaxError as error:
        rule = re.sub(r"^Parser error[^:]*: ", "", str(error.msg))
        raise DataError(
            f"{rule.rstrip('.')}.", file=path, line=error.lineno, column=error.offset
        ) from None
    return Statements(str(path), triples, None if turtle else lines, attributes)


def write_turtle(graph: KnowledgeGraph, path: str | Path) -> None:
    """Writes triples and attributes as Turtle.

    `read_graph` returns the same triples and names; blank nodes may be renumbered. Links, and names
    without a triple or an attribute, are not written.

    Args:
        graph: The graph.
        path: The file to write.

    Raises:
        ImportError: If pyoxigraph is not installed.
        OSError: If the file cannot be written.
    """
    ox = _oxigraph()

    def iri(name: str) -> Any:
        if not name.startswith((_BASE, "_:")):
            try:
                return ox.NamedNode(name)
            except ValueError:
                pass
        return ox.NamedNode(_BASE + quote(name, safe=""))

    def node(name: str) -> Any:
        if re.fullmatch(r"_:b\d+", name):
            return ox.BlankNode(name.removeprefix("_:"))
        return iri(name)

    def literal(value: str, kind: str) -> Any:
        if kind.startswith("@"):
            return ox.Literal(value, language=kind[1:])
        return ox.Literal(value, datatype=ox.NamedNode(kind) if kind else None)

    entities = [node(name) for name in graph.entities.names]
    relations = [iri(name) for name in graph.relations.names]
    written = [
        ox.Triple(entities[h], relations[r], entities[t]) for h, r, t in graph.triples.tolist()
    ]
    written += [
        ox.Triple(entities[entity], iri(name), literal(value, kind))
        for entity, name, value, kind in graph.attributes
    ]
    # Turtle writes the subject of adjacent statements once.
    written.sort(key=lambda triple: str(triple.subject))
    turtle = ox.serialize(written, format=ox.RdfFormat.TURTLE, prefixes={"": _BASE})
    storage.write_file(Path(path), turtle)


def _atomic(path: str | Path, names: Sequence[str]) -> TextTable:
    table = delimited(read_bytes(path), str(path), "\t")
    columns = {header.partition(":")[0]: fields for header, fields in table.columns.items()}
    missing = [name for name in names if name not in columns]
    if missing:
        raise DataError(f"no column {missing[0]!r}; found {', '.join(columns)}.", file=path, line=1)
    return table._replace(columns=columns)


def _statements(table: TextTable, names: Sequence[str]) -> Statements:
    _no_empty(table, names)
    columns = [table.columns[name] for name in names]
    return Statements(table.file, list(zip(*columns, strict=True)), table.lines)


def _no_empty(table: TextTable, names: Sequence[str]) -> None:
    for name in names:
        for field, line in zip(table.columns[name], table.lines, strict=True):
            if not field.strip():
                raise DataError(
                    "a name must not be empty.", file=table.file, line=line, column=name
                )


def _oxigraph() -> ModuleType:
    try:
        import pyoxigraph
    except ImportError:
        raise ImportError(
            "Turtle and N-Triples need pyoxigraph: pip install 'metajax[kg]'."
        ) from None
    return pyoxigraph


def _kind_of(literal: Any) -> str:
    if literal.language:
        return f"@{literal.language}"
    return "" if literal.datatype.value == _STRING else literal.datatype.value


def _lines_of_statements(data: bytes) -> Iterator[int]:
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip() and not line.lstrip().startswith(b"#"):
            yield number


_READERS = {
    ".kg": _read_kg,
    ".tsv": _read_tsv,
    ".txt": _read_tsv,
    ".ttl": _read_rdf,
    ".nt": _read_rdf,
}

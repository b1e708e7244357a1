"""Readers of knowledge graphs: RDF in six forms, RecBole `.kg` and `.link`, and three columns.

A new format is a function that returns `Statements`, and its ending in `_READERS`.

References:
    Beckett et al., RDF 1.1 Turtle, W3C Recommendation 2014; Beckett, RDF 1.1 N-Triples, likewise;
    parsed by pyoxigraph, which streams. RecBole: Zhao et al., RecBole: Towards a unified,
    comprehensive and efficient framework for recommendation algorithms, CIKM 2021,
    arXiv:2011.01731, section 3.2.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, unquote

import numpy as np

from metajax import storage
from metajax.data.fetch import is_verified
from metajax.data.readers import DataError
from metajax.data.readers.contents import Content, content_of, contents_of
from metajax.data.readers.dialect import BLANKS, rows_of, utf8_of
from metajax.data.readers.text import TextTable, delimited
from metajax.files import Option
from metajax.knowledge.graph import (
    KnowledgeGraph,
    add_triples,
    graph_from_names,
    label_attributes,
    with_triples,
)

__all__ = [
    "ML_100K_LINK_SHA256",
    "Statements",
    "graph_of",
    "iri_of",
    "node_of",
    "oxigraph",
    "parts_of",
    "read_graph",
    "read_link",
    "read_statements",
    "with_links",
    "write_turtle",
]

Literals = Literal["error", "attributes"]

# RecBole's link file of MovieLens-100K, whose item ids are those of MovieLens-20M.
ML_100K_LINK_SHA256 = "524dca2c3d62619688ab99b3ec53ea2acb9b64d38eafec3e02bdd0dc6bb7d948"
"""Digest of the links of MovieLens-100K as shipped, whose items are of another data set."""

# IRI prefix of names that are no IRIs.
_BASE = "urn:metajax:"

_KG = ("head_id", "relation_id", "tail_id")
_LINK = ("item_id", "entity_id")
_TSV = ("head", "relation", "tail")
_STRING = "http://www.w3.org/2001/XMLSchema#string"

# What a header calls the three columns, in lower case.
_CALLED = (
    ("head", "subject", "subj", "s", "h", "source", "head_id", "entity"),
    ("relation", "predicate", "pred", "p", "r", "rel", "property", "relation_id"),
    ("tail", "object", "obj", "o", "t", "target", "tail_id", "value"),
)

# Stems of the files of a split, by part.
_PARTS = (("train", "training"), ("valid", "validation", "val", "dev"), ("test", "testing"))


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
    parts: Sequence[int] | None = None
    """Part of each triple in the split that the files have: 0 for training, 1 for validation, 2 for
    the test; None where there is no split."""
    spaced: Sequence[str] = ()
    """Names as they were, of those from which spaces around them were taken, or in which white
    space became one plain space."""
    unused: Sequence[str] = ()
    """Columns that are not used."""


def read_graph(
    path: str | Path,
    *,
    link: str | Path | None = None,
    literals: Literals = "error",
    base_iri: str | None = None,
) -> KnowledgeGraph:
    """Reads a graph in the format of the file's ending.

    Args:
        path: As in `read_statements`.
        link: A RecBole `.link` file: the entity of each item of a log.
        literals: As in `graph_of`.
        base_iri: As in `read_statements`.

    Returns:
        The graph.

    Raises:
        ImportError: If the format needs a package that is not installed.
        DataError: If a file is missing or malformed, or a link points to an entity that is not in
            the graph.
    """
    statements = read_statements(path, base_iri=base_iri)
    return with_links(graph_of(statements, literals=literals), link)


def read_statements(path: str | Path, *, base_iri: str | None = None) -> Statements:
    """Reads a file of triples in the format of its ending, which may be compressed.

    Args:
        path: `.kg` (RecBole: tab-separated columns head_id, relation_id and tail_id), `.tsv` or
            `.txt` (head, relation and tail between tabs, or else blanks), `.csv` (the same between
            commas, with quotes); a first line such as head, relation, tail or subject, predicate,
            object is a header. RDF: `.ttl`, `.nt`, `.nq`, `.trig`, `.rdf`, `.owl`, `.xml` or
            `.jsonld` (names are IRIs without `urn:metajax:`, blank nodes are numbered in order of
            appearance, literals become attributes, graphs of quads are merged). UTF-8. Or a folder
            with files train and test, and perhaps valid, of one such format.
        base_iri: What relative IRIs are relative to; None means the file's own address.

    Returns:
        Its statements; without lines where the parser reports none.

    Raises:
        ImportError: If the format needs pyoxigraph, and it is not installed.
        DataError: If the ending is unknown, or the file is missing or malformed; names file, line
            and column.
    """
    if Path(path).is_dir():
        return _read_folder(path, base_iri)
    return _read(content_of(path), base_iri)


def _read(content: Content, base_iri: str | None) -> Statements:
    reader = _READERS.get(content.kind)
    if reader is None:
        raise DataError(f"the name must end in one of {', '.join(_READERS)}.", file=content.name)
    return reader(content, base_iri)


def _read_folder(path: str | Path, base_iri: str | None) -> Statements:
    contents = [one for one in contents_of(path) if one.kind in _READERS]
    found = {
        part: content
        for part, stems in enumerate(_PARTS)
        for content in contents
        if content.stem in stems
    }
    if 0 not in found or 2 not in found:
        names = ", ".join(content.stem + content.kind for content in contents) or "none"
        raise DataError(
            f"a folder must hold files train and test, and perhaps valid; found {names}.",
            file=path,
        )
    read = {part: _read(found[part], base_iri) for part in sorted(found)}
    return Statements(
        str(path),
        [triple for one in read.values() for triple in one.triples],
        None,
        [attribute for one in read.values() for attribute in one.attributes],
        [part for part, one in read.items() for _ in one.triples],
        [name for one in read.values() for name in one.spaced],
        list(dict.fromkeys(name for one in read.values() for name in one.unused)),
    )


def graph_of(statements: Statements, *, literals: Literals = "error") -> KnowledgeGraph:
    """Builds the graph of a file's statements.

    Args:
        statements: From `read_statements`.
        literals: Literals in the place of a tail are an "error", or become "attributes"; those of
            `label_attributes` always do.

    Returns:
        The graph.

    Raises:
        ValueError: If `literals` is neither.
        DataError: If there is a literal where it is an error, or no triple.
    """
    if literals not in ("error", "attributes"):
        raise ValueError(f"literals must be 'error' or 'attributes', got {literals!r}.")
    file = statements.file
    refused = [one for one in statements.attributes if one[1] not in label_attributes]
    if refused and literals == "error":
        entity, name, value, _ = refused[0]
        raise DataError(
            f"{len(refused)} literals where an entity is needed, the first of them "
            f"{value!r} as {name!r} of {entity!r}; ",
            Option("literals", "attributes"),
            " keeps them as attributes.",
            file=file,
        )
    if not statements.triples:
        raise DataError("there is no triple.", file=file)
    return graph_from_names(statements.triples, attributes=statements.attributes)


def parts_of(graph: KnowledgeGraph, statements: Statements) -> list[KnowledgeGraph] | None:
    """Returns the triples of the training, validation and test files; None without such files.

    Args:
        graph: Of the statements, with links perhaps.
        statements: From a folder.

    Returns:
        Three graphs with the names of the whole; that of validation is the training's where there
        is no such file.

    Raises:
        DataError: If a file has no triple.
    """
    if statements.parts is None:
        return None
    index = graph.entities.index, graph.relations.index
    triples: list[list[tuple[int, int, int]]] = [[], [], []]
    for (head, relation, tail), part in zip(statements.triples, statements.parts, strict=True):
        triples[part].append((index[0][head], index[1][relation], index[0][tail]))
    for part in (0, 2):
        if not triples[part]:
            raise DataError(f"file {_PARTS[part][0]} has no triple.", file=statements.file)
    return [with_triples(graph, np.array(part)) for part in triples if part]


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


def _read_kg(content: Content, base_iri: str | None) -> Statements:
    """Reads a RecBole `.kg` file."""
    del base_iri
    return _cleaned(_statements(_atomic(content, _KG), _KG))


def _read_columns(content: Content, base_iri: str | None) -> Statements:
    """Reads three columns, with or without a header."""
    del base_iri
    data = utf8_of(content.read(), content.name)
    first = data.partition(b"\n")[0]
    separator = "," if content.kind == ".csv" else "\t"
    if separator == "\t" and b"\t" not in first and len(first.split()) == 3:
        separator = BLANKS
    if separator == "\t":
        rows = enumerate((line.rstrip("\r").split("\t") for line in data.decode().split("\n")), 1)
    else:
        rows = rows_of(data, separator, content.name)
    _, top = next(rows_of(data, separator, content.name))
    places = _places_of(top)
    size = len(_TSV) if places is None else len(top)
    columns: tuple[list[str], ...] = ([], [], [])
    lines = []
    for line, row in itertools.islice(rows, 0 if places is None else 1, None):
        if len(row) != size:
            raise DataError(
                f"must have {size} fields ({', '.join(_TSV if places is None else top)}), got "
                f"{len(row)}.",
                file=content.name,
                line=line,
            )
        for column, place in zip(columns, places or range(3), strict=True):
            column.append(row[place])
        lines.append(line)
    table = TextTable(content.name, dict(zip(_TSV, columns, strict=True)), lines)
    unused = [] if places is None else [name for n, name in enumerate(top) if n not in places]
    return _cleaned(_statements(table, _TSV))._replace(unused=unused)


def _places_of(header: Sequence[str]) -> list[int] | None:
    """Places of head, relation and tail in a header; None where the line is none."""
    words = [name.strip().lower().partition(":")[0] for name in header]
    places = [[n for n, word in enumerate(words) if word in called] for called in _CALLED]
    if any(len(found) != 1 for found in places):
        return None
    return [found[0] for found in places]


def _cleaned(statements: Statements) -> Statements:
    """Takes spaces from around names, and makes any white space within them one plain space."""
    names = dict.fromkeys(name for triple in statements.triples for name in triple)
    # Non-breaking spaces are white space to split, as line separators are.
    clean = {name: " ".join(name.split()) for name in names}
    spaced = [name for name, plain in clean.items() if name != plain]
    if not spaced:
        return statements
    triples = [(clean[h], clean[r], clean[t]) for h, r, t in statements.triples]
    return statements._replace(triples=triples, spaced=spaced)


def read_link(path: str | Path) -> list[tuple[str, str]]:
    """Reads item ids and their entities from a RecBole `.link` file.

    Args:
        path: Tab-separated, without quoting, with columns item_id and entity_id.

    Raises:
        DataError: If the file is missing or malformed, or an item is linked twice.
    """
    table = _atomic(content_of(path), _LINK)
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


def _read_rdf(content: Content, base_iri: str | None) -> Statements:
    """Reads any form of RDF."""
    ox = oxigraph()
    data, path = content.read().removeprefix(b"\xef\xbb\xbf"), content.name
    known = ox.RdfFormat.from_extension(_RDF[content.kind])
    by_line = content.kind in (".nt", ".nq")
    if base_iri is None and not by_line:
        base_iri = Path(path).resolve().as_uri()
    blanks: dict[str, str] = {}
    names: dict[str, str] = {}

    def name_of(term: Any, line: int | None) -> str:
        if isinstance(term, ox.BlankNode):
            return blanks.setdefault(term.value, f"_:b{len(blanks)}")
        if not isinstance(term, ox.NamedNode):
            raise DataError(
                f"statements about statements (RDF-star) are not supported: {term}.",
                file=path,
                line=_line_of_star(data) if line is None else line,
            )
        iri = term.value
        if iri not in names:
            names[iri] = unquote(iri[len(_BASE) :]) if iri.startswith(_BASE) else iri
        return names[iri]

    triples, attributes, lines = [], [], []
    places = _lines_of_statements(data) if by_line else itertools.repeat(None)
    try:
        for quad in ox.parse(data, known, base_iri=None if by_line else base_iri):
            line = next(places, None)
            head, relation = name_of(quad.subject, line), name_of(quad.predicate, line)
            if isinstance(quad.object, ox.Literal):
                attributes.append((head, relation, quad.object.value, _kind_of(quad.object)))
            else:
                triples.append((head, relation, name_of(quad.object, line)))
                lines.append(line)
    except SyntaxError as error:
        rule = re.sub(r"^Parser error[^:]*: ", "", str(error.msg))
        raise DataError(
            f"{' '.join(rule.split()).rstrip('.')}.",
            file=path,
            line=error.lineno,
            column=error.offset,
        ) from None
    except ValueError as error:
        raise DataError(f"{error}".rstrip(".") + ".", file=path) from None
    return Statements(path, triples, lines if by_line else None, attributes)


def _line_of_star(data: bytes) -> int | None:
    """Line of the first statement about a statement, where it is in text; in XML an attribute."""
    for number, line in enumerate(data.split(b"\n"), 1):
        # Not in a text or an IRI.
        bare = re.sub(rb'"[^"]*"|<[^<>\s]*>|#.*', b"", line)
        if b"<<" in bare or (b"parseType" in line and b"Triple" in line):
            return number
    return None


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
    ox = oxigraph()

    def literal(value: str, kind: str) -> Any:
        if kind.startswith("@"):
            return ox.Literal(value, language=kind[1:])
        return ox.Literal(value, datatype=ox.NamedNode(kind) if kind else None)

    entities = [node_of(name) for name in graph.entities.names]
    relations = [iri_of(name) for name in graph.relations.names]
    written = [
        ox.Triple(entities[h], relations[r], entities[t]) for h, r, t in graph.triples.tolist()
    ]
    written += [
        ox.Triple(entities[entity], iri_of(name), literal(value, kind))
        for entity, name, value, kind in graph.attributes
    ]
    # Turtle writes the subject of adjacent statements once.
    written.sort(key=lambda triple: str(triple.subject))
    turtle = ox.serialize(written, format=ox.RdfFormat.TURTLE, prefixes={"": _BASE})
    storage.write_file(Path(path), turtle)


def iri_of(name: str) -> Any:
    """IRI of a name as a node of pyoxigraph: the name itself, or one made of it.

    Raises:
        ImportError: If pyoxigraph is not installed.
    """
    ox = oxigraph()
    if not name.startswith((_BASE, "_:")):
        try:
            return ox.NamedNode(name)
        except ValueError:
            pass
    return ox.NamedNode(_BASE + quote(name, safe=""))


def node_of(name: str) -> Any:
    """The same, but blank nodes stay so."""
    if re.fullmatch(r"_:b\d+", name):
        return oxigraph().BlankNode(name.removeprefix("_:"))
    return iri_of(name)


def _atomic(content: Content, names: Sequence[str]) -> TextTable:
    path = content.name
    table = delimited(content.read(), path, "\t")
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


def oxigraph() -> ModuleType:
    """Returns the module pyoxigraph.

    Raises:
        ImportError: If it is not installed; names the extra.
    """
    try:
        import pyoxigraph
    except ImportError:
        raise ImportError(
            "RDF (Turtle, N-Triples and others) needs pyoxigraph: pip install 'metajax[kg]'."
        ) from None
    return pyoxigraph


def _kind_of(literal: Any) -> str:
    if literal.language:
        return f"@{literal.language}"
    return "" if literal.datatype.value == _STRING else literal.datatype.value


def _lines_of_statements(data: bytes) -> Iterator[int]:
    # A carriage return alone ends a line too.
    for number, line in enumerate(re.split(rb"\r\n|\r|\n", data), 1):
        if line.strip() and not line.lstrip().startswith(b"#"):
            yield number


# Ending of a file to that by which pyoxigraph knows the format.
_RDF = {
    ".ttl": "ttl",
    ".nt": "nt",
    ".nq": "nq",
    ".trig": "trig",
    ".rdf": "rdf",
    ".owl": "rdf",
    ".xml": "rdf",
    ".jsonld": "jsonld",
}

_READERS = {
    ".kg": _read_kg,
    ".tsv": _read_columns,
    ".txt": _read_columns,
    ".csv": _read_columns,
    **dict.fromkeys(_RDF, _read_rdf),
}

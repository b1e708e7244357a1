"""Turtle and N-Triples, by pyoxigraph: a parser in Rust that gives one statement after the other.

References:
    Beckett et al., RDF 1.1 Turtle, W3C Recommendation 2014; Beckett, RDF 1.1 N-Triples, likewise.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote, unquote

from metajax import files
from metajax.data.readers import DataError
from metajax.knowledge.graph import KnowledgeGraph
from metajax.knowledge.readers.statements import Statements, file_bytes

__all__ = ["BASE", "read_rdf", "write_turtle"]

# What stands before names that are no IRIs where they have to be.
BASE = "urn:metajax:"

_STRING = "http://www.w3.org/2001/XMLSchema#string"


def read_rdf(path: str | Path, *, base: str = BASE) -> Statements:
    """Reads Turtle or N-Triples.

    An entity or relation is named by its IRI; below `base` by what follows. A blank node is named
    `_:b` and a number, by where in the file it comes first. What a literal says is an attribute.

    Args:
        path: A file whose name ends in .ttl or .nt.
        base: IRI that is left out of names.

    Returns:
        The statements; only N-Triples tell their lines.

    Raises:
        ImportError: If pyoxigraph is not installed.
        DataError: If the file is missing, or breaks the grammar; it names line and column.
    """
    ox = _oxigraph()
    data, turtle = file_bytes(path), Path(path).suffix.lower() == ".ttl"
    known = ox.RdfFormat.TURTLE if turtle else ox.RdfFormat.N_TRIPLES
    blanks: dict[str, str] = {}
    names: dict[str, str] = {}

    def name_of(term: Any) -> str:
        if isinstance(term, ox.BlankNode):
            return blanks.setdefault(term.value, f"_:b{len(blanks)}")
        if not isinstance(term, ox.NamedNode):
            raise DataError(f"a statement about a statement is not read: {term}.", file=path)
        iri = term.value
        if iri not in names:
            names[iri] = unquote(iri[len(base) :]) if iri.startswith(base) else iri
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


def write_turtle(graph: KnowledgeGraph, path: str | Path, *, base: str = BASE) -> None:
    """Writes a graph's facts and attributes as Turtle, which `read_rdf` reads back.

    Read back, facts and names are the same; blank nodes may have other numbers. Links are not
    written, nor names that no fact and no attribute has.

    Args:
        graph: Any.
        path: The file to write.
        base: Put before names that are no IRIs.

    Raises:
        ImportError: If pyoxigraph is not installed.
        OSError: If the file cannot be written.
    """
    ox = _oxigraph()

    def iri(name: str) -> Any:
        if not name.startswith((base, "_:")):
            try:
                return ox.NamedNode(name)
            except ValueError:
                pass
        return ox.NamedNode(base + quote(name, safe=""))

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
    told = [ox.Triple(entities[h], relations[r], entities[t]) for h, r, t in graph.triples.tolist()]
    told += [
        ox.Triple(entities[entity], iri(name), literal(value, kind))
        for entity, name, value, kind in graph.attributes
    ]
    # Statements about one subject next to one another share its name in Turtle.
    told.sort(key=lambda triple: str(triple.subject))
    written = ox.serialize(told, format=ox.RdfFormat.TURTLE, prefixes={"": base})
    files.write(Path(path), written)


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

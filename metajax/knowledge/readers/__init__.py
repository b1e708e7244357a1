"""Knowledge graphs from files: one module a format, each of which returns `Statements`."""

from pathlib import Path
from typing import Literal

from metajax.data.fetch import is_verified
from metajax.data.readers import DataError
from metajax.knowledge.graph import KnowledgeGraph, add_triples, graph_from_names
from metajax.knowledge.readers.rdf import BASE, read_rdf, write_turtle
from metajax.knowledge.readers.statements import Statements, repeated
from metajax.knowledge.readers.tables import read_kg, read_link, read_tsv

__all__ = [
    "BASE",
    "ML_100K_LINK_SHA256",
    "Statements",
    "graph_of",
    "linked",
    "read_graph",
    "read_link",
    "read_statements",
    "repeated",
    "write_turtle",
]

Literals = Literal["error", "attributes"]

# RecBole's link file of MovieLens-100K, the item ids in which are MovieLens-20M's.
ML_100K_LINK_SHA256 = "524dca2c3d62619688ab99b3ec53ea2acb9b64d38eafec3e02bdd0dc6bb7d948"

_READERS = {".kg": read_kg, ".tsv": read_tsv, ".txt": read_tsv, ".ttl": read_rdf, ".nt": read_rdf}


def read_statements(path: str | Path) -> Statements:
    """Reads a file of triples in the format that its name ends in.

    Args:
        path: `.kg` (RecBole), `.tsv` or `.txt` (head, relation, tail), `.ttl` or `.nt` (RDF).

    Returns:
        Its statements.

    Raises:
        ImportError: If the format needs a package that is not installed.
        DataError: If no format fits, or the file is missing or not as described.
    """
    reader = _READERS.get(Path(path).suffix.lower())
    if reader is None:
        raise DataError(f"the name must end in one of {', '.join(_READERS)}.", file=path)
    return reader(path)


def graph_of(statements: Statements, *, literals: Literals = "error") -> KnowledgeGraph:
    """Makes a graph of what a file says.

    Args:
        statements: From `read_statements`.
        literals: What a literal is where an entity could stand: an error, or one of the
            `attributes` of the graph.

    Returns:
        The graph.

    Raises:
        ValueError: If `literals` is not legal.
        DataError: If there is a literal and must not be, or no triple.
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


def read_graph(
    path: str | Path, *, link: str | Path | None = None, literals: Literals = "error"
) -> KnowledgeGraph:
    """Reads a graph in the format that the file's name ends in.

    Args:
        path: As in `read_statements`.
        link: A RecBole `.link` file: which entity each item of a log is.
        literals: As in `graph_of`.

    Returns:
        The graph.

    Raises:
        ImportError: If the format needs a package that is not installed.
        DataError: If a file is missing or not as described, or a link leads to an entity that is
            not in the graph.
    """
    return linked(graph_of(read_statements(path), literals=literals), link)


def linked(graph: KnowledgeGraph, link: str | Path | None) -> KnowledgeGraph:
    """Adds the links of a `.link` file, if any, to a graph.

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

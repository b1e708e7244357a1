"""Provenance of triples in RDF: reified statements, in the terms of PROV-O.

In a file of its own, because a reader of graphs would take these statements for facts.

References:
    Lebo, Sahoo and McGuinness (eds.), PROV-O: The PROV Ontology, W3C Recommendation 2013.
    Brickley and Guha (eds.), RDF Schema 1.1, W3C Recommendation 2014, section 5.3.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metajax import storage
from metajax.knowledge.readers import iri_of, node_of, oxigraph

__all__ = ["Statement", "write_provenance"]

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_PROV = "http://www.w3.org/ns/prov#"
_XSD = "http://www.w3.org/2001/XMLSchema#"
# Datatypes of what is not text.
_TYPES = {"confidence": "decimal", "start": "integer", "end": "integer"}


class Statement(NamedTuple):
    """A triple and where it comes from."""

    triple: Sequence[str]
    """Head, relation and tail."""
    origin: Mapping[str, str]
    """With quote, time, batch, model and prompt; and more."""


def write_provenance(statements: Iterable[Statement], path: str | Path) -> None:
    """Writes the provenance of triples as Turtle.

    A statement is a `prov:Entity` with its quote as `prov:value`, its batch a `prov:Activity`
    associated with the model.

    Args:
        statements: The triples.
        path: The file to write.

    Raises:
        ImportError: If pyoxigraph is not installed.
        OSError: If the file cannot be written.
    """
    ox = oxigraph()

    written: dict[Any, None] = {}

    def add(node: Any, name: str, value: Any) -> None:
        written[ox.Triple(node, ox.NamedNode(name) if ":" in name else iri_of(name), value)] = None

    for (head, relation, tail), origin in statements:
        words = "\t".join([head, relation, tail, *origin.values()])
        node = iri_of(f"fact {hashlib.sha256(words.encode()).hexdigest()[:16]}")
        batch = iri_of(f"batch {origin['batch']}")
        add(node, f"{_RDF}type", ox.NamedNode(f"{_RDF}Statement"))
        add(node, f"{_RDF}type", ox.NamedNode(f"{_PROV}Entity"))
        for name, end in (
            ("subject", node_of(head)),
            ("predicate", iri_of(relation)),
            ("object", node_of(tail)),
        ):
            add(node, _RDF + name, end)
        add(node, f"{_PROV}value", ox.Literal(origin["quote"]))
        when = ox.Literal(origin["time"], datatype=ox.NamedNode(f"{_XSD}dateTime"))
        add(node, f"{_PROV}generatedAtTime", when)
        add(node, f"{_PROV}wasGeneratedBy", batch)
        for name, kind in _TYPES.items():
            if name in origin:
                literal = ox.Literal(origin[name], datatype=ox.NamedNode(_XSD + kind))
                add(node, name, literal)
        model = iri_of(f"model {origin['model']}")
        add(batch, f"{_RDF}type", ox.NamedNode(f"{_PROV}Activity"))
        add(batch, f"{_PROV}wasAssociatedWith", model)
        add(batch, "prompt", ox.Literal(origin["prompt"]))
        add(model, f"{_RDF}type", ox.NamedNode(f"{_PROV}SoftwareAgent"))
    prefixes = {"rdf": _RDF, "prov": _PROV, "": "urn:metajax:"}
    turtle: Any = ox.serialize(written, format=ox.RdfFormat.TURTLE, prefixes=prefixes)
    storage.write_file(Path(path), turtle)

"""Cases of knowledge graphs in every format, and of link files."""

import functools
import gzip
import lzma
import random
from pathlib import Path
from typing import Any

import pyoxigraph as ox

from metajax import knowledge
from metajax.knowledge import readers
from tests.fuzz import reference
from tests.fuzz.case import Case
from tests.fuzz.mutations import damaged, strange_text

__all__ = ["graph_case"]

_KG = ("head_id", "relation_id", "tail_id")


def graph_case(rng: random.Random) -> Case:
    """Draws a graph, a format, and perhaps damage."""
    return rng.choice((_kg, _tsv, _nt, _nt, _turtle, _link, _other, _other))(rng)


def _triples(rng: random.Random) -> list[tuple[str, str, str]]:
    names = [f"e{n}" for n in range(rng.randint(2, 6))]
    if rng.random() < 0.4:
        names.append(strange_text(rng).replace("\t", " ").replace("\n", " ").replace("\r", " "))
    relations = ["likes", "genre of", "ist"]
    return [
        (rng.choice(names), rng.choice(relations), rng.choice(names))
        for _ in range(rng.randint(1, 10))
    ]


def _statements(folder: Path, name: str) -> list[tuple[str, ...]]:
    return [tuple(triple) for triple in readers.read_statements(folder / name).triples]


def _kg(rng: random.Random) -> Case:
    head = "\t".join(f"{name}:token" for name in _KG)
    content = "\n".join([head, *map("\t".join, _triples(rng))]).encode(errors="surrogatepass")
    if rng.random() < 0.8:
        content = damaged(rng, content)
    expected = functools.partial(reference.triples, content, header=_KG)
    return Case("kg", {"g.kg": content}, lambda f: _statements(f, "g.kg"), expected)


def _tsv(rng: random.Random) -> Case:
    content = "\n".join(map("\t".join, _triples(rng))).encode(errors="surrogatepass")
    if rng.random() < 0.8:
        content = damaged(rng, content)
    name = rng.choice(("g.tsv", "g.txt"))
    expected = functools.partial(reference.triples, content, header=None)
    return Case("tsv", {name: content}, lambda f: _statements(f, name), expected)


_IRIS = ("http://x/a", "http://x/b", "urn:metajax:a%20b", "http://x/é", "urn:metajax:%00", "x:y")
_LITERALS = ('"a"', '"a\\n\\u00e9"', '"1"^^<http://www.w3.org/2001/XMLSchema#integer>', '"a"@en',
             '"a"@en-GB', '"\\U0001F600"', '""')  # fmt: skip


def _n_triples(rng: random.Random) -> bytes:
    lines = []
    for _ in range(rng.randint(1, 10)):
        head = rng.choice((*(f"<{iri}>" for iri in _IRIS), "_:b0", "_:x.y"))
        tail = rng.choice((*(f"<{iri}>" for iri in _IRIS), "_:b1", "_:x.y", *_LITERALS))
        lines.append(f"{head} <{rng.choice(_IRIS)}> {tail} .")
    if rng.random() < 0.2:
        lines.insert(rng.randrange(len(lines)), "# a comment")
    return rng.choice(("\n", "\n", "\r\n", "\r")).join(lines).encode()


def _nt(rng: random.Random) -> Case:
    content = _n_triples(rng)
    if rng.random() < 0.7:
        content = damaged(rng, content)

    def call(folder: Path) -> Any:
        found = readers.read_statements(folder / "g.nt")
        return [tuple(t) for t in found.triples], [tuple(a[:3]) for a in found.attributes]

    expected = functools.partial(reference.n_triples, content)
    return Case("nt", {"g.nt": content}, call, expected)


def _turtle(rng: random.Random) -> Case:
    content = b"@prefix x: <http://x/> .\n@prefix : <urn:metajax:> .\n" + _n_triples(rng)
    content += b'\nx:a :b x:c, "d", [ x:e 3 ] ; a x:f .\n:l x:m (1 2) .\n'
    if rng.random() < 0.9:
        content = damaged(rng, content)

    def call(folder: Path) -> Any:
        return len(knowledge.read_graph(folder / "g.ttl", literals="attributes").triples)

    return Case("turtle", {"g.ttl": content}, call)


# Endings and media types of RDF that pyoxigraph writes too.
_RDF = {".nq": "N_QUADS", ".trig": "TRIG", ".rdf": "RDF_XML", ".jsonld": "JSON_LD"}
_BOMB = b"""<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">
<!ENTITY e "&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;"><!ENTITY f "&e;&e;&e;&e;&e;&e;&e;&e;&e;&e;">
<!ENTITY g "&f;&f;&f;&f;&f;&f;&f;&f;&f;&f;"><!ENTITY h "&g;&g;&g;&g;&g;&g;&g;&g;&g;&g;">
<!ENTITY i SYSTEM "file:///etc/passwd">]>
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:x="http://x/">
<rdf:Description rdf:about="http://x/a"><x:b>&h;&i;</x:b></rdf:Description></rdf:RDF>"""
_REMOTE = b"""{"@context": "http://127.0.0.1:9/context.json", "@id": "http://x/a",
"http://x/b": {"@id": "http://x/c"}}"""


def _other(rng: random.Random) -> Case:
    """Other forms of RDF, CSV, compressed files and folders of parts."""
    kind = rng.choice((*_RDF, ".csv", ".csv.gz", ".nt.xz", "folder"))
    drawn = rng.choices(["abc", "bca", "cab", "acb"], k=rng.randint(1, 8))
    triples = [(f"http://x/{a}", f"http://x/{b}", f"http://x/{c}") for a, b, c in drawn]
    expected: list[tuple[str, ...]] | None = list(triples)
    files: dict[str, bytes | None]
    if kind in _RDF:
        nodes = [tuple(map(ox.NamedNode, triple)) for triple in triples]
        quads = [ox.Quad(*triple) for triple in nodes]
        form = getattr(ox.RdfFormat, _RDF[kind])
        content: Any = ox.serialize(quads, format=form)
        if rng.random() < 0.1:
            content, expected = rng.choice((_BOMB, _REMOTE)), None
    elif kind.startswith(".nt"):
        content = "".join(f"<{h}> <{r}> <{t}> .\n" for h, r, t in triples).encode()
    else:
        content = "\n".join(map(",".join, triples)).encode()
    if rng.random() < 0.7:
        content, expected = damaged(rng, content), None
    packed = {".gz": gzip.compress, ".xz": lzma.compress}.get(Path(kind).suffix, bytes)(content)
    files = {"g/train.csv": content, "g/test.csv": content} if kind == "folder" else {
        f"g{kind}": packed
    }  # fmt: skip
    name = "g" if kind == "folder" else f"g{kind}"
    if expected is not None and kind == "folder":
        expected = expected * 2

    def call(folder: Path) -> Any:
        return sorted(_statements(folder, name))

    known = None if expected is None else lambda: sorted(expected)
    return Case("rdf" if kind in _RDF else "graph files", files, call, known)


def _link(rng: random.Random) -> Case:
    rows = [f"i{n}\te{n}" for n in range(rng.randint(1, 5))]
    content = "\n".join(["item_id:token\tentity_id:token", *rows]).encode()
    if rng.random() < 0.8:
        content = damaged(rng, content)
    graph = "\n".join(f"e{n}\tr\te{n + 1}" for n in range(6)).encode()

    def call(folder: Path) -> Any:
        knowledge.read_graph(folder / "g.tsv", link=folder / "g.link")
        return readers.read_link(folder / "g.link")

    def expected() -> Any:
        found = reference.pairs(content, ("item_id", "entity_id"))
        if len({item for item, _ in found}) < len(found):
            raise reference.Refused("twice")
        if not all(field.strip() for pair in found for field in pair):
            raise reference.Refused("empty")
        if any(entity not in {f"e{n}" for n in range(7)} for _, entity in found):
            raise reference.Refused("unknown")
        return found

    return Case("link", {"g.tsv": graph, "g.link": content}, call, expected)

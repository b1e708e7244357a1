import gzip
import json
import sys

import numpy as np
import pytest

from metajax.data import DataError
from metajax.knowledge import (
    Attribute,
    fold_inverses,
    graph_from_names,
    labels_of,
    read_graph,
    read_link,
    write_turtle,
)
from metajax.knowledge.inspection import problems
from metajax.knowledge.readers import graph_of, parts_of, read_statements

FACTS = [("m.1", "film.genre", "Sci-Fi & more"), ("m.1", "film.director", "http://x/scott")]
KG = "head_id:token\trelation_id:token\ttail_id:token\n"
TURTLE = """@prefix x: <http://x/> .
@prefix : <urn:metajax:> .

:m.1 x:year 1979 ;
     x:title "Alien"@en ;
     x:by x:scott , [ x:name "Nobody" ] .
# An old one.
:m.2 x:by _:someone .
"""


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        file = tmp_path / name
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file

    return write


def named(graph):
    entity, relation = graph.entities.names, graph.relations.names
    return [(entity[h], relation[r], entity[t]) for h, r, t in graph.triples]


def same(left, right):
    assert left[3:] == right[3:]
    np.testing.assert_array_equal(left.triples, right.triples)


def test_all_formats_give_the_same_graph(write):
    lines = ["\t".join(fact) for fact in FACTS]
    expected = graph_from_names(FACTS)
    same(read_graph(write("a.kg", KG + "\n".join(lines))), expected)
    same(read_graph(write("a.tsv", "\n".join(lines))), expected)
    same(read_graph(write("b.tsv", "Head\tRelation\tTail\r\n" + "\r\n".join(lines))), expected)
    text = "".join(
        f"<urn:metajax:{h}> <urn:metajax:{r}> <{t}> .\n"
        for h, r, t in [(*FACTS[0][:2], "urn:metajax:Sci-Fi%20%26%20more"), FACTS[1]]
    )
    same(read_graph(write("a.nt", text)), expected)
    same(read_graph(write("a.ttl", text)), expected)


def test_a_literal_is_refused_or_kept_as_an_attribute(write):
    file = write("films.ttl", TURTLE)
    with pytest.raises(DataError) as caught:
        read_graph(file)
    assert str(caught.value) == (
        f"{file}: 3 literals where an entity is needed, the first of them '1979' as "
        "'http://x/year' of 'm.1'; literals='attributes' keeps them as attributes."
    )
    graph = read_graph(file, literals="attributes")
    assert graph.entities.names == ("_:b0", "_:b1", "http://x/scott", "m.1", "m.2")
    assert graph.attributes == (
        Attribute(3, "http://x/year", "1979", "http://www.w3.org/2001/XMLSchema#integer"),
        Attribute(3, "http://x/title", "Alien", "@en"),
        Attribute(0, "http://x/name", "Nobody"),
    )
    assert named(graph) == [
        ("m.1", "http://x/by", "_:b0"),
        ("m.1", "http://x/by", "http://x/scott"),
        ("m.2", "http://x/by", "_:b1"),
    ]
    with pytest.raises(ValueError, match="literals must be 'error' or 'attributes', got 'drop'"):
        read_graph(file, literals="drop")  # pyrefly: ignore


def test_a_graph_survives_turtle(tmp_path, write):
    odd = [
        "m.1",
        "a b",
        "Alien: Covenant",
        "http://x/y",
        "_:nobody else",
        "50%",
        "urn:metajax:q",
        "é",
    ]
    triples = [(one, f"r {n}", other) for n, one in enumerate(odd) for other in odd[n:]]
    attributes = [("a b", "title", 'in "quotes"\n', "@en"), ("e", "year", "1979", "http://x/year")]
    graph = graph_from_names(triples, attributes=attributes)
    write_turtle(graph, tmp_path / "odd.ttl")
    back = read_graph(tmp_path / "odd.ttl", literals="attributes")
    same(back._replace(attributes=()), graph._replace(attributes=()))
    assert set(back.attributes) == set(graph.attributes)
    # Blank nodes stay what they are, and are numbered anew.
    graph = read_graph(write("blank.ttl", TURTLE), literals="attributes")
    write_turtle(graph, tmp_path / "again.ttl")
    back = read_graph(tmp_path / "again.ttl", literals="attributes")
    nobody = {a.entity for a in back.attributes if a.value == "Nobody"}
    assert [back.entities.names[entity] for entity in nobody] in (["_:b0"], ["_:b1"])
    assert len(nobody & set(back.triples[back.triples[:, 0] == 3][:, 2].tolist())) == 1
    assert (len(named(back)), len(back.attributes)) == (3, 3)


def test_the_film_graph_survives_turtle(film_graph, tmp_path):
    graph = fold_inverses(film_graph)
    write_turtle(graph, tmp_path / "films.ttl")
    back = read_graph(tmp_path / "films.ttl")
    assert back.entities == graph.entities
    assert named(back) == sorted(named(graph))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.ttl", TURTLE + "x:a x:b x:c\nx:d x:e x:f .\n", "line 10, column 1: A dot is expected"),
        ("a.ttl", "x:a x:b x:c .", "line 1, column 1: The prefix x: has not been declared."),
        ("a.ttl", b"<a:b> <a:c> <a:\xff> .", "line 1, column 15: Invalid UTF-8"),
        ("a.nt", "<a:b> <a:c> <a:d> .\n<a:b> <a:c> .\n", "line 2, column 13: "),
        ("a.ttl", "", ": there is no triple."),
        ("a.nt", '<a:b> <a:c> << <a:d> <a:e> "f" >> .', "line 1"),
        ("a.kg", KG + "a\tr\tb\na\tr\n", "line 3: must have 3 fields (head_id:token, "),
        ("a.kg", KG + "a\tr\tb\na\t \tb\n", "line 3, column 'relation_id': a name must not be emp"),
        ("a.kg", "head\trelation\ttail\n", "line 1: no column 'head_id'; found head, relation, t"),
        ("a.kg", KG, ": there is no triple."),
        ("a.tsv", "a\tr\n", "line 1: must have 3 fields (head, relation, tail), got 2."),
        ("a.tsv", "", ": the file is empty."),
        ("a.csv", "a,r\n", "a.csv, line 1: must have 3 fields (head, relation, tail), got 2."),
        ("a.csv", "s,p,o\na,r,b\na,r\n", "a.csv, line 3: must have 3 fields (s, p, o), got 2."),
        ("a.xls", "a,r,b", "a.xls: the name must end in one of .kg, .tsv, .txt, .csv, .ttl, .nt"),
        ("a.tsv", "a\tr\tb\na\t\u00a0\tb\n", "line 2, column 'relation': a name must not be empty"),
        ("a.ttl", "<a:b> <a:c> <a:d> .\n<< <a:d> <a:e> <a:f> >> <a:g> <a:h> .", "line 2: stateme"),
        ("a.nt", "<a:b> <a:c> <a:d> .\n<a:b> <a:c> <<( <a:d> <a:e> <a:f> )>> .", "line 2: stateme"),
        ("a.ttl.gz", "<a:b>", "a.ttl.gz: cannot be decompressed"),
        ("a.rdf", "<a>", "a.rdf: "),
        ("a.jsonld", "{", "a.jsonld"),
    ],
)
def test_a_malformed_file_is_refused_with_its_position(write, name, text, message):
    file = write(name, text)
    with pytest.raises(DataError) as caught:
        read_graph(file)
    assert str(caught.value).startswith(str(file))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


RDF = "http://x/"
LINKS = [("by", "c"), ("in", "b")]
XML = f"""<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:x="{RDF}">
<rdf:Description rdf:about="{RDF}a"><x:by rdf:resource="{RDF}c"/><x:in rdf:resource="{RDF}b"/>
</rdf:Description></rdf:RDF>"""
TRIPLES = f"<{RDF}a> <{RDF}by> <{RDF}c> .\n<{RDF}a> <{RDF}in> <{RDF}b> .\n"
ROWS = "a\tby\tc\na\tin\tb\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", ROWS),
        ("a.tsv", "\ufeffsubject\tpredicate\tobject\n" + ROWS),
        ("a.tsv", "S\tP\tO\r\n" + ROWS.replace("\n", "\r\n")),
        ("a.tsv", "tail\trelation\thead\nc\tby\ta\nb\tin\ta\n"),
        ("a.tsv", ROWS.replace("c", "c ").replace("a\tin", "\u00a0a\tin\u00a0")),
        ("a.txt", ROWS.replace("\t", " ")),
        ("a.csv", ROWS.replace("\t", ",")),
        ("a.csv", 'weight,Subject,Predicate,Object\n1,a,"by",c\n2,a,in,b\n'),
        ("a.tsv.gz", gzip.compress(ROWS.encode(), mtime=0)),
        ("a.nt", TRIPLES),
        ("a.nt", TRIPLES.replace("\n", "\r")),
        ("a.nt.gz", gzip.compress(TRIPLES.encode(), mtime=0)),
        ("a.nq", TRIPLES.replace(" .", f" <{RDF}graph> .")),
        ("a.ttl", "\ufeff" + TRIPLES),
        ("a.trig", f"<{RDF}g> {{ {TRIPLES} }}"),
        ("a.rdf", XML),
        ("a.owl", XML),
        (
            "a.jsonld",
            json.dumps({"@id": f"{RDF}a", **{RDF + r: {"@id": RDF + t} for r, t in LINKS}}),
        ),
    ],
)
def test_one_graph_reads_the_same_in_every_format(write, name, content):
    graph = read_graph(write(name, content))
    short = [tuple(end.removeprefix(RDF) for end in triple) for triple in named(graph)]
    assert sorted(short) == [("a", "by", "c"), ("a", "in", "b")]


def test_relative_iris_are_relative_to_the_file_or_a_base(write):
    file = write("a.ttl", "<alien> <by> <scott> .")
    assert named(read_graph(file)) == [
        tuple(file.with_name(name).as_uri() for name in ("alien", "by", "scott"))
    ]
    graph = read_graph(file, base_iri="http://x/films/")
    assert named(graph) == [tuple(f"http://x/films/{name}" for name in ("alien", "by", "scott"))]
    with pytest.raises(DataError, match=r"a\.ttl: "):
        read_graph(file, base_iri="films")


def test_names_that_spaces_alone_tell_apart_are_one(write):
    rows = "Alien\tby\tScott\nAlien\u00a0\tin\tDeep\u00a0Space \nDeep Space\tis\ta  b\n"
    statements = read_statements(write("a.tsv", rows))
    graph = graph_of(statements)
    assert graph.entities.names == ("Alien", "Deep Space", "Scott", "a b")
    assert problems(graph, statements)[0] == (
        "3 names had spaces around them, or others than one plain space within, and have no more: "
        "'Alien\\xa0', 'Deep\\xa0Space ', 'a  b'"
    )


def test_columns_that_are_not_used_are_named(write):
    text = "weight,Subject,Predicate,Object,when\n1,a,by,c,x\n"
    statements = read_statements(write("a.csv", text))
    assert "columns are not used: 'weight', 'when'" in problems(graph_of(statements), statements)


def test_labels_are_kept_where_other_literals_are_refused(write):
    prefix = "@prefix x: <http://x/> . @prefix s: <http://www.w3.org/2000/01/rdf-schema#> .\n"
    text = 'x:a x:by x:c ; s:label "Alien"@de, "Alien (film)"@en, "A" . x:by s:label "made by" .'
    graph = read_graph(write("a.ttl", prefix + text))
    assert labels_of(graph) == {"http://x/a": "Alien (film)", "http://x/by": "made by"}
    with pytest.raises(DataError, match="1 literals where an entity is needed"):
        read_graph(write("b.ttl", prefix + text + " x:a x:year 1979 ."))


def test_files_of_a_split_are_read_together(tmp_path):
    for name, rows in (("train", ROWS), ("valid", "a\tby\tb\n"), ("test", "b\tin\tc\n")):
        (tmp_path / f"{name}.txt").write_text(rows)
    statements = read_statements(tmp_path)
    graph = graph_of(statements)
    parts = parts_of(graph, statements)
    assert parts is not None
    assert [len(named(part)) for part in parts] == [2, 1, 1]
    assert {part.entities.names for part in parts} == {("a", "b", "c")}
    (tmp_path / "test.txt").unlink()
    with pytest.raises(DataError, match=r"must hold files train and test, .* found train\.txt, v"):
        read_graph(tmp_path)


def test_an_item_is_linked_once_to_a_known_entity(write):
    graph = write("a.kg", KG + "a\tr\tb\n")
    link = write("a.link", "item_id:token\tentity_id:token\n7\tb\n9\ta\n")
    assert read_graph(graph, link=link).links == (("7", 1), ("9", 0))
    twice = write("b.link", "item_id:token\tentity_id:token\n7\tb\n7\ta\n")
    with pytest.raises(DataError, match=r"line 3, column 'item_id': '7' is linked twice"):
        read_link(twice)
    rows = "".join(f"{n}\tm.{n}\n" for n in range(6))
    unknown = write("c.link", "item_id:token\tentity_id:token\n" + rows)
    with pytest.raises(DataError) as caught:
        read_graph(graph, link=unknown)
    assert str(caught.value) == (
        f"{unknown}: links must point to entities of the graph, got 6 unknown: "
        "'m.0', 'm.1', 'm.2', 'm.3', 'm.4', ...."
    )


def test_statements_have_lines_where_the_format_has_them(write):
    text = '# films\n\n<a:b> <a:c> <a:d> .\n<a:b> <a:c> "e" .\n<a:b> <a:c> <a:f> . # last\n'
    assert read_statements(write("a.nt", text)).lines == [3, 5]
    assert read_statements(write("a.ttl", text)).lines is None
    lines = read_statements(write("a.kg", KG + "a\tr\tb\nb\tr\ta\n")).lines
    assert lines is not None
    assert list(lines) == [2, 3]


def test_turtle_without_pyoxigraph_names_the_extra(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyoxigraph", None)
    with pytest.raises(ImportError, match=r"needs pyoxigraph: pip install 'metajax\[kg\]'\.$"):
        read_graph(write("a.ttl", ""))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.ttl: no such file"):
        read_graph(tmp_path / "nothing.ttl")

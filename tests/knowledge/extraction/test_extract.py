"""The whole: from texts to a reviewed graph."""

import collections
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from metajax.knowledge import read_graph
from metajax.knowledge.extraction import (
    Relation,
    Schema,
    Text,
    extract,
    precision_recall,
    review,
)
from metajax.knowledge.extraction.schema import folded
from metajax.locks import LockedError
from tests.knowledge.extraction.chat_server import Fault
from tests.knowledge.extraction.conftest import FILMS, KEY

GRAPHS = ("graph.tsv", "graph.ttl", "provenance.ttl")


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_well_formed_answers_give_precise_facts(texts, labels, schema, settings, tmp_path):
    """Precision and recall of the pipeline on authored answers, which are no model's."""
    found = extract(texts, schema, tmp_path, settings=settings(), accept_above=0.9)
    values = precision_recall(found.review.triples, labels)
    for relation in ("directed_by", "genre"):
        assert values[relation].precision >= 0.95, values
        assert values[relation].recall >= 0.8, values
    # What was refused is named.
    assert found.refused["the quote is not in the text"] == 1
    assert found.refused["the relation is not in the schema"] == 2
    assert found.refused["the value is not one of the relation's"] == 2
    assert found.refused["the value is not in the quote"] == 1
    assert (found.requests, found.unasked, found.stopped, found.failed) == (60, 0, "", {})


def test_spellings_become_one_name_and_nothing_is_there_twice(texts, schema, settings, tmp_path):
    found = extract(texts, schema, tmp_path, settings=settings(), accept_above=0.0)
    merges = {(merge.name, merge.resolved) for _, merge in found.review.merges}
    assert ("Stanley Kubrik", "Stanley Kubrick") in merges
    assert ("Steven Speilberg", "Steven Spielberg") in merges
    assert ("Kubrick, Stanley", "Stanley Kubrick") in merges
    triples = found.review.triples
    distinct = {(item, relation, folded(tail)) for item, relation, tail in triples}
    assert 1 - len(distinct) / len(triples) < 0.01
    assert ("f48", "directed_by", "Stanley Kubrick") in triples


def test_the_same_texts_are_the_same_files_at_no_cost(texts, schema, settings, server, tmp_path):
    server.always[""] = Fault(seconds=0.01)
    first = extract(texts, schema, tmp_path / "a", settings=settings(), accept_above=0.9)
    files = contents(tmp_path / "a")
    assert {*GRAPHS, "schema.toml", "answers.jsonl", "facts.csv", "names.csv"} == set(files)
    again = extract(texts, schema, tmp_path / "a", settings=settings(), accept_above=0.9)
    assert len(server.requests) == 60
    assert again._replace(requests=60) == first
    assert contents(tmp_path / "a") == files
    # In another order of answers the triples are the same, in the same order.
    changes = {"concurrency": 9, "texts_per_request": 7}
    other = extract(texts, schema, tmp_path / "b", settings=settings(**changes), accept_above=0.9)
    assert other.review.triples == first.review.triples
    assert [fact[:7] for fact in other.facts] == [fact[:7] for fact in first.facts]


def test_the_graph_is_read_back_from_both_files(texts, schema, settings, tmp_path):
    found = extract(texts, schema, tmp_path, settings=settings(), accept_above=0.9)
    wanted = set(found.review.triples)
    assert len(wanted) > 150
    for name in ("graph.tsv", "graph.ttl"):
        graph = read_graph(tmp_path / name)
        names, relations = graph.entities.names, graph.relations.names
        assert {(names[h], relations[r], names[t]) for h, r, t in graph.triples} == wanted


def test_the_provenance_of_each_triple_is_written(texts, schema, settings, tmp_path):
    import pyoxigraph as ox

    found = extract(texts, schema, tmp_path, settings=settings(), accept_above=0.9)
    text = {one.item: one.text for one in texts}
    header, *rows = [line.split("\t") for line in (tmp_path / "graph.tsv").read_text().splitlines()]
    for row in rows:
        cell = dict(zip(header, row, strict=True))
        passage = text[cell["head"]][int(cell["start"]) : int(cell["end"])]
        assert " ".join(passage.split()) == cell["quote"]
        assert (cell["model"], cell["batch"]) == ("recorded", found.batch)
        assert cell["prompt"].startswith("1.")
        assert cell["time"].endswith("+00:00")
        assert 0.9 <= float(cell["confidence"]) <= 1
    store = ox.Store()
    store.load(path=str(tmp_path / "provenance.ttl"), format=ox.RdfFormat.TURTLE)
    query = """
        PREFIX rdf: <http://www.w3.org/1999/02/22-rdf-syntax-ns#>
        PREFIX prov: <http://www.w3.org/ns/prov#>
        SELECT ?quote ?model ?time WHERE {
          ?s a rdf:Statement ; rdf:subject <urn:metajax:f01> ;
             rdf:predicate <urn:metajax:directed_by> ; rdf:object <urn:metajax:Ridley%20Scott> ;
             prov:value ?quote ; prov:generatedAtTime ?time ; prov:wasGeneratedBy ?batch .
          ?batch prov:wasAssociatedWith ?model }
    """
    found_rows: Any = store.query(query)
    (solution,) = found_rows
    assert "Ridley Scott directed" in solution["quote"].value
    assert solution["model"].value == "urn:metajax:model%20recorded"


def test_batches_are_withdrawn_whole(texts, schema, settings, tmp_path):
    by_rules = extract(texts, schema, tmp_path, accept_above=0.9)
    alone = contents(tmp_path)
    by_model = extract(texts, schema, tmp_path, settings=settings(), accept_above=0.9)
    both = set(by_model.review.triples)
    assert by_rules.batch != by_model.batch
    assert both > set(by_rules.review.triples)
    rest = review(tmp_path, accept_above=0.9, withdraw=by_model.batch)
    assert rest.triples == by_rules.review.triples
    after = contents(tmp_path)
    # Nothing of the other batch is left, but the answers that were paid for.
    assert {name: after[name] for name in alone} == alone
    rest = review(tmp_path, accept_above=0.9, withdraw=by_rules.batch)
    assert (rest.rows, rest.triples) == ((), [])
    assert not any((tmp_path / name).exists() for name in GRAPHS)
    with pytest.raises(ValueError, match="no batch 'x'; there are none"):
        review(tmp_path, withdraw="x")


def test_a_budget_ends_a_run_that_goes_on_later(texts, schema, settings, tmp_path):
    found = extract(texts, schema, tmp_path, settings=settings(most_tokens=20_000))
    assert found.stopped == "the budget of 20,000 tokens"
    assert found.unasked == 60 - found.requests > 0
    assert sum(found.usage) <= 20_000
    some = found.facts
    rest = extract(texts, schema, tmp_path, settings=settings())
    assert rest.batch == found.batch
    assert rest.requests == found.unasked
    assert rest.facts[: len(some)] == some or set(some) < set(rest.facts)


def test_contradictions_are_reported_and_wait_for_a_person(settings, server, tmp_path):
    schema = Schema((Relation("by", most=1, patterns=("directed by {names}",)),))
    texts = [
        Text("1", "Directed by Ann Lee, and also directed by Bo Li."),
        Text("2", "Directed by Ann Lee. Directed by ANN LEE."),
    ]
    found = extract(texts, schema, tmp_path, accept_above=0.0)
    assert found.review.contradictions == (("1", "by", ("Ann Lee", "Bo Li")),)
    assert found.review.triples == [("2", "by", "Ann Lee")]
    lines = (tmp_path / "facts.csv").read_text().splitlines()
    assert sum("one of 2" in line for line in lines) == 2
    decided = [line.replace(",1,by,Bo Li", "rejected,1,by,Bo Li", 1) for line in lines]
    (tmp_path / "facts.csv").write_text("\n".join(decided) + "\n")
    after = review(tmp_path, accept_above=0.0)
    assert after.contradictions == ()
    assert after.triples == [("1", "by", "Ann Lee"), ("2", "by", "Ann Lee")]


def test_what_cannot_be_extracted_is_refused(texts, schema, tmp_path):
    with pytest.raises(ValueError, match="texts must have at least one text"):
        extract([], schema, tmp_path)
    with pytest.raises(ValueError, match="is not confirmed: check it, and write confirmed = true"):
        extract(texts, Schema(schema.relations, confirmed=False), tmp_path)
    with pytest.raises(ValueError, match="neither patterns nor values"):
        extract(texts, Schema((Relation("by"),)), tmp_path)


def test_a_folder_is_worked_on_by_one_process(texts, schema, tmp_path):
    from metajax import locks

    tmp_path.mkdir(exist_ok=True)
    held = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); "
         "print(1, flush=True); input()", str(tmp_path / "lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert held.stdout is not None
    held.stdout.readline()
    try:
        with pytest.raises(LockedError):
            extract(texts, schema, tmp_path)
    finally:
        held.communicate(b"\n")
    with locks.locked(tmp_path):
        pass


PROGRAM = """
import sys
from metajax.knowledge.extraction import EndpointSettings, extract, read_schema, read_texts
films, endpoint, folder = sys.argv[1:]
settings = EndpointSettings("recorded", endpoint=endpoint, concurrency=3)
found = extract(
    read_texts(films + "/descriptions.csv").texts, read_schema(films + "/schema.toml"), folder,
    settings=settings, accept_above=0.9,
)
print(found.requests)
"""


def test_a_killed_run_goes_on_and_asks_nothing_twice(texts, schema, settings, server, tmp_path):
    whole = extract(texts, schema, tmp_path / "whole", settings=settings(), accept_above=0.9)
    server.requests.clear()
    server.always[""] = Fault(seconds=0.05)
    command = [sys.executable, "-c", PROGRAM, str(FILMS), server.endpoint, str(tmp_path / "killed")]
    process = subprocess.Popen(command, env={**os.environ, "OPENAI_API_KEY": KEY})
    limit = time.monotonic() + 60
    while len(server.requests) < 20 and time.monotonic() < limit:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    asked = len(server.requests)
    assert 20 <= asked < 60
    kept = len((tmp_path / "killed" / "answers.jsonl").read_bytes().splitlines())
    found = extract(texts, schema, tmp_path / "killed", settings=settings(), accept_above=0.9)
    # At most those that were under way are asked for again.
    assert found.requests == 60 - kept <= 60 - asked + 3
    again = collections.Counter(server.texts)
    assert sum(count - 1 for count in again.values()) <= 3
    assert found.review.triples == whole.review.triples
    for name in ("names.csv", "graph.ttl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_decisions_are_kept_by_the_next_run(texts, schema, settings, tmp_path):
    extract(texts, schema, tmp_path, settings=settings())
    assert not (tmp_path / "graph.tsv").exists()  # Nothing is accepted by itself.
    asked = []

    def decide(row, tail, left):
        asked.append((row.fact.confidence, left))
        if len(asked) > 3:
            return None
        return "rejected" if len(asked) == 2 else "accepted"

    decided = review(tmp_path, decide=decide)
    assert len(decided.triples) == 2
    confidences = [confidence for confidence, _ in asked]
    assert confidences == sorted(confidences, reverse=True)
    lefts = [left for _, left in asked]
    assert lefts == [len(decided.rows) - n for n in range(4)]
    again = extract(texts, schema, tmp_path, settings=settings())
    assert again.review.triples == decided.triples
    assert [row.decision for row in again.review.rows].count("rejected") == 1

    def interrupted(row, tail, left):
        if len(asked) > 5:
            raise KeyboardInterrupt
        asked.append((0, 0))
        return "accepted"

    with pytest.raises(KeyboardInterrupt):
        review(tmp_path, decide=interrupted)
    assert len(review(tmp_path).triples) == 4


def test_recorded_answers_are_of_the_texts(recorded, texts, labels):
    assert len(texts) == 60
    assert {head for head, _, _ in labels} == {text.item for text in texts}
    assert json.loads((FILMS / "answers.json").read_text()).keys() == {t.item for t in texts}

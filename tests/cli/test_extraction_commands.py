"""`metajax graph extract` and `metajax graph review` as a person types them."""

import io
import json

import pytest

from metajax import cli
from metajax.knowledge import read_graph
from tests.knowledge.extraction.chat_server import ChatServer, Fault
from tests.knowledge.extraction.conftest import FILMS, KEY

TEXTS, SCHEMA = FILMS / "descriptions.csv", FILMS / "schema.toml"


@pytest.fixture
def server(monkeypatch):
    by_item = json.loads((FILMS / "answers.json").read_text())
    lines = dict(zip(by_item, TEXTS.read_text().splitlines()[1:], strict=True))
    answers = {item: by_item[item] for item in lines}
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def answering(text):
        return next(
            (a for item, a in answers.items() if text.replace('"', '""') in lines[item]), []
        )

    server = ChatServer(answering)
    yield server
    server.close()


@pytest.fixture
def run(capsys, tmp_path):
    """Runs `metajax graph`; returns the exit status and what it printed."""

    def run(*arguments):
        status = cli.main(["graph", *map(str, arguments)])
        printed = capsys.readouterr()
        return status, printed.out.replace(str(tmp_path), "DIR"), printed.err

    return run


@pytest.fixture
def extract(run, tmp_path):
    def extract(*options):
        return run(
            "extract", TEXTS, f"--schema={SCHEMA}", f"--output={tmp_path / 'facts'}", *options
        )

    return extract


@pytest.fixture
def model(server):
    return ["--model=recorded", f"--endpoint={server.endpoint}", "--backoff=0.001"]


def test_rules_need_no_model(extract):
    status, out, err = extract(f"--truth={FILMS / 'labels.tsv'}")
    assert status == 0
    assert "metajax: " not in err
    assert "Batch rules-" in out
    table = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert {"directed_by", "genre", "actor"} <= table.keys()
    assert 0.5 < float(table["genre"][0]) <= 1
    assert "Next: decide in DIR/facts/facts.csv, or metajax graph review DIR/facts --ask, or" in out


def test_a_model_is_asked_with_a_bar_and_its_cost(extract, model, server, tmp_path):
    prices = ["--price-input=1", "--price-output=2"]
    status, out, err = extract(*model, *prices, "--accept-above=0.9")
    assert status == 0
    assert "Extracting 60/60" in err
    assert "tokens  cost 0." in err
    assert "60 responses in this run; the folder has used " in out
    assert "1 claims left out: the quote is not in the text." in out
    assert "person: Stanley Kubrik is Stanley Kubrick (distance, 0.93)" in out
    assert read_graph(tmp_path / "facts" / "graph.ttl").count > 150
    status, out, _ = extract(*model, *prices, "--accept-above=0.9")
    assert "0 responses in this run" in out
    assert len(server.requests) == 60
    assert KEY not in out + err


def test_a_budget_ends_with_a_line_and_a_status(extract, model):
    status, _, err = extract(*model, "--most-tokens=20000")
    assert status == 2
    assert "metajax: the budget of 20,000 tokens ends the run: " in err
    assert extract(*model)[0] == 0


def test_texts_without_an_answer_are_named(extract, model, server):
    server.always["a freighter"] = Fault(content="no")
    status, _, err = extract(*model)
    assert status == 2
    assert "metajax: 1 texts have no usable answer; a later run asks again:" in err
    assert "metajax: f01: the answer is not JSON" in err


def test_facts_are_reviewed_in_the_terminal(extract, run, tmp_path, monkeypatch):
    extract()
    folder = tmp_path / "facts"
    monkeypatch.setattr("sys.stdin", io.StringIO("a\nwhat\nr\ns\nq\n"))
    status, out, _ = run("review", folder, "--ask")
    assert status == 0
    assert out.count(" left. f") == 4
    assert "1 triples: DIR/facts/graph.tsv" in out
    assert read_graph(folder / "graph.tsv").count == 1
    rows = (folder / "facts.csv").read_text().splitlines()[1:]
    assert sorted(row.partition(",")[0] for row in rows if row[0] != ",") == [
        "accepted",
        "rejected",
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run("review", folder, "--ask")[0] == 0


def test_accepted_facts_join_a_graph(extract, run, tmp_path):
    _, out, _ = extract("--accept-above=0.5")
    batch = out.split()[1].rstrip(":")
    curated = tmp_path / "curated.tsv"
    curated.write_text("film:f01\tdirected_by\tRIDLEY SCOTT\nfilm:x\tdirected_by\tMe\n")
    words = ["review", tmp_path / "facts", "--accept-above=0.5", f"--graph={curated}"]
    status, out, _ = run(*words, "--item-prefix=film:", f"--output={tmp_path / 'both.ttl'}")
    assert status == 0
    both = read_graph(tmp_path / "both.ttl")
    names = both.entities.names
    triples = {(names[h], both.relations.names[r], names[t]) for h, r, t in both.triples}
    # The curated spelling, and so no second director.
    assert {t for h, r, t in triples if (h, r) == ("film:f01", "directed_by")} == {"RIDLEY SCOTT"}
    assert len([h for h, *_ in triples if h.startswith("film:f")]) > 60
    status, out, _ = run("review", tmp_path / "facts", f"--withdraw={batch}", "--accept-above=0")
    assert status == 0
    assert not (tmp_path / "facts" / "graph.tsv").exists()


def test_relations_are_proposed_and_confirmed(run, model, server, tmp_path, monkeypatch):
    relation = {"name": "directed_by", "description": "d", "values": [], "most": 0}
    server.always["freighter"] = Fault(content=json.dumps({"relations": [relation]}))
    proposed = tmp_path / "proposed.toml"
    words = ["extract", TEXTS, f"--schema={proposed}", f"--output={tmp_path / 'f'}", *model]
    status, out, err = run(*words, "--propose", "--items=films")
    assert status == 2
    assert "  directed_by: d" in out
    assert f"nothing is extracted: check {proposed}, write confirmed = true" in err
    status, _, err = run(*words)
    assert status == 2
    assert "the schema was proposed by a model and is not confirmed" in err
    assert len(server.requests) == 1
    proposed.unlink()
    terminal = io.StringIO("y\n")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    del server.always["freighter"]
    server.faults.append(("freighter", Fault(content=json.dumps({"relations": [relation]}))))
    status, out, _ = run(*words, "--propose", "--items=films")
    assert status == 0
    assert "confirmed = true" in proposed.read_text()
    assert len(server.requests) == 62


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--endpoint=http://h/v1"], "--endpoint belongs to --model, which is missing."),
        (["--propose"], "--propose belongs to --model, which is missing."),
        (["--model=m", "--endpoint=h"], "endpoint must be an address such as"),
        (["--model=m", "--concurrency=2.5"], "concurrency must be a whole number, got 2.5."),
        (["--accept-above=2"], "accept_above must be 0 to 1, got 2.0."),
        (["--text-columns=plots"], "no column 'plots'; known are"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(extract, words, message):
    status, _, err = extract(*words)
    assert status == 2
    assert message in err
    assert len([line for line in err.splitlines() if line.startswith("metajax:")]) == 1


def test_mistakes_of_a_review_are_one_line(run, extract, tmp_path):
    status, _, err = run("review", tmp_path)
    assert (status, "is no folder of `metajax graph extract`" in err) == (2, True)
    extract()
    facts = tmp_path / "facts" / "facts.csv"
    whole = facts.read_text()
    for words, message in (
        (["--output=x.ttl"], "--graph and --output belong together"),
        (["--graph=ml-100k", "--output=x.tsv"], "--output must end in .ttl, got x.tsv."),
        (["--withdraw=x"], "no batch 'x'; there are rules-"),
    ):
        status, _, err = run("review", tmp_path / "facts", *words)
        assert (status, message in err) == (2, True), err
    facts.write_text(whole.replace("\n,", "\nperhaps,", 1))
    status, _, err = run("review", tmp_path / "facts")
    assert (status, err.count("\n")) == (2, 1)
    assert "facts.csv, line 2, column 'decision': must be accepted, rejected or empty" in err

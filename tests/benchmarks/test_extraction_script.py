import argparse
import importlib
from pathlib import Path

import numpy as np
import pytest

from metajax.data.dataset import Dataset, Table
from metajax.data.interactions import from_columns
from metajax.knowledge import graph_from_names

USERS, FILMS = 24, 40


@pytest.fixture(scope="module")
def scripts():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
        yield tuple(importlib.import_module(name) for name in ("extraction", "cold_item_data"))


@pytest.fixture(scope="module")
def graph():
    """Six directors, and writers of two films each."""
    triples = [(f"m{n}", "film.directed_by", f"d{n % 6}") for n in range(FILMS)]
    triples += [(f"m{n}", "film.written_by", f"w{n // 2}") for n in range(FILMS)]
    triples += [(f"m{n}", "film.country", f"c{n % 2}") for n in range(FILMS)]
    triples += [(f"m{n}", "award_won", f"a{n % 3}") for n in range(0, FILMS, 2)]
    links = [(f"{n:02d}", f"m{n}") for n in range(FILMS)]
    return graph_from_names(triples, links=links)


def test_the_texts_are_measured(scripts, tmp_path):
    script, _ = scripts
    path = tmp_path / "out.json"
    records = script.main(["--parts", "texts", "--json", str(path)])
    found = {(r["extractor"], r["relation"]): r for r in records}
    assert found["recorded answers, authored", "directed_by"]["precision"] >= 0.95
    assert 0.4 < found["rules", "directed_by"]["recall"] < 1
    assert len(records) == 6
    assert path.exists()
    with pytest.raises(SystemExit):
        script.main(["--precision", "0"])


def test_the_texts_are_compared_with_facts_of_a_data_set(scripts, tmp_path):
    script, _ = scripts
    (tmp_path / "movies.dat").write_text(
        "1::Alien (1979)::Horror|Sci-Fi\n2::Fargo (1996)::Western\n3::Alien (1999)::War\n",
        encoding="latin-1",
    )
    (tmp_path / "ratings.dat").write_text("1::1::5::10\n1::2::3::11\n2::1::4::12\n")
    facts = [("film:1", "directed_by", "RIDLEY SCOTT"), ("film:1", "directed_by", "An Other")]
    facts += [("film:2", "directed_by", "Joel Coen"), ("film:1", "actor", "Sigourney Weaver")]
    (tmp_path / "graph.tsv").write_text("".join("\t".join(fact) + "\n" for fact in facts))
    records = script.main(["--parts", "facts", "--facts", str(tmp_path)])
    found = {(r["extractor"], r["relation"]): r for r in records}
    assert {relation for _, relation in found} == {"directed_by", "genre"}
    director = found["labels", "directed_by"]
    assert (director["precision"], director["found"], director["true"]) == (1.0, 2, 3)
    assert (director["recall"], director["stated_recall"]) == (0.6667, 1.0)
    # Fargo's own genres are none of Alien's two and no Western.
    genre = found["labels", "genre"]
    assert (genre["recall"], genre["stated_recall"], genre["true"]) == (0.6667, 1.0, 3)
    assert genre["found"] > 2
    assert genre["precision"] == pytest.approx(2 / genre["found"], abs=1e-4)
    with pytest.raises(SystemExit):
        script.main(["--parts", "facts"])


def test_wrong_triples_are_wrong_and_as_many_as_asked(scripts, graph):
    script, _ = scripts
    rng = np.random.default_rng(0)
    both = script.with_wrong(graph, graph.triples, 0.1, rng)
    wrong = {tuple(t) for t in both[graph.count :].tolist()}
    assert len(wrong) == round(0.1 * graph.count)
    assert not wrong & {tuple(t) for t in graph.triples.tolist()}
    for _, relation, tail in wrong:
        assert tail in graph.triples[graph.triples[:, 1] == relation][:, 2]


def test_simulated_extraction_has_the_precision_and_recall_asked_for(scripts, graph):
    script, _ = scripts
    films = np.array([graph.entities.index[f"m{n}"] for n in range(FILMS)])
    made = script.variants(graph, films, 0.9, 0.7, 0)
    true = {tuple(t) for t in graph.triples.tolist()}
    names = graph.relations.names
    told = {t for t in true if names[t[1]].split(".")[-1] in script.STATED}
    (extracted,) = (one for name, one in made.items() if name.startswith("extracted"))
    found = {tuple(t) for t in extracted.triples.tolist()}
    assert len(found & told) / len(found) == pytest.approx(0.9, abs=0.01)
    assert len(found & told) / len(told) == pytest.approx(0.7, abs=0.1)
    assert found & true == found & told
    half = made[script.HALF]
    assert 0.45 < half.count / graph.count < 0.55
    both = made[f"{script.HALF} and extracted"]
    assert {tuple(t) for t in both.triples.tolist()} == found | {
        tuple(t) for t in half.triples.tolist()
    }


def test_films_are_ranked_with_each_graph(scripts, graph):
    script, data = scripts
    rng = np.random.default_rng(0)
    user, item = np.nonzero(rng.random((USERS, FILMS)) < 0.7)
    rating = np.where(item % 6 == user % 6, 5.0, 2.0)
    ids = np.array([f"{n:02d}" for n in range(FILMS)])
    people = np.array([f"{n:02d}" for n in range(USERS)])
    log = from_columns(user, item, rating, user_ids=people, item_ids=ids)
    columns = {
        "genres": rng.choice(["Drama", "Crime"], FILMS),
        "year": rng.choice(["1994", "1995"], FILMS),
    }
    items = Table(ids, columns, {"genres": "tokens", "year": "numeric"})
    users = Table(people, {"name": np.array([""] * USERS)}, {"name": "text"})
    about = data.Described(Dataset("films", log, users, items, (1.0, 5.0)), graph)
    options = argparse.Namespace(precision=0.95, recall=0.9, seeds=1)
    records = script.of_engine(about, graph, "ridge", options)
    mean = {(r["graph"], r["against"]): r["mean"] for r in records}
    assert len(records) == 7 * 4 - 3
    assert mean[script.CURATED, script.PLAIN] > 0.2
    assert mean[f"{script.HALF} and extracted", script.HALF] > 0

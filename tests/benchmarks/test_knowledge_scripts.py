import importlib
from pathlib import Path

import numpy as np
import pytest

from metajax import knowledge


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module


def test_a_triple_arrives_with_its_later_entity(script):
    arrivals, data = script("arrivals"), script("knowledge_data")
    rng = np.random.default_rng(0)
    train, valid, test = (rng.integers(0, (10, 2, 10), (count, 3)) for count in (40, 5, 20))
    names = tuple(map(str, range(10)))
    split = data.Split(train, valid, test, names, ("r", "s"))
    graph = arrivals.entities_arriving(split, 3, 2)
    assert graph.sizes == [6, 8, 10]
    for parts, given in ((graph.train, train), (graph.test, test)):
        assert sum(map(len, parts)) == len(given)
        for at, part in enumerate(parts):
            last = part[:, [0, 2]].max(axis=1)
            assert (last < graph.sizes[at]).all()
            assert at == 0 or (last >= graph.sizes[at - 1]).all()
    # Entities are named anew, one to one, and relations stay.
    before, after = (
        np.unique(x[:, [0, 2]], return_counts=True)[1] for x in (split.every, graph.every)
    )
    np.testing.assert_array_equal(np.sort(before), np.sort(after))
    np.testing.assert_array_equal(graph.every[:, 1], split.every[:, 1])


def test_films_arrive_by_year_and_others_with_their_first_film(script):
    arrivals, data = script("arrivals"), script("knowledge_data")
    # Films 0 to 5, the last of unknown year; 6 to 8 are their makers.
    year = np.array([1990, 1996, 1994, 1996, 1993, 0, 0, 0, 0])
    facts = [(4, 0, 6), (0, 0, 6), (2, 0, 7), (2, 1, 1), (1, 0, 6), (3, 0, 8), (1, 1, 8), (5, 0, 6)]
    names = knowledge.vocabulary_of(map(str, range(9)))
    relations = knowledge.vocabulary_of(("by", "followed by"))
    films = data.FilmGraph(knowledge.graph_from_triples(np.array(facts), names, relations), year)
    graph = arrivals.films_by_year(films, 0, last_years=(1993, 1994, 1996), share=0.5)
    # The sequel of a film arrives with the sequel, and what is of no known year does not.
    assert graph.sizes == [3, 5, 8]
    assert [len(a) + len(b) for a, b in zip(graph.train, graph.test, strict=True)] == [2, 1, 4]
    seen = set()
    for train, test in zip(graph.train, graph.test, strict=True):
        seen |= set(train[:, [0, 2]].ravel())
        assert set(test[:, [0, 2]].ravel()) <= seen
    assert sum(map(len, graph.test)) > 0


def test_two_facts_of_the_same_two_entities_are_in_the_same_part(script):
    arrivals, data = script("arrivals"), script("knowledge_data")
    rng = np.random.default_rng(0)
    pairs = rng.integers((0, 20), (20, 25), (60, 2))
    facts = [(h, r, t) for h, t in pairs for r in (0, 1)]
    names = knowledge.vocabulary_of(map(str, range(25)))
    relations = knowledge.vocabulary_of(("by", "with"))
    year = np.where(np.arange(25) < 20, 1990, 0)
    films = data.FilmGraph(knowledge.graph_from_triples(np.array(facts), names, relations), year)
    graph = arrivals.films_by_year(films, 0, last_years=(1990,))
    train, test = ({(h, t) for h, _, t in part} for part in (graph.train[0], graph.test[0]))
    assert test
    assert not train & test


def test_forgetting_is_the_loss_of_mrr_among_the_same_candidates(script):
    growth = script("knowledge_growth")
    mrr = {(0, 0): 0.8, (1, 0): 0.7, (1, 1): 0.5, (2, 0): 0.6, (2, 1): 0.4, (2, 2): 0.3}
    rows = [
        {"seed": 0, "method": "m", "after": after, "test": then, "candidates": kind, "mrr": value}
        for (after, then), value in mrr.items()
        for kind in ("open", "closed")
    ]
    rows += [{"seed": 0, "method": "m", "after": n, "cpu_s": 2.0 * n} for n in (1, 2)]
    (found,) = growth.summary(growth.records_of(rows))
    assert found == {
        "method": "m",
        "new": pytest.approx(0.4),
        "forgotten": pytest.approx((0.2 + 0.1) / 2),
        "end": pytest.approx((0.6 + 0.4 + 0.3) / 3),
        "cpu_s": pytest.approx(3.0),
    }


def test_every_metric_of_a_package_is_a_record(script):
    parity = script("knowledge_graph")
    run = {
        "dataset": "umls", "method": "RotatE, metajax", "setting": "1:1:1", "seeds": 2, "epochs": 3,
        "metrics": {"mrr": [0.5, 0.7]}, "epoch_cpu_ms": [4.0, 2.0], "prepare_cpu_s": 1.5,
        "peak_bytes": 9,
    }  # fmt: skip
    records = {record["metric"]: record for record in parity.records_of(run)}
    assert list(records) == ["mrr", "epoch_cpu_ms", "prepare_cpu_s", "peak_bytes"]
    assert records["mrr"]["mean"] == 0.6
    assert (records["epoch_cpu_ms"]["low"], records["epoch_cpu_ms"]["high"]) == (2.0, 4.0)


def test_each_fact_has_one_of_the_aliases_of_its_relation(script):
    clusters = script("relation_clusters")
    triples = np.stack([np.arange(200), np.arange(200) % 3, np.arange(200)], axis=1)
    renamed = clusters.renamed(triples, 4, np.random.default_rng(0))
    np.testing.assert_array_equal(renamed[:, 1] // 4, triples[:, 1])
    np.testing.assert_array_equal(renamed[:, [0, 2]], triples[:, [0, 2]])
    assert len(np.unique(renamed[:, 1])) == 12
    # Of the groups {0, 0, 1} and {1, 1}, and one without a label, four are with their kind.
    assert clusters.agreement(np.array([5, 5, 5, 7, 7, -1]), np.array([0, 0, 1, 1, 1, 0])) == 0.8

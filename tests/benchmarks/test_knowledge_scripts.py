import importlib
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module


def test_a_triple_arrives_with_its_later_entity(script):
    growth, data = script("knowledge_growth"), script("knowledge_data")
    rng = np.random.default_rng(0)
    train, valid, test = (rng.integers(0, (10, 2, 10), (count, 3)) for count in (40, 5, 20))
    names = tuple(map(str, range(10)))
    split = data.Split(train, valid, test, names, ("r", "s"))
    graph = growth.snapshots_of(split, 3, 2)
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


def test_what_is_forgotten_is_what_triples_lose_among_the_same_candidates(script):
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

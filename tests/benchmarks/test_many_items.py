import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module("many_items")


def test_clicks_are_of_the_size_asked_for_and_of_groups(script):
    found = script.drawn(400, 20_000, 20_000, 0)
    assert len(found.offsets) == 401
    assert 0.8 * 20_000 < len(found.item) <= 20_100
    user = np.repeat(np.arange(400), np.diff(found.offsets))
    assert len(np.unique(user * 20_000 + found.item)) == len(found.item)
    # Users prefer the items of their group.
    assert np.mean(found.item % 100 == user % 100) > 0.2
    counts = np.sort(np.bincount(found.item, minlength=20_000))[::-1]
    assert counts[:2000].sum() > 0.4 * counts.sum()


def test_costs_are_written_beside_those_of_other_sizes(script, tmp_path, monkeypatch, capsys):
    path = tmp_path / "costs.json"
    path.write_text(json.dumps([{"items": 7, "users": 60, "clicks": 900, "method": "other"}]))
    sizes = ["--items", "80", "--users", "60", "--clicks", "900", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["many_items.py", *sizes, "--methods", "item_knn"])
    script.main()
    other, record = json.loads(path.read_text())
    assert other["method"] == "other"
    assert record["method"] == "item_knn"
    # 79 neighbours of 80 items, an int32 and a float32 each, and popularity.
    assert record["parameters GB"] == round(80 * 79 * 8 / 1e9, 3)
    assert record["fit s"] >= 0
    assert record["clicks drawn"] <= 910
    assert "| 80 | 60 | 900 | `item_knn` |" in capsys.readouterr().out


def test_what_is_too_large_is_named(script, monkeypatch):
    method = script.registry.method_of("ease")._replace(most_items=10)
    monkeypatch.setattr(script.registry, "method_of", lambda name: method)
    found = script.cost("ease", 30, 40, 100, 0)
    assert found == {"method": "ease", "refused": "method 'ease' is for at most 10 items, got 40"}

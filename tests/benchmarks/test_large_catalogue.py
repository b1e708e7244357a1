import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module("large_catalogue")


def test_each_step_is_timed_and_a_record_of_the_same_size_replaced(
    script, tmp_path, monkeypatch, capsys
):
    path = tmp_path / "costs.json"
    size = {"items": 80, "users": 60, "clicks": 900, "method": "item_knn", "seed": 0}
    path.write_text(json.dumps([size, {**size, "items": 7}]))
    given = [part for name, value in size.items() for part in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", ["large_catalogue.py", *given, "--json", str(path)])
    script.main()
    other, record = json.loads(path.read_text())
    assert other["items"] == 7
    assert record["clicks drawn"] <= 910
    assert record["met"] <= 80
    for step in script.STEPS:
        assert record[f"{step}, s"] > 0
        assert record[f"{step}, CPU s"] > 0
        assert record[f"{step}, peak GB"] > 0.1
    shown = capsys.readouterr().out
    assert f"| {record['met']} | 60 | {record['clicks drawn']} | `item_knn` | a list |" in shown


def test_each_item_of_a_whole_catalogue_has_a_click(script):
    found = script.drawn(60, 300, 200, 0)
    whole = script.completed(found, 300, 0)
    assert len(np.unique(found.item)) < len(np.unique(whole.item)) == 300
    assert len(whole.item) == len(found.item) + 300 - len(np.unique(found.item))
    for user in range(60):
        own = whole.of(user).tolist()
        assert own == sorted(set(own))
        assert set(found.of(user).tolist()) <= set(own)

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from metajax.data import load


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module("cold_clicks")


def test_lines_are_a_history_in_order_and_the_last_users_new(script, tmp_path):
    (tmp_path / "train.txt").write_text("".join(f"{u} 4 {u % 4}\n" for u in range(10)))
    (tmp_path / "test.txt").write_text("0 5\n3 7 6\n")
    dataset = script.clicks(str(tmp_path))
    log = dataset.interactions
    assert dataset.implicit
    assert len(log.item_ids) == 8
    assert dataset.parts.tolist() == 8 * [0] + 2 * [2]
    rows = slice(*log.offsets[3:5])
    order = np.argsort(log.time[rows], kind="stable")
    assert log.item[rows][order].tolist() == [4, 3, 7, 6]
    # A set by name keeps who met what, and no ratings.
    rated = load("synthetic")
    met = script.clicks("synthetic")
    assert met.scale is None
    assert set(met.interactions.rating.tolist()) == {1.0}
    np.testing.assert_array_equal(met.interactions.item, rated.interactions.item)


def test_figures_are_paired_with_the_reference(script, small, tmp_path, monkeypatch, capsys):
    path = tmp_path / "found.json"
    given = [str(small), "--methods", "popularity,graph_filter", "--trials", "1"]
    monkeypatch.setattr(sys, "argv", ["cold_clicks.py", *given, "--json", str(path)])
    script.main()
    records = json.loads(path.read_text())
    popular, filtered = records[0], records[-1]
    assert (popular["method"], filtered["method"]) == ("popularity", "graph_filter")
    less = popular["reference less it"]
    at = {(r["order"], r["method"]): r for r in records}
    mean = np.array(at[popular["order"], "graph_filter"]["mean"]) - popular["mean"]
    np.testing.assert_allclose(less["mean"], mean, atol=2e-5)
    assert all(np.array(less["low"]) <= less["high"])
    assert "reference less it" not in filtered
    assert "| `graph_filter` |" in capsys.readouterr().out

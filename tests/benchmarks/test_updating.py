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
    return importlib.import_module("updating")


def test_a_part_of_a_log_has_its_own_users_and_items(script, small):
    data = load(small)
    rows = np.flatnonzero((data.interactions.user % 3 == 1) & (data.interactions.item < 9))
    found, log = script.part(data, rows), data.interactions
    assert set(found.items.ids) == set(log.item_ids[log.item[rows]])
    names = found.interactions.user_ids[found.interactions.user]
    assert (names == log.user_ids[log.user[rows]]).all()
    assert (found.interactions.rating == log.rating[rows]).all()
    for table, whole in ((found.users, data.users), (found.items, data.items)):
        at = np.searchsorted(whole.ids, table.ids)
        for name, column in table.columns.items():
            assert (column == whole.columns[name][at]).all()


def test_a_refit_in_closed_form_is_a_fit_from_scratch(script, small, tmp_path, monkeypatch, capsys):
    path = tmp_path / "found.json"
    given = ["--data", str(small), "--method", "item_user_bias", "--share", "0.7"]
    monkeypatch.setattr(sys, "argv", ["updating.py", *given, "--json", str(path)])
    path.write_text(json.dumps([{"data": "other", "method": "", "seed": 0, "share": 0.7}]))
    script.main()
    other, record = json.loads(path.read_text())
    assert other["data"] == "other"
    assert record["method"] == "item_user_bias"
    users, items, rows = record["counts"]["all"]
    assert record["counts"]["earlier"][2] == round(0.7 * rows)
    assert users + record["counts"]["held out"][0] == 40
    assert items == 30
    for row in record["rows"]:
        assert set(row["difference"]) == {0.0}
        assert row["warm refit"] == row["from scratch"] != row["earlier model"]
    assert "| rmse | time | warm less scratch | +0.00 %" in capsys.readouterr().out

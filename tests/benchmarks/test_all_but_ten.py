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
    return importlib.import_module("all_but_ten")


def test_all_ratings_of_known_items_but_ten_are_shown(script, small):
    data = load(small)
    log = data.interactions
    users = np.flatnonzero(log.user_counts > script.ASKED)[:4]
    ids = log.item_ids[1:]  # The model does not know one item.
    tasks = script.all_but_ten(data, users, ids, seed=0)
    for n, user in enumerate(users):
        own = (log.user == user) & (log.item != 0)
        known = dict(zip(log.item[own] - 1, log.rating[own], strict=True))
        shown = tasks.support_item[n][tasks.support_mask[n]]
        at = slice(*tasks.query_offsets[n : n + 2])
        asked = tasks.query_item[at]
        assert len(asked) + np.any(~own & (log.user == user)) >= script.ASKED
        assert sorted([*shown, *asked]) == sorted(known)
        assert (np.diff(asked) > 0).all()
        assert [known[i] for i in asked] == tasks.query_rating[at].tolist()
        assert [known[i] for i in shown] == tasks.support_rating[n][tasks.support_mask[n]].tolist()


def test_errors_are_those_of_each_user(script, small, tmp_path, monkeypatch, capsys):
    # Of the second seed, one item has no rating of the other users.
    fit, lost = script.engine.fit, iter([-1, -1, 1, 1])

    def without_an_item(data, method):
        rows = np.flatnonzero(data.interactions.item != next(lost))
        return fit(script.part(data, rows), method)

    monkeypatch.setattr(script.engine, "fit", without_an_item)
    path, methods = tmp_path / "found.json", "item_mean,item_user_bias"
    given = ["--data", str(small), "--seeds", "2", "--methods", methods, "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["all_but_ten.py", *given])
    script.main()
    found = json.loads(path.read_text())
    assert {record["seeds"] for record in found} == {2}
    plain, bias = (
        {one["metric"]: one for one in found if one["method"] == method}
        for method in methods.split(",")
    )
    assert 0 < bias["mae_user"]["mean"] < bias["rmse_user"]["mean"] < plain["rmse_user"]["mean"]
    less = plain["rmse_user"]["last_less"]["mean"]
    assert less == pytest.approx(bias["rmse_user"]["mean"] - plain["rmse_user"]["mean"], abs=1e-6)
    assert "| `item_user_bias` |" in capsys.readouterr().out

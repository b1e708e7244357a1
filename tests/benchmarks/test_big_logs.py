import importlib
from pathlib import Path

import numpy as np
import pytest

from metajax.data import ingest, load


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module("big_logs")


def test_a_log_is_that_of_its_seed_and_its_store_goes_as_far_as_training(
    script, tmp_path, monkeypatch
):
    logs = [tmp_path / name for name in ("a.csv", "b.csv")]
    for log, at_once in zip(logs, (3000, 10**6), strict=True):
        monkeypatch.setattr(script, "_AT_ONCE", at_once)
        script.write_log(log, 3000, 200, 50)
    assert logs[0].read_text() == logs[1].read_text()
    found = script.stages(ingest(logs[0], tmp_path / "store", duplicates="newest"))
    assert set(found) == {"load_s", "split_s", "task_table_s"}


def test_the_people_of_a_shop_click_on_their_categories(script, tmp_path):
    script.write_shop(tmp_path, 20_000, 500, 400)
    shop = load(tmp_path)
    assert list(shop.users.columns) == ["age", "city"]
    assert list(shop.items.columns) == ["title", "price", "category", "description"]
    kind = np.unique(shop.items.columns["category"], return_inverse=True)[1]
    log = shop.interactions
    count = np.zeros((len(log.user_ids), kind.max() + 1))
    np.add.at(count, (log.user, kind[log.item]), 1)
    busy = count.sum(axis=1) > 20
    share = np.sort(count[busy], axis=1)[:, -3:].sum(axis=1) / count[busy].sum(axis=1)
    # Of 40 categories at random three take about a sixth of the clicks.
    assert share.mean() > 0.5

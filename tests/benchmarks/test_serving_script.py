import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from metajax import engine


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module("serving")


@pytest.mark.slow
def test_every_figure_is_recorded_and_nothing_is_lost(script, tmp_path):
    path = tmp_path / "serving.json"
    records = script.main(
        ["--items", "100", "--requests", "8", "--batch", "4", "--events", "400", "--soak", "2",
         "--kills", "1", "--kept", "2500", "--json", str(path)]
    )  # fmt: skip
    assert len(json.loads(path.read_text())) == len(records) == 15
    found = {one["workload"]: one for one in records}
    assert found["replay"]["events"] == 400
    assert found["kept users"]["users"] == 2500
    assert found["kept users"]["counted_mib"] == pytest.approx(2.4, abs=0.1)
    assert found["a list over HTTP, 4 clients"]["p50_ms"] > 0
    end: Any = found["soak with 1 kills"]
    assert end["acknowledged"] > 0
    assert (end["lost"], end["twice"], end["wrong"]) == (0, 0, 0)
    assert len(end["memory_mib"]) == 2


def test_an_artificial_log_can_be_fitted(script):
    dataset = script.artificial(200, users=30, rows=10)
    assert len(dataset.interactions.users) == 30
    counts = dataset.interactions.item_counts
    assert counts[:50].sum() > counts[50:100].sum()
    assert engine.fit(dataset, "eb_fold_in", trials=1).method == "eb_fold_in"
    for wrong in (["--requests", "1"], ["--items", "3"], ["--soak", "-1"]):
        with pytest.raises(SystemExit):
            script.main(wrong)

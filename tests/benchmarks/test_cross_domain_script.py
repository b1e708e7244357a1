import importlib
import json
from pathlib import Path

import pytest

from metajax.cross_domain import random_domains
from metajax.data.datasets import load


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
        yield importlib.import_module("cross_domain_accuracy")


@pytest.mark.parametrize(
    ("words", "methods", "metric"),
    [
        (["--clicks"], "popularity,ease", "ndcg@10"),
        ([], "item_mean,item_user_bias", "rmse"),
    ],
)
def test_both_readings_of_each_kind_of_data_are_recorded(
    script, tmp_path, monkeypatch, words, methods, metric
):
    monkeypatch.setattr(script, "_domains", lambda pair, folder: random_domains(load("synthetic")))
    out = tmp_path / "out.json"
    given = ["--quick", "--pairs=A", "--others=", f"--methods={methods}", "--jobs=1"]
    given += [f"--folder={tmp_path / 'parts'}", f"--json={out}"]
    monkeypatch.setattr("sys.argv", ["cross_domain_accuracy.py", *words, *given])
    script.main()
    records = [r for r in json.loads(out.read_text()) if r["metric"] == metric]
    kinds = {"overlap 1": False, "overlap 1, shuffled": True}
    readings = ("", "-natural") if words else ("",)
    expected = {(kind + reading, kinds[kind]) for kind in kinds for reading in readings}
    assert {(r["protocol"], r["shuffled_source"]) for r in records} == expected
    assert {r["method"] for r in records} == set(methods.split(","))
    assert {(r["pair"], r["overlap"]) for r in records} == {("A", 1.0)}

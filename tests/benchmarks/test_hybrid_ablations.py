import importlib
from pathlib import Path

import numpy as np
import pytest

from metajax import baselines, evaluation
from metajax.data.datasets import load
from metajax.evaluation.cells import Outcome, open_folder
from metajax.hybrid.experts import EXPERTS
from metajax.hybrid.tastes import RATERS


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
        yield importlib.import_module("hybrid_ablations")


def test_every_column_and_model_of_ratings_is_in_one_part(script):
    columns = [name for expert in EXPERTS for name in expert.columns]
    named = [name for part in script.PARTS.values() for name in part]
    assert sorted(named) == sorted([*columns, "predicted rating", *RATERS])


def test_methods_are_put_in_one_by_one_and_together(script):
    assert script.of_methods(["a", "b"]) == {
        "with none": {"without": ["a", "b"]},
        "with a": {"without": ["b"]},
        "with b": {"without": ["a"]},
        "with a and b": {},
    }
    assert list(script.of_methods(["a"])) == ["with none", "with a"]


def test_differences_are_to_the_engine_and_of_methods_to_the_engine_without_them(
    script, small, tmp_path
):
    split = evaluation.prepare("P1", load(small), fold=0, seed=0)
    calls = []

    def fit(split, variants):
        calls.append(list(variants))
        found = {}
        for n, variant in enumerate(variants):
            one = evaluation.tuned(baselines.eb_fold_in._replace(grid=({"rank": n + 1},)), split)
            by_order = {panel: evaluation.judge(m, split, panel) for panel, m in one.items()}
            found[variant] = Outcome("learned", by_order, {}, {"any": {"a": {"0": 0.5}}}, None, "")
        return found

    with open_folder(tmp_path / "kept", {}) as kept:
        for _ in range(2):
            parts = script.finished(kept, 0, split, {"hybrid": {}, "without a": {}}, fit)
            more = script.finished(kept, 0, split, script.of_methods(["b"]), fit)
    assert calls == [["hybrid", "without a"], ["with none", "with b"]]
    assert parts["without a"].settings == {"any": {"a": {"0": 0.5}}}
    records = script.compared([parts | more])
    of = {(r.method, r.order, r.k): r for r in records if r.metric == "rmse"}
    assert {r.best_baseline for r in records if r.method == "without a"} == {"hybrid"}
    assert {r.best_baseline for r in records if r.method == "with b"} == {"with none"}
    assert {r.best_baseline for r in records if r.method == "hybrid"} == {None}
    for variant, reference in (("without a", "hybrid"), ("with b", "with none")):
        own = of[variant, "random", 3]
        difference = own.mean - of[reference, "random", 3].mean
        np.testing.assert_allclose(own.difference, difference, atol=1e-12)
        assert abs(difference) > 1e-6
        assert own.difference_low <= difference <= own.difference_high

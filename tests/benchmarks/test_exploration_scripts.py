import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from metajax import evaluation, exploration
from metajax.baselines import ease, popularity
from metajax.data import load
from metajax.serving.service import ServiceSettings


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module


@pytest.mark.slow
def test_policies_have_a_time_and_frequencies_like_their_propensities(
    scripts, tmp_path, monkeypatch, capsys
):
    script = scripts("exploration")
    monkeypatch.setattr(script, "K", 2)
    monkeypatch.setattr(
        script,
        "POLICIES",
        {"greedy": {}, "softmax": {"temperature": 0.1}, "thompson": {"draws": 50}},
    )
    monkeypatch.setattr(script, "DRAWS", 50)
    path = tmp_path / "found.json"
    given = ["--items", "12", "--users", "2", "--repeats", "3", "--lists", "300"]
    monkeypatch.setattr(sys, "argv", ["exploration.py", *given, "--json", str(path)])
    script.main()
    records = json.loads(path.read_text())
    assert [r["policy"] for r in records] == ["greedy", "softmax", "thompson"]
    for record in records:
        assert record["worst_deviation"] < 4
        assert record["sum_error"] < 1e-5
        assert 0 < record["list_low_ms"] <= record["list_ms"] <= record["list_high_ms"]
    assert capsys.readouterr().out.count("standard errors") == 3
    # A policy that says other propensities is found out.
    beliefs = script.beliefs_of(1, 12)
    own = beliefs._replace(**{n: x[0] for n, x in beliefs._asdict().items() if x is not None})
    policies = [exploration.softmax(k=1, temperature=t) for t in (0.1, 0.02)]
    assert script.worst_of(policies[0], policies[1], own, 300) > 6
    assert script.worst_of(exploration.greedy(k=1), policies[0], own, 300) == float("inf")


@pytest.mark.slow
@pytest.mark.parametrize("part", ["synthetic", "refits"])
def test_simulations_of_the_script_are_of_one_part_and_keep_the_others(
    scripts, tmp_path, monkeypatch, part
):
    script = scripts("first_days")
    monkeypatch.setattr(script, "ARMS", ("greedy", "item_thompson"))
    path = tmp_path / "found.json"
    path.write_text(json.dumps([{"part": "replay", "data": "ml-100k"}]))
    given = [
        "--part",
        part,
        "--refit-every",
        "2",
        "--users",
        "15",
        "--items",
        "8",
        "--rounds",
        "3",
        "--seeds",
        "3",
    ]
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["first_days.py", *given, "--json", str(path)])
        script.main()
    records = json.loads(path.read_text())
    assert records[0] == {"part": "replay", "data": "ml-100k"}
    assert {r["part"] for r in records[1:]} == {part}
    assert {r["policy"] for r in records[1:]} == {"greedy", "item_thompson"}
    regret = [r for r in records[1:] if r.get("metric") == "regret"]
    assert len(regret) == 6
    assert all(r["seeds"] == [3] for r in regret)


@pytest.mark.slow
def test_settings_of_linear_thompson_are_beside_two_policies_on_the_same_world(scripts):
    def make(seed):
        return exploration.synthetic(users=15, items=8, rounds=3, warm_users=20, seed=seed)

    records = scripts("first_days").settings(make, (3, 4), 3, {1.0: ((0.0, 0.0), (1.0, 1.0))})
    of = {r["policy"]: r for r in records}
    # Without exploration it is the greedy policy.
    idle, greedy = of["linear_thompson, users 0.0, items 0.0"], of["greedy"]
    assert idle["mean"] == pytest.approx(greedy["mean"])
    assert idle["below_greedy"] == pytest.approx(0, abs=1e-6)
    alone = exploration.first_days(
        make, policies=["linear_thompson"], starts=["content"], seeds=(3, 4), rounds=3
    )
    other = {r["policy"]: r["mean"] for r in alone if r.get("metric") == "regret"}
    full = of["linear_thompson, users 1.0, items 1.0"]
    assert full["mean"] == pytest.approx(other["linear_thompson"])
    assert full["below_greedy"] == pytest.approx(1 - full["mean"] / other["greedy"])


def test_the_service_begins_with_a_policy_that_loses_to_none_where_logs_are_replayed(scripts):
    begins = ServiceSettings().policy
    found = [r for r in scripts("records").read("first_days") if r["part"] == "replay"]
    found = [r for r in found if r.get("metric") == "regret"]
    assert {r["policy"] for r in found if "reference" not in r} == {begins}
    others = [r for r in found if r["policy"] != begins]
    assert len(others) > 10
    assert all(r["reference"] == begins and r["difference_high"] > 0 for r in others)


def test_a_system_grows_by_its_first_events(scripts, small):
    script = scripts("first_days")
    split = evaluation.prepare("P1", load(small), fold=0, seed=0)
    log = split.final.interactions
    first = script.first_events(split, 20).interactions
    assert len(first.item) == 20
    assert first.time.max() <= np.sort(log.time)[20]
    fitted = []

    def fit(training):
        fitted.append(len(training.interactions.item))
        return popularity.fit(training)

    engine = popularity._replace(
        name="engine", fit=fit, refit=lambda earlier, training: fit(training)
    )
    points = []
    records = script.growth(
        split, (0, 20, 10**6), ks=(0, 3), on_point=lambda r: points.append(len(r)), engine=engine
    )
    rows = len(log.item)
    assert fitted == [20, rows, rows]
    assert len(points) == 3
    of = {(r["events"], r["method"], r["order"], r["k"]): r for r in records}
    assert (0, "engine, from scratch", "time", 3) not in of
    assert (20, "engine, refitted", "time", 3) not in of
    for name in ("engine, from scratch", "engine, refitted"):
        record = of[rows, name, "time", 3]
        assert record["mean"] == of[rows, "popularity", "time", 3]["mean"]
        assert record["difference"] == 0
    assert of[0, "content_profile", "random", 3]["mean"] > 0


@pytest.mark.slow
def test_bootstrap_methods_are_beside_a_learned_one(scripts, small, tmp_path, monkeypatch):
    script = scripts("first_days")
    kind = ease._replace(name="learned", kind="learned", grid=({},))
    monkeypatch.setattr(script, "BOOTSTRAP", ("popularity", "content_schedule"))
    records = script.bootstrap(load(small), 1, tmp_path / "kept", [kind])
    names = {"learned", "popularity", "content_schedule", *script.CONSTANT}
    assert {r["method"] for r in records} == names
    assert {r["metric"] for r in records} == {"ndcg@10", "hr@1"}
    assert all(r["best_baseline"] != "learned" for r in records if "best_baseline" in r)

"""How well kinds of supports are told apart."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module("support_kind")


def test_first_interactions_are_told_by_their_times(script, monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    lines = ["user,item,rating,timestamp"]
    for user in range(60):
        # Ten at once, then one a day.
        times = np.concatenate([np.arange(10), 86_400 * np.arange(1, 21)])
        for item, time in zip(rng.permutation(40), times, strict=False):
            lines.append(f"u{user},i{item},{rng.integers(1, 6)},{1_000_000_000 + time}")
    log, found = tmp_path / "log.csv", tmp_path / "kinds.json"
    log.write_text("\n".join(lines) + "\n")
    given = ["support_kind.py", "--data", str(log), "--folds", "1", "--trees", "0"]
    monkeypatch.setattr("sys.argv", [*given, "--json", str(found)])
    script.main()
    records = json.loads(found.read_text())
    told = {(record["order"], record["k"]): record for record in records}
    assert set(told) == {(order, k) for order in ("random", "time") for k in (1, 3, 5, 10)}
    for order in ("random", "time"):
        assert told[order, 10]["right"] > 0.95
        assert told[order, 1]["right"] < 0.95
        assert told[order, 10]["supports"] == 48


def test_a_record_counts_what_is_told_right(script):
    of_any = script.record("some", 0, 3, np.array([0.25, 0.75]))
    assert of_any["right"] == 0.5
    assert of_any["log_loss"] == pytest.approx(-np.log([0.75, 0.25]).mean())
    of_first = script.record("some", 1, 3, np.array([0.25, 0.75, 0.9]))
    assert of_first["right"] == pytest.approx(2 / 3)

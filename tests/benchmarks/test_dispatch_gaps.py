import importlib
from pathlib import Path

import pytest


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module("dispatch_gaps")


def operation(program, run, start, length):
    args = {"hlo_module": program, "run_id": run, "hlo_op": "add"}
    return {"ph": "X", "ts": start, "dur": length, "args": args}


def test_waits_are_the_time_in_which_no_program_runs(script):
    events = [
        {"ph": "X", "ts": 0, "dur": 9000, "args": {}},
        operation("jit_early", "0", 500, 100),
        # A program of two operations, and the time between them is its own.
        operation("jit_dispatch", "1", 1000, 200),
        operation("jit_dispatch", "1", 1800, 200),
        operation("jit_mean", "2", 2100, 50),
        operation("jit_dispatch", "3", 2300, 700),
        operation("jit_validate", "4", 3100, 400),
        operation("jit_dispatch", "5", 3700, 300),
    ]
    found = script.waits(events)
    assert found == {"whole_ms": 3.0, "between_ms": 0.25, "around_validation_ms": 0.3}


@pytest.mark.slow
def test_waits_of_a_training_are_part_of_it(script, capsys):
    sizes = ["--rows=4000", "--users=200", "--items=100", "--updates=100", "--repeats=1"]
    (record,) = script.main(sizes)
    assert 0 <= record["between_ms"] + record["around_validation_ms"] < record["whole_ms"]
    assert "waits between dispatches" in capsys.readouterr().out

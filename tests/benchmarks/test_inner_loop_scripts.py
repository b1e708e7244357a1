"""The inner loop's benchmarks: their records, and that a wrong method is not timed."""

import importlib
import json
from pathlib import Path

import jax
import numpy as np
import pytest

KEYS = {
    *("workload", "method", "form", "adjoint", "steps", "tasks", "support", "width"),
    *("median_ms", "low_ms", "high_ms", "compile_s", "temp_bytes", "flops", "ratio_to_plain"),
    "device",
}  # fmt: skip
TINY = ["--tasks", "2", "--width", "4", "--repeats", "3"]


@pytest.fixture
def script(monkeypatch):
    """Imports a script as Python does when it runs it, its folder on the path."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    cached = jax.config.values["jax_enable_compilation_cache"]
    yield importlib.import_module
    jax.config.update("jax_enable_compilation_cache", cached)


@pytest.mark.slow
def test_methods_in_jax_agree_and_leave_records(script, tmp_path, capsys):
    written = tmp_path / "others.json"
    others = script("against_others")
    others.main([*TINY, "--methods", "metajax,usual_jax", "--json", str(written)])
    records = json.loads(written.read_text())
    names = ["plain"] * 2 + ["metajax"] * 4 + ["usual_jax"] * 2
    assert [record["method"] for record in records] == names
    parts = [record["microbatch"] for record in records]
    assert parts == [None, 64, None, 64, None, None, None, 64]
    for record in records:
        assert record.keys() >= KEYS
        assert 0 < record["low_ms"] <= record["median_ms"] <= record["high_ms"]
        assert record["flops"] > 0
        assert record["compile_s"] > 0
    assert records[0]["ratio_to_plain"] == 1
    assert "against usual_jax" in capsys.readouterr().out


def test_a_method_with_another_meta_gradient_is_not_timed(script, monkeypatch, tmp_path, capsys):
    others, workloads = script("against_others"), script("workloads")
    broken = others.Method(
        "usual_jax", lambda work: workloads.metajax_program(work, "first_order", "plain")
    )
    monkeypatch.setattr(others, "METHODS", (others.METHODS[0], broken))
    written = tmp_path / "others.json"
    with pytest.raises(SystemExit) as stopped:
        others.main([*TINY, "--json", str(written)])
    assert stopped.value.code == 1
    assert "usual_jax must have the meta-gradient" in capsys.readouterr().err
    assert [record["method"] for record in json.loads(written.read_text())] == ["plain"]


def test_a_gradient_that_is_not_a_number_is_an_error_whatever_its_place(script):
    measuring = script("measuring")
    right = {"a": np.ones(2), "b": np.ones(3)}
    for place in right:
        found = {**right, place: right[place] * np.nan}
        assert not measuring.gradient_error(found, right) <= 1e-5


def test_an_error_counts_in_the_parameter_where_it_is_greatest(script):
    measuring = script("measuring")
    right = {"a": np.full(4, 100.0), "b": np.ones(1)}
    found = {"a": np.full(4, 101.0), "b": np.full(1, 1.2)}
    np.testing.assert_allclose(measuring.gradient_error(found, right), 0.2, rtol=1e-12)
    with pytest.raises(ValueError, match="must hold the parameters"):
        measuring.gradient_error({"a": found["a"]}, right)


def test_methods_take_turns_until_their_time_is_up(script):
    calls = []
    spent = script("measuring").taking_turns(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")},
        repeats=4, seconds=0.0, fewest=2, warm=0.0, measured=0.0,
    )  # fmt: skip
    # Each measured call follows one that is not measured; who is first changes.
    assert "".join(calls) == "aabb" + "bbaa"
    np.testing.assert_array_equal(np.isnan(spent["a"]), [False, False, True, True])


@pytest.mark.slow
def test_a_cell_of_the_grid_leaves_a_record_and_a_line_of_the_figure(script, tmp_path, capsys):
    written, drawn = tmp_path / "cost.json", tmp_path / "cost.svg"
    cell = [*TINY, "--support", "1", "--steps", "1", "--adjoint", "reverse"]
    script("inner_loop_cost").main(
        [*cell, "--form", "auto,plain", "--json", str(written), "--plot", str(drawn)]
    )
    records = json.loads(written.read_text())
    assert [record["form"] for record in records] == ["auto", "plain"]
    for record in records:
        assert record.keys() >= KEYS | {"us_per_task_step", "tasks_per_s"}
        expected = record["median_ms"] * 1e3 / 2
        np.testing.assert_allclose(record["us_per_task_step"], expected, atol=1e-3)
    assert records[1]["ratio_to_plain_form"] == 1
    assert "<svg" in drawn.read_text()


def test_a_cell_above_the_memory_budget_is_reported(script, tmp_path, capsys):
    cell = [*TINY, "--steps", "1", "--adjoint", "reverse", "--form", "plain"]
    (record,) = script("inner_loop_cost").main([*cell, "--memory", "0"])
    assert record["median_ms"] is None
    assert "above --memory" in record["skipped"]
    assert record["temp_bytes"] > 0


@pytest.mark.slow
def test_microbatches_change_neither_the_gradient_nor_the_arithmetic_that_is_counted(script):
    workloads, measuring = script("workloads"), script("measuring")
    work = workloads.Work(steps=1, width=4, tasks=8)
    for program in (workloads.metajax_program, workloads.usual_program, workloads.plain_program):
        whole, parts = (measuring.compiled(program(work, microbatch=size)) for size in (None, 2))
        assert measuring.gradient_error(parts.meta_gradient(), whole.meta_gradient()) < 1e-5
        assert parts.text != whole.text
        # A loop's body would count once, whatever the number of its rounds.
        np.testing.assert_allclose(parts.flops, whole.flops, rtol=0.2)


def test_options_out_of_range_are_named(script, capsys):
    for name, wrong in (
        ("inner_loop_cost", ["--steps", "0"]),
        ("inner_loop_cost", ["--form", "dense"]),
        ("inner_loop_cost", ["--microbatch", "0"]),
        ("against_others", ["--steps", "0"]),
        ("against_others", ["--methods", "magic"]),
    ):
        with pytest.raises(SystemExit) as stopped:
            script(name).main(wrong)
        assert stopped.value.code == 2
        assert "must be" in capsys.readouterr().err

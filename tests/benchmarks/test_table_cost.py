import importlib
from pathlib import Path

import jax
import pytest


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    cached = jax.config.values["jax_enable_compilation_cache"]
    yield importlib.import_module("table_cost")
    jax.config.update("jax_enable_compilation_cache", cached)


SIZES = ["--items", "20000", "--width", "4", "--tasks", "16", "--repeats", "1"]


@pytest.mark.slow
def test_an_update_needs_no_copy_of_a_table_for_each_task(script, capsys):
    records = script.main(SIZES)
    assert [record["learner"] for record in records] == ["supervised", "maml"]
    for record in records:
        assert 0 < record["low_ms"] <= record["median_ms"] <= record["high_ms"]
        # Of sixteen tasks: less than a quarter of a table each.
        assert record["temp_bytes"] < 4 * record["table_bytes"] == 4 * 4 * 20_000 * 4
    assert "20,000 embeddings of 4, 16 tasks" in capsys.readouterr().out


def test_a_copy_for_each_task_is_an_error(script):
    options = script._options(SIZES)
    learner = script.learners(script.network(options), adapts="*")["maml"]
    with pytest.raises(AssertionError, match="must be less than 4 tables of 320000 bytes, got"):
        script.compiled(learner, script.drawn_tasks(options), options)

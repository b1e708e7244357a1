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


SIZES = ["--items", "40000", "--width", "4", "--tasks", "16", "--repeats", "1"]


@pytest.mark.slow
def test_an_update_needs_no_copy_of_a_table_for_each_task(script, capsys):
    records = script.main(SIZES)
    whole = [record for record in records if "temp_bytes" in record]
    assert [record["learner"] for record in whole] == [
        "supervised",
        "supervised, touched rows",
        "maml",
        "maml, touched rows",
    ]
    for record in records:
        assert 0 < record["low_ms"] <= record["median_ms"] <= record["high_ms"]
    for record in whole:
        # Of sixteen tasks: less than a quarter of a table each.
        assert record["temp_bytes"] < 4 * record["table_bytes"] == 4 * 4 * 40_000 * 4
    parts = [record["learner"] for record in records if record not in whole]
    assert parts[:5] == [
        "supervised: a dispatch of 10",
        "supervised: a dispatch of 50",
        "supervised: gradient",
        "supervised: its norm",
        "supervised: clipping and AdamW",
    ]
    assert "40,000 embeddings of 4, 16 tasks" in capsys.readouterr().out


def test_a_copy_for_each_task_is_an_error(script):
    options = script._options(SIZES)
    learner = script.learners(options, adapts="*")["maml"]
    with pytest.raises(AssertionError, match="must be less than 4 tables of 640000 bytes, got"):
        script.compiled(learner, script.drawn_tasks(options), options)

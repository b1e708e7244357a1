"""The accelerator's script: a dry run of all its parts, and one that has no time left."""

import importlib
import json
from pathlib import Path

import jax
import pytest


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    cached = jax.config.values["jax_enable_compilation_cache"]
    yield importlib.import_module("accelerator")
    jax.config.update("jax_enable_compilation_cache", cached)


@pytest.mark.slow
def test_a_dry_run_measures_every_part(script, tmp_path):
    written = tmp_path / "accelerator.json"
    script.main(["--dry", "--json", str(written)])
    records = json.loads(written.read_text())
    assert {record["part"] for record in records} == set(script.PARTS)
    by_cell = {record["cell"]: record for record in records if "skipped" not in record}
    for kind in ("float32", "bfloat16"):
        cell = by_cell[f"meta-step, {kind}"]
        pace = by_cell[f"product, {kind}"]["flops_per_s"]
        assert cell["floor_ms"] == pytest.approx(1e3 * cell["flops"] / pace, abs=1e-5)
        assert 0 < cell["low_ms"] <= cell["median_ms"]
    assert by_cell["maml, synthetic"]["updates"] == script.DRY.updates
    assert {record["device"] for record in records} == {script.device()}


def test_what_there_was_no_time_for_is_named(script, tmp_path, capsys):
    records = script.main(["--dry", "--minutes", "0", "--json", str(tmp_path / "a.json")])
    assert [(r["part"], r["skipped"]) for r in records] == [(p, "--minutes") for p in script.PARTS]
    with pytest.raises(SystemExit):
        script.main(["--parts", "rates,other", "--json", str(tmp_path / "b.json")])
    assert "--parts must be of rates, peers, grid, scatter, training" in capsys.readouterr().err

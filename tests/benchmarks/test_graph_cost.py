import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    cached = jax.config.values["jax_enable_compilation_cache"]
    yield importlib.import_module("graph_cost")
    jax.config.update("jax_enable_compilation_cache", cached)


def test_the_parts_of_a_network_are_timed(script, capsys):
    tiny = ["--users", "40", "--items", "30", "--edges", "60", "--width", "4", "--tasks", "3"]
    records = script.main([*tiny, "--layers", "1", "--repeats", "1", "--networks", "LightGCN"])
    assert [record["workload"] for record in records] == ["propagation", "both ways", "update"]
    for record in records:
        assert 0 < record["low_ms"] <= record["median_ms"] <= record["high_ms"]
        # 128 edges with padding, of 4 numbers.
        assert record["largest_array"] == 512
    assert "60 edges, 70 nodes" in capsys.readouterr().out


def test_a_matrix_of_nodes_by_nodes_is_an_error(script):
    x = jnp.ones((9, 2))
    with pytest.raises(AssertionError, match="less than of 9 by 9 numbers, got an array of 81"):
        script.compiled(lambda x: (x @ x.T) @ x, (x,), 9)

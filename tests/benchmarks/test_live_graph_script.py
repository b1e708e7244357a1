import importlib
from pathlib import Path


def test_arrivals_and_sums_are_timed(monkeypatch, capsys):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    script = importlib.import_module("live_graph")
    tiny = ["--places", "300", "--items", "20", "--sessions", "30", "--width", "4"]
    records = script.main([*tiny, "--repeats", "1"])
    assert [record["incidences"] for record in records] == [512] * 5
    by_name = {record["workload"]: record["median_ms"] for record in records}
    assert 0 < by_name["an arrival of 256"] < by_name["an arrival"]
    assert by_name["sums"] > 0
    assert "512 incidences" in capsys.readouterr().out

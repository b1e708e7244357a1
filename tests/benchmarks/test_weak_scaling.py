"""Weak scaling: that every form computes the same is checked by the script itself."""

import importlib
import json
from pathlib import Path

import pytest


@pytest.fixture
def scaling(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module("weak_scaling")


@pytest.mark.slow
def test_devices_and_processes_have_records_with_their_control(scaling, tmp_path, capsys):
    written = tmp_path / "scaling.json"
    tiny = ["--tasks", "2", "--width", "4", "--repeats", "3", "--seconds", "0"]
    scaling.main([*tiny, "--devices", "2", "--json", str(written)])
    records = json.loads(written.read_text())
    cells = [(r["tasks"], r["devices"], r["processes"]) for r in records]
    assert cells == [(2, 1, 1), (4, 1, 1), (4, 2, 1), (4, 2, 2)]
    assert [records[n]["ratio_to_same_work"] for n in (0, 1)] == [1, 1]
    assert records[0]["ratio_to_one_device"] == 1
    for record in records:
        assert 0 < record["low_ms"] <= record["median_ms"] <= record["high_ms"]
    assert len({round(record["loss"], 4) for record in records[1:]}) == 1
    assert "x same work" in capsys.readouterr().out


@pytest.mark.slow
def test_pinned_processes_are_compared_with_one_that_has_their_share(scaling, capsys):
    tiny = ["--tasks", "2,4", "--width", "4", "--repeats", "3", "--seconds", "0"]
    records = scaling.main([*tiny, "--pin", "--local", "3"])
    cells = [(r["tasks"], r["processes"], r["local"]) for r in records]
    one = [(2, 1, 1), (4, 1, 1), (4, 2, 1), (4, 2, 3)]
    assert cells[:4] == one
    assert cells[4:] == [(2 * tasks, *rest) for tasks, *rest in one]
    assert [records[n]["ratio_to_one_device"] for n in (0, 4)] == [1, 1]


def test_a_form_with_another_loss_than_its_control_is_not_timed(scaling, monkeypatch):
    class Wrong:
        def __init__(self, work, cell, *, pinned):
            self.loss = float(cell.devices)

        def update(self):
            return self.loss

        def stop(self):
            pass

    monkeypatch.setattr(scaling, "Peers", Wrong)
    with pytest.raises(SystemExit, match=r"must have its control's loss, 1\.0, got 2\.0"):
        scaling.main(["--devices", "2"])


def test_options_out_of_range_are_named(scaling, capsys):
    for wrong in (["--devices", "0"], ["--devices", "two"], ["--tasks", "0"]):
        with pytest.raises(SystemExit) as stopped:
            scaling.main(wrong)
        assert stopped.value.code == 2
        assert "must be" in capsys.readouterr().err

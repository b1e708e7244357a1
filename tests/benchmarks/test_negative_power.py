import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.mark.slow
def test_losses_are_paired_with_those_of_uniform_draws(small, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    script = importlib.import_module("negative_power")
    path = tmp_path / "found.json"
    given = ["--data", str(small), "--powers", "0,1", "--negatives", "4", "--seeds", "1"]
    monkeypatch.setattr(sys, "argv", ["negative_power.py", *given, "--json", str(path)])
    script.main()
    uniform, popular = json.loads(path.read_text())
    assert (uniform["power"], popular["power"]) == (0, 1)
    (more,) = np.subtract(popular["losses"], uniform["losses"])
    assert f"({more:+.4f} [{more:+.4f}, {more:+.4f}])" in capsys.readouterr().out

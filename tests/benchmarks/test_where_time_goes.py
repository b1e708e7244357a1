import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

PROGRAM = """HloModule jit_step

%fused_computation.1 (a: f32[2,3,4], b: f32[2,4,5]) -> f32[2,3,5] {
  %a = f32[2,3,4] parameter(0)
  %b = f32[2,4,5] parameter(1)
  ROOT %dot.1 = f32[2,3,5] dot(%a, %b), lhs_batch_dims={0}, rhs_batch_dims={0}
}

%fused_computation.2 (a: f32[6,4]) -> f32[6,4] {
  %a.2 = f32[6,4] parameter(0)
  ROOT %tanh = f32[6,4] tanh(%a.2)
}

ENTRY %main (x: f32[6,4], w: f32[4,5]) -> f32[6,5] {
  %x = f32[6,4] parameter(0)
  %within = f32[2,3,5] fusion(%x, %x), kind=kCustom, calls=%fused_computation.1
  %rest = f32[6,4] fusion(%x), kind=kLoop, calls=%fused_computation.2
  ROOT %shared = f32[6,5] dot(%rest, %w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}
"""


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield importlib.import_module("where_time_goes")
    for name in ("where_time_goes", "workloads", "measuring"):
        sys.modules.pop(name, None)


def test_a_product_with_a_leading_axis_of_tasks_is_one_within_tasks(script):
    kinds = script.kinds_of(PROGRAM)
    assert kinds["within"] == "products within tasks"
    assert kinds["shared"] == "shared products"
    assert kinds["rest"] == "the rest"


@pytest.mark.slow
def test_the_parts_of_a_step_are_timed_and_its_floors_follow(script, capsys):
    plain, ours = script.main(["--workload", "W1", "--tasks", "4"])
    assert plain["products within tasks, ms"] == 0
    assert ours["products within tasks, ms"] > 0
    # (2.3 x 5 + 10) / 15 plain steps.
    floor = 21.5 / 15 * plain["median_ms"]
    np.testing.assert_allclose(ours["floor_by_arithmetic_ms"], floor, rtol=1e-12)
    assert "products within tasks" in capsys.readouterr().out

"""A few kills of each kind; `python -m tests.kill` does all of them."""

import pytest

from tests.kill.at_each_call import killed_at
from tests.kill.dying import Killed, dying
from tests.kill.scenarios import NAMES, scenarios, write_data


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return {scenario.name: scenario for scenario in scenarios(folder)}


SLOW = pytest.param("transfer", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", [SLOW if name == "transfer" else name for name in NAMES])
@pytest.mark.slow
def test_work_that_is_killed_at_a_call_goes_on_to_the_same_bits(made, name, tmp_path):
    found = killed_at(made[name], tmp_path, slice(3, None, 23))
    assert found.kills > 1
    assert found.wrong == []


def test_the_dead_change_nothing(tmp_path):
    def work():
        try:
            (tmp_path / "made").mkdir()
            (tmp_path / "never").mkdir()
        finally:
            (tmp_path / "kept").unlink()

    (tmp_path / "kept").write_text("kept")
    with dying(tmp_path, 2) as watched, pytest.raises(Killed):
        work()
    assert {path.name for path in tmp_path.iterdir()} == {"made", "kept"}
    assert watched.calls == ["mkdir made", "mkdir never", "unlink kept"]

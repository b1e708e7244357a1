import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import pytest

from metajax import locks
from metajax.fields import Choices, Range
from metajax.search import study
from metajax.training import DivergedError


class Bowl(NamedTuple):
    """A loss with its minimum at x = .1 and kind b; y hardly matters."""

    method: str = "bowl"
    data: str = "bowl"
    digest: str = "0" * 64
    version: str = "1"
    settings: tuple = ()
    seed: int = 0
    small: bool = False
    seconds: float = 0.0
    diverging: bool = False

    @property
    def space(self):
        if self.small:
            return {"kind": Choices(("a", "b", "c")), "n": Range(1, 2)}
        return {
            "x": Range(1e-3, 1.0, log=True),
            "kind": Choices(("a", "b")),
            "y": Range(0.0, 1.0),
        }

    @property
    def defaults(self):
        return {"kind": "b", "n": 2} if self.small else {"x": 0.5, "kind": "a", "y": 0.5}

    @property
    def warmup(self):
        return 0

    def facts(self):
        return {
            "method": self.method,
            "data": self.data,
            "digest": {"users": 3, "sha256": self.digest},
            "measure": "loss",
            "protocol": "P1",
            "fold": 0,
            "seed": self.seed,
            "version": self.version,
            "settings": {"method": self.method, "data": self.data, **dict(self.settings)},
            "space": {name: str(values) for name, values in self.space.items()},
        }

    def objective(self):
        def loss(chosen, report):
            if self.small:
                return {"a": 3.0, "b": 2.0, "c": 1.0}[chosen["kind"]] + chosen["n"]
            if self.diverging and chosen["x"] < 0.1:
                raise DivergedError(7, math.inf)
            found = math.log10(chosen["x"] / 0.1) ** 2 + (chosen["kind"] == "a")
            found += 0.01 * chosen["y"]
            for step in (1, 2, 3):
                time.sleep(self.seconds / 3)
                report(step, found + 1 / step)
            return found

        return loss


def test_the_defaults_come_first_and_the_search_finds_better(tmp_path):
    seen = []
    found = study.tune(Bowl(), tmp_path / "s.jsonl", trials=30, on_trials=seen.append)
    assert [t.index for t in found.trials] == list(range(30))
    first, best = found.trials[0], study.best_of(found)
    assert first.chosen == {"x": 0.5, "kind": "a", "y": 0.5}
    assert best.chosen["kind"] == "b"
    assert best.loss < 0.1 < first.loss
    assert best.loss == min(t.loss for t in found.trials if t.state == "finished")
    assert [len(tried) for tried in seen] == list(range(31))
    pruned = [t for t in found.trials if t.state == "pruned"]
    assert pruned
    assert all(len(t.curve) < 3 for t in pruned)
    assert all(list(t.curve) == [1, 2, 3] for t in found.trials if t.state == "finished")
    assert sum(found.importances.values()) == pytest.approx(1)
    assert next(iter(found.importances)) == "x"
    assert study.read(tmp_path / "s.jsonl") == found


def chosen_of(found):
    return [(t.index, t.chosen, t.loss, t.state) for t in found.trials]


def test_one_worker_makes_the_same_trials_whether_or_not_it_was_stopped(tmp_path):
    whole = study.tune(Bowl(), tmp_path / "whole.jsonl", trials=16)
    parts = tmp_path / "parts.jsonl"
    for trials in (3, 11, 16):
        found = study.tune(Bowl(), parts, trials=trials)
    assert chosen_of(found) == chosen_of(whole)
    other = study.tune(Bowl(seed=1), tmp_path / "other.jsonl", trials=16)
    assert chosen_of(other) != chosen_of(whole)
    assert len({t.chosen["x"] for t in whole.trials}) == 16


def test_a_trial_whose_process_was_killed_is_tried_again(tmp_path):
    """The journal as a kill leaves it: a trial that runs, half a line, and the lock."""
    whole = study.tune(Bowl(), tmp_path / "whole.jsonl", trials=8)
    path = tmp_path / "s.jsonl"
    study.tune(Bowl(), path, trials=5)

    class Killed(Bowl):
        def objective(self):
            def loss(chosen, report):
                raise KeyboardInterrupt

            return loss

    with pytest.raises(KeyboardInterrupt):
        study.tune(Killed(), path, trials=8)
    assert [t.index for t in study.read(path).trials] == list(range(5))
    with path.open("a") as file:
        file.write('{"op_code":6,"trial')
    (tmp_path / "s.jsonl.lock").touch()
    began = time.monotonic()
    found = study.tune(Bowl(), path, trials=8)
    assert time.monotonic() - began < 5
    assert chosen_of(found) == chosen_of(whole)
    states = [
        json.loads(line)["state"] for line in path.read_text().splitlines() if '"op_code":6' in line
    ]
    assert states.count(3) == 1  # Optuna's FAIL
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.jsonl", "whole.jsonl"]


def test_a_trial_that_kills_its_process_again_and_again_is_given_up(tmp_path):
    path = tmp_path / "s.jsonl"

    class Killed(Bowl):
        def objective(self):
            def loss(chosen, report):
                raise KeyboardInterrupt

            return loss

    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            study.tune(Killed(), path, trials=2)
    found = study.tune(Bowl(), path, trials=2)
    assert [t.state for t in found.trials] == ["failed", "finished"]
    assert "killed 5 times" in found.trials[0].failure


def test_a_small_space_is_gone_through_once(tmp_path):
    assert study.number_of_trials(Bowl(small=True).space, 30) == 6
    assert study.number_of_trials(Bowl(small=True).space, 4) == 4
    assert study.number_of_trials({}, 30) == 1
    path = tmp_path / "s.jsonl"
    study.tune(Bowl(small=True), path, trials=4)
    found = study.tune(Bowl(small=True), path, trials=30)
    assert found.trials[0].chosen == {"kind": "b", "n": 2}
    assert len({tuple(t.chosen.items()) for t in found.trials}) == 6
    assert study.best_of(found).chosen == {"kind": "c", "n": 1}


def test_trials_that_diverge_have_no_loss_and_the_others_count(tmp_path):
    found = study.tune(Bowl(diverging=True), tmp_path / "s.jsonl", trials=20)
    failed = [t for t in found.trials if t.state == "failed"]
    assert failed
    assert {t.failure for t in failed} == {"the meta-loss became inf at update 7."}
    assert all(t.loss == math.inf and t.chosen["x"] < 0.1 for t in failed)
    assert math.isfinite(study.best_of(found).loss)


class Nowhere(Bowl):
    def objective(self):
        def loss(chosen, report):
            raise ValueError("rank must be less than the number of items.")

        return loss


def test_a_search_without_any_loss_says_why(tmp_path):
    with pytest.raises(ValueError, match=r"no trial has a loss: rank must be less"):
        study.tune(Nowhere(), tmp_path / "s.jsonl", trials=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "cup"}, "a study of another method, bowl; got cup."),
        (
            {"data": "cup", "digest": "1" * 64},
            "a study of another data set, bowl (3 users, sha256 00000000); "
            "got cup (3 users, sha256 11111111).",
        ),
        ({"version": "2"}, "a study of another version 1; got 2."),
        ({"seed": 1}, "a study of another seed 0; got 1."),
        ({"settings": (("tasks", 8),)}, "a study of another settings, tasks, none; got 8."),
        ({"small": True}, "a study of another space, x, 0.001 to 1, log scale; got none."),
    ],
)
def test_a_study_of_something_else_is_refused(tmp_path, changes, message):
    path = tmp_path / "s.jsonl"
    study.tune(Bowl(), path, trials=1)
    before = path.read_bytes()
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        study.tune(Bowl(**changes), path, trials=2)
    assert str(refused.value) == f"{path}: {message}"
    assert path.read_bytes() == before


def test_what_is_no_study_is_refused_and_kept(tmp_path):
    path = tmp_path / "log.csv"
    for content in ("user,item\n1,2\n", "user,item", '{"a": 1}\n'):
        path.write_text(content)
        for use in (lambda: study.tune(Bowl(), path, trials=1), lambda: study.read(path)):
            with pytest.raises(ValueError, match=r"log\.csv: holds no study"):
                use()
        assert path.read_text() == content
    damaged = tmp_path / "s.jsonl"
    study.tune(Bowl(), damaged, trials=2)
    lines = damaged.read_text().splitlines(keepends=True)
    damaged.write_text("".join([*lines[:3], "{half\n", *lines[3:]]))
    with pytest.raises(ValueError, match=r"s\.jsonl: is damaged"):
        study.read(damaged)
    with pytest.raises(ValueError, match=r"none\.jsonl: no such file"):
        study.read(tmp_path / "none.jsonl")
    assert not (tmp_path / "none.jsonl").exists()


def test_a_full_disk_is_named_by_the_file_that_cannot_be_written(tmp_path, monkeypatch):
    path = tmp_path / "s.jsonl"
    study.tune(Bowl(), path, trials=2)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")  # As Optuna's journal does.

    with monkeypatch.context() as patch:
        patch.setattr(study, "_try", full)
        with pytest.raises(OSError, match="No space left on device") as caught:
            study.tune(Bowl(), path, trials=4)
    assert caught.value.filename == str(path)
    assert len(study.tune(Bowl(), path, trials=4).trials) == 4


def test_one_process_searches_at_a_time(tmp_path):
    path = tmp_path / "s.jsonl"
    with (
        locks.locked(tmp_path, "s.jsonl.owner"),
        pytest.raises(locks.LockedError, match=rf"{path}: in use by process {os.getpid()}"),
    ):
        study.tune(Bowl(), path, trials=1)


@pytest.mark.parametrize(("trials", "workers", "name"), [(0, 1, "trials"), (1, 0, "workers")])
def test_numbers_below_one_are_refused(tmp_path, trials, workers, name):
    with pytest.raises(ValueError, match=f"{name} must be >= 1, got 0"):
        study.tune(Bowl(), tmp_path / "s.jsonl", trials=trials, workers=workers)


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path({tests!r})))
from test_study import Bowl
from metajax.search import study
if __name__ == "__main__":
    study.tune(Bowl(seconds=0.5), {path!r}, trials=12, workers=2)
"""


@pytest.mark.slow
def test_workers_share_a_budget_and_a_killed_search_goes_on(tmp_path):
    path, program = tmp_path / "s.jsonl", tmp_path / "program.py"
    program.write_text(PROGRAM.format(tests=os.path.dirname(__file__), path=str(path)))
    ended = {}
    for kill in (True, True, False):
        process = subprocess.Popen([sys.executable, str(program)])
        if not kill:
            assert process.wait() == 0
            break
        before = len(ended)
        while len(study.read(path).trials if path.exists() else ()) < before + 2:
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(1)  # The workers end by themselves.
        ended = {t.index: t for t in study.read(path).trials}
    found = study.read(path)
    assert [t.index for t in found.trials] == list(range(12))
    kept = {t.index: t for t in found.trials}
    assert all(kept[index] == trial for index, trial in ended.items())

import json
import os
import shutil
from typing import Any

import jax
import numpy as np
import pytest

from metajax import baselines, evaluation, locks, metrics, storage
from metajax.baselines import Baseline
from metajax.data.datasets import load
from metajax.evaluation import cells as cell_files
from metajax.evaluation import experiment
from metajax.evaluation.records import select, validate
from metajax.registry import trained_method_of
from metajax.types import Adaptation

METHODS = ["item_user_bias", "eb_fold_in", "popularity", "two_tower", "maml"]
TINY = {
    "rank": 2, "width": 4, "embedding": 2, "steps": 1, "updates": 10, "tasks": 4, "query": 5,
    "per_dispatch": 5, "validate_every": 5,
}  # fmt: skip


@pytest.fixture(scope="module")
def dataset(small):
    return load(str(small))


def compared(dataset, folder, methods=METHODS, **options):
    defaults: dict[str, Any] = {"protocols": ["P1"], "folds": [0], "trials": 1, "changes": TINY}
    options = {**defaults, **options}
    return evaluation.compare(dataset, methods, folder=folder, **options)


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    """A folder of a comparison, not to be written to, and what was found."""
    folder = tmp_path_factory.mktemp("comparisons") / "finished"
    return folder, compared(dataset, folder)


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "copy")


@pytest.fixture
def judged(monkeypatch):
    """The names of the methods that are judged anew."""
    names, original = [], experiment._judged

    def noted(plan, *rest):
        names.append(plan.conditions["cell"].method)
        return original(plan, *rest)

    monkeypatch.setattr(experiment, "_judged", noted)
    return names


def test_every_figure_of_every_method_is_a_record(finished):
    records = validate(finished[1].records)
    assert finished[1].notes == []
    assert {r.method for r in records} == set(METHODS)
    for metric, methods in (
        ("rmse", {"item_user_bias", "eb_fold_in", "two_tower", "maml"}),
        ("hr@1", {"popularity", "two_tower", "maml"}),
        ("within@90", {"eb_fold_in"}),
    ):
        of_metric = select(records, protocol="P1", metric=metric)
        assert {r.method for r in of_metric} == methods
        assert {(r.order, r.k) for r in of_metric} == {
            (order, k) for order in ("random", "time") for k in (0, 1, 3, 5, 10)
        }
        assert all(r.low is not None and r.low <= r.mean for r in of_metric)
        assert all(r.high is not None and r.mean <= r.high for r in of_metric)
    paired = {r.method for r in records if r.difference is not None}
    assert paired == {"maml"}
    assert {r.protocol for r in records} == {"P1", "P1-natural"}
    natural = select(records, protocol="P1-natural")
    assert {r.method for r in natural} == {"popularity", "two_tower", "maml"}
    assert {r.metric for r in natural} == {
        "ndcg@10", "precision@10", "recall@10", "hr@1", "coverage@10"
    }  # fmt: skip
    json.dumps(finished[1].to_json(), allow_nan=False)


def test_costs_are_microseconds_and_bytes_of_one_user(finished):
    costs = {
        (r.method, r.metric): r.mean
        for r in finished[1].records
        if r.metric in ("adapt_us", "state_bytes")
    }
    # A bias is one float32, a posterior of rank 8 a mean of 9 and a covariance of 81; who is
    # served without adaptation costs nothing, and of the toy network 3 weights adapt.
    assert costs["item_user_bias", "state_bytes"] == 4
    assert costs["eb_fold_in", "state_bytes"] == 4 * (9 + 81)
    assert costs["two_tower", "state_bytes"] == 0
    assert costs["maml", "state_bytes"] == 4 * 3
    assert all(0 < costs[method, "adapt_us"] < 1e6 for method in METHODS)


def test_finished_cells_are_not_judged_again(dataset, finished, folder, judged):
    stages = []
    again = compared(dataset, folder, on_stage=stages.append)
    assert judged == []
    assert again == finished[1]
    assert stages == [*(f"{name}, P1, fold 0, seed 0" for name in METHODS), "intervals"]


@pytest.mark.slow
def test_a_stopped_comparison_resumes(dataset, finished, tmp_path, judged):
    def stop(stage):
        if stage.startswith("popularity"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compared(dataset, tmp_path / "a", on_stage=stop)
    assert judged == METHODS[:2]
    again = compared(dataset, tmp_path / "a")
    assert judged == METHODS
    for one, other in zip(again.records, finished[1].records, strict=True):
        if one.metric != "adapt_us":
            assert one == other


@pytest.mark.slow
def test_several_processes_equal_one(dataset, finished, tmp_path):
    stages = []
    names = ["item_user_bias", "eb_fold_in", "popularity"]
    options = {"metrics": [metrics.auc], "on_stage": stages.append}
    found = compared(dataset, tmp_path / "two", names, jobs=2, **options)
    assert sorted(stages[:3]) == sorted(f"{name}, P1, fold 0, seed 0" for name in names)
    assert stages[3:] == ["intervals"]
    alone = {name: [] for name in names}
    for r in finished[1].records:
        if r.method in names and r.metric != "adapt_us":
            alone[r.method].append(r)
    for name in names:
        of_name = select(found.records, method=name)
        assert [r for r in of_name if r.metric not in ("adapt_us", "auc")] == alone[name]
    assert {r.method for r in select(found.records, metric="auc")} == {"popularity"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"changes": {**TINY, "width": 5}, "methods": ["eb_fold_in", "two_tower"]}, ["two_tower"]),
        ({"trials": 2, "methods": METHODS[:3]}, METHODS[:3]),
        ({"methods": ["item_mean", *METHODS]}, ["item_mean"]),
    ],
)
def test_changed_conditions_are_judged_anew(dataset, folder, judged, options, expected):
    compared(dataset, folder, **options)
    assert judged == expected


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
def test_a_damaged_cell_is_judged_again(dataset, finished, folder, judged, damage):
    (file,) = (folder / "cells").glob("*-eb_fold_in-*")
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    kept = {"cut": len(content) // 2, "flipped": len(content), "emptied": 0}[damage]
    file.write_bytes(content[:kept])
    again = compared(dataset, folder)
    assert judged == ["eb_fold_in"]
    rmse = [[r for r in found.records if r.metric == "rmse"] for found in (again, finished[1])]
    assert rmse[0] == rmse[1]


def test_a_cell_survives_its_file_to_the_bit(finished, tmp_path):
    for file in (finished[0] / "cells").iterdir():
        outcome = cell_files.read_cell(file)
        assert outcome is not None
        cell_files.write_cell(tmp_path / file.name, outcome)
        again = cell_files.read_cell(tmp_path / file.name)
        assert again is not None
        for panel, judged in outcome.by_order.items():
            assert again.by_order[panel][:-2] == judged[:-2]
            jax.tree.map(np.testing.assert_array_equal, again.by_order[panel][-2:], judged[-2:])
            assert (judged.natural is not None) == ("ndcg@10" in judged.per_user.values)
        assert again[2:] == outcome[2:]


def test_a_folder_of_something_else_is_left_alone(dataset, finished, folder, tmp_path):
    changed = dataset.interactions.rating.copy()
    changed[0] = 6 - changed[0]
    other = dataset._replace(interactions=dataset.interactions._replace(rating=changed))
    with pytest.raises(ValueError, match=r"copy/experiment\.json: a comparison on other data"):
        compared(other, folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="mine: holds no comparison"):
        compared(dataset, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        compared(dataset, tmp_path / "file" / "folder")


def test_a_comparison_that_could_not_be_written_goes_on_later(dataset, tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    folder = tmp_path / "a"
    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_file", full)
        with pytest.raises(OSError, match="No space"):
            compared(dataset, folder, ["item_mean"])
    for name in ("experiment.json.7.tmp", "lock"):  # Killed just then.
        (folder / name).write_text("{")
    assert compared(dataset, folder, ["item_mean"]).records
    assert {path.name for path in folder.iterdir()} == {"cells", "experiment.json"}


def test_two_processes_do_not_compare_in_one_folder(dataset, folder):
    with (
        locks.locked(folder),
        pytest.raises(locks.LockedError, match=r"copy: in use by process \d+ on"),
    ):
        compared(dataset, folder)


def test_any_flipped_bit_of_the_folder_is_noticed(dataset, finished, folder, judged):
    rng = np.random.default_rng(0)
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        content = file.read_bytes()
        for bit in rng.choice(8 * len(content), 3, replace=False):
            damaged = bytearray(content)
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(damaged)
            if file.parent.name == "cells":
                assert cell_files.read_cell(file) is None
            else:
                with pytest.raises(ValueError, match=file.name):
                    compared(dataset, folder)
        file.write_bytes(content)
    assert compared(dataset, folder) == finished[1]
    assert judged == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"methods": ["eb_foldin"]},
            "method must be a known name, got 'eb_foldin'; did you mean 'e",
        ),
        ({"protocols": ["P3"]}, "protocol must be a known name, got 'P3'; known are P1, P2"),
        ({"methods": []}, r"methods must be distinct and at least one, got \[\]"),
        ({"seeds": [1, 1]}, r"seeds must be distinct and at least one, got \[1, 1\]"),
        ({"folds": [5]}, r"folds must be in \[0, 5\), got \[5\]"),
        ({"seeds": [-1]}, r"seeds must be >= 0, got \[-1\]"),
        ({"trials": 0}, "trials must be >= 1, got 0"),
        ({"jobs": 0}, "jobs must be >= 1, got 0"),
        ({"changes": {"steps": 0}}, "steps must be >= 1, got 0"),
    ],
)
def test_an_invalid_comparison_is_refused_first(dataset, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        compared(dataset, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_several_processes_need_a_folder(dataset):
    with pytest.raises(ValueError, match="jobs must be 1 where no folder keeps what is finished"):
        compared(dataset, None, jobs=2)


def test_a_method_without_ratings_has_no_cells_where_ratings_alone_are_judged():
    cells = evaluation.cells_of(["popularity", "item_mean"], ["P1", "P2"], [0, 1], [3])
    assert [cell[:3] for cell in cells] == [
        ("popularity", "P1", 0), ("popularity", "P1", 1),
        ("item_mean", "P1", 0), ("item_mean", "P2", 0),
        ("item_mean", "P1", 1), ("item_mean", "P2", 1),
    ]  # fmt: skip
    assert {cell.seed for cell in cells} == {3}


def scripted(name, rating):
    """A baseline that scores all items alike unless `rating` differs between them."""
    return Baseline(
        name,
        "rating",
        lambda training, **settings: np.float32(rating),
        Adaptation(
            lambda params, support, key=None: (),
            lambda params, adapted, inputs: params + 0.0 * inputs.item,
        ),
    )


def test_a_method_that_cannot_be_judged_is_named_and_the_others_are_compared(dataset, tmp_path):
    methods = [scripted("flat", 3.0), scripted("broken", np.nan), "item_mean"]
    found = compared(dataset, tmp_path / "a", methods)
    assert {r.method for r in found.records} == {"item_mean"}
    assert found.notes[0].startswith("Left out: flat under P1, fold 0, seed 0: flat predicts 3 for")
    assert found.notes[1].startswith("Left out: broken under P1, fold 0, seed 0: broken predicts N")
    assert compared(dataset, tmp_path / "a", methods) == found


def test_every_method_has_the_same_number_of_trials(dataset):
    tried = []

    def fit(training, *, shift):
        tried.append(shift)
        return np.float32(shift)

    counting = Baseline(
        "counting",
        "rating",
        fit,
        Adaptation(
            lambda params, support, key=None: (),
            lambda params, adapted, inputs: params + 0.01 * inputs.item,
        ),
        grid=tuple({"shift": shift} for shift in (0.0, 3.5, 3.0, 9.0)),
    )
    compared(dataset, None, [counting], trials=3)
    # Three trials, shared by both orders, and a refit of what each order chose.
    assert tried[:3] == [0.0, 3.5, 3.0]
    assert len(tried) == 3 + len(set(tried[3:]))
    tried.clear()
    compared(dataset, None, [counting], trials=1)
    assert tried == [0.0]
    tried.clear()
    compared(dataset, None, [counting], trials=2, cross_fit=True)
    assert tried[:10] == [0.0, 3.5] * 5


@pytest.mark.slow
def test_own_methods_are_compared_with_those_of_the_registry(dataset, tmp_path):
    closed = baselines.item_user_bias._replace(name="mine")
    learned = trained_method_of("maml")._replace(name="my_maml")
    names = ["item_user_bias", closed, "maml", learned]
    found = compared(dataset, tmp_path / "a", names)
    for known, own in (("item_user_bias", "mine"), ("maml", "my_maml")):
        figures = [
            [(r.order, r.k, r.metric, r.mean) for r in select(found.records, method=name)]
            for name in (known, own)
        ]
        assert [f for f in figures[0] if f[2] != "adapt_us"] == [
            f for f in figures[1] if f[2] != "adapt_us"
        ]
    assert select(found.records, method="my_maml", metric="rmse")[0].learned
    # A value that the registry has is the same as its name.
    cells = {path.name for path in (tmp_path / "a" / "cells").iterdir()}
    compared(dataset, tmp_path / "a", [baselines.item_user_bias])
    assert {path.name for path in (tmp_path / "a" / "cells").iterdir()} == cells


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": [baselines.item_mean._replace(name="maml")]}, "own, got 'maml', a known one"),
        ({"methods": [scripted("flat", 3.0)], "jobs": 2}, "jobs must be 1 where 'flat' cannot be"),
        ({"metrics": [metrics.ndcg]}, "metrics must have names of their own, got 'ndcg@1' twice"),
    ],
)
def test_own_methods_must_have_a_name_and_be_importable(dataset, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        compared(dataset, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_a_method_is_trained_by_the_fold_and_the_seed_of_its_cell(dataset):
    seen = []

    def initial(settings, training):
        seen.append((settings.fold, settings.seed))
        return lambda params: params

    noted = trained_method_of("two_tower")._replace(name="noted", initial=initial)
    compared(dataset, None, [noted], folds=[1], seeds=[2])
    # Trained, and trained again with the validation users.
    assert seen == [(1, 2), (1, 2)]


def test_a_pipe_in_the_place_of_a_cell_is_no_finished_cell(tmp_path):
    os.mkfifo(tmp_path / "cell.npz")
    assert cell_files.read_cell(tmp_path / "cell.npz") is None


def test_a_method_out_of_memory_is_noted_and_tried_again_another_time(tmp_path, monkeypatch):
    options: dict[str, Any] = {"protocols": ["P1"], "folds": [0], "folder": tmp_path / "cells"}
    methods, original = ["item_mean", "item_user_bias"], experiment.tuned

    def greedy(baseline, split, **more):
        if baseline.name == "item_mean":
            raise MemoryError
        return original(baseline, split, **more)

    monkeypatch.setattr(experiment, "tuned", greedy)
    found = evaluation.compare("synthetic", methods, **options)
    assert {record.method for record in found.records} == {"item_user_bias"}
    (note,) = found.notes
    assert "item_mean needs more memory than there is" in note
    monkeypatch.undo()
    again = evaluation.compare("synthetic", methods, **options)
    assert {record.method for record in again.records} == set(methods)
    assert again.notes == []
    assert [line.partition(":")[0] for line in again.advice] == [
        "A new user without interactions",
        "A new user with 1 to 5 interactions",
        "A new user with 10 interactions",
    ]

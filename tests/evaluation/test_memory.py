"""Methods whose largest arrays would not fit are refused before they make them."""

import tracemalloc
from typing import Any

import jax
import numpy as np
import pytest

from metajax import baselines, engine, evaluation, registry
from metajax.cli.app import main
from metajax.data import load, memory
from metajax.data.dataset import Shapes, Table, shapes_of
from metajax.data.interactions import from_columns
from metajax.data.memory import OutOfMemoryError, check_memory
from metajax.registry import settings_for

CLOSED = {method.name: method for method in registry.all_baselines()}


@pytest.fixture
def free(monkeypatch):
    """Returns a function that fakes the memory there is."""
    return lambda count: monkeypatch.setattr(memory, "available_memory", lambda: count)


def wide(users, items):
    """Clicks of users on few of many items that have attributes."""
    rng = np.random.default_rng(0)
    user, item = np.repeat(np.arange(users), 12), rng.integers(0, items, 12 * users)
    pairs = np.unique(np.stack([user, item], axis=1), axis=0)
    ids = [np.array([f"{kind}{n:04}" for n in range(count)]) for kind, count in
           (("u", users), ("i", items))]  # fmt: skip
    kinds = {"kind": np.array([f"kind{n % 300}" for n in range(items)])}
    log = from_columns(*pairs.T, user_ids=ids[0], item_ids=ids[1])
    return engine.everyone(
        load("synthetic")._replace(
            interactions=log,
            users=Table(ids[0], {}, {}),
            items=Table(ids[1], kinds, {"kind": "categorical"}),
            scale=None,
        )
    ).training


@pytest.fixture(scope="module")
def training():
    return wide(300, 1500)


def taken(method, training, **settings):
    """Returns the bytes that the estimate says and those that a fit allocates."""
    shapes = shapes_of(training)._replace(users=len(training.interactions.users))
    method.fit(training, **settings)  # What is compiled and imported is not of the fit.
    tracemalloc.start()
    method.fit(training, **settings)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return method.memory(shapes, **settings), most


@pytest.mark.parametrize(
    "name",
    [
        "content_profile",
        "content_schedule",
        "ease",
        "ease_blend",
        "graph_filter",
        pytest.param("hybrid", marks=pytest.mark.slow),
        "item_knn",
    ],
)
def test_estimates_are_about_what_a_fit_takes(name, training):
    method = CLOSED[name]
    said, most = taken(method, training, **method.grid[0])
    assert 0.7 * most < said < 1.4 * most


def test_the_estimate_of_vectors_is_about_what_a_fit_takes():
    said, most = taken(CLOSED["implicit_als"], wide(8000, 200), sweeps=1)
    assert 0.7 * most < said < 1.4 * most


def test_what_would_fit_is_said(free):
    shapes = Shapes(20_000, 1, 1, None, users=10, rows=10)

    def need(items):
        return baselines.ease.memory(shapes._replace(items=items))

    for count in (None, 8 * 10**9):
        free(count)
        check_memory("ease", need, 20_000)
    free(7_999_999_999)
    text = (
        "ease needs more memory than there is: about 8 GB for 20,000 items, and 8 GB are free: a "
        "catalogue of at most 19,999 items would fit."
    )
    with pytest.raises(OutOfMemoryError) as caught:
        check_memory("ease", need, 20_000)
    assert str(caught.value) == text
    free(1)
    with pytest.raises(OutOfMemoryError, match=r"and 1e-09 GB are free\.$"):
        check_memory("ease", need, 20_000)


def test_a_million_items_are_refused_by_sensible_figures(free):
    shapes = Shapes(1_000_000, 1, 0, None, users=20_000, rows=1_000_000)

    def need(items):
        return CLOSED["hybrid"].memory(shapes._replace(items=items))

    free(10**9)
    text = r"about 2\.\d+ GB for 1,000,000 items, and 1 GB are free: a catalogue of at most 3,\d+ "
    with pytest.raises(OutOfMemoryError, match=text):
        check_memory("hybrid", need, 1_000_000)


def test_a_comparison_leaves_out_what_would_not_fit(free, small):
    need = baselines.ease.memory(Shapes(30, 1, 1, None))
    options: dict[str, Any] = {"protocols": ["P1"], "folds": [0], "trials": 1}
    free(need - 1)
    found = evaluation.compare(str(small), ["ease", "popularity", "maml"], **options)
    assert {record.method for record in found.records} == {"popularity"}
    left_out = [note.partition("seed 0: ")[2] for note in found.notes]
    assert [note.partition(" ")[0] for note in left_out] == ["ease", "maml"]
    assert all("needs more memory than there is: about" in note for note in left_out)
    assert left_out[0].endswith("a catalogue of at most 29 items would fit.")


def test_a_run_is_judged_beside_the_baselines_that_fit(free, small):
    split = evaluation.prepare("P1", load(str(small)), fold=0, seed=0)
    free(1)
    judged, notes = evaluation.judge_all(
        split, [], settings_for("maml"), baselines=["ease", "popularity", "two_tower"]
    )
    assert [next(iter(found.by_order.values())).method for found in judged] == ["popularity"]
    assert [note.partition(" needs")[0] for note in notes] == [
        "Left out: ease",
        "Left out: two_tower",
    ]


@pytest.mark.parametrize("command", ["fit", "train"])
@pytest.mark.parametrize("method", ["ease", "maml"])
def test_the_only_method_is_refused_in_a_line(command, method, free, small, tmp_path, capsys):
    free(1)
    folder = "--output" if command == "fit" else "--run"
    arguments = [command, f"--data={small}", f"--method={method}", folder, str(tmp_path / "x")]
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert f"{method} needs more memory than there is: about" in lines[-1]


def test_training_takes_parameters_moments_and_gradients(free, small):
    split = evaluation.prepare("P1", load(str(small)), fold=0, seed=0)
    settings = settings_for("maml")
    progress = registry.first_progress(settings, split.training)
    state, best = (
        sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
        for tree in (progress.state, progress.best)
    )
    need = registry._memory(settings, shapes_of(split.training), registry.trained_method_of("maml"))
    # The state before and after an update, the best parameters and a gradient, and counters.
    assert need == pytest.approx(2 * state + 2 * best, abs=64)
    free(need - 1)
    with pytest.raises(OutOfMemoryError, match="maml needs more"):
        registry.first_progress(settings, split.training)

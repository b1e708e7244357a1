"""The command `metajax fit`: options of methods, graphs."""

import json
import sys

import pytest

from metajax import data, engine, report
from metajax.cli.app import main
from metajax.engine.fit import DEFAULT
from metajax.registry import method_of


@pytest.fixture
def run(capsys, tmp_path):
    """Fits to an output folder; returns the status, the outputs, and the folder."""
    folders = (tmp_path / f"model{n}" for n in range(99))

    def run(*arguments):
        folder = next(folders)
        status = main(["fit", "--output", str(folder), *map(str, arguments)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err, folder

    return run


@pytest.fixture
def folds(monkeypatch):
    """Folds whose users are held out, as they are asked for."""
    module, asked = sys.modules["metajax.engine.fit"], []

    def cold_users(dataset, *, fold, seed):
        asked.append((fold, seed))
        return data.cold_users(dataset, fold=fold, seed=seed)

    monkeypatch.setattr(module, "cold_users", cold_users)
    return asked


@pytest.mark.slow
def test_options_of_a_trained_method_are_its_settings(run, small, folds):
    few = [
        "--updates=2",
        "--per-dispatch=1",
        "--validate-every=1",
        "--tasks=4",
        "--seed=3",
        "--fold=2",
    ]
    status, out, err, folder = run(
        "--data", small, "--method=bayesian_ridge", *few, "--bayesian_ridge.rank=2"
    )
    assert status == 0, err
    assert out.startswith("bayesian_ridge is fitted to 40 users")
    assert "Meta-training 2/2" in err
    settings = engine.load(folder).settings
    assert {"updates": 2, "tasks": 4, "seed": 3, "rank": 2}.items() <= settings.items()
    assert folds == [(2, 3)]


@pytest.mark.slow
def test_without_a_method_the_engine_is_fitted_which_chooses_nothing(run, small, folds, tmp_path):
    status, out, _, folder = run("--data", small, "--trials=2", "--fold=1")
    assert (status, engine.load(folder).method) == (0, DEFAULT)
    assert folds == []
    weights = engine.ColdStartSolver.load(folder).weights()
    assert all(line in out for line in report.weight_lines(weights))
    stored = json.loads((folder / "model.json").read_text())["weights"]
    assert {k: {n: list(w.values()) for n, w in e.items()} for k, e in stored.items()} == {
        k: {n: list(w.values()) for n, w in e.items()} for k, e in weights.items()
    }
    status, out, _, folder = run("--data", small, "--method=item_knn", "--trials=2", "--fold=1")
    assert (status, engine.load(folder).weights) == (0, {})
    assert "Experts" not in out
    assert folds == [(1, 0)]
    views = tmp_path / "views.csv"
    rows = [f"u{u},p{(u * 3 + n * n) % 12}" for u in range(20) for n in range(4)]
    views.write_text("\n".join(["user,item", *dict.fromkeys(rows)]) + "\n")
    status, _, _, folder = run("--data", views, "--trials=1")
    assert (status, engine.load(folder).method) == (0, DEFAULT)


def test_a_graph_is_read_and_linked(run, small, tmp_path):
    graph, link = tmp_path / "films.tsv", tmp_path / "films.link"
    graph.write_text("\n".join(f"f{n}\tby\tperson{n % 4}" for n in range(20)) + "\n")
    link.write_text(
        "\n".join(["item_id:token\tentity_id:token", *(f"{n}\tf{n}" for n in range(9))])
    )
    own = ["--data", small, "--method=attribute_ridge", "--trials=1"]
    status, out, err, folder = run(*own, "--graph", graph, "--link", link)
    assert status == 0, err
    assert f"{graph}: 9 of 30 items are linked." in out
    model = engine.load(folder)
    assert model.shapes.item_width == model.item_schema.width + 4
    status, _, err, folder = run(*own, "--graph", graph)
    assert status == 2
    assert f"{graph}: the graph links to no item of" in err
    assert not folder.exists()


def test_an_earlier_model_has_chosen_the_setting(run, small, tmp_path):
    graph = tmp_path / "films.tsv"
    graph.write_text("\n".join(f"{n}\tby\tperson{n % 4}" for n in range(20)) + "\n")
    own = ["--method=attribute_ridge", "--trials=1", "--graph", graph]
    _, _, _, first = run("--data", small, *own)
    # Of no setting of the grid, which would be chosen.
    setting = {**method_of("attribute_ridge").grid[-1], "item_ridge": 123.0}
    last = engine.load(first)._replace(settings=setting)
    changed = engine.save(last, tmp_path / "changed")
    status, out, err, folder = run("--data", small, "--from", changed, "--graph", graph)
    assert status == 0, err
    assert "attribute_ridge is fitted to 40 users" in out
    found = engine.load(folder)
    assert found.settings == last.settings
    assert found.shapes == last.shapes
    for arguments, words in (
        (["--from", changed], "--graph is missing"),
        (["--from", changed, "--graph", graph, "--method=ease"], "is of attribute_ridge, got ease"),
        (["--from", changed, "--trials=2"], "--trials and --from exclude each other"),
        (["--from", tmp_path], "no model is here"),
        (["--from", changed, "--ewc=1", "--graph", graph], "ewc must be left out for 'attribute_r"),
        (["--from", changed, "--seed=3"], "--seed must be left out: --from keeps the setting"),
        (["--from", changed, "--updates=3"], "--updates is a setting of training by updates"),
    ):
        status, _, err, folder = run("--data", small, *arguments)
        assert (status, folder.exists()) == (2, False)
        assert words in err.splitlines()[-1]


@pytest.mark.slow
def test_a_trained_model_goes_on_from_its_parameters(run, small, tmp_path):
    few = ["--updates=2", "--per-dispatch=1", "--validate-every=1", "--tasks=4"]
    own = ["--method=bayesian_ridge", "--bayesian_ridge.rank=2", *few]
    _, _, _, first = run("--data", small, *own)
    late = tmp_path / "late.csv"
    late.write_text("user,item,rating\nx,1,5\nx,new,4\ny,2,1\ny,new,5\nz,1,3\n")
    more = ["--from", first, "--data", late, "--scale", "1", "5", "--replay", small]
    status, out, err, folder = run(*more, "--updates=1", "--ewc=0.5")
    assert status == 0, err
    # Those of the small log are replayed.
    assert "bayesian_ridge is fitted to 3 users and 5 interactions, with" in out
    model = engine.load(folder)
    assert "new" in model.recommender.catalogue.ids
    assert len(model.recommender.catalogue.ids) == 31
    assert len(model.fitted_users) == 43
    status, _, err, folder = run(*more, "--tasks=8")
    assert (status, folder.exists()) == (2, False)
    assert "--tasks must be left out: --from keeps the setting" in err.splitlines()[-1]


def test_mistakes_are_one_line(run, small):
    data = ["--data", small]
    for arguments, words in (
        (["--link", "a.link"], "--link belongs to --graph"),
        (["--graph", "no.ttl", *data], "no such path"),
        (["--replay", "old.csv", *data], "--replay belongs to --from"),
        (["--ewc=1", *data], "--ewc belongs to --from"),
        (["--method=maml", "--trials=2", *data], "--trials is for closed forms"),
        (["--updates=3", *data], f"--updates is a setting of training by updates; {DEFAULT} is"),
        (["--method=maml", "--anil.inner-rate=3", *data], "is an option of anil"),
        (["--method=maml", "--inner-rate=3", *data], "--maml.inner-rate"),
        (["--method=linear_map", *data], "needs two domains"),
        (["--graph=ml-100k", "--link=a.link", *data], "link must be left out for ml-100k"),
    ):
        status, out, err, folder = run(*arguments)
        assert (status, out) == (2, ""), words
        assert words in err.splitlines()[-1], err
        assert not folder.exists()

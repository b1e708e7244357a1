import json
import shutil
import tracemalloc

import numpy as np
import pytest

from metajax import engine, parameters, runs
from metajax.cli.app import main
from metajax.data import load as load_data
from metajax.data.dataset import Dataset, Table
from metajax.data.interactions import from_columns
from metajax.engine import model as model_folder
from metajax.registry import settings_for


def of_rows(rows, items, rating=True):
    """A data set without features, of rows of user and item."""
    user, item = np.array(rows).T
    ids = np.array([f"p{n}" for n in range(items)])
    users = np.array([f"u{n}" for n in range(user.max() + 1)])
    labels = (1.0 + (user + item) % 5).astype(np.float32) if rating else None
    log = from_columns(user, item, labels, user_ids=users, item_ids=ids)
    scale = (1.0, 5.0) if rating else None
    return Dataset("rows", log, Table(users, {}, {}), Table(ids, {}, {}), scale)


@pytest.fixture(scope="module")
def fitted(small):
    return engine.fit(load_data(small), "eb_fold_in", trials=2)


@pytest.fixture(scope="module")
def saved(fitted, tmp_path_factory):
    return engine.save(fitted, tmp_path_factory.mktemp("models") / "films")


def test_a_loaded_model_recommends_what_the_fitted_one_did(fitted, saved):
    loaded = engine.load(saved)
    asked = ({"Film 3": 5, "Film 4": 1}, {"age": 30, "gender": "F"})
    expected = runs.recommend(fitted.recommender, *asked, top=30)
    assert runs.recommend(loaded.recommender, *asked, top=30) == expected
    assert len(expected) == 28
    assert loaded.settings == fitted.settings
    assert loaded.item_schema == fitted.item_schema
    assert {path.suffix for path in saved.iterdir()} <= {".json", ".safetensors", ""}


def test_arrays_are_written_without_a_copy(fitted, tmp_path):
    table = np.zeros(4_000_000, np.float32)
    large = fitted._replace(recommender=fitted.recommender._replace(params={"table": table}))
    tracemalloc.start()
    engine.save(large, tmp_path / "model")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < table.nbytes / 4


def test_arrays_that_cannot_be_written_are_an_error_of_the_system(tmp_path):
    path = tmp_path / "none" / "arrays"
    with pytest.raises(FileNotFoundError) as caught:
        model_folder._write_arrays(path, {"table": np.zeros(3)})
    assert caught.value.filename == str(path)


def test_everyone_trains(small):
    data = load_data(small)
    whole = engine.everyone(data)
    assert len(whole.training.interactions.item) == len(data.interactions.item)
    np.testing.assert_array_equal(whole.training.interactions.rating, data.interactions.rating)


def test_every_file_that_is_missing_or_has_a_flipped_bit_is_refused_by_name(saved, tmp_path):
    rng = np.random.default_rng(0)
    names = ["arrays.safetensors", "catalogue.json", "manifest.json", "model.json", "schema.json"]
    for name in names:
        size = (saved / name).stat().st_size
        for place in [0, size - 1, *rng.integers(size, size=8).tolist()]:
            copy = shutil.copytree(saved, tmp_path / "copy")
            content = bytearray((copy / name).read_bytes())
            content[place] ^= 1 << int(rng.integers(8))
            (copy / name).write_bytes(content)
            with pytest.raises(ValueError, match=f"{name}: is damaged"):
                engine.load(copy)
            shutil.rmtree(copy)
        copy = shutil.copytree(saved, tmp_path / "copy")
        (copy / name).unlink()
        with pytest.raises(ValueError, match=f"{name}: is missing"):
            engine.load(copy)
        shutil.rmtree(copy)


def test_a_folder_of_another_format_is_refused(saved, tmp_path):
    copy = shutil.copytree(saved, tmp_path / "other")
    held = json.loads((copy / "manifest.json").read_text())["files"]
    known = model_folder.FORMAT
    for number, advice in ((known + 1, "install a newer one"), (known - 1, "fit it again")):
        (copy / "manifest.json").write_bytes(model_folder._manifest_of(number, held))
        words = f"has format {number}, this version of metajax reads {known}: {advice}"
        with pytest.raises(ValueError, match=words):
            engine.load(copy)


def test_parameters_of_classes_elsewhere_are_refused():
    for name, rule in (
        ("os:system", "of a package with methods"),
        ("collections:Counter", "of a package with methods"),
        ("metajax.engine.fit:fit", "no NamedTuple of 1 fields"),
        ("metajax.no:No", "no class"),
    ):
        with pytest.raises(ValueError, match=rule):
            parameters._class_of(name, 1)


def test_a_folder_that_exists_is_not_written_over(fitted, saved):
    with pytest.raises(FileExistsError):
        engine.save(fitted, saved)
    engine.load(saved)


@pytest.mark.slow
def test_a_trained_method_is_fitted_saved_and_loaded(small, tmp_path):
    rows = []
    few = {"updates": 2, "per_dispatch": 1, "validate_every": 1, "tasks": 4}
    settings = settings_for("bayesian_ridge", **few)
    model = engine.fit(load_data(small), "bayesian_ridge", settings=settings, on_row=rows.append)
    assert [row.step for row in rows] == [1, 2]
    assert model.settings["updates"] == 2
    loaded = engine.load(engine.save(model, tmp_path / "ridge"))
    asked = {"Film 3": 5}
    assert runs.recommend(loaded.recommender, asked) == runs.recommend(model.recommender, asked)


@pytest.mark.slow
def test_a_log_without_ratings_is_fitted_and_served(tmp_path):
    rows = [(u, (u * 3 + n * n) % 12) for u in range(20) for n in range(4)]
    model = engine.fit(of_rows(sorted(set(rows)), 12, rating=False))
    assert model.method == "hybrid"
    loaded = engine.load(engine.save(model, tmp_path / "views"))
    assert len(runs.recommend(loaded.recommender, ["p1", "p2"], top=12)) == 10


def test_one_user_and_one_item_are_enough_for_a_closed_form_alone():
    model = engine.fit(of_rows([(0, 0), (0, 1), (0, 2)], 3), "item_mean")
    assert len(runs.recommend(model.recommender, {"p0": 5})) == 2
    single = engine.fit(of_rows([(0, 0), (1, 0)], 1), "item_mean")
    assert len(runs.recommend(single.recommender, {})) == 1
    with pytest.raises(ValueError, match="needs 10 users, got 2: take a closed form"):
        engine.fit(of_rows([(0, 0), (1, 0)], 1), "maml")
    with pytest.raises(ValueError, match="needs two domains"):
        engine.fit(of_rows([(0, 0), (1, 0)], 1), "linear_map")


def test_a_title_of_two_items_is_asked_about_and_each_of_them_served(small, tmp_path):
    data = load_data(small)
    titles = data.items.columns["movie_title"].copy()
    titles[[3, 4]] = "Twice"
    items = data.items._replace(columns={**data.items.columns, "movie_title": titles})
    model = engine.fit(data._replace(items=items), "item_knn", trials=1)
    loaded = engine.load(engine.save(model, tmp_path / "model")).recommender
    one, other = map(str, data.items.ids[[3, 4]])
    with pytest.raises(ValueError, match=f"'twice' for the ids {one}, {other}: give an id"):
        runs.recommend(loaded, {"twice": 5})
    found = runs.recommend(loaded, {one: 5}, top=30)
    assert [line.title for line in found if line.item_id == other] == ["Twice"]
    assert one not in {line.item_id for line in found}


def test_the_command_writes_a_model_that_recommends(small, tmp_path, capsys):
    output = str(tmp_path / "model")
    fit = ["fit", "--data", str(small), "--method", "item_mean", "--output", output]
    assert main(fit) == 0
    assert "40 users" in capsys.readouterr().out
    assert main(["recommend", output, "--ratings", "Film 3=5", "--top", "2", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    assert main(fit) == 2
    assert "--output must not exist" in capsys.readouterr().err
    assert main(["fit", "--data", str(small), "--method", "mmal", "--output", output + "2"]) == 2
    assert "did you mean 'maml'" in capsys.readouterr().err

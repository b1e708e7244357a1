import dataclasses

import numpy as np
import pytest

from metajax import ColdStartSolver, engine, runs
from metajax.data import load as load_data
from metajax.data.schema import encode_rows
from metajax.types import Adaptation

SUPPORT = 6


def called(exported, content, user, seen):
    """Runs the program whose bytes were written, on a padded support."""
    read = dataclasses.replace(exported, mlir_module_serialized=content)
    # Padding may be anything.
    items, labels = np.full(SUPPORT, 10**6, np.int32), np.full(SUPPORT, np.nan, np.float32)
    items[: len(seen)], labels[: len(seen)] = list(seen), list(seen.values())
    return [np.asarray(a) for a in read.call(user, items, labels, np.arange(SUPPORT) < len(seen))]


@pytest.mark.parametrize("method", ["eb_fold_in", "ease_blend", "attribute_ridge"])
@pytest.mark.parametrize("seen", [{}, {4: 5.0, 9: 1.0, 2: 4.0}])
def test_the_bytes_that_are_written_predict_what_the_model_does(small, tmp_path, method, seen):
    model = engine.fit(load_data(small), method, trials=1)
    recommender = model.recommender
    ids = recommender.catalogue.ids.tolist()
    exported = engine.export(model, tmp_path / "model.stablehlo", support=SUPPORT)
    person = {"age": 30, "gender": "F"}
    user = encode_rows(recommender.user_schema, [person])[0]
    content = (tmp_path / "model.stablehlo").read_bytes()
    scores, ranks = called(exported, content, user, seen)
    ratings = {ids[item]: rating for item, rating in seen.items()}
    expected = runs.predict(recommender, ratings, ids, person)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    best = runs.recommend(recommender, ratings, person, top=1)[0]
    left = np.setdiff1d(np.arange(len(ids)), list(seen))
    assert ids[left[np.argmax(ranks[left])]] == best.item_id
    # Whatever the method uses.
    assert [aval.shape for aval in exported.in_avals] == [user.shape, (6,), (6,), (6,)]
    assert exported.module_kept_var_idx == (0, 1, 2, 3)


@pytest.mark.parametrize("options", [{"scale": (50, 1)}, {"transform": "log1p"}])
def test_ratings_of_a_program_are_in_the_unit_of_the_log(tmp_path, options):
    rng = np.random.default_rng(0)
    pairs = [(u, i) for u in range(12) for i in rng.permutation(9)[:6]]
    user, item = map(np.array, zip(*pairs, strict=True))
    columns = {"user": user, "item": item, "rating": 1.0 + (user * item) % 50}
    solver = ColdStartSolver(meta_method="eb_fold_in").train(columns, trials=1, **options)
    path = tmp_path / "model.stablehlo"
    solver.export(path, support=SUPPORT)
    exported = engine.program(solver.model, support=SUPPORT)
    scores, _ = called(exported, path.read_bytes(), np.zeros(0, np.float32), {3: 40.0, 5: 2.0})
    expected = solver.predict({"3": 40, "5": 2}, [str(n) for n in range(9)])
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_padding_is_nothing_and_ranks_are_those_of_the_method(small):
    model = engine.fit(load_data(small), "item_mean")
    # A user's state is the sums of items and of labels, padding included.
    naive = Adaptation(
        adapt=lambda params, support, key=None: support.inputs.item.sum() + support.labels.sum(),
        predict=lambda params, adapted, inputs: adapted + 0.0 * inputs.item,
        rank=lambda params, adapted, inputs: -1.0 * inputs.item,
    )
    user = np.zeros(model.shapes.user_width, np.float32)
    for scale in ((1.0, 5.0), None):
        recommender = model.recommender._replace(adaptation=naive, rating=False, scale=scale)
        exported = engine.program(model._replace(recommender=recommender), support=SUPPORT)
        scores, ranks = called(exported, exported.mlir_module_serialized, user, {4: 5.0, 9: 1.0})
        assert set(scores.tolist()) == {19.0}
        assert ranks.tolist() == [-1.0 * n for n in range(30)]


def test_wrong_sizes_and_platforms_are_refused(small):
    model = engine.fit(load_data(small), "item_mean")
    with pytest.raises(ValueError, match="support must be >= 1, got 0"):
        engine.program(model, support=0)
    with pytest.raises(ValueError, match="platform must be one of cpu, cuda, rocm, tpu, got 'gp'"):
        engine.program(model, platform="gp")
    # Compiled for another platform than that of this machine.
    assert engine.program(model, platform="tpu").platforms == ("tpu",)

import numpy as np
import polars as pl
import pytest

from metajax import ColdStartSolver, engine, registry, runs
from metajax.data import load as load_data


@pytest.fixture(scope="module")
def rows():
    """Twelve users with 6 of 9 items each: user, item, rating, time."""
    rng = np.random.default_rng(0)
    pairs = [(u, i) for u in range(12) for i in rng.permutation(9)[:6]]
    return [(f"u{u:02d}", f"p{i}", 1 + (u * i) % 5, n) for n, (u, i) in enumerate(pairs)]


def columns(rows):
    return {
        name: [row[n] for row in rows] for n, name in enumerate(("user", "item", "rating", "time"))
    }


def test_an_update_gives_what_a_fit_to_everything_does(rows):
    early = [row for row in rows if row[0] < "u09" and row[1] < "p7"]
    late = [row for row in rows if row not in early]
    # An opinion that changes: the new one stays.
    (user, item, rating, _), *_ = early
    changed = (user, item, 6 - rating, 999)
    late.append(changed)
    solver = ColdStartSolver(meta_method="eb_fold_in").train(columns(early), trials=1, scale=(1, 5))
    assert len(solver.model.recommender.catalogue.ids) == 7
    solver.update(pl.DataFrame(columns(late)))
    whole = [changed, *(row for row in rows if row[:2] != changed[:2])]
    expected = ColdStartSolver(meta_method="eb_fold_in").train(
        columns(whole), trials=1, scale=(1, 5)
    )
    asked = {"p1": 5, "p8": 1}
    assert solver.recommend(asked) == expected.recommend(asked)
    np.testing.assert_array_equal(solver.model.fitted_users, expected.model.fitted_users)
    # The log has grown too.
    solver.update(columns([("u99", "p1", 3, 1000)]))
    assert len(solver.model.fitted_users) == 13


@pytest.mark.slow
def test_an_update_of_a_trained_method_goes_on_from_its_parameters(rows):
    early = [row for row in rows if row[1] < "p7"]
    options = {"rank": 2, "updates": 2, "per_dispatch": 1, "validate_every": 1, "tasks": 4}
    solver = ColdStartSolver(meta_method="bayesian_ridge")
    solver.train(columns(early), options=options, scale=(1, 5))
    before = solver.model.recommender
    solver.update(columns([row for row in rows if row not in early]))
    after = solver.model.recommender
    assert (before.catalogue.ids == after.catalogue.ids[:7]).all()
    tables = [one.params["item_embedding"]["embedding"] for one in (before, after)]
    # It is a closed form of the first log, which is not trained.
    np.testing.assert_array_equal(tables[0], tables[1][:7])
    assert len(solver.recommend({"p1": 5}, top=9)) == 8


def test_the_setting_that_was_chosen_stays(small):
    solver = ColdStartSolver(meta_method="attribute_ridge").train(small)
    chosen = solver.model.settings
    # Another one than the first of the grid, which `fit` takes where it may try but one.
    data = load_data(small)
    first = engine.fit(data, "attribute_ridge", trials=1)
    last = first._replace(settings=registry.method_of("attribute_ridge").grid[-1])
    found, expected = engine.refit(last, data), engine.fit(data, "attribute_ridge", trials=1)
    assert found.settings == last.settings != first.settings
    lists = [runs.recommend(one.recommender, {"Film 3": 5}) for one in (found, expected)]
    assert lists[0] != lists[1]
    assert solver.update({"user": ["7"], "item": ["1"], "rating": [3]}).model.settings == chosen


def test_new_items_are_scored_by_their_attributes(small):
    solver = ColdStartSolver(meta_method="attribute_ridge").train(small, trials=1)
    before = solver.recommend({"Film 3": 5}, {"age": 30}, top=30)
    added = {
        "id": ["new1", "new2", "100"],
        "movie_title": ["Up", "Down", "Sideways"],
        "class": [["Drama"], ["Comedy"], []],
    }
    solver.add_items(pl.DataFrame(added))
    scores = solver.predict({"Film 3": 5}, ["Up", "Down", "100"], {"age": 30})
    # In these data dramas are better.
    assert scores[0] > scores[2] > scores[1]
    after = solver.recommend({"Film 3": 5}, {"age": 30}, top=40)
    known = [line for line in after if line.title.startswith("Film")]
    assert len(known) == len(after) - 3 == len(before)
    assert [line.item_id for line in known] == [line.item_id for line in before]
    scores = [line.score for line in known]
    np.testing.assert_allclose(scores, [line.score for line in before], rtol=1e-5)
    drama = solver.recommend({}, category={"class": "drama"}, only=["Up", "Down"])
    assert [line.title for line in drama] == ["Up"]


def test_a_graph_describes_new_items_too(small, tmp_path):
    graph = tmp_path / "films.tsv"
    names = [*map(str, range(30)), "new"]
    facts = [f"q{n}\tby\tperson{n % 3}" for n in range(31)]
    graph.write_text("\n".join(facts) + "\n")
    link = tmp_path / "films.link"
    pairs = [f"{name}\tq{n}" for n, name in enumerate(names)]
    link.write_text("\n".join(["item_id:token\tentity_id:token", *pairs]) + "\n")
    solver = ColdStartSolver(graph, "attribute_ridge", link=link).train(small, trials=1)
    solver.add_items({"item": ["new"], "movie_title": ["Up"]})
    catalogue = solver.model.recommender.catalogue
    width = solver.model.item_schema.width
    vectors = dict(zip(catalogue.ids.tolist(), catalogue.item_features[:, width:], strict=True))
    np.testing.assert_allclose(vectors["new"], vectors["3"], atol=1e-6)
    assert np.abs(vectors["new"] - vectors["4"]).max() > 0.1


def test_events_and_items_that_do_not_fit_are_refused(small, rows, tmp_path):
    solver = ColdStartSolver(meta_method="item_mean").train(small)
    for events, words in (
        ({"user": ["a"], "item": ["1"]}, "the data have ratings, the events none"),
        ({"user": ["a"], "item": ["1"], "rating": [6]}, r"ratings must be in \[1, 5\].* got 6"),
        ("nothing.csv", "no such path"),
    ):
        with pytest.raises(ValueError, match=words):
            solver.update(events)
    for table, words in (
        ({"item": ["3"]}, "items must be new, got '3'"),
        ({"item": ["a"], "clas": ["x"]}, "did you mean 'class'"),
        ({"name": ["a"]}, "one column item, item_id or id, got name"),
        ({"id": ["a", "b", "a"]}, "must stand once, got 'a' in row 3"),
        ({"id": ["a", None]}, "must not be empty, got '' in row 2"),
    ):
        with pytest.raises(ValueError, match=words):
            solver.add_items(table)
    with pytest.raises(TypeError, match="a frame"):
        solver.add_items(3)
    assert len(solver.model.recommender.catalogue.ids) == 30
    loaded = ColdStartSolver.load(solver.save(tmp_path / "model"))
    with pytest.raises(ValueError, match="a model that was loaded comes without its log"):
        loaded.update(columns(rows))

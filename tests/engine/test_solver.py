import sys
from typing import Any

import jax
import numpy as np
import polars as pl
import pytest

import metajax
from metajax import ColdStartSolver, engine, evaluation, runs
from metajax.data import load as load_data
from metajax.knowledge import (
    graph_from_names,
    item_vectors,
    link_items,
    read_graph,
    shared_facts,
)


@pytest.fixture(scope="module")
def ridge(small):
    """Fitted by a method that sees no attributes of items."""
    return ColdStartSolver(meta_method="eb_fold_in").train(small, trials=1)


@pytest.fixture(scope="module")
def graph_file(tmp_path_factory):
    """Films with their directors, named by their titles in Turtle; literals are years."""
    lines = ["@prefix e: <http://example.org/> ."]
    for n in range(25):
        film = f"e:Film_{n}"
        lines.append(f'{film} e:director e:person{n % 5} ; e:genre e:g{n % 2} ; e:year "19{n}" .')
    path = tmp_path_factory.mktemp("graph") / "films.ttl"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_solver_answers_as_the_functions_that_it_stands_for(ridge, small, tmp_path):
    model = engine.fit(load_data(small), "eb_fold_in", trials=1)
    ratings, user = {"Film 3": 5, "film 4": 1}, {"age": 30}
    found = ridge.recommend(ratings, user, top=3, explain=True)
    assert found == runs.recommend(model.recommender, ratings, user, top=3, explain=True)
    assert found[0].reasons
    assert ridge.recommend_batch([ratings, {}], [user, None], top=3)[0] == [
        line._replace(reasons=()) for line in found
    ]
    scores = ridge.predict(ratings, [line.item_id for line in found], user)
    np.testing.assert_allclose(scores, [line.score for line in found], rtol=1e-6)
    assert ridge.similar("Film 3", 4) == runs.similar(model.recommender, "Film 3", top=4)
    loaded = ColdStartSolver.load(ridge.save(tmp_path / "model"), device="cpu")
    assert loaded.recommend(ratings, user, 3, True) == found
    assert loaded.meta_method == "eb_fold_in"
    with pytest.raises(ValueError, match="loaded comes without the data"):
        loaded.evaluate()
    rows = [(f"new{u}", str(n), 1 + (u * n) % 5) for u in range(9) for n in range(u, u + 14)]
    log = {name: [row[n] for row in rows] for n, name in enumerate(("user", "item", "rating"))}
    records = loaded.evaluate(log)
    assert {(r.method, r.protocol) for r in records if r.metric == "rmse"} == {
        ("eb_fold_in", "new users")
    }


def assert_alike(found, expected):
    """Checks that lists are the same; of an item in another place figures differ by rounding."""
    assert [line.item_id for line in found] == [line.item_id for line in expected]
    for one, other in zip(found, expected, strict=True):
        figures = other.score, other.deviation
        assert (one.score, one.deviation) == pytest.approx(figures, rel=1e-6)


def test_items_are_left_out_and_selected(ridge, tmp_path):
    first = ridge.recommend({"Film 3": 5}, top=30)
    assert len(first) == 29
    without = ridge.recommend({"Film 3": 5}, top=30, exclude=[first[0].title])
    assert_alike(without, first[1:])
    comedies = ridge.recommend({"Film 3": 5}, top=30, category={"class": "comedy"})
    assert 0 < len(comedies) < 29
    # Attributes are part of a saved model.
    loaded = ColdStartSolver.load(ridge.save(tmp_path / "model"))
    assert loaded.recommend({"Film 3": 5}, top=30, category={"class": "comedy"}) == comedies
    [found] = loaded.recommend_batch([{"Film 3": 5}], category={"class": "comedy"})
    assert_alike(found, comedies[:10])
    assert [r.title for r in ridge.recommend({}, only=["Film 7"])] == ["Film 7"]


def test_data_may_be_a_path_a_frame_or_arrays():
    rng = np.random.default_rng(0)
    pairs = [(u, i) for u in range(12) for i in rng.permutation(9)[:6]]
    user, item = map(np.array, zip(*pairs, strict=True))
    rating = (user * item) % 5 + 1
    columns = {"user": user, "item": item, "rating": rating}
    asked = {"3": 5}
    solvers = [
        ColdStartSolver(meta_method="item_mean").train(data)
        for data in (columns, pl.DataFrame(columns), (user, item, rating))
    ]
    lists = [solver.recommend(asked, top=3) for solver in solvers]
    assert lists[0] == lists[1] == lists[2]
    renamed = {"who": user, "what": item, "stars": rating}
    places = {"user_column": "who", "item_column": "what", "rating_column": "stars"}
    assert (
        ColdStartSolver(meta_method="item_mean").train(renamed, **places).recommend(asked, top=3)
        == (lists[0])
    )


@pytest.mark.slow
def test_epochs_and_batch_size_become_updates_and_tasks(small):
    rows = []
    few = {"per_dispatch": 1, "validate_every": 1}
    solver = ColdStartSolver(meta_method="bayesian_ridge", seed=3)
    solver.train(small, epochs=2, batch_size=16, options=few, on_row=rows.append)
    # 40 users, 16 an update: three updates an epoch.
    assert [row.step for row in rows] == [1, 2, 3, 4, 5, 6]
    assert {"tasks": 16, "updates": 6, "seed": 3}.items() <= solver.model.settings.items()


def test_evaluation_is_of_held_out_users(small):
    solver = ColdStartSolver(meta_method="attribute_ridge").train(small, trials=1)
    # No method is its own baseline.
    records = solver.evaluate(baselines=["attribute_ridge", "item_mean"])
    assert {record.method for record in records} == {"attribute_ridge", "item_mean"}
    rmse = [r for r in records if r.metric == "rmse" and r.method == "attribute_ridge"]
    assert {(r.order, r.k) for r in rmse} == {
        (order, k) for order in ("random", "time") for k in (0, 1, 3, 5, 10)
    }
    # A fifth of 40 users.
    assert {r.users for r in rmse} == {8}
    assert all(r.best_baseline == "item_mean" for r in rmse)


def test_a_graph_joins_its_vectors_to_the_items(small, graph_file, tmp_path):
    method = "attribute_ridge"
    plain = ColdStartSolver(meta_method=method).train(small, trials=1)
    solver = ColdStartSolver(graph_file, method).train(small, trials=1)
    widths = [one.model.shapes.item_width for one in (plain, solver)]
    assert widths[1] == widths[0] + 7  # Five directors and two genres.
    assert solver.model.item_schema == plain.model.item_schema
    asked = {"Film 3": 5, "Film 4": 1}
    found = solver.recommend(asked)
    assert found != plain.recommend(asked)
    loaded = ColdStartSolver.load(solver.save(tmp_path / "model"))
    assert loaded.recommend(asked) == found
    # Film 3 was directed by person 3 and has genre 1; so have films 13 and 23, and 8 the first.
    explained = loaded.recommend(asked, top=28, explain=True)
    facts = {line.title: {fact[:2]: fact.titles for fact in line.facts} for line in explained}
    director, genre = ("director", "person3"), ("genre", "g1")
    assert {title for title, one in facts.items() if director in one} == {
        f"Film {n}" for n in (8, 13, 18, 23)
    }
    assert facts["Film 13"][director] == facts["Film 13"][genre] == ("Film 3",)
    assert genre not in facts["Film 8"]
    # Nobody likes film 4.
    assert not any("Film 4" in titles for one in facts.values() for titles in one.values())
    events = {"user": ["new"], "item": ["3"], "rating": [5.0]}
    again = solver.update(events).recommend({"Film 3": 5}, top=28, explain=True)
    assert any(fact.value == "person3" for line in again for fact in line.facts)
    assert {r.method for r in solver.evaluate(baselines=())} == {method}


def test_what_chooses_and_judges_sees_the_graph_too(small, graph_file, monkeypatch):
    module, widths = sys.modules["metajax.engine.fit"], []

    def tuned(baseline, split, **options):
        widths.append(split.training.item_features.shape[1] - split.item_schema.width)
        widths.append(split.final.item_features.shape[1] - split.item_schema.width)
        return evaluation.tuned(baseline, split, **options)

    monkeypatch.setattr(module, "tuned", tuned)
    solver = ColdStartSolver(graph_file, "attribute_ridge").train(small, trials=2)
    assert widths == [7, 7]
    solver.evaluate(baselines=())
    # `prepare` pads to a multiple of eight before that.
    assert widths[2:] == [12, 12]


def test_everything_is_computed_on_the_device(small):
    seen: list[Any] = []
    config: Any = jax.config
    solver = ColdStartSolver(meta_method="item_mean", device="cpu:0")
    solver.train(small, begin=lambda stage: seen.append(config.jax_default_device))
    assert seen == [jax.devices("cpu")[0]] * 2
    assert config.jax_default_device is None


def test_a_graph_that_links_to_no_item_is_refused_unless_it_need_not(small, tmp_path):
    path = tmp_path / "other.tsv"
    path.write_text("a\tby\tx\nb\tby\tx\nc\tby\ty\nd\tby\ty\n")
    with pytest.raises(ValueError, match=r"other.tsv: the graph links to no item of .*'a', 'b'"):
        ColdStartSolver(path, "attribute_ridge").train(small)
    solver = ColdStartSolver(path, "item_mean", require_links=False).train(small)
    assert solver.recommend({}, top=1) == ColdStartSolver(meta_method="item_mean").train(
        small
    ).recommend({}, top=1)
    # A file of links of more items than the log has.
    link = tmp_path / "other.link"
    link.write_text("item_id:token\tentity_id:token\n3\ta\n4\tb\n5\tc\n999\tb\n")
    linked = ColdStartSolver(path, "attribute_ridge", link=link).train(small, trials=1)
    assert linked.model.shapes.item_width == 2 + solver.model.shapes.item_width


def test_items_are_linked_by_the_rule_that_links_most():
    triples = [("ex:item/1", "by", "p"), ("ex:item/2", "by", "p"), ("ex:tag/3", "by", "p")]
    graph = graph_from_names([*triples, ("1", "by", "p")])
    names = graph.entities.names
    found = link_items(graph, ["1", "2", "3"], ["A", "B", "C"])
    assert [(item, names[e]) for item, e in found.links] == [("1", "ex:item/1"), ("2", "ex:item/2")]
    label = "http://www.w3.org/2000/01/rdf-schema#label"
    attributes = [(f"q{n}", label, title, "@en") for n, title in enumerate(["Emma", "EMMA", "Up"])]
    called = graph_from_names([(f"q{n}", "by", "p") for n in range(3)], attributes=attributes)
    # Two entities are called Emma.
    assert link_items(called, ["7", "8"], ["emma", "up"]).links == (
        ("8", called.entities.index["q2"]),
    )
    assert link_items(called, ["7"], ["Fargo"]).links == ()


def test_vectors_of_items_are_of_facts_that_they_share(films):
    graph = link_items(read_graph(films), [f"film{n}" for n in range(40)], [""] * 40)
    vectors = item_vectors(graph, [f"film{n}" for n in range(40)])
    assert vectors.shape == (40, 3 + 5 + 2)  # Genres, directors (folded) and prizes.
    assert np.mean(np.sum(vectors**2, axis=1)) == pytest.approx(1, rel=1e-5)
    # Films 0 and 30 share all; 0 and 1 nothing.
    np.testing.assert_allclose(vectors[0], vectors[30], atol=1e-6)
    assert vectors[0] @ vectors[1] == pytest.approx(0, abs=1e-6)
    alone = graph_from_names([("a", "by", "x"), ("b", "by", "y")])
    with pytest.raises(ValueError, match="no fact is shared by some of them"):
        item_vectors(link_items(alone, ["a", "b"], ["", ""]), ["a", "b"])


def test_facts_are_of_several_items_and_not_of_many(films):
    ids = [f"film{n}" for n in range(40)]
    graph = link_items(read_graph(films), ids, [""] * 40)
    facts = shared_facts(graph, ids, most=14)
    of_first = facts.fact[facts.item == 0]
    named = zip(facts.relation[of_first], facts.value[of_first], strict=True)
    # The prize is that of 20 films, and the director's film is the film's director.
    assert set(named) == {("director", "person0"), ("genre", "genre0")}
    assert np.bincount(facts.fact).tolist() == [8] * 5 + [14, 13, 13]
    alone = graph_from_names([("a", "by", "x"), ("b", "by", "y")])
    assert not len(shared_facts(link_items(alone, ["a", "b"], ["", ""]), ["a", "b"]).item)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"device": "gpu:9"}, ValueError, "device must be one of this machine's, which are cpu:0"),
        ({"device": "cpu:999"}, ValueError, "got 'cpu:999'"),
        ({"device": "cpuu"}, ValueError, "got 'cpuu'"),
        ({"device": 0}, TypeError, "device must be a name"),
        ({"meta_method": "mmal"}, ValueError, "did you mean 'maml'"),
        ({"meta_method": "linear_map"}, ValueError, "a method of one domain, got 'linear_map'"),
        ({"kg_path": "nothing.ttl"}, ValueError, "kg_path must be a path or one of .*nothing.ttl"),
        ({"link": "a.link"}, ValueError, "link must come with kg_path"),
        ({"seed": -1}, ValueError, "seed must be a whole number >= 0"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments, error, words):
    with pytest.raises(error, match=words):
        ColdStartSolver(**arguments)


def test_wrong_trainings_are_refused(small):
    closed, trained = (ColdStartSolver(meta_method=name) for name in ("eb_fold_in", "maml"))
    cases: list[Any] = [
        (closed, {"epochs": 2}, "epochs must be left out for 'eb_fold_in'"),
        (closed, {"epochs": 2, "batch_size": 3}, "epochs and batch_size must be left out"),
        (closed, {"user_column": "who"}, "who"),
        (trained, {"epochs": 0}, "epochs must be a whole number >= 1, got 0"),
        (trained, {"batch_size": 1.5}, "batch_size must be a whole number"),
        (trained, {"epochs": 1, "options": {"updates": 3}}, "epochs and the option updates"),
        (trained, {"options": {"inner_rat": 3}}, "did you mean 'inner_rate'"),
        (trained, {"trials": 2}, "trials must be left out"),
    ]
    for solver, options, words in cases:
        with pytest.raises(ValueError, match=words):
            solver.train(small, **options)
    with pytest.raises(ValueError, match="no such path"):
        closed.train("nothing.csv")
    with pytest.raises(ValueError, match="got 1 of them"):
        closed.train(([1],))
    with pytest.raises(ValueError, match="a data set has been read"):
        closed.train(load_data("synthetic"), scale=(1, 5))
    with pytest.raises(ValueError, match="there is no model yet"):
        closed.recommend({})


def test_the_solver_is_part_of_the_public_face():
    assert metajax.ColdStartSolver is engine.ColdStartSolver

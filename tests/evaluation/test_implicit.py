"""Logs without ratings, end to end: which methods learn from them, and what is judged."""

from typing import Any

import jax
import numpy as np
import pytest

from metajax import baselines, evaluation, registry
from metajax.baselines import preferences
from metajax.data.dataset import Dataset, Table
from metajax.data.interactions import from_columns
from metajax.evaluation import experiment, metrics, tables, tuning
from metajax.evaluation.cells import Cell
from metajax.evaluation.evaluate import NothingRelevantError, evaluate
from metajax.evaluation.records import select
from metajax.evaluation.tuning import trained, tuned
from metajax.metrics import auc

TINY = {
    "rank": 2, "width": 4, "embedding": 2, "heads": 1, "steps": 1, "updates": 2, "tasks": 2,
    "support": 3, "query": 3, "per_dispatch": 2, "validate_every": 2,
}  # fmt: skip

# By name, whether the method needs ratings.
METHODS = {
    "anil": False,
    "attentive_neighbours": False,
    "attentive_process": False,
    "attribute_prototypes": True,
    "attribute_ridge": True,
    "bayesian_ridge": True,
    "boil": False,
    "cavia": False,
    "conditional_process": False,
    "content_profile": False,
    "content_schedule": False,
    "demographics": True,
    "ease": False,
    "ease_blend": False,
    "eb_fold_in": True,
    "fomaml": False,
    "gat_ridge": True,
    "gcn_ridge": True,
    "global_mean": True,
    "graph_filter": False,
    "graph_gat": False,
    "graph_gcn": False,
    "graph_light": False,
    "graph_sage": False,
    "gru_embeddings": False,
    "gru_gradients": False,
    "hybrid": False,
    "imaml": False,
    "implicit_als": False,
    "item_knn": False,
    "item_knn_blend": False,
    "item_mean": True,
    "item_user_bias": True,
    "light_gcn": False,
    "light_gcn_ridge": True,
    "maml": False,
    "maml_from_random": False,
    "maml_plus_plus": False,
    "matching_network": False,
    "meta_sgd": False,
    "popularity": False,
    "proto_maml": False,
    "prototypical": False,
    "random": False,
    "recent_popularity": False,
    "reptile": False,
    "sage_ridge": True,
    "semantic_map": True,
    "sequential": False,
    "two_tower": False,
    "two_tower_fine_tuned": False,
}
# One trained method of each kind is quick enough for every day.
SLOW = set(registry.names()) - {"attentive_neighbours", "light_gcn", "maml", "prototypical"}


def views(strength=None, relevant=None) -> Dataset:
    """Forty users with 4 to 14 of 12 items each, half of them from one half of the items."""
    rng = np.random.default_rng(0)
    user, item = [], []
    for u in range(40):
        weight = np.where(np.arange(12) // 6 == u % 2, 0.0, 1.5) - rng.gumbel(size=12)
        chosen = np.argsort(weight)[: rng.integers(4, 12)]
        user += [u] * len(chosen)
        item += chosen.tolist()
    ids = np.array([f"u{n:02d}" for n in range(40)]), np.array([f"i{n:02d}" for n in range(12)])
    rows = len(user)
    labels = None if strength is None else np.resize(strength, rows)
    log = from_columns(
        np.array(user), np.array(item), labels, rng.integers(99, size=rows),
        user_ids=ids[0], item_ids=ids[1],
    )  # fmt: skip
    tables = (Table(names, {}, {}) for names in ids)
    return Dataset("views", log, *tables, scale=None, relevant=relevant)


@pytest.fixture(scope="module")
def dataset():
    return views()


@pytest.fixture(scope="module")
def split(dataset):
    return evaluation.prepare("P1", dataset, fold=0, seed=0)


def test_the_table_of_methods_is_whole():
    known = registry.baseline_names(domains=1) + registry.names(domains=1)
    assert {name: registry.method_of(name).needs_ratings for name in known} == METHODS
    across = [m for m in registry.all_methods() if m.two_domains]
    assert across


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW))
        for name, needs_ratings in METHODS.items()
        if not needs_ratings
    ],
)
def test_a_method_that_needs_no_ratings_learns_and_is_judged_by_rankings(name, split, dataset):
    method = registry.method_of(name)
    if isinstance(method, registry.Baseline):
        fitted = tuned(method, split, trials=1)["random"]
    else:
        known = registry._keys_of(method.options)
        chosen = {key: value for key, value in TINY.items() if key in known}
        settings = registry.settings_on(registry.settings_for(method, **chosen), dataset)
        assert not registry.predicts_ratings(settings)
        fitted = trained(method, split, settings, trials=1, refit=False)["random"]
    figures = evaluation.summarise(evaluation.judge(fitted, split, "random"))
    assert not {"rmse", "mae", "within@90"} & set(figures)
    assert np.isfinite(figures["ndcg@10"]).all()


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name]])
def test_a_method_that_needs_ratings_says_so_in_one_line(name, dataset):
    message = f"method '{name}' needs ratings, and views has none: take one that orders the items"
    with pytest.raises(ValueError, match=message):
        evaluation.compare(dataset, [name, "popularity"])


def rows(figures, method, metric="ndcg@10", **wanted):
    return [r.mean for r in select(figures, method=method, metric=metric, **wanted)]


def test_a_comparison_of_a_log_without_ratings_takes_what_suits_it(dataset, tmp_path):
    cells = evaluation.cells_of(folds=[0], dataset=dataset)
    assert {cell.method for cell in cells} == {name for name in METHODS if not METHODS[name]}
    assert {cell.protocol for cell in cells} == {"P1"}
    names = ["popularity", "item_knn", "random"]
    found = evaluation.compare(dataset, names, folds=[0], folder=tmp_path / "views")
    assert found.notes == []
    assert {r.metric for r in found.records} == {
        "ndcg@10", "precision@10", "recall@10", "hr@1", "coverage@10", "adapt_us", "state_bytes",
    }  # fmt: skip
    # The users are of two kinds, which popularity does not know.
    at_five = {"protocol": "P1", "order": "random", "k": 5}
    assert rows(found.records, "item_knn", **at_five) > rows(found.records, "popularity", **at_five)
    errors = {"errors": evaluation.protocols["P1"]._replace(ranked=False)}
    with pytest.raises(ValueError, match="errors judges ratings, and views has none: take P1"):
        evaluation.compare(dataset, ["popularity"], protocols=errors)
    with pytest.raises(ValueError, match="views: what is judged here are ratings, and the log "):
        evaluation.prepare(errors["errors"], dataset, fold=0, seed=0)


# By name of a method with settings that only grades give an effect: distinct ones of its grid
# without grades.
DISTINCT = {
    "content_profile": 2,
    "content_schedule": 1,
    "ease": 2,
    "ease_blend": 6,
    "graph_filter": 4,
    "implicit_als": 5,
    "item_knn": 4,
    "item_knn_blend": 6,
    "popularity": 1,
}


CLOSED = {method.name: method for method in registry.all_baselines()}


def counting(method, fits):
    """Returns a closed form that adds to `fits` with which settings it is fitted."""

    def fit(training, **settings):
        fits.append(settings)
        return method.fit(training, **settings)

    return method._replace(fit=fit)


def test_the_table_of_settings_of_grades_is_whole():
    assert {name for name, method in CLOSED.items() if method.of_grades} == DISTINCT.keys()


@pytest.mark.parametrize("name", DISTINCT)
def test_settings_that_are_equal_without_grades_are_tried_once(name, split):
    method, fits = CLOSED[name], []
    equal = preferences.first_equal(method.grid, method.of_grades, split.final)
    assert len(set(equal)) == DISTINCT[name]
    others = {"sharpness": 3.0, "least": 0.0}
    changed = {**method.grid[0], **{name: others[name] for name in method.of_grades}}
    one, other = (
        tuning.judge(
            tuning.fitted(method, split, method.fit(split.final, **setting)), split, "random"
        ).per_user
        for setting in (method.grid[0], changed)
    )
    np.testing.assert_array_equal(one.top_items, other.top_items)
    np.testing.assert_equal(one.values, other.values)
    strengths = evaluation.prepare("P1", views([1, 2, 3], relevant=3.0), fold=0, seed=0).final
    places = list(range(len(method.grid)))
    assert preferences.first_equal(method.grid, method.of_grades, strengths) == places
    if method.fit_many is None:
        chosen = tuned(counting(method, fits), split)
        tried = DISTINCT[name] if DISTINCT[name] > 1 else 0
        assert len(fits) == tried + len({str(found.settings) for found in chosen.values()})
        whole = tuned(method._replace(of_grades=()), split)
        assert [m.settings for m in chosen.values()] == [m.settings for m in whole.values()]


def test_blends_share_the_fits_that_differ_in_their_weight_alone(split, dataset):
    grid, fits = CLOSED["ease_blend"].grid, []
    blend = baselines.popularity_blend("blend", counting(baselines.ease, fits), grid)
    found: list[Any] = list(tuning.fits(blend, split.training, grid))
    assert [setting["ridge"] for setting in fits] == [3000.0, 10000.0]
    for shared, setting in zip(found, grid, strict=True):
        own: Any = blend.fit(split.training, **setting)
        # The exponent of preferences that are all 1 is that of the first that is equal.
        shared = shared._replace(personal=shared.personal._replace(curve=own.personal.curve))
        jax.tree.map(np.testing.assert_array_equal, shared, own)


def test_a_run_of_a_closed_form_tries_equal_settings_once(split):
    fits = []
    item_knn = counting(baselines.item_knn, fits)
    *_, (progress, _) = evaluation.fit_on(item_knn, split, evaluation.begin_fit(item_knn))
    assert len(fits) == 4 + 1
    trials: Any = progress.state
    assert trials.losses[1] == trials.losses[3]


def test_new_items_are_ranked_among_themselves():
    """Users keep to one half of the items, which an attribute of the items tells."""
    rng = np.random.default_rng(0)
    items, users = np.arange(60), range(40)
    chosen = [
        np.argsort(np.where(items // 30 == u % 2, 0.0, 2.0) - rng.gumbel(size=60))[:25]
        for u in users
    ]
    user_ids, item_ids = (np.array([f"{n:02d}" for n in range(size)]) for size in (40, 60))
    log = from_columns(
        np.repeat(users, 25), np.concatenate(chosen), user_ids=user_ids, item_ids=item_ids
    )
    kinds = np.where(items < 30, "a", "b")
    described = Dataset(
        "clicks",
        log,
        Table(user_ids, {}, {}),
        Table(item_ids, {"class": kinds}, {"class": "categorical"}),
        scale=None,
    )
    split = evaluation.prepare("P2", described, fold=0, seed=0)
    seen = np.unique(split.final.interactions.item)
    found = {}
    for baseline in (baselines.popularity, baselines.content_profile):
        method = tuned(baseline, split, trials=1)["cold_user_cold_item"]
        for panel in ("cold_user_cold_item", "cold_user_warm_item"):
            judged = evaluation.judge(method, split, panel)
            found[baseline.name, panel] = evaluation.summarise(judged)["ndcg@10"]
            shown = np.unique(judged.per_user.top_items)
            assert np.isin(shown[shown >= 0], seen).all() == panel.endswith("warm_item")
            assert not np.isin(shown, seen).any() or panel.endswith("warm_item")
    # Of new items, only attributes tell who likes them, once clicks have been seen.
    none, *_, five = found["content_profile", "cold_user_cold_item"]
    assert five > none + 0.2
    assert five > max(found["popularity", "cold_user_cold_item"]) + 0.2


@pytest.mark.slow
def test_ratings_that_are_all_equal_are_no_ratings(dataset):
    log = dataset.interactions
    ones = dataset._replace(scale=(0.0, 1.0))
    fives = ones._replace(interactions=log._replace(rating=5 * log.rating), scale=(1.0, 5.0))
    methods = ["popularity", "item_knn", "ease_blend"]
    found = [evaluation.compare(d, methods, folds=[0], trials=1) for d in (dataset, ones, fives)]
    figures = [[r for r in f.records if r.metric != "adapt_us"] for f in found]
    assert figures[0] == figures[1] == figures[2]
    assert (dataset.unrated, ones.unrated) == ("has none", "has no two different ones")
    with pytest.raises(ValueError, match="and views has no two different ones: take "):
        evaluation.compare(ones, ["item_mean"])


def test_strengths_below_the_threshold_are_evidence_but_not_relevant():
    counted = views(strength=[1, 10], relevant=10)
    found = evaluation.compare(counted, ["popularity", "item_knn"], folds=[0], trials=1)
    split = evaluation.prepare("P1", counted, fold=0, seed=0)
    assert set(np.unique(split.training.interactions.rating)) == {np.float32(0.1), np.float32(1)}
    # Popularity counts the relevant alone.
    counts = tuned(baselines.popularity, split, trials=1)["random"].params.liked
    log = split.final.interactions
    np.testing.assert_array_equal(counts, np.bincount(log.item[log.rating == 1], None, 12))
    everything = evaluation.compare(views(), ["popularity", "item_knn"], folds=[0], trials=1)
    assert rows(found.records, "item_knn") != rows(everything.records, "item_knn")


def test_a_ranking_in_which_nobody_has_a_relevant_item_is_refused(dataset, split):
    rng = np.random.default_rng(1)
    counts = 1 + rng.poisson(1.0, len(dataset.interactions.item))
    log = dataset.interactions._replace(rating=np.float32(counts))
    plays = dataset._replace(interactions=log, scale=(1.0, 41.0))
    reason = "nobody has a relevant item among those asked for, no label reaches 31, three quarters"
    parts = evaluation.prepare("P1", plays, fold=0, seed=0)
    assert reason in parts.unranked
    with pytest.raises(NothingRelevantError, match=r"views: nobody .* threshold \(--relevant\)\.$"):
        evaluation.check_ranked(parts)
    with pytest.raises(NothingRelevantError, match=reason):
        evaluation.validation_of(parts, registry.all_baselines()[0].adaptation, rating=False)
    # Ratings are judged all the same, rankings are left out and it is said.
    found = evaluation.compare(plays, ["popularity", "item_mean"], protocols=["P1"], folds=[0])
    assert {r.method for r in found.records} == {"item_mean"}
    (note,) = found.notes
    assert note.startswith("Left out: popularity under P1, fold 0, seed 0: popularity ranks.")
    assert reason in note
    method = tuned(baselines.item_knn, split, trials=1)["random"]
    with pytest.raises(NothingRelevantError, match=r"item_knn cannot be judged .* reaches 2 \(--r"):
        evaluate(
            method.adaptation, method.params, split.test["random"],
            split.training.user_features, split.training.item_features,
            scale=None, rating=False, relevant=2, method="item_knn",
        )  # fmt: skip


def test_trained_methods_learn_an_order_where_there_are_no_ratings():
    cell = Cell("maml", "P1", 0, 0)
    learned = ((None, "rating"), (2000, "ndcg"), (2001, "sampled_ranking"))
    for items, objective in learned:
        shared = experiment._Shared(None, {}, (), {}, False, False, items)
        assert experiment._plan_of(cell, shared).conditions["settings"]["objective"] == objective
    asked = experiment._Shared(None, {"objective": "ranking"}, (), {}, False, False, 2000)
    assert experiment._plan_of(cell, asked).conditions["settings"]["objective"] == "ranking"


def test_a_run_is_judged_beside_what_needs_no_ratings(split):
    names = {method.name for method in tables._baselines(split, [], None)[0]}
    assert {"popularity", "ease", "two_tower"} <= names
    assert not any(METHODS[name] for name in names)


def test_a_baseline_that_the_catalogue_is_too_large_for_is_left_out_and_named(
    split, dataset, monkeypatch
):
    small = baselines.ease._replace(most_items=3)
    items = len(dataset.items.ids)
    problem = f"method 'ease' is for at most 3 items, got {items:,}"
    monkeypatch.setattr(tables, "all_methods", tuple)
    monkeypatch.setattr(tables, "all_baselines", lambda: (small, baselines.popularity))
    compared, sentences = tables._baselines(split, [], None)
    assert [method.name for method in compared] == ["popularity"]
    assert sentences == [f"Left out: {problem}."]
    assert tables.stages(split, []) == 1
    with pytest.raises(ValueError, match=problem):
        registry.check_suits(small, dataset)


def test_where_no_ranking_can_be_judged_a_run_says_so_and_judges_ratings(dataset, monkeypatch):
    monkeypatch.setattr(tables, "all_methods", tuple)
    both = baselines.item_mean._replace(name="both", predicts="both")
    simple = (baselines.item_mean, baselines.ease, both)
    monkeypatch.setattr(tables, "all_baselines", lambda: simple)
    log = dataset.interactions
    rated = log._replace(rating=np.float32(1 + log.item % 2))
    parts = evaluation.prepare(
        "P1", dataset._replace(interactions=rated, scale=(1.0, 5.0)), fold=0, seed=0
    )
    judged, notes = evaluation.judge_all(parts, [], registry.settings_for("maml"))
    assert [found.by_order["random"].method for found in judged] == ["item_mean", "both"]
    assert notes == [f"Rankings are not judged. {parts.unranked}"]


def test_cells_keep_the_metrics_that_all_of_them_have(split):
    method = tuned(baselines.item_knn, split, trials=1)["random"]
    whole = evaluation.judge(method, split, "random")
    fewer = evaluation.judge(method, split, "random", metrics=[metrics.metric_of(auc)])
    joined = tables._joined([{"random": fewer}, {"random": whole}], "knn", "baseline")
    found = joined.by_order["random"]
    assert [metric.name for metric in found.metrics] == [metric.name for metric in whole.metrics]
    assert found.natural is None
    assert len(found.per_user.user) == 2 * len(whole.per_user.user)
    alike = tables._joined([{"random": whole}, {"random": whole}], "knn", "baseline")
    assert alike.by_order["random"].natural is not None

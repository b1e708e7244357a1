"""The table of metrics: what every entry must hold, and metrics from outside, end to end."""

import jax.numpy as jnp
import numpy as np
import pytest

from metajax import evaluation, metrics, report
from metajax.baselines import eb_fold_in
from metajax.data.datasets import load
from metajax.evaluation import Metric, prepare
from metajax.evaluation.metrics import (
    badness,
    better_way,
    metric_of,
    named,
    table_with,
    title_of,
)
from metajax.evaluation.records import distinct, select


def reciprocal_rank(scores, labels, *, k, where):
    """1 / the rank of the first relevant item of the first k, or 0."""
    top = metrics.top_items(scores, k=k, where=where)
    hit = (top >= 0) & (labels[top] > 0)
    return jnp.max(hit / (1 + jnp.arange(k)))


def bias(scores, labels, *, where):
    """Mean of prediction minus rating."""
    return jnp.sum(jnp.where(where, scores - labels, 0)) / jnp.maximum(jnp.sum(where), 1)


BIAS = Metric("bias", bias, needs="ratings", better=0.0, title="Bias", form="+.4f")


@pytest.fixture(scope="module")
def dataset(small):
    return load(str(small))


@pytest.fixture(scope="module")
def compared(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    return evaluation.compare(
        dataset,
        ["item_user_bias", "popularity", "two_tower", "maml"],
        protocols=["P1"],
        folds=[0],
        trials=1,
        metrics=[reciprocal_rank, BIAS],
        changes={"updates": 5, "per_dispatch": 5, "validate_every": 5, "tasks": 4, "rank": 2},
        folder=folder,
    ), folder


@pytest.mark.parametrize("metric", table_with([], length=10), ids=lambda metric: metric.name)
def test_every_entry_is_found_by_the_name_of_its_records(metric):
    entry = named(metric.name)
    assert (entry.better, entry.form) == (metric.better, metric.form)
    assert title_of(entry) == title_of(metric)
    if isinstance(metric.better, float):
        pairs = [(metric.better, metric.better + off) for off in (-0.3, 0.3)]
    else:
        pairs = [(0.1, 0.2) if metric.better == "lower" else (0.2, 0.1)]
    assert all(badness(entry, good) < badness(entry, bad) for good, bad in pairs)
    assert (metric.function is None) == (metric.needs in ("lists", "clock"))


def test_the_table_prints_conventional_names():
    titles = {"rmse": "RMSE", "rmse_user": "RMSE per user", "ndcg@10": "NDCG@10", "hr@1": "HR@1"}
    titles |= {"precision@10": "precision@10", "adapt_us": "adaptation, µs a user", "mine": "mine"}
    assert {name: title_of(named(name)) for name in titles} == titles
    ways = {"mae": "lower is better", "hr@1": "higher is better", "within@90": "0.9 is right"}
    assert {name: better_way(named(name)) for name in ways} == ways


def test_an_own_metric_equals_plain_numpy(dataset):
    split = prepare("P1", dataset, fold=0, seed=0)
    tasks, seen = split.test["random"], split.training
    params = eb_fold_in.fit(seen)
    found = evaluation.evaluate(
        eb_fold_in.adaptation,
        params,
        tasks,
        seen.user_features,
        seen.item_features,
        scale=seen.scale,
        ks=(0, 5),
        metrics=[reciprocal_rank, BIAS, metrics.auc],
    )
    values = found.per_user.values
    for t in range(len(tasks.user)):
        query = slice(*tasks.query_offsets[t : t + 2])
        liked = set(tasks.query_item[query][tasks.query_rating[query] >= 4].tolist())
        for at in range(2):
            hits = [item in liked for item in found.per_user.top_items[at, t].tolist()]
            rank = 1 / (1 + hits.index(True)) if any(hits) else 0
            assert values["reciprocal_rank@10"][at, t] == pytest.approx(rank)
    # Squared and signed errors are of the same predictions: the mean square is at least the
    # square of the mean.
    mean_square = values["mse"] / found.per_user.count
    assert (mean_square >= values["bias"] ** 2 - 1e-6).all()
    figures = evaluation.summarise(found)
    np.testing.assert_allclose(figures["bias"], values["bias"].mean(1), rtol=1e-6)
    assert (figures["auc"] > 0.5).all()


def test_an_own_metric_has_records_intervals_and_differences(compared):
    records = compared[0].records
    own = select(records, metric="reciprocal_rank@10")
    assert {r.method for r in own} == {"popularity", "two_tower", "maml"}
    assert {r.k for r in own} == {0, 1, 3, 5, 10}
    assert all(None not in (r.low, r.high) and r.better == "higher" for r in own)
    learned = select(own, method="maml")
    assert all(r.best_baseline in ("popularity", "two_tower") for r in learned)
    assert all(r.difference is not None for r in learned)
    # A signed error is right at 0: it has intervals, and no difference of differences.
    signed = select(records, metric="bias")
    assert {r.method for r in signed} == {"item_user_bias", "two_tower", "maml"}
    assert all(r.better == 0 and r.difference is None and r.low is not None for r in signed)
    # The table's own metrics are what they would be without.
    assert all(r.better is None for r in select(records, metric="ndcg@10"))


def test_an_own_metric_is_in_json_csv_frames_and_on_the_page(compared):
    found = compared[0]
    assert evaluation.from_json(found.to_json()) == found.records
    lines = found.to_csv().splitlines()
    assert len(lines) == 1 + len(found.records)
    assert any("reciprocal_rank@10" in line for line in lines)
    frame = found.to_polars()
    assert frame.height == len(found.records)
    assert set(frame["metric"]) == set(distinct(found.records, "metric"))
    assert frame["mean"].to_list() == [r.mean for r in found.records]
    page = report.html(found.records, title="")
    assert "reciprocal_rank@10, random order" in page
    assert "0 is right" in page
    drawn = report.html(found.records, title="", metrics=["reciprocal_rank@10"])
    assert "reciprocal_rank@10, random order (higher is better) against interactions seen" in drawn


def test_cells_with_an_own_metric_are_read_back(dataset, compared, monkeypatch):
    found, folder = compared
    monkeypatch.setattr("metajax.evaluation.experiment._judged", None)
    again = evaluation.compare(
        dataset,
        ["item_user_bias", "popularity"],
        protocols=["P1"],
        folds=[0],
        trials=1,
        metrics=[reciprocal_rank, BIAS],
        folder=folder,
    )
    names = ("item_user_bias", "popularity")
    assert again.records == [r for r in found.records if r.method in names]


@pytest.mark.parametrize(
    ("own", "error", "message"),
    [
        (lambda: [metrics.ndcg], ValueError, "names of their own, got 'ndcg@10' twice"),
        (lambda: [Metric("nothing", None)], ValueError, "must have a function, got none for 'noth"),
        (lambda: [3], TypeError, "must be a named function or a Metric, got 3"),
        (
            lambda: [Metric("scores", lambda scores, labels, *, where: scores)],
            ValueError,
            r"metric scores must return a number, got shape \(30,\)",
        ),
    ],
)
def test_an_invalid_metric_is_refused(dataset, own, error, message):
    split = prepare("P1", dataset, fold=0, seed=0)
    seen = split.training
    with pytest.raises(error, match=message):
        evaluation.evaluate(
            eb_fold_in.adaptation,
            eb_fold_in.fit(seen),
            split.test["random"],
            seen.user_features,
            seen.item_features,
            scale=seen.scale,
            metrics=own(),
        )


def test_the_same_metric_compiles_no_second_program(dataset):
    traced = []

    def counted(scores, labels, *, where):
        traced.append(scores.shape)
        return jnp.sum(scores * where)

    split = prepare("P1", dataset, fold=0, seed=0)
    seen, params = split.training, eb_fold_in.fit(split.training)
    for panel in ("random", "time"):
        evaluation.evaluate(
            eb_fold_in.adaptation,
            params,
            split.test[panel],
            seen.user_features,
            seen.item_features,
            scale=seen.scale,
            metrics=[counted],
        )
    assert len(traced) == 1
    assert metric_of(counted) == metric_of(metric_of(counted))

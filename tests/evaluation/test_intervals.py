import json
from typing import Any

import numpy as np
import pytest

from metajax.evaluation.evaluate import Evaluation, PerUser, concatenate
from metajax.evaluation.intervals import (
    interval,
    metrics_of,
    paired_difference,
    records_of,
    summarise,
)
from metajax.evaluation.metrics import table_with
from metajax.evaluation.records import Record, distinct, from_json, select, to_json

SETTING: Any = {"kind": "learned", "protocol": "P1", "order": "random", "seeds": [0]}


def evaluation(method="method", users=3, seed=None, needs=("ratings", "order", "lists"), **fields):
    """Measurements at two support sizes, drawn at random unless given by field or by metric."""
    rng = np.random.default_rng(seed)
    shape = (2, users)
    squared, absolute = rng.gamma(2, 2, shape), rng.gamma(2, 1, shape)
    squared, absolute = fields.pop("squared", squared), fields.pop("absolute", absolute)
    values = {name: rng.random(shape) for name in ("ndcg@2", "precision@2", "recall@2", "hr@1")}
    values |= {"rmse": squared, "mse": squared, "rmse_user": squared}
    values |= {"mae": absolute, "mae_user": absolute}
    values |= fields.pop("values", {})
    per_user = PerUser(
        user=np.arange(users),
        run=np.zeros(users, np.int32),
        count=np.tile(np.arange(1, users + 1), (2, 1)),
        has_relevant=np.tile(np.arange(users) % 4 > 0, (2, 1)),
        top_items=rng.integers(0, 20, (*shape, 2)),
        values=values,
    )._replace(**fields)
    metrics = tuple(m for m in table_with([], length=2) if m.needs in needs)
    return Evaluation(method, (0, 1), 20, metrics, per_user)


def twice(*row):
    return np.array([row, row], float)


def test_figures_equal_the_arithmetic():
    figures = summarise(
        evaluation(
            squared=twice(4, 2, 9),
            absolute=twice(2, 2, 3),
            count=twice(1, 2, 1),
            values={
                "ndcg@2": twice(0.5, 0.25, 0),
                "precision@2": twice(1, 0.5, 0),
                "recall@2": twice(0.2, 0.4, 0),
                "hr@1": twice(1, 0, 0),
            },
            has_relevant=twice(1, 1, 0).astype(bool),
            top_items=np.array([[[0, 1], [1, -1], [1, 0]], [[0, 1], [2, 3], [4, 5]]]),
        )
    )
    expected = {
        "rmse": [np.sqrt((4 + 2 + 9) / 4)] * 2,
        "mae": [(2 + 2 + 3) / 4] * 2,
        "mse": [(4 + 2 + 9) / 4] * 2,
        "rmse_user": [(2 + 1 + 3) / 3] * 2,
        "mae_user": [(2 + 1 + 3) / 3] * 2,
        # The third user has nothing relevant and does not count.
        "ndcg@2": [(0.5 + 0.25) / 2] * 2,
        "precision@2": [(1 + 0.5) / 2] * 2,
        "recall@2": [(0.2 + 0.4) / 2] * 2,
        "hr@1": [(1 + 0) / 2] * 2,
        "coverage@2": [2 / 20, 6 / 20],
    }
    assert list(figures) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(figures[name], value, rtol=1e-12, err_msg=name)


def test_calibration_is_the_share_of_ratings_inside_the_interval():
    values = {"within@50": twice(0, 2, 1), "within@90": twice(1, 2, 2)}
    figures = summarise(
        evaluation(needs=("ratings", "variance"), values=values, count=twice(1, 3, 2))
    )
    np.testing.assert_allclose(figures["within@50"], [(0 + 2 + 1) / 6] * 2)
    np.testing.assert_allclose(figures["within@90"], [(1 + 2 + 2) / 6] * 2)


def test_without_relevant_items_a_ranking_has_coverage_alone():
    nothing = evaluation(needs=("order", "lists"), has_relevant=np.zeros((2, 3), bool))
    assert [metric.name for metric in metrics_of(nothing)] == ["coverage@2"]
    assert list(summarise(nothing)) == ["coverage@2"]
    rows = records_of(
        nothing, kind="learned", protocol="P1", order="random", seeds=[0], resamples=5
    )
    assert [(row.metric, row.k) for row in rows] == [("coverage@2", 0), ("coverage@2", 1)]
    with pytest.raises(ValueError, match="got 'ndcg@2'"):
        interval(nothing, "ndcg@2")


def test_a_figure_of_no_user_has_no_record():
    first = np.array([[True] * 3, [False] * 3])
    rows = records_of(
        evaluation(has_relevant=first, count=first * 2, squared=first * 8.0),
        kind="learned",
        protocol="P1",
        order="random",
        seeds=[0],
        resamples=5,
    )
    assert not [row for row in rows if row.k == 1]
    assert {row.mean for row in rows if row.metric.startswith("rmse")} == {2}


def test_a_user_without_ratings_has_no_error_to_average():
    alone = evaluation(squared=twice(4, 0, 0), absolute=twice(2, 0, 0), count=twice(1, 0, 0))
    np.testing.assert_array_equal(summarise(alone)["rmse_user"], 2)
    np.testing.assert_array_equal(summarise(alone)["mae_user"], 2)


def test_coverage_is_averaged_over_runs():
    lists = np.arange(12).reshape(2, 3, 2)
    one = evaluation(top_items=lists)
    other = evaluation(top_items=np.zeros_like(lists))
    np.testing.assert_allclose(
        summarise(concatenate([one, other]))["coverage@2"], (6 / 20 + 1 / 20) / 2
    )


@pytest.mark.parametrize("metric", ["rmse", "mae", "mse", "rmse_user", "ndcg@2", "hr@1"])
def test_the_bootstrap_equals_a_loop_over_resamples(metric):
    a, b = evaluation(seed=1, users=12), evaluation(seed=2, users=12)
    draws = np.random.default_rng(7).integers(12, size=(50, 12))
    differences = [difference_of(a, b, metric, users) for users in draws]
    found = paired_difference(a, b, metric, resamples=50, seed=7)
    np.testing.assert_allclose(found.mean, difference_of(a, b, metric, np.arange(12)), rtol=1e-10)
    low, high = np.percentile(differences, (2.5, 97.5), axis=0)
    np.testing.assert_allclose(found.low, low, rtol=1e-10)
    np.testing.assert_allclose(found.high, high, rtol=1e-10)


def difference_of(a, b, metric, users):
    def value(e):
        values, count = e.per_user.values[metric][:, users], e.per_user.count[:, users]
        if metric == "rmse":
            return np.sqrt(values.sum(1) / count.sum(1))
        if metric in ("mse", "mae"):
            return values.sum(1) / count.sum(1)
        if metric == "rmse_user":
            return np.sqrt(values / count).mean(1)
        ranked = e.per_user.has_relevant[:, users]
        return np.array([row[kept].mean() for row, kept in zip(values, ranked, strict=True)])

    return value(a) - value(b)


def test_the_interval_of_a_mean_is_that_of_the_normal_law():
    # 400 values of deviation s: their mean has s / 20, and 95 % of a normal law lie in +- 1.96 s.
    hit = np.tile(np.random.default_rng(0).normal(1, 2, 400), (2, 1))
    found = interval(evaluation(users=400, values={"hr@1": hit}, has_relevant=hit < 99), "hr@1")
    half = 1.96 * hit[0].std() / 20
    np.testing.assert_allclose(found.high - found.mean, half, rtol=0.05)
    np.testing.assert_allclose(found.mean - found.low, half, rtol=0.05)


def test_a_method_does_not_differ_from_itself():
    a = evaluation(seed=1, users=20)
    for values in paired_difference(a, a, "rmse", resamples=50):
        np.testing.assert_array_equal(values, 0)


def test_a_user_in_several_runs_is_drawn_as_a_whole():
    # Repeating the same run adds no information, so the interval must not shrink.
    one = evaluation(seed=1, users=30)
    three = concatenate([one, one, one])
    expected, found = (interval(e, "rmse", resamples=200) for e in (one, three))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    by_row = interval(three, "rmse", resamples=200, cluster=np.arange(90))
    assert (by_row.high - by_row.low < 0.8 * (expected.high - expected.low)).all()


@pytest.mark.parametrize("field", ["user", "run", "count", "has_relevant"])
def test_only_methods_on_the_same_tasks_are_paired(field):
    a, b = evaluation(seed=1), evaluation("other", seed=1)
    changed = 1 - getattr(b.per_user, field)[..., ::-1]
    b = b._replace(per_user=b.per_user._replace(**{field: changed}))
    with pytest.raises(ValueError, match=f"method and other differ in {field}"):
        paired_difference(a, b, "rmse")
    with pytest.raises(ValueError, match=r"same ks, got \(0, 1\) and \(0, 5\)"):
        paired_difference(a, a._replace(ks=(0, 5)), "rmse")


@pytest.mark.parametrize(
    ("metric", "options", "message"),
    [
        ("auc", {}, "metric must be one of rmse, mae, .*, got 'auc'"),
        ("coverage@2", {}, "got 'coverage@2'"),
        ("rmse", {"resamples": 0}, "resamples must be >= 1, got 0"),
        ("rmse", {"cluster": np.arange(2)}, r"cluster must be \[3\], got shape \(2,\)"),
    ],
)
def test_intervals_out_of_range_are_refused(metric, options, message):
    with pytest.raises(ValueError, match=message):
        interval(evaluation(), metric, **options)


def test_records_hold_the_figures_and_their_intervals():
    a, seeds = evaluation(seed=1, users=8), list(range(2))
    found = records_of(
        a, kind="baseline", protocol="P1", order="time", seeds=seeds, resamples=100, seed=3
    )
    assert len(found) == 2 * 10
    (record,) = select(found, metric="recall@2", k=1)
    expected = interval(a, "recall@2", resamples=100, seed=3)
    assert record == Record(
        method="method",
        kind="baseline",
        protocol="P1",
        order="time",
        k=1,
        metric="recall@2",
        mean=expected.mean[1],
        low=expected.low[1],
        high=expected.high[1],
        seeds=(0, 1),
        users=6,
    )
    assert (found[-1].metric, found[-1].low) == ("coverage@2", None)
    assert from_json(json.loads(json.dumps(to_json(found), allow_nan=False))) == found


@pytest.mark.parametrize(
    ("needs", "metrics"),
    [
        (("ratings",), ["rmse", "mae", "mse", "rmse_user", "mae_user"]),
        (("order", "lists"), ["ndcg@2", "precision@2", "recall@2", "hr@1", "coverage@2"]),
    ],
)
def test_records_leave_out_unmeasured_metrics(needs, metrics):
    found = records_of(evaluation(needs=needs), **SETTING, resamples=10)
    assert distinct(found, "metric") == metrics

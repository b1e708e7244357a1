"""Evaluation of a fitted model on users of a newer log."""

import json

import numpy as np
import pytest

from metajax import cli, engine, runs
from metajax.data import load
from metajax.data.dataset import Dataset, Table
from metajax.data.interactions import Interactions, from_columns, select_users
from metajax.evaluation.records import select

SEEN = [0, 1, 3, 5, 10]


@pytest.fixture(scope="module")
def data(small) -> Dataset:
    return load(small)


@pytest.fixture(scope="module")
def model(data):
    """Of the first thirty users of forty."""
    log = select_users(data.interactions, data.interactions.users[:30])
    return engine.fit(data._replace(interactions=log), "eb_fold_in", trials=1)


def rows_of(log: Interactions, user: int) -> np.ndarray:
    """A user's rows, the first in time first."""
    rows = np.arange(*log.offsets[user : user + 2])
    return rows[np.argsort(log.time[rows], kind="stable")]


def test_figures_are_those_of_predictions_after_the_first_k_interactions(model, data):
    log = data.interactions
    found = engine.judged_on(model, data)
    assert found.notes == ["30 of 40 users were in the fit and are left out"]
    rmse = {r.k: r for r in select(found.records, metric="rmse", protocol="new users")}
    ages, genders = data.users.columns["age"], data.users.columns["gender"]
    for k in SEEN:
        errors = []
        for user in log.users[30:]:
            rows = rows_of(log, user)
            assert len(np.unique(log.time[rows[:11]])) == len(rows[:11])  # No ties.
            pool = min(10, len(rows) - 1)
            asked = rows[pool:]
            ids, ratings = log.item_ids[log.item[rows]], log.rating[rows]
            shown = dict(zip(ids[: min(k, pool)].tolist(), map(float, ratings), strict=False))
            described = {"age": ages[user], "gender": genders[user]}
            names = log.item_ids[log.item[asked]].tolist()
            guess = runs.predict(model.recommender, shown, names, described)
            errors.append(guess - log.rating[asked])
        expected = np.sqrt(np.mean(np.concatenate(errors) ** 2))
        np.testing.assert_allclose(rmse[k].mean, expected, rtol=1e-5)
        assert rmse[k].users == 10
        low, high = rmse[k].low, rmse[k].high
        assert low is not None
        assert high is not None
        assert low < rmse[k].mean < high
    assert {r.order for r in found.records} == {"time"}
    # Lists too, though the method predicts ratings.
    assert {r.k for r in select(found.records, metric="ndcg@10")} == set(SEEN)


def test_figures_are_in_the_unit_of_the_log(model, data):
    log = data.interactions
    percent = data._replace(interactions=log._replace(rating=log.rating * 20), scale=(20.0, 100.0))
    first = percent._replace(interactions=select_users(percent.interactions, log.users[:30]))
    times = {"rmse": 20, "ndcg@10": 1}
    found = engine.judged_on(engine.fit(first, "eb_fold_in", trials=1), percent).records
    for name, factor in times.items():
        one, other = (
            [r.mean for r in select(records, metric=name)]
            for records in (engine.judged_on(model, data).records, found)
        )
        np.testing.assert_allclose(other, np.multiply(one, factor), rtol=1e-4)


def test_users_of_the_fit_change_nothing(model, data):
    log = data.interactions
    of_fit = log.user < 30
    rating = np.where(of_fit, 6 - log.rating, log.rating).astype(np.float32)
    changed = data._replace(interactions=log._replace(rating=rating))
    assert engine.judged_on(model, changed).records == engine.judged_on(model, data).records


def test_items_are_matched_by_id_and_unknown_ones_left_out(model, data):
    log = data.interactions
    new = select_users(log, log.users[30:])
    expected = engine.judged_on(model, data._replace(interactions=new))
    # A catalogue in another order, with an item more that everybody has rated first.
    ids = np.array(["new", *log.item_ids[::-1].tolist()])
    users = np.unique(new.user)
    user = np.concatenate([new.user, users])
    item = np.concatenate([len(ids) - 1 - new.item, np.zeros(10, int)])
    rating = np.concatenate([new.rating, np.full(10, 5)])
    time = np.concatenate([new.time, np.full(10, -1)])
    longer = from_columns(user, item, rating, time, user_ids=new.user_ids, item_ids=ids)
    found = engine.judged_on(model, data._replace(interactions=longer, items=Table(ids, {}, {})))
    assert found.records == expected.records
    assert found.notes == [
        f"10 of {len(user)} interactions are with 1 items that the model does not know, and are "
        "left out"
    ]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda log: select_users(log, log.users[:30]), "nobody is left .*: 30 of 30 users were"),
        (
            lambda log: log._replace(item_ids=np.char.add("x", log.item_ids)),
            "30 of 40 users were in the fit, and 145 of the others' 145 interactions are with ",
        ),
        (lambda log: select_users(log, log.users[:0]), "nobody is left to judge the model on: 0 "),
        (
            lambda log: log._replace(rating=log.rating * 2),
            "on the model's scale, 1 to 5, got .* in its unit",
        ),
    ],
)
def test_what_leaves_nothing_to_judge_is_one_line(model, data, change, line):
    with pytest.raises(ValueError, match=line):
        engine.judged_on(model, data._replace(interactions=change(data.interactions)))


def test_a_log_without_ratings_and_options_of_the_model_are_refused(model, data):
    with pytest.raises(ValueError, match="the log has no ratings, and the model has learned"):
        engine.judged_on(model, data._replace(scale=None))
    with pytest.raises(ValueError, match=r"scale \(--scale\) is that of the model: leave it out"):
        engine.judged_on(model, data._replace(options={"scale": (1.0, 5.0)}))


def test_missing_attributes_and_times_are_said(model, data):
    log, ids = data.interactions, data.users.ids
    bare = data._replace(
        users=Table(ids, {}, {}), interactions=log._replace(time=np.zeros_like(log.time))
    )
    found = engine.judged_on(model, bare)
    assert found.notes[1:] == [
        "the log has no times: the interactions shown are drawn at random",
        "of users the log has no age, gender: they count as missing",
    ]
    assert {r.order for r in found.records} == {"random"}
    assert found.records == engine.judged_on(model, bare).records
    assert found.records != engine.judged_on(model, bare, seed=1).records


def test_lists_that_cannot_be_judged_leave_the_ratings(data):
    log = data.interactions
    mean = engine.fit(data._replace(interactions=select_users(log, log.users[:30])), "global_mean")
    found = engine.judged_on(mean, data)
    assert {r.metric for r in found.records} & {"rmse", "ndcg@10"} == {"rmse"}
    assert found.notes[1].startswith("lists are not judged: global_mean ")
    low = data._replace(interactions=log._replace(rating=np.minimum(log.rating, 3)))
    found = engine.judged_on(mean, low)
    assert found.notes[1:] == [
        "lists are not judged: no rating asked for is a relevant one, 4 or better"
    ]


def test_a_model_without_ratings_is_judged_by_its_lists(data):
    views = data._replace(
        scale=None,
        interactions=data.interactions._replace(
            rating=np.ones(len(data.interactions.item), np.float32)
        ),
    )
    log = views.interactions
    fitted = engine.fit(
        views._replace(interactions=select_users(log, log.users[:30])), "item_knn", trials=1
    )
    found = engine.judged_on(fitted, views)
    assert {"ndcg@10", "hr@1"} <= {r.metric for r in found.records}
    assert "rmse" not in {r.metric for r in found.records}
    from_zero = data.interactions._replace(rating=data.interactions.rating - 1)
    rated = engine.judged_on(fitted, data._replace(interactions=from_zero))
    assert rated.records == found.records
    assert rated.notes[1:] == [
        "the model has learned without ratings: every rating counts as an interaction"
    ]


def test_the_command_judges_a_saved_model(model, data, small, tmp_path, capsys):
    folder = engine.save(model, tmp_path / "model")
    expected = engine.judged_on(model, data)

    def run(*words):
        status = cli.main(["evaluate", str(folder), *words])
        return status, *capsys.readouterr()

    status, out, err = run("--data", str(small))
    assert status == 0, err
    assert "note: 30 of 40 users were in the fit and are left out." in err
    lines = out.splitlines()
    assert lines[0] == f"eb_fold_in on new users of {small}, first in time:"
    own = select(expected.records, protocol="new users", k=10)
    (rmse,), (ndcg,) = (select(own, metric=name) for name in ("rmse", "ndcg@10"))
    row = next(line for line in lines if line.startswith("10 "))
    figures = (f"{r.mean:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in (rmse, ndcg))
    assert "  ".join(row.split("   ")).split() == ["10", "10", *" ".join(figures).split()]
    status, out, _ = run("--data", str(small), "--json")
    assert json.loads(out) == expected.to_json()

    status, _, err = run()
    assert status == 2
    assert err.splitlines()[-1].endswith(f"metajax evaluate {folder} --data NEWER.csv.")
    assert cli.main(["evaluate", str(small), "--data", str(small)]) == 2
    assert "is no model of metajax fit: a run is judged on" in capsys.readouterr().err

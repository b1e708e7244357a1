"""Invariance: a log in another unit gives the same metrics, orders and recommendations."""

from typing import Any

import numpy as np
import pytest

from metajax import evaluation, registry, runs
from metajax.baselines import Baseline
from metajax.cross_domain.domains import random_domains
from metajax.cross_domain.users import cross_users
from metajax.data.cold_users import cold_users
from metajax.data.dataset import Dataset, Table
from metajax.data.interactions import from_columns
from metajax.data.splits import Split
from metajax.data.warm_cold import warm_cold
from metajax.runs.recommendation import recommend

USERS, ITEMS, EACH = 40, 26, 20

# Factor and shift of the labels; a negative factor turns their order round, and the scale with it.
UNITS = {"times 20": (20, 0), "times 1e6": (1e6, 0), "plus 1e4": (1, 1e4), "times -1": (-1, 0)}
EVERYTHING = (-20, 1e4)

DEGREE = {"rmse": 1, "mae": 1, "mse": 2, "rmse_user": 1, "mae_user": 1}
FEW = {"updates": 2, "per_dispatch": 2, "validate_every": 2, "tasks": 4}


def log_in(factor: float = 1, shift: float = 0, *, turned: bool = True) -> Dataset:
    """Stars of 40 users in another unit, with an attribute of users and one of items."""
    rng = np.random.default_rng(0)
    taste, quality = rng.normal(size=USERS), rng.normal(size=ITEMS)
    user = np.repeat(np.arange(USERS), EACH)
    item = np.concatenate([rng.permutation(ITEMS)[:EACH] for _ in range(USERS)])
    noise = 0.3 * rng.normal(size=len(user))
    stars = np.clip(np.round(3 + taste[user] * quality[item] + quality[item] + noise), 1, 5)
    names = [np.array([f"{side}{n:02d}" for n in range(count)])
             for side, count in (("u", USERS), ("i", ITEMS))]  # fmt: skip
    log = from_columns(
        user,
        item,
        factor * stars + shift,
        rng.integers(0, 1000, len(user)),
        user_ids=names[0],
        item_ids=names[1],
    )
    ages = np.array([f"{30 + 10 * one:.0f}" for one in taste])
    kinds = np.where(quality > 0, "Drama", "Comedy")
    scale = (factor + shift, 5 * factor + shift)
    return Dataset(
        "log",
        log,
        Table(names[0], {"age": ages}, {"age": "numeric"}),
        Table(names[1], {"kind": kinds}, {"kind": "categorical"}),
        scale if turned else (min(scale), max(scale)),
    )


def figures(dataset: Dataset, methods: list[str], unit: float) -> dict[Any, float]:
    """Every figure of methods on the first fold of P1, errors in units of the labels."""
    split = evaluation.prepare("P1", dataset, fold=0, seed=0)
    found = {}
    for name in methods:
        method = registry.method_of(name)
        if isinstance(method, Baseline):
            panels = evaluation.tuned(method, split, trials=1)
        else:
            changes = registry.changes_for(name, {**FEW, "rank": 2})
            panels = evaluation.trained(
                method, split, registry.settings_for(name, **changes), trials=1, refit=False
            )
        for panel, fitted in panels.items():
            judged = evaluation.judge(fitted, split, panel)
            for metric, values in evaluation.summarise(judged).items():
                for k, value in zip(judged.ks, values.tolist(), strict=True):
                    found[name, panel, metric, k] = value / unit ** DEGREE.get(metric, 0)
    return found


def arrays(split: Split) -> list[np.ndarray]:
    """Everything of a split that methods are fitted to, trained, adapted or judged by."""
    parts = [split.training, split.final]
    found = [np.asarray([part.scale, (part.threshold,) * 2]) for part in parts]
    found += [part.interactions.rating for part in parts]
    for tasks in (*split.validation.values(), *split.test.values()):
        found += [tasks.support_rating, tasks.query_rating]
    return found


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_every_method_is_given_the_same_labels_to_the_bit(unit):
    def splits(data: Dataset) -> list[Split]:
        return [
            cold_users(data),
            warm_cold(data),
            cross_users(random_domains(data), least=6),
        ]

    for one, other in zip(splits(log_in()), splits(log_in(*unit)), strict=True):
        assert one.labels.unit == 1
        assert other.labels.unit == pytest.approx(abs(unit[0]))
        for a, b in zip(arrays(one), arrays(other), strict=True):
            np.testing.assert_array_equal(a, b)


CLOSED = ["item_user_bias", "attribute_ridge", "eb_fold_in", "popularity", "item_knn"]


def test_closed_forms_are_judged_alike_in_any_unit():
    expected = figures(log_in(), CLOSED, 1)
    found = figures(log_in(*EVERYTHING), CLOSED, 20)
    assert {key[2] for key in found} >= {"rmse", "mae", "within@50", "ndcg@10", "hr@1"}
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_a_comparison_is_in_the_unit_of_the_log():
    def records(dataset: Dataset, unit: float) -> dict[Any, float]:
        found = evaluation.compare(
            dataset, ["eb_fold_in"], folds=[0], trials=1, protocols=["P1", "P2"]
        )
        return {
            (r.protocol, r.order, r.metric, r.k): r.mean / unit ** DEGREE.get(r.metric, 0)
            for r in found.records
            if r.metric not in ("adapt_us", "state_bytes")
        }

    expected = records(log_in(), 1)
    assert records(log_in(*EVERYTHING), 20) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert {key[0] for key in expected} >= {"P1", "P2"}


# One of each family: closed-form, gradient, context, metric, amortised, sequence and graph methods.
FAMILIES = ("two_tower", "maml", "cavia", "prototypical", "conditional_process", "sequential")
FAMILIES += ("bayesian_ridge", "light_gcn")


@pytest.mark.slow
@pytest.mark.parametrize("method", FAMILIES)
def test_trained_methods_are_judged_alike_in_any_unit(method):
    expected = figures(log_in(), [method], 1)
    assert figures(log_in(*EVERYTHING), [method], 20) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("method", ["bayesian_ridge", "attentive_neighbours"])
@pytest.mark.slow
def test_training_and_recommendation_are_the_same_in_any_unit(method, tmp_path):
    def trained(name: str, dataset: Dataset) -> tuple[Any, Any]:
        settings = registry.settings_for(method, **FEW, data="log")
        run, progress = runs.create(tmp_path / name, settings, dataset)
        progress, _ = runs.train_run(run, progress)
        return runs.load(tmp_path / name), float(progress.best_loss)

    stars, loss = trained("stars", log_in())
    other, other_loss = trained("other", log_in(*EVERYTHING))
    assert other_loss / (20 if method == "bayesian_ridge" else 1) == pytest.approx(loss, rel=1e-4)
    for ratings in ({}, {"i03": 5, "i07": 1, "i11": 2}):
        expected = recommend(stars, ratings, {"age": 30}, top=ITEMS)
        in_unit = {item: 1e4 - 20 * rating for item, rating in ratings.items()}
        found = recommend(other, in_unit, {"age": 30}, top=ITEMS)
        assert [one.item_id for one in found] == [one.item_id for one in expected]
        scores = [one.score for one in expected]
        if method == "bayesian_ridge":
            scores = [1e4 - 20 * score for score in scores]
            assert all(9900 <= one.score <= 9980 for one in found)
        assert [one.score for one in found] == pytest.approx(scores, rel=1e-5)
    with pytest.raises(ValueError, match=r"rating of 'i03' must be in \[9900, 9980\], got 5"):
        recommend(other, {"i03": 5}, {})


def test_without_turning_the_order_the_best_become_the_worst():
    methods = ["item_user_bias", "attribute_ridge", "eb_fold_in"]
    expected = figures(log_in(), methods, 1)
    found = figures(log_in(-1, turned=False), methods, 1)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


# Where labels are few, alike or of any size: a figure in the unit of the log, or one line.
def odd(rating: Any, *, each: int = EACH, users: int = USERS, **options: Any) -> Dataset:
    data = log_in()
    rng = np.random.default_rng(1)
    log = data.interactions
    place = np.arange(len(log.item)) - log.offsets[log.user]
    kept = (place < each) & (log.user < users)
    labels = rating(log.rating.astype(float), rng)[kept]
    names = data.users.ids[:users]
    found = from_columns(
        log.user[kept], log.item[kept], labels, log.time[kept],
        user_ids=names, item_ids=log.item_ids,
    )  # fmt: skip
    users_table = Table(
        names, {n: c[:users] for n, c in data.users.columns.items()}, data.users.kinds
    )
    scale = (float(labels.min()), float(labels.max()))
    return data._replace(
        interactions=found, users=users_table, scale=scale, scale_given=False
    )._replace(**options)


def plays(stars: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.floor(np.exp(stars + rng.normal(size=len(stars))))


def ages(*values: float) -> Table:
    table = log_in().users
    return table._replace(
        columns={"age": np.array([repr(v) for v in np.resize(values, USERS).tolist()])}
    )


ODD = {
    "0 and 1": (odd(lambda r, _: (r > 3) * 1.0), 1),
    "1e-30": (odd(lambda r, _: 1e-30 * r), 1e-30),
    "1e7 and stars": (odd(lambda r, _: 1e7 + r), 1),
    "one of 1e6": (odd(lambda r, _: np.where(np.arange(len(r)) == 7, 1e6, r)), 1e6),
    "plays": (odd(plays), 100),
    "plays, log": (odd(plays, transform="log1p"), 100),
    "one rating each": (odd(lambda r, _: r, each=1), 1),
    "two ratings each": (odd(lambda r, _: r, each=2), 1),
    "10 users": (odd(lambda r, _: r, users=10), 1),
    "nearly constant": (odd(lambda r, _: np.where(np.arange(len(r)) % 50, 3.0, r)), 1),
    "constant feature": (odd(lambda r, _: r, users=USERS, each=EACH)._replace(users=ages(7.0)), 1),
    "feature of 1e38": (odd(lambda r, _: r)._replace(users=ages(1e38, 2e38, 1.0)), 1),
    "feature of 1e300": (odd(lambda r, _: r)._replace(users=ages(1e300, -1e300, 1e-300)), 1),
}  # fmt: skip


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ODD)
def test_odd_logs_are_learned_from(name):
    dataset, unit = ODD[name]
    found = figures(dataset, ["attribute_ridge", "eb_fold_in"], unit)
    errors = [value for key, value in found.items() if key[2] == "rmse"]
    assert len(errors) >= 2
    assert all(0 < error < 3 for error in errors)
    sizes = {key[3] for key in found}
    assert sizes == {"one rating each": {0}, "two ratings each": {0, 1}}.get(name, {0, 1, 3, 5, 10})


@pytest.mark.parametrize(
    ("rating", "message"),
    [
        (
            lambda r, _: np.where(np.arange(len(r)) == 7, 1e20, r),
            r"^log: ratings reach from 1 to 1",
        ),
        (lambda r, _: 1e200 * r, r"^log: ratings must differ by more than 1e-150 and less than 1e"),
    ],
)
def test_labels_out_of_all_proportion_are_refused_in_one_line(rating, message):
    with pytest.raises(ValueError, match=message) as caught:
        cold_users(odd(rating))
    assert "\n" not in str(caught.value)

"""Known defects of published cold-start evaluations, which must not be possible here."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import baselines
from metajax.data.datasets import load
from metajax.data.leakage import LeakageError
from metajax.evaluation import prepare, tuning
from metajax.evaluation.intervals import summarise
from metajax.evaluation.tuning import FittedMethod, judge, tuned
from metajax.types import Adaptation

# Means, a posterior, neighbours: what the others do is one of these.
SIMPLE = [baselines.demographics, baselines.eb_fold_in, baselines.item_knn_blend]


@pytest.fixture(scope="module")
def dataset(small):
    return load(str(small))


@pytest.fixture(scope="module")
def split(dataset):
    return prepare("P1", dataset, fold=0, seed=0)


def only(tasks, chosen):
    """The tasks of some users, in the given order."""
    rows = [np.arange(*tasks.query_offsets[t : t + 2]) for t in chosen]
    lengths = [len(r) for r in rows]
    return tasks._replace(
        user=tasks.user[chosen],
        support_item=tasks.support_item[chosen],
        support_rating=tasks.support_rating[chosen],
        support_mask=tasks.support_mask[chosen],
        query_offsets=np.cumsum([0, *lengths]),
        query_item=tasks.query_item[np.concatenate(rows)],
        query_rating=tasks.query_rating[np.concatenate(rows)],
    )


def scoring(scores, name="fixed") -> FittedMethod:
    """A method that ranks the items by given scores, for every user."""
    adaptation = Adaptation(lambda params, support, key=None: (), lambda p, a, x: p[x.item])
    params = jnp.asarray(scores, jnp.float32)
    return FittedMethod(name, "baseline", adaptation, params, False, True, {})


@pytest.mark.parametrize("baseline", SIMPLE, ids=lambda baseline: baseline.name)
def test_fits_do_not_depend_on_test_users(baseline, dataset, split):
    """Ratings, times and attributes of the test users are changed; what was tuned is not."""
    log = dataset.interactions
    theirs = np.isin(log.user, split.fold.test)
    changed = dataset._replace(
        interactions=log._replace(rating=np.where(theirs, 6 - log.rating, log.rating))
    )
    other = prepare("P1", changed, fold=0, seed=0)
    for order, method in tuned(baseline, split, trials=2).items():
        same = tuned(baseline, other, trials=2)[order]
        assert same.settings == method.settings
        jax.tree.map(np.testing.assert_array_equal, same.params, method.params)


@pytest.mark.parametrize("baseline", SIMPLE, ids=lambda baseline: baseline.name)
def test_figures_do_not_depend_on_other_users_and_their_order(baseline, split):
    method = tuned(baseline, split, trials=1)["random"]
    together = judge(method, split, "random").per_user
    tasks = split.test["random"]
    users = np.arange(len(tasks.user))
    order = np.random.default_rng(0).permutation(users)
    # Another user's ratings turn to nonsense: a state that leaked would carry it over.
    ruined = tasks._replace(support_rating=tasks.support_rating.copy())
    ruined.support_rating[1] = 1e6
    others = users[users != 1]
    for changed, ours, theirs in (
        (only(tasks, order), order, users),
        (ruined, others, others),
    ):
        judged = judge(method, split._replace(test={"random": changed}), "random").per_user
        assert judged.values.keys() == together.values.keys()
        for name in judged.values:
            found, expected = judged.values[name][:, theirs], together.values[name][:, ours]
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(judged.top_items[:, theirs], together.top_items[:, ours])


def test_tuning_does_not_depend_on_test_users(split, monkeypatch):
    looked, original = [], tuning.evaluate

    def noted(adaptation, params, tasks, *args, **options):
        looked.append(set(tasks.user.tolist()))
        return original(adaptation, params, tasks, *args, **options)

    monkeypatch.setattr(tuning, "evaluate", noted)
    tuned(baselines.item_user_bias, split)
    assert looked
    assert all(users <= set(split.fold.validation.tolist()) for users in looked)


def test_a_query_in_the_support_is_an_error(split):
    tasks = split.test["random"]
    item = tasks.support_item.copy()
    item[2, 0] = tasks.query_item[tasks.query_offsets[2]]
    leaking = split._replace(test={"random": tasks._replace(support_item=item)})
    with pytest.raises(LeakageError):
        judge(scoring(np.arange(30)), leaking, "random")


def test_every_item_of_the_catalogue_is_a_candidate(split):
    """No sampled negatives: an item outside all queries takes a place in the list."""
    tasks = only(split.test["random"], np.array([0]))
    queried = tasks.query_item
    liked = queried[tasks.query_rating >= 4]
    strange = np.setdiff1d(np.arange(30), np.union1d(queried, tasks.support_item))[:3]
    assert len(liked)
    assert len(strange) == 3
    # Three items without any rating of this user, then one that they like.
    scores = np.zeros(30)
    scores[strange], scores[liked[0]] = [9, 8, 7], 6
    found = summarise(judge(scoring(scores), split._replace(test={"random": tasks}), "random"))
    assert found["hr@1"].tolist() == [0] * 5
    best = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(liked), 10) + 1))
    # Fourth place; whatever follows it has a score of 0 and a place that the seed decides.
    assert (found["ndcg@10"] >= 1 / math.log2(4 + 1) / best - 1e-6).all()
    scores[liked[0]] = 10
    first = summarise(judge(scoring(scores), split._replace(test={"random": tasks}), "random"))
    assert first["hr@1"].tolist() == [1] * 5


def test_ndcg_is_binary_and_discounted_by_the_logarithm_of_the_rank_plus_one(split):
    """Of five definitions in use this is the one."""
    tasks = only(split.test["random"], np.array([0]))
    items = np.setdiff1d(np.arange(30), tasks.support_item)
    tasks = tasks._replace(
        query_offsets=np.array([0, 5]),
        query_item=items[:5].astype(np.int32),
        query_rating=np.array([1, 5, 2, 4, 4], np.float32),
    )
    scores = np.zeros(30)
    # The list begins 0, 1, 2, 3 and ends with items outside all queries; the last relevant is last.
    scores[items] = np.arange(len(items), 0, -1)
    scores[items[4]] = -1
    value = summarise(judge(scoring(scores), split._replace(test={"random": tasks}), "random"))
    by_hand = (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3) + 1 / 2)
    np.testing.assert_allclose(value["ndcg@10"], [by_hand] * 5, rtol=1e-6)
    np.testing.assert_allclose(value["precision@10"], [2 / 10] * 5, rtol=1e-6)
    np.testing.assert_allclose(value["recall@10"], [2 / 3] * 5, rtol=1e-6)


def test_predictions_that_are_constant_are_an_error(split):
    with pytest.raises(ValueError, match="flat predicts the same for every item at K=0"):
        judge(scoring(np.full(30, 3.5), "flat"), split, "random")

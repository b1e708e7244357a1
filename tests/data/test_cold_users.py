import importlib

import numpy as np
import pytest

from metajax.data.cold_users import cold_users, cold_users_of, padded
from metajax.data.dataset import Dataset, Table
from metajax.data.interactions import from_columns
from metajax.data.leakage import LeakageError
from metajax.data.schema import encode
from metajax.data.splits import ColdTasks, Order, cold_user_folds, cold_user_tasks

# The package exports a function of the same name.
module = importlib.import_module("metajax.data.cold_users")

USERS, ITEMS, FOLDS = 60, 36, 3
# The last items, which are unrated.
UNRATED = np.arange(30, ITEMS)


def dataset_of(*, timed=True) -> Dataset:
    rng = np.random.default_rng(0)
    counts = rng.integers(3, 20, USERS)
    user = np.repeat(np.arange(USERS), counts)
    item = np.concatenate([rng.permutation(UNRATED[0])[:n] for n in counts])
    users, items = (np.array([f"{n:02}" for n in range(size)]) for size in (USERS, ITEMS))
    log = from_columns(
        user,
        item,
        rng.integers(1, 6, len(user)),
        rng.integers(0, 1000, len(user)) if timed else None,
        user_ids=users,
        item_ids=items,
    )
    return Dataset(
        "toy",
        log,
        Table(
            users,
            {"age": rng.integers(18, 80, USERS).astype(str), "job": rng.choice(["a", "b"], USERS)},
            {"age": "numeric", "job": "categorical"},
        ),
        Table(items, {"genre": rng.choice(["x", "y", "x y"], ITEMS)}, {"genre": "tokens"}),
        scale=(1.0, 5.0),
    )


DATASET = dataset_of()
READY = cold_users(DATASET, fold=1, folds=FOLDS, seed=3)


def with_strange(dataset: Dataset, strange: np.ndarray) -> Dataset:
    """Gives some users other attributes, and other ratings at other times."""
    columns = {name: column.astype("<U9") for name, column in dataset.users.columns.items()}
    columns["age"][strange], columns["job"][strange] = "1000", "astronaut"
    log = dataset.interactions
    rows = np.isin(log.user, strange)
    log = log._replace(
        rating=np.where(rows, 6 - log.rating, log.rating).astype(np.float32),
        time=np.where(rows, 10**6 - log.time, log.time),
    )
    return dataset._replace(users=dataset.users._replace(columns=columns), interactions=log)


def assert_same_log(a, b):
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right)


def test_fitted_encodings_exclude_test_users():
    fold = READY.fold
    changed = cold_users(with_strange(DATASET, fold.test), fold=1, folds=FOLDS, seed=3)
    assert_same_log(changed.fold, fold)
    assert changed.user_schema == READY.user_schema
    assert changed.item_schema == READY.item_schema
    known = np.concatenate([fold.train, fold.validation])
    for part in ("training", "final"):
        ours, theirs = getattr(READY, part), getattr(changed, part)
        assert_same_log(ours.interactions, theirs.interactions)
        np.testing.assert_array_equal(ours.item_features, theirs.item_features)
        np.testing.assert_array_equal(ours.user_features[known], theirs.user_features[known])
    for order in ("random", "time"):
        assert_same_log(READY.validation[order], changed.validation[order])
    assert "astronaut" not in str(changed.user_schema)
    # The change did reach the test users.
    assert not np.array_equal(READY.test["time"].query_rating, changed.test["time"].query_rating)


def test_the_training_set_excludes_validation_users():
    fold = READY.fold
    changed = cold_users(with_strange(DATASET, fold.validation), fold=1, folds=FOLDS, seed=3)
    assert changed.user_schema == READY.user_schema
    assert_same_log(changed.training.interactions, READY.training.interactions)
    # The refit does see them.
    ours, theirs = READY.final.interactions.rating, changed.final.interactions.rating
    assert not np.array_equal(ours, theirs)


def test_the_vocabulary_of_items_comes_from_items_that_training_users_rated():
    log, item = DATASET.interactions, DATASET.interactions.item.copy()
    # Each test user rates, instead of their last item, one that no training user rates.
    item[log.offsets[READY.fold.test + 1] - 1] = np.resize(UNRATED, len(READY.fold.test))
    genre = DATASET.items.columns["genre"].astype("<U9")
    genre[UNRATED] = "z"
    table = DATASET.items._replace(columns={"genre": genre})
    dataset = DATASET._replace(items=table, interactions=log._replace(item=item))
    ready = cold_users(dataset, fold=1, folds=FOLDS, seed=3)
    queried = ready.test["random"]
    assert np.isin(UNRATED, np.append(queried.query_item, queried.support_item)).all()
    assert ready.item_schema == READY.item_schema
    assert ready.item_schema.fields[0].vocabulary == ("x", "y")
    np.testing.assert_array_equal(ready.training.item_features, encode(ready.item_schema, table))


def test_each_part_has_its_own_users():
    fold, log = READY.fold, DATASET.interactions
    owners = {
        "training": np.unique(READY.training.interactions.user),
        "final": np.unique(READY.final.interactions.user),
    }
    np.testing.assert_array_equal(owners["training"], fold.train)
    np.testing.assert_array_equal(owners["final"], np.union1d(fold.train, fold.validation))
    for tasks, users in ((READY.test, fold.test), (READY.validation, fold.validation)):
        assert set(tasks) == {"random", "time"}
        for part in tasks.values():
            np.testing.assert_array_equal(part.user, users)
            # A pool of up to ten, and all the rest is the query.
            rows = log.user_counts[users]
            np.testing.assert_array_equal(part.support_mask.sum(1), np.minimum(10, rows - 1))
            np.testing.assert_array_equal(
                part.support_mask.sum(1) + np.diff(part.query_offsets), rows
            )


def test_tasks_are_those_of_the_seed_and_order_that_the_fold_has():
    for parts, users in ((READY.validation, READY.fold.validation), (READY.test, READY.fold.test)):
        orders: tuple[Order, ...] = ("random", "time")
        for order in orders:
            tasks = parts[order]
            own = cold_user_tasks(DATASET.interactions, users, pool=10, order=order, seed=3)
            for one, other in zip(tasks, own, strict=True):
                np.testing.assert_array_equal(one, other)


def test_a_leaking_split_is_refused(monkeypatch):
    folds = cold_user_folds(DATASET.interactions, folds=FOLDS, seed=3)

    leak = folds[0]._replace(train=np.append(folds[0].train, folds[0].test[0]))
    with monkeypatch.context() as patch:
        patch.setattr(module, "cold_user_folds", lambda log, **options: (leak,))
        with pytest.raises(LeakageError, match="a user must be in one part of a fold"):
            cold_users(DATASET, folds=FOLDS)
    # The training log itself is checked, whatever the fold.
    monkeypatch.setattr(module, "select_users", lambda log, users: log)
    with pytest.raises(LeakageError, match="a cold user must not be in the training log"):
        cold_users(DATASET, folds=FOLDS)


def test_a_log_without_times_has_the_random_order_alone():
    dataset = dataset_of(timed=False)
    ready = cold_users(dataset, folds=FOLDS)
    assert set(ready.validation) == set(ready.test) == {"random"}
    # So has a log in which all happened at once.
    at_once = DATASET.interactions._replace(time=np.full_like(DATASET.interactions.time, 5))
    users = np.array([0, 1])
    assert set(cold_users_of(DATASET._replace(interactions=at_once), users, seed=0)) == {"random"}


@pytest.mark.parametrize("fold", [-1, FOLDS])
def test_a_fold_out_of_range_is_refused(fold):
    with pytest.raises(ValueError, match=rf"fold must be in \[0, 3\), got {fold}"):
        cold_users(DATASET, fold=fold, folds=FOLDS)


def test_too_few_users_are_refused():
    log = DATASET.interactions
    few = from_columns(
        np.array([0, 0, 1, 1, 2, 2]),
        np.array([0, 1, 0, 1, 0, 1]),
        user_ids=log.user_ids,
        item_ids=log.item_ids,
    )
    message = "data must leave validation users in every fold, got 2 training users in all"
    with pytest.raises(ValueError, match=message):
        cold_users(DATASET._replace(interactions=few), folds=FOLDS)


def test_supports_carry_the_seconds_since_the_first_that_is_shown():
    log = DATASET.interactions
    for order, tasks in READY.test.items():
        assert tasks.support_time is not None
        for row, user in enumerate(tasks.user):
            own = slice(log.offsets[user], log.offsets[user + 1])
            moment = dict(zip(log.item[own].tolist(), log.time[own].tolist(), strict=True))
            shown = [moment[i] for i in tasks.support_item[row][tasks.support_mask[row]].tolist()]
            since = np.array(shown) - shown[0]
            np.testing.assert_array_equal(tasks.support_time[row][: len(since)], since)
            assert not tasks.support_time[row][len(since) :].any()
            assert order != "time" or np.all(np.diff(since) >= 0)
        batch = padded(tasks, READY.training, query=3)
        np.testing.assert_array_equal(batch.support.inputs.time, tasks.support_time)
        assert batch.query.inputs.time is None
    timeless = DATASET._replace(interactions=log._replace(time=np.zeros_like(log.time)))
    assert cold_users(timeless, folds=FOLDS).test["random"].support_time is None


def test_padded_queries_are_evenly_spaced():
    tasks = ColdTasks(
        user=np.array([4, 2]),
        support_item=np.array([[3, 5], [7, 0]], np.int32),
        support_rating=np.array([[1, 2], [3, 0]], np.float32),
        support_mask=np.array([[True, True], [True, False]]),
        query_offsets=np.array([0, 7, 9]),
        query_item=np.array([8, 9, 10, 11, 12, 13, 14, 20, 21], np.int32),
        query_rating=np.array([1, 2, 3, 4, 5, 1, 2, 4, 5], np.float32),
    )
    training = READY.training
    batch = padded(tasks, training, query=3)
    # Of seven every 7 / 3rd, rounded down; of two both, and padding.
    np.testing.assert_array_equal(batch.query.inputs.item[0], [8, 10, 12])
    np.testing.assert_array_equal(batch.query.labels[0], [1, 3, 5])
    np.testing.assert_array_equal(batch.query.mask, [[True] * 3, [True, True, False]])
    np.testing.assert_array_equal(batch.query.inputs.item[1, :2], [20, 21])
    np.testing.assert_array_equal(batch.query.labels[1, :2], [4, 5])
    np.testing.assert_array_equal(batch.support.inputs.item, tasks.support_item)
    np.testing.assert_array_equal(batch.support.labels, tasks.support_rating)
    np.testing.assert_array_equal(batch.support.mask, tasks.support_mask)
    for part in batch:
        np.testing.assert_array_equal(
            part.inputs.item_features, training.item_features[part.inputs.item]
        )
        np.testing.assert_array_equal(
            part.inputs.user_features[:, 0], training.user_features[tasks.user]
        )

import importlib

import numpy as np
import pytest

from metajax.data.dataset import Dataset, Kind, Table
from metajax.data.interactions import from_columns, select_rows
from metajax.data.leakage import LeakageError
from metajax.data.schema import encode
from metajax.data.warm_cold import QUADRANTS, warm_cold

# The package exports a function of the same name.
module = importlib.import_module("metajax.data.warm_cold")

USERS, ITEMS = 60, 40


def made(rating_of=lambda rating, user, item: rating, years=True) -> Dataset:
    """60 users with 15 ratings each of 40 items; item i is of the year 1960 + i."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(USERS), 15)
    item = np.concatenate([rng.permutation(ITEMS)[:15] for _ in range(USERS)])
    rating = rating_of(rng.integers(1, 6, len(user)), user, item)
    users, items = (
        np.array([f"{x}{n:02}" for n in range(m)]) for x, m in (("u", USERS), ("i", ITEMS))
    )
    year = np.array([str(1960 + n) for n in range(ITEMS)])
    year[0] = ""
    columns = {"genre": rng.choice(["x", "y"], ITEMS)}
    kinds: dict[str, Kind] = {"genre": "categorical"}
    if years:
        columns["year"], kinds["year"] = year, "numeric"
    log = from_columns(user, item, rating, user_ids=users, item_ids=items)
    ages = {"age": rng.integers(18, 80, USERS).astype(str)}
    return Dataset(
        "made", log, Table(users, ages, {"age": "numeric"}), Table(items, columns, kinds), (1, 5)
    )


DATASET = made()
READY = warm_cold(DATASET, draw=3)


def rows_asked(parts):
    return {
        (u, i)
        for tasks in parts.values()
        for u, i in zip(
            np.repeat(tasks.user, np.diff(tasks.query_offsets)), tasks.query_item, strict=True
        )
    }


def rows_seen(training):
    log = training.interactions
    return set(zip(log.user, log.item, strict=True))


def test_each_quadrant_has_its_users_and_items():
    for parts, training in ((READY.test, READY.final), (READY.validation, READY.training)):
        assert tuple(parts) == QUADRANTS
        known_users = np.unique(training.interactions.user)
        known_items = np.unique(training.interactions.item)
        for name, tasks in parts.items():
            warm_user, warm_item = name.startswith("warm_user"), name.endswith("warm_item")
            assert np.isin(tasks.user, known_users).all() == warm_user
            assert np.isin(tasks.user, known_users).any() == warm_user
            queried = np.isin(tasks.query_item, known_items)
            assert queried.mean() > 0.95 if warm_item else not queried.any()
            # What is seen of a user is of warm items.
            width = ITEMS if warm_user else 5
            assert tasks.support_mask.shape[1] == width
            assert not np.isin(
                tasks.support_item[tasks.support_mask], parts["cold_user_cold_item"].query_item
            ).any()


def test_queries_are_not_in_the_training_log():
    assert not rows_asked(READY.test) & rows_seen(READY.final)
    assert not rows_asked(READY.validation) & rows_seen(READY.training)
    assert not rows_asked(READY.validation) & rows_asked(READY.test)
    assert rows_seen(READY.training) < rows_seen(READY.final)
    # Validation queries are in the training set of the refit.
    assert rows_asked(READY.validation) <= rows_seen(READY.final)


def test_fitted_values_do_not_depend_on_queries():
    queried = {(int(u), int(i)) for u, i in rows_asked(READY.test) | rows_asked(READY.validation)}

    def other(rating, user, item):
        hidden = np.array(
            [pair in queried for pair in zip(user.tolist(), item.tolist(), strict=True)]
        )
        return np.where(hidden, 6 - rating, rating)

    changed = warm_cold(made(other), draw=3)
    np.testing.assert_array_equal(
        changed.training.interactions.rating, READY.training.interactions.rating
    )
    assert (changed.user_schema, changed.item_schema) == (READY.user_schema, READY.item_schema)
    name = "cold_user_cold_item"
    np.testing.assert_array_equal(
        changed.test[name].query_rating, 6 - READY.test[name].query_rating
    )


def test_vocabularies_come_from_warm_users_and_items():
    cold = READY.test["cold_user_cold_item"]
    genre = DATASET.items.columns["genre"].astype("<U9")
    genre[np.unique(cold.query_item)] = "unheard"
    items = DATASET.items._replace(columns={**DATASET.items.columns, "genre": genre})
    ages = DATASET.users.columns["age"].copy()
    ages[np.unique(cold.user)] = "99"
    users = DATASET.users._replace(columns={"age": ages})
    changed = warm_cold(DATASET._replace(items=items, users=users), draw=3)
    assert (changed.user_schema, changed.item_schema) == (READY.user_schema, READY.item_schema)
    np.testing.assert_array_equal(changed.training.item_features, encode(READY.item_schema, items))


def test_the_training_set_excludes_validation_users():
    cold = np.unique(READY.validation["cold_user_warm_item"].user)
    ages = DATASET.users.columns["age"].copy()
    ages[cold] = "99"
    users = DATASET.users._replace(columns={"age": ages})
    assert warm_cold(DATASET._replace(users=users), draw=3).user_schema == READY.user_schema


def test_warm_items_in_a_query_of_cold_items_are_refused(monkeypatch):
    split = module.warm_cold_quadrants

    def leaking(interactions, **options):
        quadrants = split(interactions, **options)
        return quadrants._replace(warm_user_cold_item=quadrants.warm_user_warm_item)

    monkeypatch.setattr(module, "warm_cold_quadrants", leaking)
    with pytest.raises(LeakageError, match="a cold item must not be in the training log"):
        warm_cold(DATASET, draw=3)


def test_the_newest_items_are_cold():
    ready = warm_cold(DATASET, cold_items="newest", since=1993)
    cold = np.union1d(
        ready.test["cold_user_cold_item"].query_item, ready.test["warm_user_cold_item"].query_item
    )
    np.testing.assert_array_equal(cold, np.arange(33, 40))
    # Of the 33 others a fifth, the newest, is cold in validation; a missing year is not new.
    held_back = np.union1d(
        ready.validation["cold_user_cold_item"].query_item,
        ready.validation["warm_user_cold_item"].query_item,
    )
    np.testing.assert_array_equal(held_back, np.arange(26, 33))
    assert 0 in ready.training.interactions.item


def test_another_draw_has_other_cold_users_and_the_same_draw_the_same():
    again, other = (warm_cold(DATASET, draw=draw) for draw in (3, 4))
    for name in QUADRANTS:
        for one, two in zip(READY.test[name], again.test[name], strict=True):
            np.testing.assert_array_equal(one, two)
    name = "cold_user_warm_item"
    assert not np.array_equal(READY.test[name].user, other.test[name].user)
    # Validation draws anew, not the users that the test has taken.
    assert not np.isin(READY.validation[name].user, READY.test[name].user).any()
    assert len(READY.validation[name].user) > 2


def test_support_sizes_depend_on_the_quadrant():
    assert READY.ks["cold_user_cold_item"] == READY.ks["cold_user_warm_item"] == (0, 1, 3, 5)
    # Few, and all there can be.
    assert READY.ks["warm_user_cold_item"] == (10, ITEMS)
    seen = READY.test["warm_user_cold_item"].support_mask.sum(1)
    rows = READY.final.interactions.user_counts[READY.test["warm_user_cold_item"].user]
    np.testing.assert_array_equal(seen, rows)


def test_invalid_arguments_of_draws_are_refused():
    with pytest.raises(ValueError, match="cold_items must be random or newest, got 'oldest'"):
        warm_cold(DATASET, cold_items="oldest")  # type: ignore
    with pytest.raises(ValueError, match="made: newest items need a numeric column year, got none"):
        warm_cold(made(years=False), cold_items="newest")
    few = select_rows(DATASET.interactions, DATASET.interactions.user < 3)
    with pytest.raises(ValueError, match="data must leave tasks in every quadrant, got none in"):
        warm_cold(DATASET._replace(interactions=few))


def test_users_of_a_draw_are_in_three_parts():
    train, validation, test = READY.fold
    np.testing.assert_array_equal(train, READY.training.interactions.users)
    np.testing.assert_array_equal(np.sort(np.concatenate(READY.fold)), DATASET.interactions.users)
    assert np.isin(READY.validation["cold_user_warm_item"].user, validation).all()
    assert np.isin(READY.test["cold_user_warm_item"].user, test).all()

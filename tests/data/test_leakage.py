import numpy as np
import pytest

from metajax.data import splits
from metajax.data.interactions import from_columns, select_rows, select_users
from metajax.data.leakage import (
    LeakageError,
    check_cold_items,
    check_fold,
    check_tasks,
    check_training,
)


@pytest.fixture(scope="module")
def log():
    user, item = np.divmod(np.arange(60), 6)
    ids = {"user_ids": np.arange(10).astype(str), "item_ids": np.arange(6).astype(str)}
    return from_columns(user, item, **ids)


def test_splits_do_not_leak(log):
    for fold in splits.cold_user_folds(log):
        check_fold(fold)
        tasks = splits.cold_user_tasks(log, fold.test, pool=3)
        check_tasks(tasks)
        check_training(select_users(log, fold.train), tasks)
    training, *quadrants = splits.warm_cold_quadrants(log, support=2, held_out=0.3)
    for tasks in quadrants:
        check_tasks(tasks)
        check_training(training, tasks, warm_users=True)


def test_a_user_in_two_parts_of_a_fold_is_leakage(log):
    fold = splits.cold_user_folds(log)[0]
    leak = fold._replace(train=np.append(fold.train, fold.test[0]))
    with pytest.raises(LeakageError, match=f"got user index {fold.test[0]} 2 times"):
        check_fold(leak)


def test_a_query_item_in_the_support_is_leakage(log):
    tasks = splits.cold_user_tasks(log, np.array([4, 7]), pool=3)
    tasks.support_item[1, 2] = tasks.query_item[-1]
    with pytest.raises(LeakageError, match=f"index {tasks.query_item[-1]} twice for user index 7"):
        check_tasks(tasks)


def test_padding_is_no_leakage(log):
    # A padded support holds item 0, which is in the query.
    tasks = splits.cold_user_tasks(log, np.array([4]), pool=9)
    assert tasks.support_mask.sum() == 5
    check_tasks(tasks._replace(support_mask=np.zeros_like(tasks.support_mask)))


def test_a_test_user_in_the_training_log_is_leakage(log):
    tasks = splits.cold_user_tasks(log, np.array([4, 7]))
    with pytest.raises(LeakageError, match="got user index 7 there"):
        check_training(select_users(log, np.array([1, 7])), tasks)


def test_one_row_of_a_test_user_in_the_training_log_is_leakage(log):
    tasks = splits.cold_user_tasks(log, np.array([4, 7]))
    row = (log.user == 1) | ((log.user == 4) & (log.item == 3))
    with pytest.raises(LeakageError, match=r"got user index 4 there \(1 such users\)"):
        check_training(select_rows(log, row), tasks)


def test_a_query_in_the_training_log_is_leakage(log):
    tasks = splits.warm_cold_quadrants(log, held_out=0.3).warm_user_warm_item
    with pytest.raises(LeakageError, match=f"got user index {tasks.user[0]} with item"):
        check_training(log, tasks, warm_users=True)


def test_a_cold_item_in_the_training_log_is_leakage(log):
    training, *_, tasks = splits.warm_cold_quadrants(log, cold_items=np.array([2, 5]))
    check_cold_items(training, tasks)
    with pytest.raises(LeakageError, match=r"got item index 2 there \(2 such items\)"):
        check_cold_items(log, tasks)

"""Leakage checks: folds are disjoint, queries and cold users are not in the training log."""

import numpy as np

from metajax.data.interactions import Interactions
from metajax.data.splits import ColdTasks, Fold

__all__ = ["LeakageError", "check_cold_items", "check_fold", "check_tasks", "check_training"]


class LeakageError(ValueError):
    """A held-out user, item or interaction is in the training data."""


def check_fold(fold: Fold) -> None:
    """Raises `LeakageError` if a user is in two parts of a fold, or twice in one."""
    users, times = np.unique(np.concatenate(fold), return_counts=True)
    if (times > 1).any():
        raise LeakageError(
            f"a user must be in one part of a fold, got user index {users[times > 1][0]} "
            f"{times[times > 1][0]} times ({(times > 1).sum()} such users)."
        )


def check_tasks(tasks: ColdTasks) -> None:
    """Raises `LeakageError` if an item is twice in a task, for instance in support and query."""
    task, row = np.arange(len(tasks.user)), np.nonzero(tasks.support_mask)
    task = np.concatenate([np.repeat(task, np.diff(tasks.query_offsets)), row[0]])
    item = np.concatenate([tasks.query_item, tasks.support_item[row]]).astype(np.int64)
    items = item.max(initial=0) + 1
    unique, times = np.unique(task * items + item, return_counts=True)
    if (times > 1).any():
        t, twice = divmod(unique[times > 1][0], items)
        raise LeakageError(
            f"an item must be once in a task's support and query, got item index {twice} twice for "
            f"user index {tasks.user[t]} ({(times > 1).sum()} such items)."
        )


def check_training(training: Interactions, tasks: ColdTasks, *, warm_users: bool = False) -> None:
    """Raises `LeakageError` if cold users or query items of the tasks are in the training log.

    Args:
        training: The training log.
        tasks: The held-out tasks.
        warm_users: False: no user of the tasks may be in the log. True: they may, but none of
            their query items, as in `Quadrants`.
    """
    if not warm_users:
        seen = training.user_counts[tasks.user] > 0
        if seen.any():
            raise LeakageError(
                f"a cold user must not be in the training log, got user index "
                f"{tasks.user[seen][0]} there ({seen.sum()} such users)."
            )
        return
    items = len(training.item_ids)
    user = np.repeat(tasks.user, np.diff(tasks.query_offsets))
    seen = np.isin(user * items + tasks.query_item, training.user * items + training.item)
    if seen.any():
        raise LeakageError(
            f"a query must not be in the training log, got user index {user[seen][0]} with item "
            f"index {tasks.query_item[seen][0]} there ({seen.sum()} such rows)."
        )


def check_cold_items(training: Interactions, tasks: ColdTasks) -> None:
    """Raises `LeakageError` if a query item of the tasks is in the training log."""
    seen = np.intersect1d(tasks.query_item, training.item)
    if len(seen):
        raise LeakageError(
            f"a cold item must not be in the training log, got item index {seen[0]} there "
            f"({len(seen)} such items)."
        )

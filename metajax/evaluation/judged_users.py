"""Sample of a split's test users, for a quicker evaluation."""

import numpy as np

from metajax.data.splits import ColdTasks, Split

__all__ = ["of_users", "with_test_users"]


def with_test_users(split: Split, count: int, *, seed: int) -> Split:
    """Draws some of the test users.

    Args:
        split: The fold.
        count: Number of users, >= 1; all where there are no more.
        seed: Of the draw.

    Returns:
        The split with their tasks alone in every panel; validation and training are as they were.

    Raises:
        ValueError: If `count` < 1.
    """
    if count < 1:
        raise ValueError(f"users must be >= 1, got {count}.")
    users = np.unique(np.concatenate([tasks.user for tasks in split.test.values()]))
    if count >= len(users):
        return split
    drawn = np.random.default_rng(seed).choice(users, count, replace=False)
    test = {panel: of_users(tasks, drawn) for panel, tasks in split.test.items()}
    fold = split.fold._replace(test=np.intersect1d(split.fold.test, drawn))
    return split._replace(fold=fold, test=test)


def of_users(tasks: ColdTasks, users: np.ndarray) -> ColdTasks:
    """Returns the tasks of some of the users alone."""
    kept = np.isin(tasks.user, users)
    counts = np.diff(tasks.query_offsets)
    asked = np.repeat(kept, counts)
    return tasks._replace(
        user=tasks.user[kept],
        support_item=tasks.support_item[kept],
        support_rating=tasks.support_rating[kept],
        support_mask=tasks.support_mask[kept],
        support_time=None if tasks.support_time is None else tasks.support_time[kept],
        query_offsets=np.concatenate([[0], np.cumsum(counts[kept])]),
        query_item=tasks.query_item[asked],
        query_rating=tasks.query_rating[asked],
    )

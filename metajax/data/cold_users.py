"""One fold of a data set, made ready: who is seen, who is cold, and how they are encoded."""

from typing import NamedTuple

import numpy as np

from metajax.data.dataset import Dataset, TrainingSet
from metajax.data.interactions import interactions_of
from metajax.data.leakage import check_fold, check_tasks, check_training
from metajax.data.schema import Schema, encode, fit_schema
from metajax.data.splits import ColdTasks, Fold, Order, cold_user_folds, cold_user_tasks

__all__ = ["ColdUsers", "cold_users", "cold_users_of"]

POOL = 10


class ColdUsers(NamedTuple):
    """A fold of protocol P1: cold users by a number of shots.

    Vocabularies, scalers and everything fitted come from the training users alone.
    """

    fold: Fold
    """The users in three parts."""
    user_schema: Schema
    """Encodes users, learned from the training users."""
    item_schema: Schema
    """Encodes items, learned from the items that training users interacted with."""
    training: TrainingSet
    """What learners train on: the training users without the validation users."""
    final: TrainingSet
    """What a tuned closed form is refitted on: training and validation users."""
    validation: dict[Order, ColdTasks]
    """By order: the validation users' tasks, which settings are chosen by."""
    test: dict[Order, ColdTasks]
    """By order: the test users' tasks, looked at once."""


def cold_users(dataset: Dataset, *, fold: int = 0, folds: int = 5, seed: int = 0) -> ColdUsers:
    """Prepares one fold of P1.

    Args:
        dataset: The data.
        fold: Which part of the users is cold, in [0, folds).
        folds: Number of parts.
        seed: Another seed is another repetition.

    Returns:
        The fold, checked for leaks.

    Raises:
        ValueError: If `fold` is out of range, or the data set has too few users.
        LeakageError: If a part has seen what it must not; a defect of this package.
    """
    if not 0 <= fold < folds:
        raise ValueError(f"fold must be in [0, {folds}), got {fold}.")
    chosen = cold_user_folds(dataset.interactions, folds=folds, seed=seed)[fold]
    if not len(chosen.validation):
        raise ValueError(
            f"data must leave validation users in every fold, got {len(chosen.train)} training "
            "users in all."
        )
    train_log = interactions_of(dataset.interactions, chosen.train)
    user_schema = fit_schema(dataset.users, chosen.train)
    item_schema = fit_schema(dataset.items, np.unique(train_log.item))
    training = TrainingSet(
        train_log,
        encode(user_schema, dataset.users),
        encode(item_schema, dataset.items),
        dataset.scale,
    )
    everyone = np.concatenate([chosen.train, chosen.validation])
    final = training._replace(interactions=interactions_of(dataset.interactions, everyone))
    prepared = ColdUsers(
        chosen,
        user_schema,
        item_schema,
        training,
        final,
        validation=cold_users_of(dataset, chosen.validation, seed=seed),
        test=cold_users_of(dataset, chosen.test, seed=seed),
    )
    check_fold(chosen)
    for log, parts in ((train_log, prepared.validation), (final.interactions, prepared.test)):
        for tasks in parts.values():
            check_tasks(tasks)
            check_training(log, tasks)
    return prepared


def cold_users_of(dataset: Dataset, users: np.ndarray, *, seed: int) -> dict[Order, ColdTasks]:
    """Makes the tasks of some users, in random order and first in time."""
    orders: tuple[Order, ...] = ("random", "time")
    return {
        order: cold_user_tasks(dataset.interactions, users, pool=POOL, order=order, seed=seed)
        for order in orders
    }

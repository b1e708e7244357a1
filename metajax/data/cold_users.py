"""Protocol P1: a fold of cold users, with encoded training sets and checked tasks."""

import jax
import jax.numpy as jnp
import numpy as np

from metajax.data.dataset import Dataset, TrainingSet, graded
from metajax.data.interactions import select_users
from metajax.data.leakage import check_fold, check_tasks, check_training
from metajax.data.schema import encoded
from metajax.data.splits import (
    MOST_VALIDATION,
    VALIDATION_SHARE,
    ColdTasks,
    Fold,
    Order,
    Split,
    cold_user_folds,
    cold_user_tasks,
    standardised,
)
from metajax.types import Examples, Inputs, Task

__all__ = ["cold_users", "cold_users_of", "inner_folds", "padded", "support_sizes", "unranked"]

POOL = 10
KS = (0, 1, 3, 5, 10)


def cold_users(dataset: Dataset, *, fold: int = 0, folds: int = 5, seed: int = 0) -> Split:
    """Prepares one fold of P1.

    Args:
        dataset: The data.
        fold: Index of the cold part of the users, in [0, folds); 0 where the data come with a split
            of their own, whose test users are cold.
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
    dataset = graded(dataset)
    if dataset.parts is None:
        chosen = cold_user_folds(dataset.interactions, folds=folds, seed=seed)[fold]
    else:
        chosen = _own_fold(dataset, fold, seed)
    if not len(chosen.validation):
        raise ValueError(
            f"data must leave validation users in every fold, got {len(chosen.train)} training "
            "users in all."
        )
    train_log = select_users(dataset.interactions, chosen.train)
    user_schema, item_schema, training = encoded(dataset, train_log, chosen.train)
    everyone = np.concatenate([chosen.train, chosen.validation])
    final = training._replace(interactions=select_users(dataset.interactions, everyone))
    prepared = Split(
        chosen,
        user_schema,
        item_schema,
        training,
        final,
        validation=cold_users_of(dataset, chosen.validation, seed=seed),
        test=(test := cold_users_of(dataset, chosen.test, seed=seed)),
        ks={panel: support_sizes(tasks) for panel, tasks in test.items()},
    )
    check_fold(chosen)
    for log, parts in ((train_log, prepared.validation), (final.interactions, prepared.test)):
        for tasks in parts.values():
            check_tasks(tasks)
            check_training(log, tasks)
    prepared = standardised(prepared, dataset)
    return prepared._replace(unranked=unranked(prepared, dataset.name))


def inner_folds(split: Split, *, folds: int = 5, seed: int = 0) -> tuple[Split, ...]:
    """Splits the users of a fold of P1 but its test users, so that each is held out once.

    Args:
        split: The fold.
        folds: Number of parts, at least 2.
        seed: Seed of the parts and of the order of the supports.

    Returns:
        The fold by each part: its users are the validation users, with tasks like those of the
        test, and all others the training users. Encodings and labels stay those of the fold, and
        labels beyond the bulk are clipped in queries, too.

    Raises:
        ValueError: If the panels are not those of P1, or `folds` is out of range.
    """
    pools = {panel: tasks.support_mask.shape[1] for panel, tasks in split.test.items()}
    known: tuple[Order, ...] = ("random", "time")
    orders = [order for order in known if order in pools]
    if len(orders) < len(pools):
        raise ValueError(
            "cross-fitting holds out cold users by number of shots, as P1 does, got a split into "
            f"{', '.join(split.test)}."
        )
    log = split.final.interactions
    if not 2 <= folds <= len(log.users):
        raise ValueError(f"folds must be in [2, {len(log.users)}] (the users), got {folds}.")
    mixed = np.random.default_rng(seed).permutation(log.users)
    found = []
    for part in range(folds):
        held = np.sort(mixed[part::folds])
        rest = np.setdiff1d(log.users, held)
        training = split.final._replace(interactions=select_users(log, rest))
        tasks: dict[str, ColdTasks] = {
            order: cold_user_tasks(log, held, pool=pools[order], order=order, seed=seed)
            for order in orders
        }
        for own in tasks.values():
            check_training(training.interactions, own)
        fold = split.fold._replace(train=rest, validation=held)
        found.append(split._replace(fold=fold, training=training, validation=tasks))
    return tuple(found)


def support_sizes(tasks: ColdTasks) -> tuple[int, ...]:
    """Returns the K in 0, 1, 3, 5, 10 that at least one user has interactions for."""
    most = tasks.support_mask.sum(axis=1).max(initial=0)
    return tuple(k for k in KS if k <= most)


def _own_fold(dataset: Dataset, fold: int, seed: int) -> Fold:
    """Takes the parts that the data come with; without validation users, some of the training."""
    if fold:
        raise ValueError(f"fold must be 0 where the data come with their own split, got {fold}.")
    users, parts = dataset.interactions.users, dataset.parts
    assert parts is not None  # The caller has looked.
    train, validation, test = (users[parts[users] == part] for part in range(3))
    if not len(validation):
        mixed = np.random.default_rng(seed).permutation(train)
        count = min(round(VALIDATION_SHARE * len(train)), MOST_VALIDATION)
        train, validation = np.sort(mixed[count:]), np.sort(mixed[:count])
    return Fold(train, validation, test)


def cold_users_of(dataset: Dataset, users: np.ndarray, *, seed: int) -> dict[str, ColdTasks]:
    """Makes the tasks of some users, in random order and, if the log has times, first in time."""
    orders: tuple[Order, ...] = ("random", "time")
    if not dataset.interactions.timed:
        orders = ("random",)
    return {
        order: cold_user_tasks(dataset.interactions, users, pool=POOL, order=order, seed=seed)
        for order in orders
    }


def unranked(split: Split, name: str) -> str:
    """Says why rankings of a split cannot be evaluated; empty where they can.

    Args:
        split: With standardised labels.
        name: Of the data.
    """
    training = split.training
    queried = [tasks.query_rating for tasks in split.test.values()]
    if all(
        (labels >= training.threshold).any() for labels in (training.interactions.rating, *queried)
    ):
        return ""
    what = "the threshold"
    if training.scale is not None:
        low, high, least = split.labels.outside([*training.scale, training.threshold])
        what = f"{least:g}"
        if training.relevant is None:
            what += f", three quarters up the scale {low:g} to {high:g}"
    return (
        f"{name}: nobody has a relevant item among those asked for, no label reaches "
        f"{what}: give another threshold (--relevant)."
    )


def padded(tasks: ColdTasks, training: TrainingSet, *, query: int, most: int | None = None) -> Task:
    """Lays cold users out as a batch of tasks, to monitor a method while it trains.

    Args:
        tasks: T cold users.
        training: Gives the features.
        query: Q, the largest query of a user: evenly spaced interactions of theirs.
        most: Maximum number of users, evenly spaced; None means all.

    Returns:
        Tasks whose inputs are `Inputs`; leaves lead with `[T, P]` and `[T, Q]`.
    """
    users = len(tasks.user)
    chosen = np.arange(users)
    if most is not None and users > most:
        chosen = np.arange(most) * users // most
    length = np.diff(tasks.query_offsets)[chosen, None]  # [T, 1]
    size = np.minimum(length, query)
    place = np.arange(query) * length // np.maximum(size, 1)
    row = tasks.query_offsets[chosen, None] + np.minimum(place, length - 1)  # [T, Q]

    def examples(
        item: np.ndarray, rating: np.ndarray, mask: np.ndarray, time: np.ndarray | None = None
    ) -> Examples:
        user = training.user_features[tasks.user[chosen]][:, None]  # [T, 1, Du]
        user = np.broadcast_to(user, (*item.shape, user.shape[-1]))
        features = (user, training.item_features[item], item, time)
        inputs = Inputs(*jax.tree.map(jnp.asarray, features))
        return Examples(inputs, jnp.asarray(rating), jnp.asarray(mask))

    item, rating, mask = (table[chosen] for table in tasks[1:4])
    time = None if tasks.support_time is None else tasks.support_time[chosen]
    return Task(
        examples(item, rating, mask, time),
        examples(tasks.query_item[row], tasks.query_rating[row], np.arange(query) < size),
    )

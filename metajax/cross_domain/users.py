"""Cold users of the target domain with a history in the source: splits without leaks."""

import numpy as np

from metajax.cross_domain.domains import TARGET, Domains
from metajax.data.cold_users import unranked
from metajax.data.dataset import graded
from metajax.data.interactions import Interactions, from_columns, select_rows, select_users
from metajax.data.leakage import check_fold, check_tasks, check_training
from metajax.data.schema import encoded
from metajax.data.splits import (
    ColdTasks,
    Fold,
    Split,
    cold_user_folds,
    collected,
    ranked,
    standardised,
)

__all__ = ["cross_users"]

PANEL = "target"
"""The one panel of a cross-domain split."""

_POOL = 5
_KS = (0, 1, 3, 5)

HISTORY = 256
"""Most source interactions in the support of a test user, drawn at random from more."""


def cross_users(
    domains: Domains,
    *,
    fold: int = 0,
    folds: int = 5,
    overlap: float = 1.0,
    shuffled: bool = False,
    least: int = 10,
    seed: int = 0,
) -> Split:
    """Prepares one fold of users with a history in both domains, whose target rows are hidden.

    Test users have no row in training. Their support of size K is their source history and K
    interactions of the target: the first `ColdTasks.given` columns are always shown. All other
    users train. The tasks are under `PANEL`. Ratings are judged by their errors; of domains without
    them lists of the target's items are judged.

    For domains without common users, the test users are users of the target without a source
    history.

    Args:
        domains: The data.
        fold: The part of the users to test, in [0, folds).
        folds: Number of parts.
        overlap: Share of the training users of both domains that keep one id; each of the others
            becomes two users. In [0, 1].
        shuffled: True to give each user the source history of another: a negative control, in
            which the source is uninformative.
        least: Interactions in each domain that make a user eligible as a test user.
        seed: Seed of the folds and draws.

    Returns:
        The fold, checked for leaks.

    Raises:
        ValueError: If an argument is out of range, or too few users are eligible.
        LeakageError: If test data leaks into training; a defect of this package.
    """
    if not 0 <= fold < folds:
        raise ValueError(f"fold must be in [0, {folds}), got {fold}.")
    if not 0 <= overlap <= 1:
        raise ValueError(f"overlap must be in [0, 1], got {overlap}.")
    if least <= _POOL:
        raise ValueError(f"least must be > {_POOL}, the target rows shown, got {least}.")
    dataset = graded(domains.dataset)
    log, in_target = dataset.interactions, domains.item_domain == TARGET
    counts = [_counts(log, ~in_target), _counts(log, in_target)]
    both, where = (counts[0] >= least) & (counts[1] >= least), "both domains"
    if not (counts[0] * counts[1]).any():
        both, where = counts[1] >= least, "the target"
    both = np.flatnonzero(both)
    if len(both) < 2 * folds:
        raise ValueError(
            f"data must have {2 * folds} users with {least} interactions in {where}, got "
            f"{len(both)}."
        )
    chosen = cold_user_folds(select_users(log, both), folds=folds, seed=seed)[fold]
    if shuffled:
        log = _shuffled(log, in_target, chosen, seed)
    others = np.setdiff1d(log.users, both)
    trained = np.concatenate([chosen.train, others])
    final = np.concatenate([trained, chosen.validation])
    users, names = len(log.user_ids), log.user_ids
    # A user whose link between the domains is dropped becomes two, with the same attributes.
    names = np.concatenate([names, np.char.add(names.astype(str), "@target")])
    logs = [
        _unlinked(select_users(log, part), in_target, overlap, names, seed)
        for part in (trained, final)
    ]
    user_schema, item_schema, training = encoded(dataset, logs[0], trained)
    features = np.tile(training.user_features, (2, 1))
    training = training._replace(user_features=features, item_domain=domains.item_domain)
    log = log._replace(
        user_ids=names, offsets=np.append(log.offsets, np.full(users, log.offsets[-1]))
    )

    def tasks_of(users: np.ndarray) -> dict[str, ColdTasks]:
        tasks = _tasks(log, in_target, users, seed)
        return {PANEL: tasks._replace(candidates=in_target if dataset.implicit else None)}

    prepared = Split(
        chosen,
        user_schema,
        item_schema,
        training,
        training._replace(interactions=logs[1]),
        validation=tasks_of(chosen.validation),
        test=tasks_of(chosen.test),
        ks={PANEL: _KS},
    )
    check_fold(chosen)
    for seen, parts in ((logs[0], prepared.validation), (logs[1], prepared.test)):
        check_tasks(parts[PANEL])
        check_training(seen, parts[PANEL])
    prepared = standardised(prepared, dataset)
    if not dataset.implicit:
        return prepared._replace(unranked="Across domains ratings alone are judged.")
    return prepared._replace(unranked=unranked(prepared, dataset.name))


def _counts(log: Interactions, of_items: np.ndarray) -> np.ndarray:
    return np.bincount(log.user[of_items[log.item]], minlength=len(log.user_ids))


def _shuffled(log: Interactions, in_target: np.ndarray, fold: Fold, seed: int) -> Interactions:
    """Permutes the source histories within each part of the fold, and among all others."""
    rng = np.random.default_rng(seed)
    other = np.arange(len(log.user_ids))
    for part in (*fold, np.setdiff1d(other, np.concatenate(fold))):
        # A cyclic shift in random order has no fixed point.
        order = rng.permutation(part)
        other[order] = np.roll(order, 1)
    user = log.user
    user = np.where(in_target[log.item], user, other[user])
    return _with_users(log, user, log.user_ids)


def _unlinked(
    log: Interactions, in_target: np.ndarray, overlap: float, names: np.ndarray, seed: int
) -> Interactions:
    """Splits each user of both domains whose link is dropped into two."""
    users = len(log.user_ids)
    user, target = log.user, in_target[log.item]
    # A draw for every user, so that it does not depend on who trains.
    coin = np.random.default_rng(seed).random(users)
    return _with_users(log, user + users * (target & (coin >= overlap)[user]), names)


def _with_users(log: Interactions, user: np.ndarray, names: np.ndarray) -> Interactions:
    return from_columns(user, log.item, log.rating, log.time, user_ids=names, item_ids=log.item_ids)


def _tasks(log: Interactions, in_target: np.ndarray, users: np.ndarray, seed: int) -> ColdTasks:
    """Builds tasks: the source and up to five target ratings as support, the rest as query."""
    target = in_target[log.item]
    place = np.empty(len(log.item), np.int64)
    for side in (target, ~target):
        place[side] = ranked(select_rows(log, side), "random", seed)
    rank = np.where(target, HISTORY + place, place)
    shown = place < np.where(target, _POOL, HISTORY)
    tasks = collected(log, users, rank, shown, target & ~shown, HISTORY + _POOL)
    return tasks._replace(given=HISTORY)

"""Users who are new to one domain and known in another: who trains, who is asked, what is seen."""

from typing import NamedTuple

import numpy as np

from metajax.cross_domain.domains import Domains
from metajax.data.dataset import TrainingSet
from metajax.data.interactions import Interactions, from_columns, select_rows, select_users
from metajax.data.leakage import check_fold, check_tasks, check_training
from metajax.data.schema import Schema, encode, fit_schema
from metajax.data.splits import ColdTasks, Fold, cold_user_folds, collected, ranked

__all__ = ["CrossUsers", "cross_users"]

PANEL = "target"
"""The one panel of a cross-domain split."""

_POOL = 5
_KS = (0, 1, 3, 5)

SOURCE = 256
"""Of a user's source history so much is seen, at random where there is more."""


class CrossUsers(NamedTuple):
    """A fold of users with a history in both domains, whose target side is hidden but K ratings.

    Who is asked has no row in training. The support of size K is the user's source history and
    the first K of the target: `ColdTasks.given` columns are always shown.
    """

    fold: Fold
    """Users with a history in both, in three parts; all others train. Where nobody is in both,
    users of the target."""
    user_schema: Schema
    """Encodes users, learned from the training users."""
    item_schema: Schema
    """Encodes items, learned from the items that training users interacted with."""
    training: TrainingSet
    """What learners train on, both domains; `item_domain` tells them apart."""
    final: TrainingSet
    """The same with the validation users."""
    validation: dict[str, ColdTasks]
    """Under `PANEL`, the tasks that settings are chosen by."""
    test: dict[str, ColdTasks]
    """Under `PANEL`, the tasks that are looked at once."""

    @property
    def ranked(self) -> bool:
        """Whether orders of the whole catalogue are judged: no, ratings of the target alone."""
        return False

    def ks(self, panel: str) -> tuple[int, ...]:
        """Returns how many target ratings are shown."""
        del panel
        return _KS


def cross_users(
    domains: Domains,
    *,
    fold: int = 0,
    folds: int = 5,
    overlap: float = 1.0,
    shuffled: bool = False,
    least: int = 10,
    seed: int = 0,
) -> CrossUsers:
    """Prepares one fold of users who are new to the target.

    Of domains in which nobody is in both, users of the target are asked of whom nothing is known
    elsewhere.

    Args:
        domains: The data.
        fold: Which part of the users is asked, in [0, folds).
        folds: Number of parts.
        overlap: Share of the training users with a history in both domains of whom it is known
            that they are one person; each of the others becomes two. In [0, 1].
        shuffled: Whether to give each user the source history of another: a negative control,
            with which nothing can be gained from the source.
        least: How many interactions on both sides make a user one who can be asked.
        seed: Another seed is another repetition.

    Returns:
        The fold, checked for leaks.

    Raises:
        ValueError: If an argument is out of range, or too few users have both.
        LeakageError: If a part has seen what it must not; a defect of this package.
    """
    if not 0 <= fold < folds:
        raise ValueError(f"fold must be in [0, {folds}), got {fold}.")
    if not 0 <= overlap <= 1:
        raise ValueError(f"overlap must be in [0, 1], got {overlap}.")
    if least <= _POOL:
        raise ValueError(f"least must be > {_POOL}, the target ratings shown, got {least}.")
    dataset = domains.dataset
    log, in_target = dataset.interactions, domains.item_domain == 1
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
    # Who is not known to be one person is another user, with the same attributes.
    names = np.concatenate([names, np.char.add(names.astype(str), "@target")])
    logs = [
        _unlinked(select_users(log, part), in_target, overlap, names, seed)
        for part in (trained, final)
    ]
    user_schema = fit_schema(dataset.users, trained)
    item_schema = fit_schema(dataset.items, np.unique(logs[0].item))
    training = TrainingSet(
        logs[0],
        np.tile(encode(user_schema, dataset.users), (2, 1)),
        encode(item_schema, dataset.items),
        dataset.scale,
        item_domain=domains.item_domain,
    )
    log = log._replace(
        user_ids=names, offsets=np.append(log.offsets, np.full(users, log.offsets[-1]))
    )
    prepared = CrossUsers(
        chosen,
        user_schema,
        item_schema,
        training,
        training._replace(interactions=logs[1]),
        validation={PANEL: _tasks(log, in_target, chosen.validation, seed)},
        test={PANEL: _tasks(log, in_target, chosen.test, seed)},
    )
    check_fold(chosen)
    for seen, parts in ((logs[0], prepared.validation), (logs[1], prepared.test)):
        check_tasks(parts[PANEL])
        check_training(seen, parts[PANEL])
    return prepared


def _counts(log: Interactions, of_items: np.ndarray) -> np.ndarray:
    return np.bincount(log.user[of_items[log.item]], minlength=len(log.user_ids))


def _shuffled(log: Interactions, in_target: np.ndarray, fold: Fold, seed: int) -> Interactions:
    """Deals the source histories out anew, within each part of the fold and among all others."""
    rng = np.random.default_rng(seed)
    other = np.arange(len(log.user_ids))
    for part in (*fold, np.setdiff1d(other, np.concatenate(fold))):
        # A cyclic shift in random order: nobody keeps their own.
        order = rng.permutation(part)
        other[order] = np.roll(order, 1)
    user = log.user
    user = np.where(in_target[log.item], user, other[user])
    return _with_users(log, user, log.user_ids)


def _unlinked(
    log: Interactions, in_target: np.ndarray, overlap: float, names: np.ndarray, seed: int
) -> Interactions:
    """Makes two users of each who is in both domains and not known to be one person."""
    users = len(log.user_ids)
    user, target = log.user, in_target[log.item]
    # The same coin falls the same way whoever else trains.
    coin = np.random.default_rng(seed).random(users)
    return _with_users(log, user + users * (target & (coin >= overlap)[user]), names)


def _with_users(log: Interactions, user: np.ndarray, names: np.ndarray) -> Interactions:
    return from_columns(user, log.item, log.rating, log.time, user_ids=names, item_ids=log.item_ids)


def _tasks(log: Interactions, in_target: np.ndarray, users: np.ndarray, seed: int) -> ColdTasks:
    """Shows the source and up to five of the target, and asks the rest of the target."""
    target = in_target[log.item]
    place = np.empty(len(log.item), np.int64)
    for side in (target, ~target):
        place[side] = ranked(select_rows(log, side), "random", seed)
    rank = np.where(target, SOURCE + place, place)
    shown = place < np.where(target, _POOL, SOURCE)
    tasks = collected(log, users, rank, shown, target & ~shown, SOURCE + _POOL)
    return tasks._replace(given=SOURCE)

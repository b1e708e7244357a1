"""Protocols: splits into warm and cold users and items, in one form for all methods."""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from metajax.cross_domain.domains import Domains
from metajax.cross_domain.users import cross_users
from metajax.data.cold_users import cold_users
from metajax.data.dataset import Dataset, TrainingSet
from metajax.data.inspection import FEWEST_ITEMS, FEWEST_USERS
from metajax.data.splits import Split
from metajax.data.warm_cold import warm_cold
from metajax.fields import check_name

__all__ = ["FOLDS", "Preparation", "check_dataset", "cross_domain", "prepare", "protocols"]

FOLDS = 5
"""Number of folds over users, and of draws of P2."""

# Folds whose features are about equally wide share what was compiled for one of them.
_WIDTH = 8


class Preparation(NamedTuple):
    """A protocol as a function that splits a data set."""

    split: Callable[[Dataset, int, int], Split]
    """`split(dataset, fold, seed)`; a function that another process can import, or a partial."""
    ranked: bool | None
    """True if rankings are evaluated, False if ratings alone are; None: ratings, and rankings where
    the log has no ratings. `prepare` gives splits without rankings a reason, `Split.unranked`."""

    def ranks(self, dataset: Dataset | None) -> bool:
        """True if rankings are evaluated; None: of a log of ratings."""
        implicit = dataset is not None and dataset.implicit
        return implicit if self.ranked is None else self.ranked


def prepare(protocol: str | Preparation, dataset: Dataset, *, fold: int, seed: int) -> Split:
    """Splits a data set by a protocol.

    Args:
        protocol: The name of one of `protocols`, or one's own.
        dataset: The data.
        fold: Number of the fold, in [0, 5); under P2 of the draw.
        seed: Another seed is another repetition.

    Returns:
        The split, with features filled up to a width that most folds share.

    Raises:
        ValueError: If there is no such protocol, or the data do not suit it.
    """
    if isinstance(protocol, str):
        check_name(protocol, protocols, "protocol")
        protocol = protocols[protocol]
    if not 0 <= fold < FOLDS:
        raise ValueError(f"fold must be in [0, {FOLDS}), got {fold}.")
    check_dataset(dataset, ratings=protocol.ranked is False)
    split = protocol.split(dataset, fold, seed)
    if split.ranked and not protocol.ranks(dataset):
        return split._replace(unranked="The protocol judges ratings alone.")
    return split


def check_dataset(dataset: Dataset, *, ratings: bool = False) -> None:
    """Refuses data with too few users or items, or without ratings where they are judged.

    Args:
        dataset: The data.
        ratings: True if nothing but ratings is judged.

    Raises:
        ValueError: If there are too few users or items, or no ratings where they are needed.
    """
    if ratings and dataset.implicit:
        raise ValueError(
            f"{dataset.name}: what is judged here are ratings, and the log {dataset.unrated}: such "
            "a log is judged by its lists, under P1 and P2 (metajax train, metajax compare)."
        )
    users = int(np.sum(dataset.interactions.user_counts > 0))
    for what, holds, found in (
        ("two items", len(dataset.items.ids) >= FEWEST_ITEMS, len(dataset.items.ids)),
        (f"{FEWEST_USERS} users with interactions", users >= FEWEST_USERS, users),
    ):
        if not holds:
            raise ValueError(
                f"{dataset.name}: training needs {what}, got {found}: metajax fit takes a closed "
                "form, such as eb_fold_in, on any number."
            )


def _p1(dataset: Dataset, fold: int, seed: int) -> Split:
    return _filled(cold_users(dataset, fold=fold, folds=FOLDS, seed=seed))


def _p2(cold_items: Literal["random", "newest"], dataset: Dataset, fold: int, seed: int) -> Split:
    return _filled(warm_cold(dataset, draw=FOLDS * seed + fold, cold_items=cold_items))


def cross_domain(domains: Domains, *, overlap: float = 1.0, shuffled: bool = False) -> Preparation:
    """Protocol of users who are new to a target domain and known in a source domain.

    Args:
        domains: The domains, whose `dataset` is compared on.
        overlap: As in `cross_domain.cross_users`.
        shuffled: As in `cross_domain.cross_users`.

    Returns:
        The protocol.
    """
    return Preparation(partial(_crossed, domains, overlap, shuffled), ranked=None)


def _crossed(
    domains: Domains, overlap: float, shuffled: bool, dataset: Dataset, fold: int, seed: int
) -> Split:
    del dataset
    return _filled(
        cross_users(domains, fold=fold, folds=FOLDS, overlap=overlap, shuffled=shuffled, seed=seed)
    )


protocols: dict[str, Preparation] = {
    "P1": Preparation(_p1, ranked=True),
    "P2": Preparation(partial(_p2, "random"), ranked=None),
    "P2-newest": Preparation(partial(_p2, "newest"), ranked=None),
}
"""Cold users by number of shots; warm and cold users by warm and cold items, those drawn at random
or the newest.

Under P1 a user's pool is the first ten interactions, at random or in time, and the query all the
rest, the same at every K. Items of the pool that are not shown at a K are no candidates of its
rankings: as misses they would reward predicting which items fall into pools. In time something of
it remains, for the query is of later interactions, and items that come early are rarer there;
P1-natural, where everything beyond the support is asked for, does not have it at K = 0."""


def _filled(split: Split) -> Split:
    """Pads the features with columns of zeros."""

    def fill(training: TrainingSet) -> TrainingSet:
        tables = (training.user_features, training.item_features)
        user, item = (np.pad(t, ((0, 0), (0, -t.shape[1] % _WIDTH))) for t in tables)
        return training._replace(user_features=user, item_features=item)

    return split._replace(training=fill(split.training), final=fill(split.final))

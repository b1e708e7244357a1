"""Data sets and training sets: an interaction log with features of users and items."""

import hashlib
import json
from typing import Any, Literal, NamedTuple

import numpy as np

from metajax.data.interactions import Interactions

__all__ = [
    "Dataset",
    "Kind",
    "Shapes",
    "Table",
    "TrainingSet",
    "fingerprint",
    "room",
    "shapes_of",
]

Kind = Literal["numeric", "categorical", "tokens", "text"]


class Table(NamedTuple):
    """Raw features of users or of items, as strings; the empty string means missing."""

    ids: np.ndarray
    """`[n]` names, in the order of the interactions' `user_ids` or `item_ids`."""
    columns: dict[str, np.ndarray]
    """Column name to `[n]` raw strings; tokens are separated by spaces."""
    kinds: dict[str, Kind]
    """Column name to kind. Text, such as titles, is not encoded."""


class Dataset(NamedTuple):
    """A named data set."""

    name: str
    """Name or path that it was loaded by."""
    interactions: Interactions
    """The log."""
    users: Table
    """Row u describes user u; users without a description have empty strings."""
    items: Table
    """Row i describes item i."""
    scale: tuple[float, float] | None
    """Lowest and highest legal rating; None for an implicit log."""


class TrainingSet(NamedTuple):
    """Training data of a method, without test users."""

    interactions: Interactions
    """The training users' log; other users are there, without interactions."""
    user_features: np.ndarray
    """`[U, Du]` float32 encoded attributes, by a schema learned from the training users."""
    item_features: np.ndarray
    """`[I, Di]` float32 encoded attributes."""
    scale: tuple[float, float] | None
    """Lowest and highest legal rating; None for an implicit log."""
    item_domain: np.ndarray | None = None
    """`[I]` int32, 0 for an item of the source domain and 1 for the target; None: there is one."""


class Shapes(NamedTuple):
    """Sizes of a training set that a network is built from."""

    items: int
    """I, the size of the catalogue."""
    user_width: int
    """Du, the number of encoded attributes of a user."""
    item_width: int
    """Di, the number of encoded attributes of an item."""
    scale: tuple[float, float] | None
    """Lowest and highest legal rating; None for an implicit log."""
    domains: int = 1
    """1, or 2: a source and a target domain."""
    users: int = 1
    """U, users there is room for: those of the log, up to the next power of two."""
    rows: int = 1
    """Interactions there is room for, up to the next power of two."""


def shapes_of(training: TrainingSet) -> Shapes:
    """Returns the shapes of a training set."""
    items, item_width = training.item_features.shape
    domains = 1 if training.item_domain is None else 2
    users, user_width = training.user_features.shape
    rows = len(training.interactions.item)
    return Shapes(items, user_width, item_width, training.scale, domains, room(users), room(rows))


def room(count: int) -> int:
    """Returns the next power of two, at least 1: arrays padded to it share compiled programs."""
    return 1 << (max(count, 1) - 1).bit_length()


def fingerprint(dataset: Dataset) -> dict[str, Any]:
    """Returns counts and a sha256 digest, which change where the data change."""
    log = dataset.interactions
    digest = hashlib.sha256()
    for column in (log.offsets, log.item, log.rating, log.time):
        digest.update(np.ascontiguousarray(column).tobytes())
    for table in (dataset.users, dataset.items):
        for name, column in {"": table.ids, **table.columns}.items():
            digest.update(json.dumps([name, column.tolist()]).encode())
    return {
        "users": len(log.user_ids),
        "items": len(log.item_ids),
        "interactions": len(log.item),
        "sha256": digest.hexdigest(),
    }

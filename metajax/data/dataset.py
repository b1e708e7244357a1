"""Data sets and training sets: an interaction log with features of users and items."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from metajax import display
from metajax.data.interactions import Interactions
from metajax.data.labels import Grades, Transform

__all__ = [
    "Dataset",
    "Kind",
    "Shapes",
    "Table",
    "TrainingSet",
    "fingerprint",
    "graded",
    "room",
    "shapes_of",
    "units_of",
    "with_relevant",
]

# Cells of a column that are hashed at a time.
_AT_ONCE = 2**16

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
    """Worst and best legal rating; the worst is the higher number where low ones are good, as for
    ranks. None for an implicit log, whose labels are strengths of interactions, such as counts, all
    above 0."""
    relevant: float | None = None
    """Lowest label of a relevant item, in the unit of the log; None means three quarters up the
    scale, which is 4 of 1 to 5, and in an implicit log every interaction."""
    notes: tuple[str, ...] = ()
    """What its reader left out or merged, one sentence each."""
    parts: np.ndarray | None = None
    """`[U]` part of each user in the split that the data come with: 0 for training, 1 for
    validation, 2 for the test, -1 for none; None where they come without."""
    scale_given: bool = True
    """False if the scale is only the range of the labels at hand."""
    transform: Transform = "none"
    """Function through which methods see the labels."""
    options: Mapping[str, Any] | None = None
    """Options it was loaded with, `Reading.reading`; None for data that were not loaded."""

    @property
    def implicit(self) -> bool:
        """True of a log without ratings, or whose ratings are all equal: who met what."""
        rating = self.interactions.rating
        return self.scale is None or not len(rating) or not np.ptp(rating)

    @property
    def unrated(self) -> str:
        """Reason that the log counts as implicit, as the end of a sentence; empty if it does not.

        It is "has none", of ratings, or "has no two different ones".
        """
        if not self.implicit:
            return ""
        return "has none" if self.scale is None else "has no two different ones"

    @property
    def threshold(self) -> float:
        """Lowest label of a relevant item, in the unit of the log."""
        return _threshold(None if self.implicit else self.scale, self.relevant)

    @property
    def relevant_rows(self) -> np.ndarray:
        """`[R]` bool, the interactions with a relevant item."""
        rating = self.interactions.rating
        if not self.implicit and self.scale is not None and self.scale[0] > self.scale[1]:
            return rating <= self.threshold
        return rating >= self.threshold

    def _repr_html_(self) -> str:
        log = self.interactions
        scale = None if self.scale is None else "{:g} to {:g}".format(*self.scale)
        return display.facts(
            f"Data set {self.name}",
            {
                "users": len(self.users.ids),
                "items": len(self.items.ids),
                "interactions": len(log.item),
                "ratings": scale or "none",
                "relevant": f"{self.threshold:g} or better" if scale else None,
                "attributes of users": ", ".join(self.users.columns),
                "attributes of items": ", ".join(self.items.columns),
                "notes": " ".join(f"{note}." for note in self.notes),
            },
        )


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
    relevant: float | None = None
    """As in `Dataset`."""
    new_items: np.ndarray | None = None
    """`[I]` bool, items that nobody could have taken yet; None: it is not known which are."""

    @property
    def threshold(self) -> float:
        """Lowest label of a relevant item."""
        return _threshold(self.scale, self.relevant)


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
    relevant: float | None = None
    """As in `Dataset`."""

    @property
    def threshold(self) -> float:
        """Lowest label of a relevant item."""
        return _threshold(self.scale, self.relevant)


def shapes_of(training: TrainingSet) -> Shapes:
    """Returns the shapes of a training set."""
    items, item_width = training.item_features.shape
    domains = 1 if training.item_domain is None else 2
    users, user_width = training.user_features.shape
    rows = len(training.interactions.item)
    room_for = room(users), room(rows)
    return Shapes(
        items, user_width, item_width, training.scale, domains, *room_for, training.relevant
    )


def room(count: int) -> int:
    """Returns the next power of two, at least 1: arrays padded to it share compiled programs."""
    return 1 << (max(count, 1) - 1).bit_length()


def with_relevant(dataset: Dataset, relevant: float | None) -> Dataset:
    """Sets the threshold from which on an item counts as relevant.

    Args:
        dataset: The data.
        relevant: As in `Dataset`.

    Returns:
        The data with the threshold.

    Raises:
        ValueError: If no label can reach it, or in an implicit log it is not above 0.

    Example:
        >>> from metajax.data import load
        >>> with_relevant(load("synthetic"), 4).threshold
        4.0
    """
    labels = dataset.interactions.rating
    if relevant is not None:
        highest = labels.max(initial=0)
        if dataset.implicit and not 0 < relevant <= highest:
            raise ValueError(
                "relevant (--relevant) must be above 0 and at most the strongest interaction "
                f"({highest:g}), got {relevant:g}."
            )
        low, high = sorted(dataset.scale or (relevant, relevant))
        if not dataset.implicit and not low <= relevant <= high:
            raise ValueError(
                f"relevant (--relevant) must lie in the scale {low:g} to {high:g}, got "
                f"{relevant:g}."
            )
    return dataset._replace(relevant=None if relevant is None else float(relevant))


def graded(dataset: Dataset) -> Dataset:
    """Grades the interactions of an implicit log: labels in (0, 1] in place of strengths.

    The label is the share that the strength is of the threshold `relevant`, at most 1; of both the
    logarithm is taken first where `transform` says so. Without a threshold every label is 1. An
    item is relevant where its label is 1.

    Args:
        dataset: The data.

    Returns:
        The data; with ratings they are unchanged.

    Raises:
        ValueError: If an interaction's strength is not above 0.
    """
    if not dataset.implicit:
        return dataset
    log = dataset.interactions
    if dataset.scale is not None:  # Ratings, all equal.
        label = np.ones_like(log.rating, np.float32)
    else:
        try:
            label = Grades(dataset.relevant, dataset.transform).of(log.rating)
        except ValueError as error:
            raise ValueError(f"{dataset.name}: {error}") from None
    log = log._replace(rating=label)
    return dataset._replace(interactions=log, scale=None, relevant=1.0)


def units_of(dataset: Dataset) -> tuple[tuple[float, float] | None, Grades]:
    """Returns what maps labels of new users, in the unit of the log, to those of training.

    Args:
        dataset: The data, not yet graded.

    Returns:
        The scale of ratings, None for an implicit log; and the grades of its interactions.
    """
    if not dataset.implicit:
        return dataset.scale, Grades()
    # Ratings that are all equal have no strength.
    return None, Grades(None if dataset.scale else dataset.relevant, dataset.transform)


def _threshold(scale: tuple[float, float] | None, relevant: float | None) -> float:
    if relevant is not None:
        return relevant
    if scale is None:
        return -np.inf
    low, high = scale
    return low + 0.75 * (high - low)


def fingerprint(dataset: Dataset) -> dict[str, Any]:
    """Returns counts and a sha256 digest, which change where the data change."""
    log = dataset.interactions
    digest = hashlib.sha256()
    for column in (log.offsets, log.item, log.rating, log.time):
        _update(digest, column)
    for table in (dataset.users, dataset.items):
        for name, column in {"": table.ids, **table.columns}.items():
            # The JSON of name and column, some cells at a time.
            digest.update(f"[{json.dumps(name)}, [".encode())
            for start in range(0, len(column), _AT_ONCE):
                cells = json.dumps(column[start : start + _AT_ONCE].tolist())[1:-1]
                digest.update((f", {cells}" if start else cells).encode())
            digest.update(b"]]")
    if dataset.parts is not None:
        _update(digest, dataset.parts)
    found: dict[str, Any] = {
        "users": len(log.user_ids),
        "items": len(log.item_ids),
        "interactions": len(log.item),
        "sha256": digest.hexdigest(),
    }
    if dataset.scale is not None and len(log.rating):
        # What the log does not say by itself.
        if dataset.scale != (float(log.rating.min()), float(log.rating.max())):
            found["scale"] = list(map(float, dataset.scale))
        if dataset.transform != "none":
            found["transform"] = dataset.transform
    if dataset.relevant is not None:
        found["relevant"] = dataset.relevant
    return found


def _update(digest: Any, column: np.ndarray) -> None:
    """Adds the bytes of a column to a digest, some at a time."""
    for start in range(0, len(column), _AT_ONCE):
        digest.update(np.ascontiguousarray(column[start : start + _AT_ONCE]).data)

"""Settings of a training run: those that all methods share, and each method's own options."""

import dataclasses
from typing import Any, Literal

from metajax.data.reading import Reading
from metajax.fields import Choices, Range, bounded, check_fields, names_of

__all__ = ["Chosen", "Options", "Settings", "reading_fields", "to_dict"]

reading_fields = tuple(names_of(Reading))
"""The settings of how a log is read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a method that has none; the base of those that have some.

    A method's own options are the fields of a frozen dataclass with a default each. None may have
    the name of a field of `Settings`.
    """

    def __post_init__(self):
        """Refuses values of the wrong type or out of range."""
        check_fields(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen(Options):
    """The setting of a closed form that a search has found, in place of its grid."""

    setting: tuple[tuple[str, Any], ...] = ()
    """Names and values, arguments of `Baseline.fit`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(Reading):
    """Settings of a training run that all methods share, and the options of its method.

    Those of reading the data are the fields of `Reading`.
    """

    data: str = "ml-100k"
    """Data set: a name (ml-100k, ml-1m, ..., synthetic) or a path."""
    fold: int = bounded(0, least=0, most=4)
    """Fold whose users are held out as cold users, 0 to 4."""
    seed: int = bounded(0, least=0)
    """Seed of the folds, of the initial parameters and of the task sampler."""

    method: str = "maml"
    """Name of the method, such as maml, eb_fold_in or two_tower. Where none is named, metajax train
    takes hybrid; where settings of training by updates are given, maml, or attentive_neighbours for
    a log without ratings."""
    objective: str = "rating"
    """Training objective: rating; or an order: ranking (all items), ndcg (its head); or of a
    catalogue too large to be scored whole for every user, sampled_ranking (softmax with the log-Q
    correction) or bpr (pairs), each of the user's items among sampled ones. For a log without
    ratings ndcg stands in for rating, above 2,000 items sampled_ranking."""

    rate: float = bounded(1e-3, above=0, search=Range(1e-5, 1e-2, log=True))
    """Peak learning rate of the outer optimizer (AdamW, warm-up, cosine decay)."""
    weight_decay: float = bounded(0.3, least=0, search=Choices((0.0, 0.1, 0.3, 1.0)))
    """Weight decay of the outer optimizer."""
    clip: float = bounded(1.0, above=0, search=Choices((0.5, 1.0, 5.0)))
    """Largest norm of a meta-gradient."""
    updates: int = bounded(500, least=1)
    """Most meta-updates."""
    tasks: int = bounded(64, least=1)
    """Users in a meta-batch."""
    microbatch: int | None = bounded(None, least=1)
    """Users in memory at once; by default all of a meta-batch."""
    support: int = bounded(10, least=0)
    """Largest support of a training task; sizes are mixed from 0 to it."""
    query: int = bounded(20, least=1)
    """Interactions in the query of a training task."""
    negatives: int = bounded(256, least=1)
    """Items sampled into the query of a training task by the objectives sampled_ranking and bpr."""
    negative_power: float = bounded(0.0, least=0, most=1)
    """Power of an item's popularity by which these are drawn: 0 is uniform, 1 by popularity. The
    log-Q correction of sampled_ranking takes it into account."""
    order: Literal["random", "time", "mixed"] = "mixed"
    """Supports of the training tasks: any interactions, the first in time, or both kinds."""
    lazy_from: int = bounded(100_000, least=1)
    """Items of a catalogue from which an update changes only the table rows of the items in its
    tasks, by lazy AdamW, for methods whose tables allow it."""

    per_dispatch: int = bounded(10, least=1)
    """Meta-updates per dispatch to the device."""
    validate_every: int = bounded(50, least=1)
    """Meta-updates between validations."""
    patience: int = bounded(5, least=1)
    """Validations without improvement before training stops."""

    options: Any = Options()
    """The method's own options: an instance of `Method.options`; of a closed form `Chosen`, where a
    search has found its setting."""

    def __post_init__(self):
        """Refuses values of the wrong type or out of range."""
        super().__post_init__()
        check_fields(self)
        if self.validate_every % self.per_dispatch:
            raise ValueError(
                f"validate_every must be a multiple of per_dispatch ({self.per_dispatch}), "
                f"got {self.validate_every}."
            )


def to_dict(settings: Settings) -> dict[str, Any]:
    """Returns settings as in JSON: shared ones, and a table of options named by the method."""
    values = dataclasses.asdict(settings)
    options = values.pop("options")
    if isinstance(settings.options, Chosen):
        options = dict(settings.options.setting)
    return {**values, settings.method: options} if options else values

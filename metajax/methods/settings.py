"""Everything a training run can be told, with its defaults."""

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

__all__ = [
    "READING",
    "Settings",
    "check_keys",
    "check_name",
    "check_numbers",
    "check_whole",
    "from_json",
    "to_json",
]


READING = ("user_column", "item_column", "rating_column", "time_column", "duplicates", "scale")
"""The settings that say how a table is read."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of `metajax train`."""

    data: str = "ml-100k"
    """Data set: a name (ml-100k, synthetic) or a path."""
    user_column: str | None = None
    """Column of the user in a table, where it is not recognised."""
    item_column: str | None = None
    """Column of the item."""
    rating_column: str | None = None
    """Column of the rating."""
    time_column: str | None = None
    """Column of the time."""
    duplicates: Literal["error", "last"] = "error"
    """What to do with a user's second rating of an item."""
    scale: tuple[float, float] | None = None
    """Lowest and highest rating; by default those of the data."""

    fold: int = 0
    """Which fold's users are held out as cold users, 0 to 4."""
    seed: int = 0
    """Seed of the folds, of the first parameters and of the task sampler."""

    learner: str = "maml"
    """How to learn: the name of one of metajax/methods, such as maml, fomaml or two_tower."""
    objective: str = "rating"
    """What scores are trained to be: rating; or an order: ranking (all items), ndcg (its head)."""
    steps: int = 5
    """Inner steps on a user's support."""
    inner_rate: float = 0.05
    """Learning rate of the inner steps."""
    adapts: tuple[str, ...] = ()
    """Patterns of the parameters that adapt to a user; the others are shared. By default direct/*,
    or where items have no identities predictor/*."""

    width: int = 64
    """Width of the hidden layers."""
    embedding: int = 32
    """Width of the user and item embeddings."""
    rank: int = 8
    """Factors of an item's identity; 0 for a network of attributes alone."""
    pretrained: bool = True
    """Start identities from factors fitted in closed form, or at random."""

    rate: float = 1e-3
    """Peak learning rate of the outer optimizer (AdamW, warm-up, cosine decay)."""
    weight_decay: float = 0.3
    """Weight decay of the outer optimizer."""
    clip: float = 1.0
    """Largest norm of a meta-gradient."""
    updates: int = 500
    """Most meta-updates."""
    tasks: int = 64
    """Users in a meta-batch."""
    microbatch: int | None = None
    """Users in memory at once; by default all of a meta-batch."""
    support: int = 10
    """Largest support of a training task; sizes are mixed from 0 to it."""
    query: int = 20
    """Interactions a training task is judged by."""
    order: Literal["random", "time", "mixed"] = "mixed"
    """Supports of the training tasks: any interactions, the first in time, or both kinds."""

    per_dispatch: int = 10
    """Meta-updates per dispatch to the device."""
    validate_every: int = 50
    """Meta-updates between validations."""
    patience: int = 5
    """Validations without improvement before training stops."""

    def __post_init__(self):
        """Refuses values that can mean nothing."""
        # Not at the top: recipes are functions of settings.
        from metajax import methods

        for field in dataclasses.fields(self):
            _check_type(field, getattr(self, field.name))
        check_name(self.learner, methods.names(), "learner")
        check_name(self.objective, methods.objectives, "objective")
        for name in (
            "steps", "width", "embedding", "updates", "tasks", "query", "per_dispatch",
            "validate_every", "patience",
        ):  # fmt: skip
            _check(name, getattr(self, name), "be >= 1", getattr(self, name) >= 1)
        if self.microbatch is not None:
            _check("microbatch", self.microbatch, "be >= 1", self.microbatch >= 1)
        for name in ("seed", "rank", "support", "weight_decay"):
            _check(name, getattr(self, name), "be >= 0", getattr(self, name) >= 0)
        for name in ("inner_rate", "rate", "clip"):
            _check(name, getattr(self, name), "be > 0", getattr(self, name) > 0)
        _check("fold", self.fold, "be 0 to 4", 0 <= self.fold <= 4)
        multiple = self.validate_every % self.per_dispatch == 0
        rule = f"be a multiple of per_dispatch ({self.per_dispatch})"
        _check("validate_every", self.validate_every, rule, multiple)

    def reading(self) -> dict[str, Any]:
        """Returns the options of `readers.read` that were given."""
        options = {
            "user": self.user_column,
            "item": self.item_column,
            "rating": self.rating_column,
            "time": self.time_column,
            "scale": self.scale,
            "duplicates": None if self.duplicates == "error" else self.duplicates,
        }
        return {name: value for name, value in options.items() if value is not None}


def to_json(settings: Settings) -> str:
    """Writes settings as JSON."""
    return json.dumps(dataclasses.asdict(settings), indent=1) + "\n"


def from_json(path: Path) -> Settings:
    """Reads settings that `to_json` wrote.

    Raises:
        ValueError: If the file is no such settings; names the file.
    """
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        check_keys(values, str(path))
        values["adapts"] = tuple(values["adapts"])
        values["scale"] = values["scale"] and tuple(values["scale"])
        return Settings(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not the settings of a run: {error}") from None


def check_keys(keys: Iterable[str], source: str) -> None:
    """Refuses an unknown key and names the nearest right one.

    Args:
        keys: The keys found.
        source: Where, for the error.

    Raises:
        ValueError: If a key is no setting.
    """
    known = [field.name for field in dataclasses.fields(Settings)]
    for key in keys:
        if key not in known:
            raise ValueError(f"{source}: unknown setting {key!r}; {_hint(key, known)}")


def check_name(name: str, known: Iterable[str], what: str) -> None:
    """Refuses a name that nothing has, and says which is nearest.

    Args:
        name: What was asked for.
        known: What there is.
        what: Of what kind, for the error.

    Raises:
        ValueError: If the name is not known.
    """
    known = list(known)
    if name not in known:
        raise ValueError(f"{what} must be a known name, got {name!r}; {_hint(name, known)}")


def check_numbers(values: Mapping[str, Any], source: str, kind: Any = Settings) -> None:
    """Refuses a whole number that is none, before anyone rounds it.

    Args:
        values: Settings by name, as text or as TOML has them.
        source: Where they are from, for the error.
        kind: The dataclass whose fields they are.

    Raises:
        ValueError: If a whole number is asked for and something else came.
    """
    for field in dataclasses.fields(kind):
        if field.type is int:
            check_whole(values.get(field.name), field.name, source)


def check_whole(value: Any, name: str, source: str) -> None:
    """Refuses a number that is not whole.

    Args:
        value: As text or as TOML has it; None: there is none.
        name: What to call it.
        source: Where it is from.

    Raises:
        ValueError: If it is a number and not whole.
    """
    try:
        whole = value is None or (not isinstance(value, bool) and float(value).is_integer())
    except (TypeError, ValueError):
        return  # Not a number at all: whoever reads the value says so.
    if not whole:
        raise ValueError(f"{source}: {name} must be a whole number, got {value}.")


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."


def _check_type(field: dataclasses.Field[Any], value: Any) -> None:
    for kind, legal in ((bool, bool), (int, int), (float, (int, float)), (str, str)):
        fits = isinstance(value, legal) and isinstance(value, bool) == (kind is bool)
        if field.type is kind and not fits:
            raise ValueError(f"{field.name} must be of type {kind.__name__}, got {value!r}.")


def _check(name: str, value: Any, rule: str, holds: bool) -> None:
    if not holds:
        raise ValueError(f"{name} must {rule}, got {value}.")

"""Options of reading a log, the same in Python, on the command line and in a file of settings."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

from metajax.data.labels import Transform
from metajax.fields import check_name

__all__ = ["Decimal", "Duplicates", "Reading", "Rule", "Scale", "rule_of", "weights_of"]

Duplicates = Literal["error", "newest", "mean", "sum", "max", "count"]
_DUPLICATES = get_args(Duplicates)
Decimal = Literal[".", ","]
Scale = tuple[float, float]
"""Worst and best rating."""

_NUMBERS = {"=", "!=", "<", "<=", ">", ">="}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """Options of reading a log; what is not given is recognised from the file.

    A column is named as the file names it, or by its place, from 1.

    Raises:
        ValueError: If an option is not legal.
    """

    user_column: str | int | None = None
    """Column of the user, by name or by place from 1, where it is not recognised."""
    item_column: str | int | None = None
    """Column of the item."""
    rating_column: str | int | None = None
    """Column of the rating."""
    time_column: str | int | None = None
    """Column of the time."""
    count_column: str | int | None = None
    """Column of counts, such as plays, of a log without ratings: how strong an interaction is."""
    event_column: str | int | None = None
    """Column of events, such as view and purchase, of a log without ratings."""
    weights: str | None = None
    """Strength of each event, such as view=1,cart=3,purchase=10; 0 leaves it out."""
    ignore: tuple[str, ...] = ()
    """Columns that are neither rating nor time, though their names look like it; may be repeated.
    """
    header: bool | None = None
    """The first line of text names the columns; by default it is recognised."""
    separator: str | None = None
    """Separator of text: one or more characters, tab, or space for any run of blanks."""
    encoding: str | None = None
    """Encoding of text, such as latin-1 or cp1252; by default UTF-8, or UTF-16 with its mark."""
    decimal: Decimal | None = None
    """Decimal mark of numbers in text, . or , (the other may separate thousands): of ratings, times
    and attributes. By default commas are for decimals where they can be nothing else."""
    duplicates: Duplicates = "error"
    """Treatment of a user's further rows of an item: an error, the newest (the last row where there
    is no time), the mean, sum or maximum of the ratings, or the count of rows. Without ratings rows
    repeat, and by default counts are added, of weighted events the strongest is taken, and else
    the newest."""
    drop: tuple[str, ...] = ()
    """Rows to drop, such as rating=0 or country!=NL (also <, <=, >, >=); may be repeated."""
    users: str | None = None
    """File of user attributes; by default a file users.csv (or alike) beside a table."""
    items: str | None = None
    """File of item attributes; by default a file items.csv (or alike) beside a table."""
    splits: Literal["own", "joined"] = "own"
    """Use of files train, valid and test: as the parts of their users, or joined to one log."""
    scale: Scale | None = None
    """Worst and best rating (5 1 where low numbers are good); by default the lowest and the highest
    of the data."""
    relevant: float | None = None
    """Lowest rating of a relevant item, or lowest count or weight of events; by default three
    quarters up the scale, and without ratings any."""
    transform: Transform = "none"
    """Function through which methods see ratings: none, or log1p (the logarithm of one more) for
    counts."""

    def __post_init__(self):
        """Refuses values of the wrong type or out of range."""
        for role in ("user", "item", "rating", "time", "count", "event"):
            column = getattr(self, f"{role}_column")
            is_name = isinstance(column, str) and column
            is_place = isinstance(column, int) and not isinstance(column, bool) and column >= 1
            if column is not None and not is_name and not is_place:
                raise ValueError(
                    f"{role}_column must be a column's name, or its place from 1, got {column!r}."
                )
        strengths = ("rating_column", "count_column", "event_column")
        given = [name for name in strengths if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other.")
        if isinstance(self.weights, Mapping):
            text = ",".join(f"{event}={weight}" for event, weight in self.weights.items())
            object.__setattr__(self, "weights", text)
        if self.weights is not None:
            if not isinstance(self.weights, str):
                raise ValueError(f"weights must be a text or a mapping, got {self.weights!r}.")
            if given in (["rating_column"], ["count_column"]):
                raise ValueError(f"{given[0]} and weights, of events, exclude each other.")
            weights_of(self.weights)
        for name in ("ignore", "drop"):
            value = getattr(self, name)
            if isinstance(value, str) or not all(isinstance(one, str) for one in value):
                raise ValueError(f"{name} must be a sequence of texts, got {value!r}.")
            object.__setattr__(self, name, tuple(value))
        for rule in self.drop:
            rule_of(rule)
        for name in ("separator", "encoding", "users", "items"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value):
                raise ValueError(f"{name} must be a text, got {value!r}.")
        if self.separator is not None and set(self.separator) & set('"\n\r\0'):
            raise ValueError(
                f"separator must hold no quote and no line break, got {self.separator!r}."
            )
        if self.separator is not None and not _is_text(self.separator):
            raise ValueError(f"separator must be of whole characters, got {self.separator!r}.")
        if self.encoding is not None:
            _check_encoding(self.encoding)
        if self.header is not None and not isinstance(self.header, bool):
            raise ValueError(f"header must be of type bool, got {self.header!r}.")
        if self.decimal is not None:
            check_name(self.decimal, get_args(Decimal), "decimal")
        check_name(self.duplicates, _DUPLICATES, "duplicates")
        check_name(self.splits, ("own", "joined"), "splits")
        _check_scale(self.scale)
        check_name(self.transform, get_args(Transform), "transform")
        if self.relevant is not None and not _is_finite(self.relevant):
            raise ValueError(f"relevant must be a finite number, got {self.relevant!r}.")

    def reading(self) -> dict[str, Any]:
        """Returns the options that were given, by name: arguments of `data.load`."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(Reading)
            if getattr(self, field.name) != field.default
        }


@dataclasses.dataclass(frozen=True)
class Rule:
    """A condition on the field of a column."""

    column: str
    """Name of the column, or rating, time, user or item."""
    relation: str
    """=, !=, <, <=, > or >=."""
    value: str
    """What fields are compared with: as numbers where both are, else as text; may be empty."""

    def __call__(self, field: str) -> bool:
        """True if the condition holds of a field; a missing one is the empty text."""
        one, other = _number(field), _number(self.value)
        if self.relation in ("=", "!="):
            equal = field == self.value if one is None or other is None else one == other
            return equal == (self.relation == "=")
        if one is None or other is None:
            return False
        return {
            "<": one < other,
            "<=": one <= other,
            ">": one > other,
            ">=": one >= other,
        }[self.relation]


def rule_of(text: str) -> Rule:
    """Reads a rule of rows to drop.

    Raises:
        ValueError: If it is none.

    Example:
        >>> rule_of("rating=0"), rule_of("rating=0")("0.0"), rule_of("rating < 1")("")
        (Rule(column='rating', relation='=', value='0'), True, False)
    """
    places = [n for n, letter in enumerate(text) if letter in "=<>!"]
    at = places[0] if places else len(text)
    relation = text[at : at + 2] if text[at : at + 2] in _NUMBERS else text[at : at + 1]
    column, value = text[:at].strip(), text[at + len(relation) :].strip()
    if relation not in _NUMBERS or not column:
        raise ValueError(f"drop must read 'column=value' (or !=, <, <=, >, >=), got {text!r}.")
    if relation not in ("=", "!=") and _number(value) is None:
        raise ValueError(f"drop must compare with a number, got {text!r}.")
    return Rule(column, relation, value)


def weights_of(text: str) -> dict[str, float]:
    """Reads the weights of events.

    Raises:
        ValueError: If the text is not of that form, or an event is given twice.

    Example:
        >>> weights_of("view=1, purchase=10")
        {'view': 1.0, 'purchase': 10.0}
    """
    weights: dict[str, float] = {}
    for pair in text.split(","):
        event, _, value = (part.strip() for part in pair.rpartition("="))
        weight = _number(value)
        if not event or weight is None or not 0 <= weight < math.inf:
            raise ValueError(
                "weights must read 'view=1,purchase=10' with weights of at least 0, got "
                f"{pair.strip()!r}."
            )
        if event in weights:
            raise ValueError(f"weights must name the event {event!r} once, got it twice.")
        weights[event] = weight
    if not any(weights.values()):
        raise ValueError(f"weights must have one above 0, got {text!r}.")
    return weights


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) or "_" in text else number


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(text: str) -> bool:
    """False of halves of surrogate pairs, which no file holds."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _check_encoding(encoding: str) -> None:
    try:
        "".encode(encoding)
    except (LookupError, ValueError):
        raise ValueError(
            f"encoding must be one that Python knows, such as latin-1, got {encoding!r}."
        ) from None


def _check_scale(scale: Scale | None) -> None:
    if scale is None:
        return
    if not (
        isinstance(scale, tuple | list)
        and len(scale) == 2
        and all(map(_is_finite, scale))
        and scale[0] != scale[1]
    ):
        raise ValueError(f"scale must be the worst and the best rating, which differ, got {scale}.")

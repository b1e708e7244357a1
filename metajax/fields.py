"""Frozen dataclasses of settings: ranges and types of fields, unknown names, JSON."""

import dataclasses
import difflib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from metajax import files

__all__ = [
    "Choices",
    "Range",
    "Search",
    "bounded",
    "check_fields",
    "check_keys",
    "check_name",
    "check_numbers",
    "check_whole",
    "from_json",
    "names_of",
    "rounded",
    "searched",
    "suggestion",
    "to_json",
    "with_tuples",
]

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers among which a search looks for a setting.

    Raises:
        ValueError: If it holds fewer than two numbers, or is logarithmic and not above 0.
    """

    low: float
    """The least; whole numbers are drawn where both ends are of type int."""
    high: float
    """The greatest, included."""
    log: bool = False
    """True to draw uniformly on a logarithmic scale."""

    def __post_init__(self):
        """Refuses an empty range."""
        if not self.low < self.high or not math.isfinite(self.high - self.low):
            raise ValueError(f"low must be < high, got {self.low} and {self.high}.")
        if self.log and self.low <= 0:
            raise ValueError(f"low must be > 0 where the scale is logarithmic, got {self.low}.")

    @property
    def whole(self) -> bool:
        """True if its numbers are whole."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def __contains__(self, value: object) -> bool:
        """True for the numbers of the range."""
        number = isinstance(value, int if self.whole else (int, float))
        return number and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        """Both ends, and the scale."""
        return f"{self.low:g} to {self.high:g}{', log scale' if self.log else ''}"


@dataclasses.dataclass(frozen=True)
class Choices:
    """Values among which a search looks for a setting.

    Raises:
        ValueError: If there are fewer than two, or one is there twice.
    """

    values: tuple[bool | int | float | str | None, ...]
    """The values, in no order."""

    def __post_init__(self):
        """Refuses what leaves no choice."""
        if len(self.values) < 2 or len(set(self.values)) < len(self.values):
            raise ValueError(f"values must be distinct and at least two, got {self.values}.")

    def __contains__(self, value: object) -> bool:
        """True for the values."""
        return value in self.values

    def __str__(self) -> str:
        """The values."""
        return " or ".join("none" if value is None else str(value) for value in self.values)


Search = Range | Choices
"""The values that a search tries for a setting."""


def rounded(value: float, form: str) -> str:
    """Formats a number with fixed decimals, or by three digits where those would all be 0.

    Args:
        value: The number, in any unit.
        form: Format specification, such as ".3f".

    Example:
        >>> rounded(0.951, ".2f"), rounded(9.51e-31, ".2f"), rounded(0.0, ".2f")
        ('0.95', '9.51e-31', '0.00')
    """
    text = format(value, form)
    return text if value == 0 or set(text) & set("123456789") else f"{value:.3g}"


def bounded(
    default: Any,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    search: Search | None = None,
) -> Any:
    """Declares a field of a dataclass of settings whose values have a range.

    Args:
        default: The default.
        least: Smallest legal value.
        most: Largest legal value.
        above: Largest value that is too small.
        search: The values that are worth a trial; None: a search leaves the setting alone.

    Returns:
        The field; `check_fields` reads the range, `searched` what a search tries.
    """
    limits = {"least": least, "most": most, "above": above}
    return dataclasses.field(default=default, metadata={**limits, "search": search})


def searched(kind: Any) -> dict[str, Search]:
    """Returns the values that a search tries, by the names of the fields that it may change.

    Args:
        kind: A dataclass of settings, or an instance.
    """
    found = {field.name: field.metadata.get("search") for field in dataclasses.fields(kind)}
    return {name: values for name, values in found.items() if values is not None}


def check_fields(values: Any) -> None:
    """Checks types and ranges of a dataclass of settings.

    Args:
        values: An instance.

    Raises:
        ValueError: If a value has the wrong type, is not finite, or is out of the range that
            `bounded` declares.
    """
    for field in dataclasses.fields(values):
        value = getattr(values, field.name)
        _check_type(field, value)
        if value is None:
            continue
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{field.name} must be finite, got {value}.")
        for bound, legal in _BOUNDS.items():
            limit = field.metadata.get(bound)
            if limit is not None and not legal(value, limit):
                least, most = field.metadata["least"], field.metadata["most"]
                rule = (
                    f"be > {limit:g}"
                    if bound == "above"
                    else f"be >= {least:g}"
                    if most is None
                    else f"be {least:g} to {most:g}"
                )
                raise ValueError(f"{field.name} must {rule}, got {value}.")


_BOUNDS = {
    "least": lambda value, limit: value >= limit,
    "most": lambda value, limit: value <= limit,
    "above": lambda value, limit: value > limit,
}


def _check_type(field: dataclasses.Field[Any], value: Any) -> None:
    for kind, legal in ((bool, bool), (int, int), (float, (int, float)), (str, str)):
        fits = isinstance(value, legal) and isinstance(value, bool) == (kind is bool)
        if field.type is kind and not fits:
            raise ValueError(f"{field.name} must be of type {kind.__name__}, got {value!r}.")


def check_numbers(values: Mapping[str, Any], source: str, kind: Any) -> None:
    """Refuses fractions for whole numbers, before a parser rounds them.

    Args:
        values: Settings by name, as text or as TOML has them.
        source: Their origin, for the error.
        kind: The dataclass whose fields they are.

    Raises:
        ValueError: If a field of type int has a value that is a number and not whole.
    """
    for field in dataclasses.fields(kind):
        if field.type is int:
            check_whole(values.get(field.name), field.name, source)


def check_whole(value: Any, name: str, source: str) -> None:
    """Refuses a number that is not whole.

    Args:
        value: As text or as TOML has it; None is accepted.
        name: Its name, for the error.
        source: Its origin.

    Raises:
        ValueError: If it is a number and not whole.
    """
    try:
        whole = value is None or (not isinstance(value, bool) and float(value).is_integer())
    except (TypeError, ValueError):
        return  # Not a number at all: the parser of the value reports it.
    if not whole:
        raise ValueError(f"{source}: {name} must be a whole number, got {value}.")


def suggestion(
    name: object,
    known: Iterable[str] | Mapping[str, str],
    *,
    most: int = 1,
    listed: bool = False,
) -> str:
    """Ends an error about an unknown name with the nearest known ones.

    Args:
        name: The unknown name.
        known: All legal names; of a mapping, keys are compared and values shown.
        most: Most names to suggest.
        listed: True to list all names where none is near.

    Returns:
        The end of the sentence, from its semicolon or full stop on.

    Example:
        >>> suggestion("mmal", ["maml", "anil"]), suggestion("x", ["maml"], listed=True)
        ("; did you mean 'maml'?", '; known are maml.')
    """
    near = difflib.get_close_matches(str(name), list(known), n=most)
    shown = [known[found] for found in near] if isinstance(known, Mapping) else near
    if not shown:
        return f"; known are {', '.join(known)}." if listed else "."
    if most == 1:
        return f"; did you mean {shown[0]!r}?"
    return f"; nearest are {', '.join(map(repr, shown))}."


def check_name(name: str, known: Iterable[str], what: str) -> None:
    """Refuses an unknown name and names the nearest known one.

    Args:
        name: The name.
        known: All legal names.
        what: Kind of the name, for the error.

    Raises:
        ValueError: If the name is not known.
    """
    known = list(known)
    if name not in known:
        end = suggestion(name, known, listed=True)
        raise ValueError(f"{what} must be a known name, got {name!r}{end}")


def check_keys(keys: Iterable[str], known: Iterable[str], source: str) -> None:
    """Refuses unknown settings and names the nearest known one.

    Args:
        keys: Names of settings.
        known: All legal names.
        source: Their origin, for the error.

    Raises:
        ValueError: If a key is not known.
    """
    known = list(known)
    for key in keys:
        if key not in known:
            end = suggestion(key, known, listed=True)
            raise ValueError(f"{source}: unknown setting {key!r}{end}")


def names_of(kind: Any) -> list[str]:
    """Lists the fields of a dataclass, or of an instance of one."""
    return [field.name for field in dataclasses.fields(kind)]


def to_json(values: Any) -> str:
    """Writes a dataclass of settings, or a mapping of settings by name, as JSON."""
    values = values if isinstance(values, Mapping) else dataclasses.asdict(values)
    return json.dumps(values, indent=1) + "\n"


def from_json(path: Path, kind: Callable[..., T], what: str) -> T:
    """Reads settings that `to_json` wrote; arrays become tuples.

    Args:
        path: The file.
        kind: A dataclass, of which each field must be there; or a function of settings by name.
        what: Contents of the file, for the error.

    Returns:
        An instance, or what the function returned.

    Raises:
        ValueError: If the file holds something else, or is no file; names it.
        OSError: If it cannot be read.
    """
    values = files.read_json(path)
    if not isinstance(values, dict):
        raise ValueError(f"{path}: not {what}: it must be an object.")
    try:
        values = with_tuples(values)
        if dataclasses.is_dataclass(kind):
            check_keys(values, names_of(kind), kind.__name__)
            missing = [name for name in names_of(kind) if name not in values]
            if missing:
                raise ValueError(f"there is no {missing[0]}.")
        return kind(**values)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not {what}: {error}") from None


def with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings as read from JSON or TOML, with tuples for arrays, in tables too."""
    kinds = cast(dict[type, Callable[[Any], Any]], {list: tuple, dict: with_tuples})
    return {name: kinds.get(type(value), lambda v: v)(value) for name, value in values.items()}

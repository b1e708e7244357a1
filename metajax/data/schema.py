"""Feature schema: scaling, one-hot and multi-hot encoding, fitted to training users alone.

A vocabulary or a mean that has seen the test users leaks them; a schema is fitted once, on the
rows it is given, and travels with the model.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import get_args

import numpy as np

from metajax.data.dataset import Dataset, Kind, Table, TrainingSet
from metajax.data.interactions import Interactions
from metajax.data.memory import available_memory, gigabytes
from metajax.fields import suggestion

__all__ = [
    "Field",
    "Schema",
    "encode",
    "encode_rows",
    "encoded",
    "fit_schema",
    "from_json",
    "to_json",
    "wide_columns",
]

# Categories or tokens of a column that are encoded: 10,000 of 100,000 users would take 4 GB.
_MOST_CATEGORIES = 1000

# Of the training logs without and with validation users, and of the arrays on the device.
_BYTES_A_ROW = 48

# Known values that a sentence lists.
_LISTED = 25

# Standard deviations: a typing error of a new user's age must not drive a network out of range.
_FARTHEST = 100.0


@dataclass(frozen=True)
class Field:
    """Encoding of one column."""

    name: str
    """The column."""
    kind: Kind
    """Kind of its values; text takes no columns."""
    vocabulary: tuple[str, ...] = ()
    """The known categories or tokens, sorted; all others share the unknown slot."""
    mean: float = 0.0
    """Of the training rows' numbers."""
    scale: float = 1.0
    """Their standard deviation, or 1 where they do not vary."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the encoded columns."""
        match self.kind:
            case "numeric":
                return (self.name, f"{self.name}=<missing>")
            case "categorical" | "tokens":
                return tuple(f"{self.name}={value}" for value in ("<unknown>", *self.vocabulary))
            case _:
                return ()

    @property
    def width(self) -> int:
        """Number of encoded columns."""
        return len(self.columns)


@dataclass(frozen=True)
class Schema:
    """Encoding of the rows of a table."""

    fields: tuple[Field, ...]
    """One a column of the table, in its order."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the encoded columns."""
        return tuple(column for field in self.fields for column in field.columns)

    @property
    def width(self) -> int:
        """Number of encoded columns, D."""
        return sum(field.width for field in self.fields)


def fit_schema(table: Table, rows: np.ndarray, *, min_count: int = 5) -> Schema:
    """Learns means, scales and vocabularies from some rows.

    Args:
        table: Raw features.
        rows: `[n]` the rows to fit to: the training users, or the items they rated.
        min_count: A category or token seen in fewer of these rows is unknown; and of more than
            1,000 the rarer ones are, of equals those later in the order of text.

    Returns:
        A schema with a field for every column of the table.

    Raises:
        ValueError: If min_count < 1, or a numeric column holds something else.

    Example:
        >>> table = Table(np.array(["u", "v"]), {"age": np.array(["20", "40"])},
        ...               {"age": "numeric"})
        >>> fit_schema(table, np.array([0, 1])).fields[0]
        Field(name='age', kind='numeric', vocabulary=(), mean=30.0, scale=10.0)
    """
    if min_count < 1:
        raise ValueError(f"min_count must be >= 1, got {min_count}.")
    rows = np.asarray(rows, np.int64)
    return Schema(
        tuple(
            _fit(name, table.kinds[name], column[rows].tolist(), min_count)
            for name, column in table.columns.items()
        )
    )


def encode(schema: Schema, table: Table) -> np.ndarray:
    """Encodes every row of a table.

    A number becomes (standardised value, 0), within a hundred standard deviations of the mean; a
    missing one (0, 1). A category becomes one-hot; the first slot is for the missing, the unseen
    and the rare. Tokens become multi-hot, the first slot for any unknown token; no tokens are all
    zeros. Text is left out.

    Args:
        schema: From `fit_schema`.
        table: Raw features; columns that are not in the schema are left out.

    Returns:
        `[n, D]` float32.

    Raises:
        KeyError: If the table lacks a column of the schema.
        ValueError: If a numeric column holds something else.
    """
    missing = [field.name for field in schema.fields if field.name not in table.columns]
    if missing:
        raise KeyError(
            f"the table has no column {missing[0]!r}; found {', '.join(table.columns) or 'none'}."
        )
    columns = [table.columns[field.name].tolist() for field in schema.fields]
    return _encode(schema, columns, len(table.ids))


def encoded(
    dataset: Dataset, log: Interactions, users: np.ndarray
) -> tuple[Schema, Schema, TrainingSet]:
    """Encodes a data set by schemas that training users and their items alone have fitted.

    Args:
        dataset: The data.
        log: The training users' log.
        users: `[n]` the training users.

    Returns:
        The schemas of users and of items, and the training set.

    Raises:
        ValueError: If there is no memory for it.
    """
    user_schema = fit_schema(dataset.users, users)
    item_schema = fit_schema(dataset.items, np.unique(log.item))
    _check_memory(dataset, len(log.item), user_schema, item_schema)
    features = encode(user_schema, dataset.users), encode(item_schema, dataset.items)
    training = TrainingSet(log, *features, dataset.scale, relevant=dataset.relevant)
    return user_schema, item_schema, training


def _check_memory(dataset: Dataset, rows: int, users: Schema, items: Schema) -> None:
    """Refuses what would not fit, before half of it is there."""
    tables = (("users", users, len(dataset.users.ids)), ("items", items, len(dataset.items.ids)))
    cells = {
        f"{field.name!r} of {whom} ({field.width:,} columns for {count:,})": 4 * field.width * count
        for whom, schema, count in tables
        for field in schema.fields
    }
    need = sum(cells.values()) + _BYTES_A_ROW * rows
    free = available_memory()
    if free is None or need <= free:
        return
    largest = max(cells, key=lambda name: cells[name], default="")
    advice = "take a part of the log"
    if cells and 2 * cells[largest] > need:
        advice = f"leave out {largest}, which takes {gigabytes(cells[largest])}"
    raise ValueError(
        f"{dataset.name}: the training set takes about {gigabytes(need)} of memory, and "
        f"{gigabytes(free)} are free: {advice}."
    )


def encode_rows(schema: Schema, rows: Sequence[Mapping[str, object]]) -> np.ndarray:
    """Encodes users or items that no table has seen, as `encode` does.

    Args:
        schema: From `fit_schema`.
        rows: One mapping a row, from column to value: numbers or their text, tokens as a list or
            as text with spaces. A key left out, None and the empty string are missing.

    Returns:
        `[n, D]` float32.

    Raises:
        TypeError: If rows is one mapping and not a sequence of them.
        KeyError: If a key is no column of the schema.
        ValueError: If a value does not fit its column.

    Example:
        >>> schema = Schema((Field("age", "numeric", mean=30.0, scale=10.0),))
        >>> encode_rows(schema, [{"age": 40}, {"age": "20"}, {}]).tolist()
        [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]
    """
    if isinstance(rows, Mapping):
        raise TypeError("rows must be a sequence of mappings, got one mapping.")
    names = [field.name for field in schema.fields]
    for row in rows:
        for key in row:
            if key not in names:
                raise KeyError(f"no feature {key!r}{suggestion(key, names, listed=True)}")
    return _encode(schema, [[row.get(name) for row in rows] for name in names], len(rows))


def wide_columns(dataset: Dataset) -> list[str]:
    """Lists the columns of which not every value is encoded, one sentence each."""
    found = []
    for whom, table in (("users", dataset.users), ("items", dataset.items)):
        for name, column in table.columns.items():
            kind = table.kinds[name]
            if kind not in ("categorical", "tokens"):
                continue
            values = np.unique(column).tolist()
            if kind == "tokens":
                values = {token for value in values for token in _tokens(name, value)}
            if len(values) > _MOST_CATEGORIES:
                found.append(
                    f"{name} of {whom} has {len(values):,} values: the {_MOST_CATEGORIES:,} most "
                    "frequent of training are told apart, the others are one"
                )
    return found


def unseen_values(schema: Schema, row: Mapping[str, object]) -> list[str]:
    """Names the categories and tokens of a row that the schema does not know.

    They are encoded as unknown.

    Args:
        schema: From `fit_schema`.
        row: As in `encode_rows`.

    Returns:
        One sentence a column.

    Example:
        >>> schema = Schema((Field("gender", "categorical", ("F", "M")),))
        >>> unseen_values(schema, {"gender": "female"})
        ["gender 'female' is unknown and counts as such; known are F, M."]
    """
    found = []
    for field in schema.fields:
        value = row.get(field.name)
        if field.kind not in ("categorical", "tokens") or value is None:
            continue
        split = _tokens if field.kind == "tokens" else _category
        unseen = [one for one in split(field.name, value) if one not in field.vocabulary]
        if unseen:
            words = ", ".join(map(repr, unseen))
            verb = "is unknown and counts" if len(unseen) == 1 else "are unknown and count"
            known = field.vocabulary
            end = suggestion(unseen[0], known, listed=len(known) <= _LISTED)
            if end == ".":
                end = f"; known are {', '.join(known[:_LISTED])}, ...."
            found.append(f"{field.name} {words} {verb} as such{end}")
    return found


def to_json(schema: Schema) -> str:
    """Writes a schema as JSON, which `from_json` reads back exactly."""
    fields = [asdict(field) for field in schema.fields]
    return json.dumps({"metajax_schema": 1, "fields": fields}, allow_nan=False, indent=1)


def from_json(text: str) -> Schema:
    """Reads a schema from the JSON of `to_json`.

    Raises:
        ValueError: If the text is anything else.
    """
    try:
        content = json.loads(text)
    except (RecursionError, ValueError) as error:
        raise ValueError(f"not a schema: {error}.") from None
    if not isinstance(content, dict) or content.get("metajax_schema") != 1:
        raise ValueError('not a schema: "metajax_schema" must be 1.')
    fields = content.get("fields")
    if set(content) != {"metajax_schema", "fields"} or not isinstance(fields, list):
        raise ValueError('not a schema: it must hold "metajax_schema" and a list "fields" only.')
    schema = Schema(tuple(_field_of(i, field) for i, field in enumerate(fields)))
    names = [field.name for field in schema.fields]
    if len(set(names)) != len(names):
        raise ValueError("not a schema: two fields share a name.")
    return schema


def _fit(name: str, kind: Kind, values: list[str], min_count: int) -> Field:
    if kind == "numeric":
        numbers = np.array([_number(name, value) for value in values], np.float64)
        numbers = numbers[np.isfinite(numbers)]
        if not len(numbers):
            return Field(name, kind)
        mean, scale = _moments(numbers)
        return Field(name, kind, mean=mean, scale=scale)
    if kind == "text":
        return Field(name, kind)
    split = _tokens if kind == "tokens" else _category
    counts = Counter(token for value in values for token in set(split(name, value)))
    known = sorted(token for token, count in counts.items() if count >= min_count)
    if len(known) > _MOST_CATEGORIES:
        known = sorted(sorted(known, key=lambda token: -counts[token])[:_MOST_CATEGORIES])
    return Field(name, kind, vocabulary=tuple(known))


def _moments(numbers: np.ndarray) -> tuple[float, float]:
    """Returns mean and standard deviation, 1 where they do not vary, of numbers of any size."""
    # Not the deviation itself: rounding makes that of equal numbers tiny and not zero.
    if numbers.min() == numbers.max():
        return float(numbers[0]), 1.0
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        mean, scale = float(numbers.mean()), float(numbers.std())
    if not 0 < scale < np.inf:
        # Squares of 1e200 and of 1e-200 are not numbers.
        size = np.abs(numbers).max()
        mean, scale = float(size * np.mean(numbers / size)), float(size * np.std(numbers / size))
    return mean, scale


def _encode(schema: Schema, columns: Sequence[Sequence[object]], rows: int) -> np.ndarray:
    encoded, start = np.zeros((rows, schema.width), np.float32), 0
    for field, values in zip(schema.fields, columns, strict=True):
        _encode_field(field, values, encoded[:, start : start + field.width])
        start += field.width
    return encoded


def _encode_field(field: Field, values: Sequence[object], encoded: np.ndarray) -> None:
    """Writes the columns of a field into zeros, `[n, width]`."""
    if field.kind == "numeric":
        numbers = np.array([_number(field.name, value) for value in values], np.float64)
        missing = np.isnan(numbers)
        with np.errstate(over="ignore"):
            standard = np.clip((numbers - field.mean) / field.scale, -_FARTHEST, _FARTHEST)
        encoded[:, 0] = np.where(missing, 0.0, standard)
        encoded[:, 1] = missing
    elif field.kind == "categorical":
        slots = {value: slot for slot, value in enumerate(field.vocabulary, 1)}
        for row, value in enumerate(values):
            known = _category(field.name, value)
            encoded[row, slots.get(known[0], 0) if known else 0] = 1
    elif field.kind == "tokens":
        slots = {value: slot for slot, value in enumerate(field.vocabulary, 1)}
        for row, value in enumerate(values):
            for token in _tokens(field.name, value):
                encoded[row, slots.get(token, 0)] = 1


def _number(name: str, value: object) -> float:
    """Parses a number; a missing one is NaN."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return math.nan
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float | np.number):
            raise ValueError
        number = float(value)
    except ValueError:
        number = math.inf
    if math.isinf(number):
        raise ValueError(f"{name} must be a number, got {value!r}.")
    return number


def _category(name: str, value: object) -> list[str]:
    """Returns the category in a list, or no category where it is missing."""
    if isinstance(value, list | tuple | set | frozenset | dict):
        raise ValueError(f"{name} must be one category, got {value!r}.")
    return [] if value is None or value == "" else [str(value)]


def _tokens(name: str, value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return value.split()
    if not isinstance(value, list | tuple | set | frozenset):
        raise ValueError(f"{name} must be a list of tokens or a text of them, got {value!r}.")
    return [str(token) for token in value]


def _field_of(index: int, content: object) -> Field:
    """Checks one field of a JSON schema."""

    def require(holds: bool, rule: str) -> None:
        if not holds:
            raise ValueError(f"not a schema: field {index} {rule}, got {content!r:.120}.")

    keys = {"name", "kind", "vocabulary", "mean", "scale"}
    if not isinstance(content, dict):
        raise ValueError(f"not a schema: field {index} must be an object, got {content!r:.120}.")
    require(set(content) == keys, f"must hold {', '.join(sorted(keys))}")
    name, kind, vocabulary = content["name"], content["kind"], content["vocabulary"]
    mean, scale = content["mean"], content["scale"]
    require(isinstance(name, str), "must have a text as name")
    require(kind in get_args(Kind), f"must be of kind {', '.join(get_args(Kind))}")
    require(
        isinstance(vocabulary, list) and all(isinstance(value, str) for value in vocabulary),
        "must have a list of texts as vocabulary",
    )
    require(len(set(vocabulary)) == len(vocabulary), "must not repeat a word of its vocabulary")
    for number in (mean, scale):
        require(
            isinstance(number, int | float)
            and not isinstance(number, bool)
            and math.isfinite(number),
            "must have finite mean and scale",
        )
    require(scale > 0, "must have a scale > 0")
    return Field(name, kind, tuple(vocabulary), float(mean), float(scale))

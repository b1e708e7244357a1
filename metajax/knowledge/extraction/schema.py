"""Schemas of relations: which facts may be extracted from texts, and how they are named.

As TOML, or as JSON of the same layout:

    items = "films"

    [relations.directed_by]
    description = "a director of the film"
    aliases = ["director"]
    kind = "person"
    patterns = ["directed by {names}"]

    [relations.genre]
    description = "a genre of the film"

    [relations.genre.values]
    Comedy = ["comic", "comedies"]
    "Science fiction" = ["sci-fi"]
"""

import dataclasses
import json
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metajax import storage
from metajax.characters import visible
from metajax.fields import bounded, check_fields, check_keys, names_of
from metajax.files import DataError, read_json, read_toml

__all__ = [
    "Relation",
    "Schema",
    "folded",
    "is_plain",
    "read_schema",
    "relation_of",
    "value_of",
    "write_schema",
]

_SLOT = re.compile(r"\{(names?)\}")
# Of a name that is written to a graph.
_MOST = 200


@dataclasses.dataclass(frozen=True)
class Relation:
    """A relation of an item to a name or to one of some values.

    Raises:
        ValueError: If a field is not legal; names it.
    """

    name: str
    """Name of the relation in the graph."""
    _: dataclasses.KW_ONLY
    description: str = ""
    """The meaning, for the model and for people."""
    aliases: tuple[str, ...] = ()
    """Other names of the relation, which are mapped to this one."""
    values: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Legal tails, and for each the words that mean it; empty where any name is legal."""
    kind: str = ""
    """Kind of the tails, by default the relation's own; relations of one kind share their names."""
    most: int = bounded(0, least=0)
    """Most tails of one item, beyond which they contradict each other; 0 for any number."""
    patterns: tuple[str, ...] = ()
    """Patterns of the rule-based extractor, such as "directed by {names}"; `{name}` is one name,
    `{names}` one or more between commas and "and"."""
    confidence: float = bounded(0.9, least=0, most=1)
    """Confidence of facts that rules extract, 0 to 1."""

    def __post_init__(self):
        """Checks the fields."""
        check_fields(self)
        named = [
            self.name,
            *self.aliases,
            *self.values,
            *(w for v in self.values.values() for w in v),
        ]
        if not is_plain(self.name):
            raise ValueError(f"name must be printable text of 1 to {_MOST} characters.")
        bad = [one for one in named if not is_plain(one) or not folded(one)]
        if bad:
            raise ValueError(
                f"names and words must have a letter or digit, no control character, and at most "
                f"{_MOST} characters, got {visible(bad[0])!r}."
            )
        for pattern in self.patterns:
            if len(_SLOT.findall(pattern)) != 1 or not folded(_SLOT.sub("", pattern)):
                raise ValueError(
                    f"patterns must have words and one of {{name}} and {{names}}, got {pattern!r}."
                )
        meant: dict[str, str] = {}
        for value, words in self.values.items():
            for word in (value, *words):
                if meant.setdefault(folded(word), value) != value:
                    raise ValueError(
                        f"values must not share words, got {word!r} for {meant[folded(word)]!r} "
                        f"and {value!r}."
                    )


@dataclasses.dataclass(frozen=True)
class Schema:
    """The relations that may be extracted.

    Raises:
        ValueError: If there is no relation, or two have a name in common.
    """

    relations: tuple[Relation, ...]
    """At least one."""
    items: str = "items"
    """What the items are, in the plural: films, books."""
    confirmed: bool = True
    """False for relations that a model has proposed and no person has confirmed."""

    def __post_init__(self):
        """Checks the fields."""
        check_fields(self)
        if not self.relations:
            raise ValueError("relations must have at least one relation, got none.")
        if not is_plain(self.items):
            raise ValueError(f"items must be a word such as films, got {visible(self.items)!r}.")
        called: dict[str, str] = {}
        for relation in self.relations:
            for name in (relation.name, *relation.aliases):
                other = called.setdefault(folded(name), relation.name)
                if other != relation.name:
                    raise ValueError(
                        f"names and aliases of relations must differ, got {name!r} for {other!r} "
                        f"and {relation.name!r}."
                    )


def folded(name: str) -> str:
    """Normalised form of a name: no accents, case, punctuation or surplus spaces.

    "Last, First" is turned round.

    Example:
        >>> folded("Kieślowski,  Krzysztof"), folded("Sci-Fi")
        ('krzysztof kieslowski', 'sci fi')
    """
    last, comma, first = name.partition(",")
    if comma and "," not in first and first.strip() and last.strip():
        name = f"{first} {last}"
    letters = unicodedata.normalize("NFKD", name.replace("ł", "l").replace("Ł", "L"))
    plain = "".join(c for c in letters if not unicodedata.combining(c)).casefold()
    # An apostrophe is part of a word: O'Connor is oconnor.
    return " ".join(re.sub(r"[^\w]+|_", " ", re.sub(r"['’`]", "", plain)).split())


def is_plain(name: str) -> bool:
    """True for text of 1 to 200 characters without controls, line ends or invisible characters."""
    return (
        isinstance(name, str)
        and 0 < len(name.strip()) <= len(name) <= _MOST
        and not any(unicodedata.category(c)[0] == "C" or c in "\u2028\u2029" for c in name)
    )


def relation_of(schema: Schema, name: str) -> Relation | None:
    """Maps a name to the relation that is called so, by name or alias; None for none."""
    asked = folded(name)
    for relation in schema.relations:
        if asked in map(folded, (relation.name, *relation.aliases)):
            return relation
    return None


def value_of(relation: Relation, name: str) -> str | None:
    """Maps a name to the legal tail that it means; None for none."""
    asked = folded(name)
    for value, words in relation.values.items():
        if asked in map(folded, (value, *words)):
            return value
    return None


def read_schema(path: str | Path) -> Schema:
    """Reads a schema from TOML or JSON.

    Raises:
        DataError: If the file is missing, no TOML or JSON, or no schema; names file and relation.
    """
    path = Path(path)
    if path.suffix.lower() not in (".toml", ".json"):
        raise DataError("the name must end in .toml or .json.", file=path)
    content = read_toml(path) if path.suffix.lower() == ".toml" else read_json(path)
    try:
        return _schema_of(content)
    except (TypeError, ValueError) as error:
        raise DataError(str(error), file=path) from None


def _schema_of(content: Any) -> Schema:
    if not isinstance(content, dict):
        raise TypeError("must be a table with relations.")
    check_keys(content, names_of(Schema), "schema")
    relations = content.get("relations")
    if not isinstance(relations, dict) or not relations:
        raise ValueError("relations must be a table with a table for each relation.")
    read = []
    for name, fields in relations.items():
        try:
            read.append(_relation_from(name, fields))
        except (TypeError, ValueError) as error:
            raise ValueError(f"relation {visible(name)!r}: {error}") from None
    rest = {key: value for key, value in content.items() if key != "relations"}
    return Schema(tuple(read), **rest)


def _relation_from(name: str, fields: Any) -> Relation:
    if not isinstance(fields, dict):
        raise TypeError("must be a table.")
    check_keys(fields, set(names_of(Relation)) - {"name"}, "relation")
    fields = dict(fields)
    values = fields.pop("values", {})
    if isinstance(values, list):
        values = {str(value): [] for value in values}
    if not isinstance(values, dict):
        raise TypeError("values must be a list, or a table of lists of words.")
    for key in ("aliases", "patterns"):
        fields[key] = _words(key, fields.get(key, []))
    return Relation(
        name, values={value: _words(f"values.{value}", w) for value, w in values.items()}, **fields
    )


def _words(name: str, found: Any) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise TypeError(f"{visible(name)} must be a list of texts.")
    return tuple(found)


def write_schema(schema: Schema, path: str | Path) -> None:
    """Writes a schema as TOML, which `read_schema` reads.

    Raises:
        OSError: If the file cannot be written.
    """
    lines = [f"confirmed = {str(schema.confirmed).lower()}", f"items = {_toml(schema.items)}"]
    for relation in schema.relations:
        table = f"relations.{_toml(relation.name)}"
        lines += ["", f"[{table}]", f"description = {_toml(relation.description)}"]
        for key in ("aliases", "kind", "most", "patterns"):
            if getattr(relation, key):
                lines.append(f"{key} = {_toml(getattr(relation, key))}")
        if relation.confidence != Relation.confidence:
            lines.append(f"confidence = {relation.confidence}")
        if relation.values:
            lines += [f"[{table}.values]"]
            lines += [f"{_toml(value)} = {_toml(w)}" for value, w in relation.values.items()]
    storage.write_file(Path(path), "\n".join(lines) + "\n")


def _toml(value: Any) -> str:
    # Texts and lists of them are written alike in JSON and TOML, but for one control character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

"""Rule-based extraction by patterns and gazetteers: the baseline beside a language model.

References:
    Hearst, Automatic Acquisition of Hyponyms from Large Text Corpora, COLING 1992, for patterns
    of words around names.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator

from metajax.knowledge.extraction.facts import Claim
from metajax.knowledge.extraction.schema import Relation, Schema

__all__ = ["rules_version", "with_rules"]

_VERSION = "1"

# A capitalised word without a possessive ending, or an initial.
_UPPER = r"[^\W\d_a-zß-öø-ÿ]"
_WORD = rf"(?:{_UPPER}\.|[JS]r\.|{_UPPER}\w*(?:[-'’](?!s\b)\w+)*)"
_PARTICLE = r"(?:de|del|der|den|di|da|du|la|le|van|von|bin|al|y)"
_NAME = rf"{_WORD}(?:(?<=\.)\s*{_WORD}|\s+(?:{_PARTICLE}\s+){{0,2}}{_WORD}){{0,4}}(?:,\s+[JS]r\.)?"
_NAMES = rf"{_NAME}(?:(?:\s*,\s*(?:and\s+)?|\s+(?:and|&)\s+){_NAME})*"
_BETWEEN = re.compile(r"\s*,\s*(?:and\s+)?(?![JS]r\.)|\s+(?:and|&)\s+")
_SLOT = re.compile(r"\{(names?)\}")
# Words before a value that deny it.
_DENIES = re.compile(
    r"\b(?:not?|never|nor|neither|without|hardly|isn['’]t|wasn['’]t|less|rather than|instead of)"
    r"(?:\s+\w+){0,2}\s+$",
    re.IGNORECASE,
)


def rules_version(schema: Schema) -> str:
    """Version of the rules: of this module and of the schema's patterns and words."""
    rules = [
        [r.name, r.patterns, {v: list(w) for v, w in r.values.items()}] for r in schema.relations
    ]
    digest = hashlib.sha256(json.dumps(rules).encode()).hexdigest()
    return f"rules-{_VERSION}.{digest[:8]}"


def with_rules(text: str, schema: Schema) -> list[Claim]:
    """Extracts claims by the patterns and the values of a schema.

    A pattern's words are matched in any case, and its slot by words with a capital letter. The
    words of a value are matched whole, in any case, where no word such as "not" is shortly before.

    Args:
        text: The text.
        schema: Gives patterns, values and confidences.

    Returns:
        The claims, of equal ones the first.

    Example:
        >>> from metajax.knowledge.extraction.schema import Relation, Schema
        >>> schema = Schema((Relation("by", patterns=("directed by {names}",)),))
        >>> [claim.tail for claim in with_rules("Directed by Joel Coen and Ethan Coen.", schema)]
        ['Joel Coen', 'Ethan Coen']
    """
    found: dict[tuple[str, str], Claim] = {}
    for relation in schema.relations:
        for tail, quote in (*_by_patterns(text, relation), *_by_values(text, relation)):
            claim = Claim(relation.name, tail, quote, relation.confidence)
            found.setdefault((relation.name, tail), claim)
    return list(found.values())


def _by_patterns(text: str, relation: Relation) -> Iterator[tuple[str, str]]:
    for pattern in relation.patterns:
        before, slot, after = _SLOT.split(pattern)
        names = _NAMES if slot == "names" else _NAME
        expression = f"{_literal(before, start=True)}({names}){_literal(after, start=False)}"
        for match in re.finditer(expression, text):
            several = _BETWEEN.split(match[1]) if slot == "names" else [match[1]]
            yield from ((" ".join(name.split()), match[0]) for name in several if name)


def _by_values(text: str, relation: Relation) -> Iterator[tuple[str, str]]:
    meant = {w.casefold(): value for value, ws in relation.values.items() for w in (value, *ws)}
    if not meant:
        return
    for match in re.finditer(rf"\b(?:{_any_of(meant)})\b", text, re.IGNORECASE):
        word = " ".join(re.sub("[‐‑–—]", "-", match[0]).casefold().split())
        if not _DENIES.search(text[max(0, match.start() - 60) : match.start()]):
            yield meant.get(word, word), match[0]


def _literal(words: str, *, start: bool) -> str:
    """Expression of the words of a pattern: any case, any white space, whole words."""
    inner = r"\s+".join(map(re.escape, words.split()))
    if not inner:
        return ""
    edge = r"\b" if (words.strip()[0 if start else -1]).isalnum() else ""
    space = r"\s+" if words[-1 if start else 0].isspace() else ""
    return f"{edge}(?i:{inner}){space}" if start else f"{space}(?i:{inner}){edge}"


def _any_of(words: Iterable[str]) -> str:
    longest_first = sorted(words, key=lambda word: (-len(word), word))
    return "|".join(
        r"\s+".join(re.escape(part).replace(r"\-", "[-‐‑–—]") for part in word.split())
        for word in longest_first
    )

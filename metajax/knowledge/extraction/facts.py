"""Facts with provenance, and the check between what an extractor claims and what is written.

Texts are written by strangers, and a model may do what a text says. So a claim becomes a fact only
if it is about the item of its own text, its relation is in the schema, its quote is in the text
word for word, and its tail is in the quote, or one of the relation's values. A text can lie about
its own item; it can say nothing about others, and nothing that it does not say in so many words.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from metajax.characters import visible
from metajax.knowledge.extraction.schema import (
    Schema,
    folded,
    is_plain,
    relation_of,
    value_of,
)
from metajax.knowledge.extraction.texts import Text

__all__ = ["Claim", "Fact", "Origin", "PrecisionRecall", "checked", "facts_of", "precision_recall"]

_MOST_QUOTE = 1000
# Characters of which typography has several.
_VARIANTS: dict[str, str] = {
    **dict.fromkeys("'’‘`", "['’‘`]"),
    **dict.fromkeys('"“”«»', '["“”«»]'),
    **dict.fromkeys("-‐‑–—", "[-‐‑–—]"),
}


class Claim(NamedTuple):
    """Statement of an extractor about the item of a text, not yet checked."""

    relation: str
    """Name of the relation."""
    tail: str
    """A name, or a value."""
    quote: str
    """Passage of the text that states it."""
    confidence: float
    """0 to 1."""


class Origin(NamedTuple):
    """Where facts come from."""

    model: str
    """Name of the model, or "rules"."""
    prompt: str
    """Version of the prompt, or of the rules."""
    time: str
    """Time of the answer, ISO 8601, UTC."""
    batch: str
    """The run that wrote it: what is withdrawn together."""


class Fact(NamedTuple):
    """A triple about an item, with its provenance."""

    item: str
    """The item's id, the head of the triple."""
    relation: str
    """Name of the relation in the schema."""
    name: str
    """The tail as the text has it, or one of the relation's values."""
    quote: str
    """The passage that states it: characters `start` to `end` of the text, with plain spaces."""
    start: int
    """First character of the passage, from 0."""
    end: int
    """Behind its last character."""
    confidence: float
    """0 to 1, as the model says; not calibrated."""
    origin: Origin
    """Model, prompt, time and batch."""


class PrecisionRecall(NamedTuple):
    """Precision and recall of extracted triples."""

    precision: float
    """Share of the found triples that are true; NaN where none was found."""
    recall: float
    """Share of the true triples that were found; NaN where none is true."""
    found: int
    """Number of triples found."""
    true: int
    """Number of true triples."""


def checked(claim: Claim, text: Text, schema: Schema, origin: Origin) -> Fact | str:
    """Returns a claim as a fact, or in words why it is none.

    Args:
        claim: The claim.
        text: The text that it was extracted from.
        schema: The relations that are legal.
        origin: Provenance.
    """
    relation = relation_of(schema, claim.relation)
    if relation is None:
        return "the relation is not in the schema"
    tail = unicodedata.normalize("NFC", " ".join(claim.tail.split()))
    # A sign in front makes a spreadsheet compute what it should show.
    if not is_plain(tail) or not folded(tail) or tail[0] in "=+-@":
        return "the value is empty, too long, or has characters that names have not"
    place = _found(claim.quote, text.text)
    if place is None:
        return "the quote is not in the text"
    start, end = place
    quote = visible(" ".join(text.text[start:end].split()))
    if relation.values:
        value = value_of(relation, tail)
        if value is None:
            return "the value is not one of the relation's"
        tail = value
    elif not _states(quote, tail):
        return "the value is not in the quote"
    if not 0 <= claim.confidence <= 1:
        return "the confidence is not 0 to 1"
    return Fact(text.item, relation.name, tail, quote, start, end, claim.confidence, origin)


def facts_of(
    claims: Iterable[Claim], text: Text, schema: Schema, origin: Origin
) -> tuple[list[Fact], Counter[str]]:
    """Checks the claims of a text.

    Args:
        claims: From an extractor.
        text: The text.
        schema: The relations that are legal.
        origin: Provenance.

    Returns:
        The facts, of the same triple the most confident one, in order of the schema's relations and
        of the text; and how many claims were refused, by reason.
    """
    best: dict[tuple[str, str], Fact] = {}
    refused: Counter[str] = Counter()
    for claim in claims:
        fact = checked(claim, text, schema, origin)
        if isinstance(fact, str):
            refused[fact] += 1
            continue
        key = fact.relation, folded(fact.name)
        if key not in best or fact.confidence > best[key].confidence:
            best[key] = fact
    order = {relation.name: n for n, relation in enumerate(schema.relations)}
    facts = sorted(best.values(), key=lambda f: (order[f.relation], f.start, f.name))
    return facts, refused


def precision_recall(
    found: Iterable[tuple[str, str, str]], true: Iterable[tuple[str, str, str]]
) -> dict[str, PrecisionRecall]:
    """Precision and recall by relation.

    Tails are compared in their normalised form.

    Args:
        found: Triples of item, relation and tail.
        true: All true ones, of the same items.

    Returns:
        Values by relation, of those that are in `true`.

    Example:
        >>> truth = [("1", "by", "Ridley Scott"), ("2", "by", "Wim Wenders")]
        >>> precision_recall([("1", "by", "ridley scott"), ("1", "by", "X")], truth)["by"]
        PrecisionRecall(precision=0.5, recall=0.5, found=2, true=2)
    """
    sets = [
        {(item, relation, folded(tail)) for item, relation, tail in one} for one in (found, true)
    ]
    values = {}
    for relation in dict.fromkeys(relation for _, relation, _ in sorted(sets[1])):
        own, right = ({triple for triple in one if triple[1] == relation} for one in sets)
        hits = len(own & right)
        values[relation] = PrecisionRecall(
            hits / len(own) if own else float("nan"), hits / len(right), len(own), len(right)
        )
    return values


def _found(quote: str, text: str) -> tuple[int, int] | None:
    """Finds a passage; white space, case and typography may differ."""
    words = unicodedata.normalize("NFC", quote[: _MOST_QUOTE + 1]).split()
    if not words or len(quote) > _MOST_QUOTE:
        return None
    pattern = r"\s+".join("".join(_VARIANTS.get(c, re.escape(c)) for c in w) for w in words)
    match = re.search(pattern, text, re.IGNORECASE)
    return None if match is None else match.span()


def _states(quote: str, name: str) -> bool:
    """True if the words of a name are in a passage, as in "Joel and Ethan Coen" for Joel Coen.

    At most two others are between any two: more would join one person's name with another's.
    """
    # Neither a possessive ending nor a comma within a name is part of a word.
    passage = folded(re.sub(r"['’]s\b", " ", quote).replace(",", " "))
    orders = {folded(name), folded(name.replace(",", " "))}
    patterns = (r"(?: \w+){0,2} ".join(map(re.escape, words.split())) for words in orders)
    return any(re.search(rf"\b{pattern}\b", passage) for pattern in patterns)

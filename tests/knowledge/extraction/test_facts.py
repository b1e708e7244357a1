import math

import pytest

from metajax.knowledge.extraction import Claim, Origin, Relation, Schema, Text
from metajax.knowledge.extraction.facts import checked, facts_of, precision_recall

ORIGIN = Origin("m", "1", "2026-01-01T00:00:00+00:00", "b")
SCHEMA = Schema(
    (Relation("by", aliases=("director",)), Relation("genre", values={"War": ("war film",)}))
)
TEXT = Text(
    "7", "A  “war”\nstory by Joel and Ethan Coen. It’s Steven Spielberg and George Lucas who paid."
)


def fact(relation, tail, quote, confidence=0.9):
    return checked(Claim(relation, tail, quote, confidence), TEXT, SCHEMA, ORIGIN)


def test_a_claim_becomes_a_fact_with_its_passage():
    found = fact("Director", " Joel  Coen", "STORY BY joel and Ethan Coen")
    assert not isinstance(found, str)
    assert found[:4] == ("7", "by", "Joel Coen", "story by Joel and Ethan Coen")
    assert TEXT.text[found.start : found.end] == "story by Joel and Ethan Coen"
    assert found.origin == ORIGIN
    # Typography and white space may differ.
    found = fact("genre", "war film", 'a "war" story')
    assert not isinstance(found, str)
    assert (found.name, found.quote) == ("War", "A “war” story")
    assert TEXT.text[found.start : found.end] == "A  “war”\nstory"


@pytest.mark.parametrize(
    ("name", "passage"),
    [
        ("Joel Coen", "in Joel Coen’s comedy"),
        ("Stanley Kubrick", "Directed by Stanley Kubrick's hand"),
        ("Kubrick, Stanley", "Directed by Kubrick, Stanley"),
        ("Stanley Kubrick", "Directed by Stanley Kubrick, and others"),
        ("Flannery O'Connor", "by Flannery O’Connor"),
    ],
)
def test_a_name_is_found_in_what_stands_around_it(name, passage):
    text = Text("1", f"A film {passage}.")
    found = checked(Claim("by", name, passage, 1.0), text, SCHEMA, ORIGIN)
    assert not isinstance(found, str)


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        (("producer", "George Lucas", "George Lucas"), "the relation is not in the schema"),
        (("by", "Ridley Scott", "by Ridley Scott"), "the quote is not in the text"),
        (("by", "Ridley Scott", "by Joel and Ethan Coen"), "the value is not in the quote"),
        (("by", "Coen Joel", "by Joel and Ethan Coen"), "the value is not in the quote"),
        (("by", "Joe", "by Joel and Ethan Coen"), "the value is not in the quote"),
        # Not the name of one person and that of another.
        (
            ("by", "Steven Lucas", "Steven Spielberg and George Lucas"),
            "the value is not in the quote",
        ),
        (("genre", "Horror", "war"), "the value is not one of the relation's"),
        (("by", "", "by"), "the value is empty, too long"),
        (("by", "x" * 201, "by"), "the value is empty, too long"),
        (("by", "Joel\x1b[2J", "by Joel"), "the value is empty, too long"),
        (("by", "Joel\u202e", "by Joel"), "the value is empty, too long"),
        (("by", "=Joel", "by Joel"), "the value is empty, too long"),
        (("by", "Joel", ""), "the quote is not in the text"),
        (("by", "Joel", "." * 1001), "the quote is not in the text"),
        (("by", "Joel", ".*"), "the quote is not in the text"),
    ],
)
def test_what_is_no_fact_is_refused_with_a_reason(claim, reason):
    found = fact(*claim)
    assert isinstance(found, str)
    assert found.startswith(reason)


@pytest.mark.parametrize("confidence", [-0.1, 1.1, 95.0, float("nan")])
def test_a_confidence_is_a_probability(confidence):
    assert fact("by", "Joel", "by Joel", confidence) == "the confidence is not 0 to 1"


def test_of_one_triple_the_most_confident_claim_is_kept():
    claims = [
        Claim("genre", "War", "war", 0.5),
        Claim("by", "Ethan Coen", "Ethan Coen", 0.7),
        Claim("by", "ethan coen", "Joel and Ethan Coen", 0.8),
        Claim("by", "Joel Coen", "Joel and Ethan Coen", 0.7),
        Claim("by", "nobody", "Ethan", 0.9),
    ]
    facts, refused = facts_of(claims, TEXT, SCHEMA, ORIGIN)
    # In order of the schema, then of the text.
    assert [(f.relation, f.name, f.confidence) for f in facts] == [
        ("by", "Joel Coen", 0.7), ("by", "ethan coen", 0.8), ("genre", "War", 0.5),
    ]  # fmt: skip
    assert dict(refused) == {"the value is not in the quote": 1}


def test_precision_and_recall_by_relation():
    true = [("1", "by", "A"), ("1", "by", "B"), ("2", "genre", "War")]
    found = [("1", "by", "a"), ("1", "by", "C"), ("1", "by", "D"), ("9", "other", "x")]
    values = precision_recall(found, true)
    assert values["by"] == (1 / 3, 0.5, 3, 2)
    assert math.isnan(values["genre"].precision)
    assert values["genre"][1:] == (0.0, 0, 1)
    assert set(values) == {"by", "genre"}

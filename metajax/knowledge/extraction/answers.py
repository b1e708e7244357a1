"""The journal of a model's answers: a cache by content, and an account of what they cost.

One JSON line a response, appended and forced to the disk before the next step, so that nothing that
was paid for is asked again: not after a kill, nor in a second run. A line that a kill has cut is
left out; a damaged one before the last is refused by name.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metajax import files, storage
from metajax.files import DataError
from metajax.knowledge.extraction.facts import Claim
from metajax.knowledge.extraction.texts import Text

__all__ = ["Answer", "Journal", "Usage", "content_key", "open_journal", "record", "sum_of"]


class Usage(NamedTuple):
    """Tokens that were paid for."""

    input: int = 0
    """Tokens of prompts."""
    output: int = 0
    """Tokens of answers."""


class Answer(NamedTuple):
    """Answer of a model about one text."""

    claims: tuple[Claim, ...]
    """Not checked."""
    refusal: str
    """The words of a refusal; empty where the model did not refuse."""
    time: str
    """ISO 8601, UTC."""


@dataclasses.dataclass
class Journal:
    """The answers of a file, and what they cost; `record` adds to both."""

    path: Path
    """The file, of JSON lines."""
    answers: dict[str, Answer]
    """By `content_key`."""
    usage: Usage
    """All that was paid for, responses without a usable answer included."""


def content_key(text: Text, model: str, prompt: str) -> str:
    """Key of an answer: a hash of all that it depends on, and not of the item.

    Args:
        text: The text.
        model: Name of the model.
        prompt: Version of the prompt.
    """
    parts = json.dumps([model, prompt, text.title, text.text])
    return hashlib.sha256(parts.encode()).hexdigest()


def open_journal(path: str | Path) -> Journal:
    """Reads a journal, or begins one; a last line that was cut is removed from the file.

    Raises:
        DataError: If a line is damaged; names it.
        OSError: If the file cannot be read or written.
    """
    path = Path(path)
    journal = Journal(path, {}, Usage())
    if not path.exists():
        return journal
    data = files.read_bytes(path)
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        storage.cut(path, whole)
    for number, line in enumerate(data[:whole].split(b"\n")[:-1], 1):
        try:
            usage, answers = _read(json.loads(line))
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
            raise DataError(
                "is no record of an answer; remove the line.", file=path, line=number
            ) from None
        journal.usage = sum_of(journal.usage, usage)
        journal.answers.update(answers)
    return journal


def record(
    journal: Journal, usage: Usage, keys: Sequence[str], answers: Sequence[Answer], note: str = ""
) -> None:
    """Appends a response to the journal, and forces it to the disk.

    Args:
        journal: The journal; its answers and costs are updated.
        usage: Tokens of the response.
        keys: Key of each text that it answers; none where it was of no use.
        answers: The answers.
        note: Why it was of no use, for people.

    Raises:
        OSError: If the file cannot be written.
    """
    rows = [
        {"key": key, "claims": [list(c) for c in a.claims], "refusal": a.refusal, "time": a.time}
        for key, a in zip(keys, answers, strict=True)
    ]
    line: dict[str, Any] = {"usage": list(usage), "answers": rows}
    if note:
        line["note"] = note
    # A lone half of a surrogate pair is legal JSON, and no text.
    storage.append(journal.path, json.dumps(line) + "\n")
    storage.sync(journal.path)
    journal.usage = sum_of(journal.usage, usage)
    journal.answers.update(zip(keys, answers, strict=True))


def sum_of(one: Usage, other: Usage) -> Usage:
    """Adds tokens to tokens."""
    return Usage(one.input + other.input, one.output + other.output)


def _read(line: Any) -> tuple[Usage, dict[str, Answer]]:
    found = {}
    for row in line["answers"]:
        claims = tuple(Claim(str(r), str(t), str(q), float(c)) for r, t, q, c in row["claims"])
        if not all(math.isfinite(claim.confidence) for claim in claims):
            raise ValueError("a confidence is not finite")
        found[str(row["key"])] = Answer(claims, str(row["refusal"]), str(row["time"]))
    given, taken = line["usage"]
    return Usage(int(given), int(taken)), found

"""Extraction of facts from texts into a folder, by a language model or by rules."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from metajax import locks, storage
from metajax.knowledge.extraction.answers import Usage, content_key, open_journal
from metajax.knowledge.extraction.endpoint import (
    EndpointSettings,
    Status,
    ask,
    cost_of,
)
from metajax.knowledge.extraction.facts import Fact, Origin, facts_of
from metajax.knowledge.extraction.prompt import prompt_version
from metajax.knowledge.extraction.review import (
    Review,
    add_batch,
    check_review,
    read_facts,
    review,
    write_facts,
)
from metajax.knowledge.extraction.rules import rules_version, with_rules
from metajax.knowledge.extraction.schema import Schema, is_plain, write_schema
from metajax.knowledge.extraction.texts import Text

__all__ = ["Extraction", "extract", "journal_file"]

journal_file = "answers.jsonl"
"""File of the answers in a folder of facts."""

# The model of facts that rules extract.
_RULES = "rules"


class Extraction(NamedTuple):
    """Outcome of an extraction."""

    batch: str
    """Name of the batch of facts, by which they can be withdrawn."""
    facts: tuple[Fact, ...]
    """The facts of the batch, by text in their order."""
    refused: Counter[str]
    """Number of claims that are no facts, by reason."""
    refusals: int
    """Texts that the model would not work on."""
    failed: dict[str, str]
    """Items without a usable answer, with the reason; a later run asks again."""
    unasked: int
    """Texts left when the budget ended."""
    stopped: str
    """Why not all was asked; empty where all was."""
    requests: int
    """Responses that were paid for in this run."""
    usage: Usage
    """Tokens of all runs on the folder."""
    cost: float
    """Their price."""
    review: Review
    """The folder afterwards."""


def extract(
    texts: Sequence[Text],
    schema: Schema,
    folder: str | Path,
    *,
    settings: EndpointSettings | None = None,
    accept_above: float | None = None,
    threshold: float = 0.9,
    known: Collection[str] = (),
    on_status: Callable[[Status], None] = lambda status: None,
) -> Extraction:
    """Extracts facts into a folder, as a batch beside those that it has.

    The same texts, schema and model are the same batch: a second run asks for nothing, and writes
    the same. Answers are kept as they come, so that a run that was stopped or killed goes on.

    Args:
        texts: The texts.
        schema: The relations; replaces that of the folder.
        folder: The folder; made if it is not there.
        settings: The endpoint of a model; None extracts by rules.
        accept_above: As in `review`.
        threshold: As in `review`.
        known: As in `review`.
        on_status: Told the state after each response.

    Returns:
        The outcome.

    Raises:
        ValueError: If there is no text, the schema is not confirmed or, without a model, has no
            rule, or the model has no name.
        LockedError: If another process works on the folder.
        EndpointError: As `ask`.
        DataError: If a file of the folder is damaged.
        OSError: If a file cannot be written.
    """
    _check(texts, schema, settings)
    check_review(accept_above, threshold)
    folder = Path(folder)
    storage.make_folder(folder)
    with locks.locked(folder):
        storage.remove_leftovers(folder)
        rows = read_facts(folder)
        write_schema(schema, folder / "schema.toml")
        facts: list[Fact] = []
        refused: Counter[str] = Counter()
        refusals, failed, unasked, stopped, requests = 0, {}, 0, "", 0
        usage, cost = Usage(), 0.0
        if settings is None:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            origin = Origin(_RULES, rules_version(schema), now, "")
            batch = _batch_of(texts, origin)
            for text in texts:
                found, no_facts = facts_of(
                    with_rules(text.text, schema), text, schema, origin._replace(batch=batch)
                )
                facts += found
                refused += no_facts
        else:
            journal = open_journal(folder / journal_file)
            asked = ask(texts, schema, settings, journal, on_status)
            requests, stopped = asked.requests, asked.stopped
            usage, cost = journal.usage, cost_of(journal.usage, settings)
            origin = Origin(settings.model, prompt_version(schema), "", "")
            batch = _batch_of(texts, origin)
            for text, key in zip(texts, asked.keys, strict=True):
                answer = journal.answers.get(key)
                if answer is None:
                    unasked += key not in asked.failed
                    if key in asked.failed:
                        failed[text.item] = asked.failed[key]
                    continue
                refusals += bool(answer.refusal)
                own = origin._replace(time=answer.time, batch=batch)
                found, no_facts = facts_of(answer.claims, text, schema, own)
                facts += found
                refused += no_facts
        rows = add_batch(rows, facts, batch)
        write_facts(folder, rows, {})
        reviewed = review(folder, accept_above=accept_above, threshold=threshold, known=known)
    return Extraction(
        batch, tuple(facts), refused, refusals, failed, unasked, stopped, requests, usage, cost,
        reviewed,
    )  # fmt: skip


def _check(texts: Sequence[Text], schema: Schema, settings: EndpointSettings | None) -> None:
    if not texts:
        raise ValueError("texts must have at least one text, got none.")
    if not schema.confirmed:
        raise ValueError(
            "the schema was proposed by a model and is not confirmed: check it, and write "
            "confirmed = true."
        )
    if settings is None and not any(r.patterns or r.values for r in schema.relations):
        raise ValueError(
            "the schema has neither patterns nor values, without which rules find nothing."
        )
    if settings is not None and not is_plain(settings.model):
        raise ValueError(f"model must be the name of a model, got {settings.model!r}.")


def _batch_of(texts: Sequence[Text], origin: Origin) -> str:
    """Name of the batch of some texts, the same for the same texts, model and prompt."""
    keys = [[text.item, content_key(text, origin.model, origin.prompt)] for text in texts]
    digest = hashlib.sha256(json.dumps(keys).encode()).hexdigest()
    return f"{origin.model}-{digest[:8]}"

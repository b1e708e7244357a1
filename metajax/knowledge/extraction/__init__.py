"""Facts extracted from texts, by a language model or by rules, with provenance and review."""

from metajax.knowledge.extraction.answers import Answer, Journal, Usage, open_journal
from metajax.knowledge.extraction.endpoint import (
    Asked,
    EndpointError,
    EndpointSettings,
    Status,
    ask,
    cost_of,
    propose,
)
from metajax.knowledge.extraction.extract import Extraction, extract
from metajax.knowledge.extraction.facts import (
    Claim,
    Fact,
    Origin,
    PrecisionRecall,
    facts_of,
    precision_recall,
)
from metajax.knowledge.extraction.names import Merge, merged_names
from metajax.knowledge.extraction.review import (
    Contradiction,
    Decision,
    Review,
    Reviewed,
    known_names,
    merge_into,
    read_facts,
    review,
)
from metajax.knowledge.extraction.rules import with_rules
from metajax.knowledge.extraction.schema import Relation, Schema, read_schema, write_schema
from metajax.knowledge.extraction.texts import Text, Texts, read_texts

__all__ = [
    "Answer",
    "Asked",
    "Claim",
    "Contradiction",
    "Decision",
    "EndpointError",
    "EndpointSettings",
    "Extraction",
    "Fact",
    "Journal",
    "Merge",
    "Origin",
    "PrecisionRecall",
    "Relation",
    "Review",
    "Reviewed",
    "Schema",
    "Status",
    "Text",
    "Texts",
    "Usage",
    "ask",
    "cost_of",
    "extract",
    "facts_of",
    "known_names",
    "merge_into",
    "merged_names",
    "open_journal",
    "precision_recall",
    "propose",
    "read_facts",
    "read_schema",
    "read_texts",
    "review",
    "with_rules",
    "write_schema",
]

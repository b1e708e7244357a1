"""Every method on the same cold users: tuned on validation users, judged once on test users."""

from metajax.harness.methods import Method, judge, learned, tuned, two_towers_of
from metajax.harness.tables import Judged, judge_all, stages, table
from metajax.harness.validation import train_on, validation_of

__all__ = [
    "Judged",
    "Method",
    "judge",
    "judge_all",
    "learned",
    "stages",
    "table",
    "train_on",
    "tuned",
    "two_towers_of",
    "validation_of",
]

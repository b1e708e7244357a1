"""Every method on the same cold users: tuned on validation users, judged once on test users."""

from metajax.harness.experiment import compare
from metajax.harness.methods import Method, judge, learned, trained, tuned
from metajax.harness.plans import cells_of, method_names
from metajax.harness.protocols import (
    Preparation,
    Split,
    check_ratings,
    cross_domain,
    prepare,
    protocols,
)
from metajax.harness.results import Compared
from metajax.harness.tables import Judged, judge_all, stages, table
from metajax.harness.validation import refit_on, train_on, validation_of

__all__ = [
    "Compared",
    "Judged",
    "Method",
    "Preparation",
    "Split",
    "cells_of",
    "check_ratings",
    "compare",
    "cross_domain",
    "judge",
    "judge_all",
    "learned",
    "method_names",
    "prepare",
    "protocols",
    "refit_on",
    "stages",
    "table",
    "train_on",
    "trained",
    "tuned",
    "validation_of",
]

"""Every method on the same cold users: tuned on validation users, judged once on test users."""

from metajax.evaluation.evaluate import Evaluation, PerUser, concatenate, evaluate
from metajax.evaluation.experiment import cells_of, compare, method_names
from metajax.evaluation.protocols import (
    Preparation,
    Split,
    check_ratings,
    cross_domain,
    prepare,
    protocols,
)
from metajax.evaluation.tables import Compared, Judged, judge_all, stages, table
from metajax.evaluation.tuning import (
    Method,
    judge,
    learned,
    refit_on,
    train_on,
    trained,
    tuned,
    validation_of,
)

__all__ = [
    "Compared",
    "Evaluation",
    "Judged",
    "Method",
    "PerUser",
    "Preparation",
    "Split",
    "cells_of",
    "check_ratings",
    "compare",
    "concatenate",
    "cross_domain",
    "evaluate",
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

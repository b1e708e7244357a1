"""Methods on the same cold users: tuned on users held out, evaluated once on test users."""

from metajax.evaluation.advice import advice
from metajax.evaluation.closed_forms import begin_fit, fit_on, steps_of
from metajax.evaluation.evaluate import Evaluation, PerUser, concatenate, evaluate
from metajax.evaluation.experiment import cells_of, compare, method_names
from metajax.evaluation.expert import trained_expert
from metajax.evaluation.intervals import interval, paired_difference, summarise
from metajax.evaluation.judged_users import with_test_users
from metajax.evaluation.metrics import Metric
from metajax.evaluation.protocols import (
    Preparation,
    check_dataset,
    cross_domain,
    prepare,
    protocols,
)
from metajax.evaluation.records import (
    Record,
    from_json,
    to_csv,
    to_html,
    to_json,
    to_polars,
)
from metajax.evaluation.tables import Compared, judge_all, stages, table
from metajax.evaluation.tuning import (
    FittedMethod,
    check_ranked,
    cross_fitted,
    fitted,
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
    "FittedMethod",
    "Metric",
    "PerUser",
    "Preparation",
    "Record",
    "advice",
    "begin_fit",
    "cells_of",
    "check_dataset",
    "check_ranked",
    "compare",
    "concatenate",
    "cross_domain",
    "cross_fitted",
    "evaluate",
    "fit_on",
    "fitted",
    "from_json",
    "interval",
    "judge",
    "judge_all",
    "learned",
    "method_names",
    "paired_difference",
    "prepare",
    "protocols",
    "refit_on",
    "stages",
    "steps_of",
    "summarise",
    "table",
    "to_csv",
    "to_html",
    "to_json",
    "to_polars",
    "train_on",
    "trained",
    "trained_expert",
    "tuned",
    "validation_of",
    "with_test_users",
]

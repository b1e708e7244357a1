"""Meta-learners: an outer update around an adaptation."""

from metajax.learners.anil import anil, boil
from metajax.learners.cavia import cavia
from metajax.learners.elastic_weights import consolidated, ewc_penalty, fisher_information
from metajax.learners.frozen import fixed, frozen
from metajax.learners.gradient_free import (
    bayesian_ridge,
    matching_network,
    neural_process,
    prototypical,
)
from metajax.learners.graph import graph_learner, new_user_learner
from metajax.learners.gru_adapter import gru_adapter
from metajax.learners.maml import fomaml, imaml, maml, sequential
from metajax.learners.maml_plus_plus import maml_plus_plus
from metajax.learners.meta_sgd import meta_sgd
from metajax.learners.outer import learner_with, meta_learner, query_loss
from metajax.learners.proto_maml import proto_maml
from metajax.learners.reptile import reptile
from metajax.learners.supervised import fine_tuned, supervised
from metajax.learners.touched_rows import touched_rows

__all__ = [
    "anil",
    "bayesian_ridge",
    "boil",
    "cavia",
    "consolidated",
    "ewc_penalty",
    "fine_tuned",
    "fisher_information",
    "fixed",
    "fomaml",
    "frozen",
    "graph_learner",
    "gru_adapter",
    "imaml",
    "learner_with",
    "maml",
    "maml_plus_plus",
    "matching_network",
    "meta_learner",
    "meta_sgd",
    "neural_process",
    "new_user_learner",
    "proto_maml",
    "prototypical",
    "query_loss",
    "reptile",
    "sequential",
    "supervised",
    "touched_rows",
]

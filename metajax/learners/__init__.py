"""The outer update, and the recipes."""

from metajax.learners.amortised import neural_process
from metajax.learners.maml import fomaml, maml
from metajax.learners.metric import matching_network, prototypical
from metajax.learners.outer import meta_learner
from metajax.learners.sequential import sequential
from metajax.learners.supervised import fine_tuned, supervised

__all__ = [
    "fine_tuned",
    "fomaml",
    "maml",
    "matching_network",
    "meta_learner",
    "neural_process",
    "prototypical",
    "sequential",
    "supervised",
]

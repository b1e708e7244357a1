"""The outer update, and the recipes."""

from metajax.learners.maml import fomaml, maml
from metajax.learners.outer import meta_learner
from metajax.learners.supervised import fine_tuned, supervised

__all__ = ["fine_tuned", "fomaml", "maml", "meta_learner", "supervised"]

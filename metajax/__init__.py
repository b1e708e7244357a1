"""Meta-learning for cold-start recommendation, in functional JAX.

data -> models -> adaptation -> learners -> evaluation -> recommendation: each is a module or a
folder of that name. The words they share are in `metajax.base`.
"""

from metajax import adaptation, baselines, data, evaluation, learners, losses, metrics, models
from metajax.base import (
    Adaptation,
    Examples,
    Inputs,
    MetaLearner,
    MetaState,
    Model,
    Task,
)
from metajax.evaluation import evaluate
from metajax.harness import compare
from metajax.learners import (
    fine_tuned,
    fomaml,
    maml,
    matching_network,
    mecos,
    meta_learner,
    neural_process,
    prototypical,
    sequential,
    supervised,
)
from metajax.recommendation import recommend
from metajax.runs import load

__all__ = [
    "Adaptation",
    "Examples",
    "Inputs",
    "MetaLearner",
    "MetaState",
    "Model",
    "Task",
    "adaptation",
    "baselines",
    "compare",
    "data",
    "evaluate",
    "evaluation",
    "fine_tuned",
    "fomaml",
    "learners",
    "load",
    "losses",
    "maml",
    "matching_network",
    "mecos",
    "meta_learner",
    "metrics",
    "models",
    "neural_process",
    "prototypical",
    "recommend",
    "sequential",
    "supervised",
]

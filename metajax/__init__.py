"""Meta-learning for cold-start recommendation, in functional JAX.

data -> models -> adaptation -> learners -> evaluation -> recommendation: each is a module or a
folder of that name. The words they share are in `metajax.types`.
"""

from metajax import (
    adaptation,
    baselines,
    data,
    evaluation,
    knowledge,
    learners,
    losses,
    metrics,
    networks,
)
from metajax.evaluation import compare
from metajax.evaluation.evaluate import evaluate
from metajax.learners import (
    anil,
    boil,
    cavia,
    consolidated,
    ewc_penalty,
    fine_tuned,
    fisher_information,
    fomaml,
    gru_adapter,
    imaml,
    maml,
    maml_plus_plus,
    matching_network,
    mecos,
    meta_learner,
    meta_sgd,
    neural_process,
    proto_maml,
    prototypical,
    reptile,
    sequential,
    supervised,
)
from metajax.runs.recommendation import recommend
from metajax.runs.run import load
from metajax.types import Adaptation, Examples, Inputs, MetaLearner, MetaState, Model, Task

__all__ = [
    "Adaptation",
    "Examples",
    "Inputs",
    "MetaLearner",
    "MetaState",
    "Model",
    "Task",
    "adaptation",
    "anil",
    "baselines",
    "boil",
    "cavia",
    "compare",
    "consolidated",
    "data",
    "evaluate",
    "evaluation",
    "ewc_penalty",
    "fine_tuned",
    "fisher_information",
    "fomaml",
    "gru_adapter",
    "imaml",
    "knowledge",
    "learners",
    "load",
    "losses",
    "maml",
    "maml_plus_plus",
    "matching_network",
    "mecos",
    "meta_learner",
    "meta_sgd",
    "metrics",
    "networks",
    "neural_process",
    "proto_maml",
    "prototypical",
    "recommend",
    "reptile",
    "sequential",
    "supervised",
]

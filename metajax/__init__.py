"""Meta-learning for cold-start recommendation, in functional JAX.

data -> models -> adaptation -> learners -> evaluation -> recommendation: each is a module or a
folder of that name. The words they share are in `metajax.base`.
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
    models,
)
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
    "models",
    "neural_process",
    "proto_maml",
    "prototypical",
    "recommend",
    "reptile",
    "sequential",
    "supervised",
]

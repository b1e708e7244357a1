"""Meta-learning for cold-start recommendation, in functional JAX.

The vocabulary is in `metajax.types`. The library of adaptations, networks and learners is loaded
at once; data, baselines, methods, evaluation, runs and knowledge graphs are loaded when they are
first used, so that importing the package costs little more than JAX, Flax and Optax.
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

from metajax import (
    adaptation,
    checkpoint,
    distributed,
    gaussian,
    learners,
    losses,
    metrics,
    networks,
    training,
    types,
)
from metajax.adaptation import gradient_steps, inner_loop, matching
from metajax.checkpoint import restore, save
from metajax.learners import (
    anil,
    bayesian_ridge,
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
    meta_learner,
    meta_sgd,
    neural_process,
    proto_maml,
    prototypical,
    reptile,
    sequential,
    supervised,
)
from metajax.networks import from_linen
from metajax.types import (
    Adaptation,
    Examples,
    Inputs,
    MetaLearner,
    MetaState,
    Model,
    SupportModel,
    Task,
)

if TYPE_CHECKING:
    from metajax import (
        baselines,
        cli,
        cross_domain,
        data,
        evaluation,
        knowledge,
        methods,
        report,
        runs,
    )
    from metajax.evaluation import compare, evaluate
    from metajax.methods.attentive_neighbours import attentive_neighbours
    from metajax.methods.mecos import mecos
    from metajax.registry import settings_for
    from metajax.runs import load, recommend, recommend_batch, train

__all__ = [
    "Adaptation",
    "Examples",
    "Inputs",
    "MetaLearner",
    "MetaState",
    "Model",
    "SupportModel",
    "Task",
    "__version__",
    "adaptation",
    "anil",
    "attentive_neighbours",
    "baselines",
    "bayesian_ridge",
    "boil",
    "cavia",
    "checkpoint",
    "cli",
    "compare",
    "consolidated",
    "cross_domain",
    "data",
    "distributed",
    "evaluate",
    "evaluation",
    "ewc_penalty",
    "fine_tuned",
    "fisher_information",
    "fomaml",
    "from_linen",
    "gaussian",
    "gradient_steps",
    "gru_adapter",
    "imaml",
    "inner_loop",
    "knowledge",
    "learners",
    "load",
    "losses",
    "maml",
    "maml_plus_plus",
    "matching",
    "matching_network",
    "mecos",
    "meta_learner",
    "meta_sgd",
    "methods",
    "metrics",
    "networks",
    "neural_process",
    "proto_maml",
    "prototypical",
    "recommend",
    "recommend_batch",
    "report",
    "reptile",
    "restore",
    "runs",
    "save",
    "sequential",
    "settings_for",
    "supervised",
    "train",
    "training",
    "types",
]

__version__ = importlib.metadata.version("metajax")

# Attribute -> module that holds it, or itself for a sub-package.
_LAZY = {
    "attentive_neighbours": "methods.attentive_neighbours",
    "baselines": "",
    "cli": "",
    "compare": "evaluation",
    "cross_domain": "",
    "data": "",
    "evaluate": "evaluation",
    "evaluation": "",
    "knowledge": "",
    "load": "runs",
    "mecos": "methods.mecos",
    "methods": "",
    "recommend": "runs",
    "recommend_batch": "runs",
    "report": "",
    "runs": "",
    "settings_for": "registry",
    "train": "runs",
}


def __getattr__(name: str) -> Any:
    """Loads a name of `__all__` on first access (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_LAZY[name] or name}")
    found = getattr(module, name) if _LAZY[name] else module
    # The next access finds it without this function.
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__

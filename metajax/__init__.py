"""Meta-learning for cold-start recommendation, in functional JAX.

The vocabulary is in `metajax.types`. Everything is loaded when it is first used: the package itself
costs nothing, so that the command line answers at once, and the library of adaptations, networks
and learners costs little more than JAX, Flax and Optax.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str

    from metajax import (
        adaptation,
        baselines,
        checkpoint,
        cli,
        cross_domain,
        data,
        display,
        distributed,
        engine,
        evaluation,
        exploration,
        gaussian,
        knowledge,
        learners,
        losses,
        methods,
        metrics,
        networks,
        report,
        runs,
        training,
        types,
    )
    from metajax.adaptation import (
        gradient_steps,
        inner_loop,
        matching,
    )
    from metajax.checkpoint import (
        restore,
        save,
    )
    from metajax.engine import (
        ColdStartSolver,
    )
    from metajax.evaluation import (
        compare,
        evaluate,
    )
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
    from metajax.methods.attentive_neighbours import (
        attentive_neighbours,
    )
    from metajax.methods.mecos import (
        mecos,
    )
    from metajax.networks import (
        from_linen,
    )
    from metajax.registry import (
        settings_for,
    )
    from metajax.runs import (
        load,
        recommend,
        recommend_batch,
        train,
    )
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

__all__ = [
    "Adaptation",
    "ColdStartSolver",
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
    "display",
    "distributed",
    "engine",
    "evaluate",
    "evaluation",
    "ewc_penalty",
    "exploration",
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

# Attribute -> module that holds it, or itself for a sub-module.
_LAZY = {
    "Adaptation": "types",
    "ColdStartSolver": "engine",
    "Examples": "types",
    "Inputs": "types",
    "MetaLearner": "types",
    "MetaState": "types",
    "Model": "types",
    "SupportModel": "types",
    "Task": "types",
    "adaptation": "",
    "anil": "learners",
    "attentive_neighbours": "methods.attentive_neighbours",
    "baselines": "",
    "bayesian_ridge": "learners",
    "boil": "learners",
    "cavia": "learners",
    "checkpoint": "",
    "cli": "",
    "compare": "evaluation",
    "consolidated": "learners",
    "cross_domain": "",
    "data": "",
    "display": "",
    "distributed": "",
    "engine": "",
    "evaluate": "evaluation",
    "evaluation": "",
    "ewc_penalty": "learners",
    "exploration": "",
    "fine_tuned": "learners",
    "fisher_information": "learners",
    "fomaml": "learners",
    "from_linen": "networks",
    "gaussian": "",
    "gradient_steps": "adaptation",
    "gru_adapter": "learners",
    "imaml": "learners",
    "inner_loop": "adaptation",
    "knowledge": "",
    "learners": "",
    "load": "runs",
    "losses": "",
    "maml": "learners",
    "maml_plus_plus": "learners",
    "matching": "adaptation",
    "matching_network": "learners",
    "mecos": "methods.mecos",
    "meta_learner": "learners",
    "meta_sgd": "learners",
    "methods": "",
    "metrics": "",
    "networks": "",
    "neural_process": "learners",
    "proto_maml": "learners",
    "prototypical": "learners",
    "recommend": "runs",
    "recommend_batch": "runs",
    "report": "",
    "reptile": "learners",
    "restore": "checkpoint",
    "runs": "",
    "save": "checkpoint",
    "sequential": "learners",
    "settings_for": "registry",
    "supervised": "learners",
    "train": "runs",
    "training": "",
    "types": "",
}


def __getattr__(name: str) -> Any:
    """Loads a name of `__all__` on first access (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("metajax")
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_LAZY[name] or name}")
    found = getattr(module, name) if _LAZY[name] else module
    # The next access finds it without this function.
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__

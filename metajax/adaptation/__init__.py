"""Adaptation rules, written for one task."""

from metajax.adaptation.adjoints import (
    Adjoint,
    FiniteDifference,
    FirstOrder,
    Implicit,
    Linearized,
    Mixed,
    Reverse,
)
from metajax.adaptation.amortised import amortised
from metajax.adaptation.context_steps import append_context, context_steps
from metajax.adaptation.factored.inner_state import InnerState
from metajax.adaptation.factored.low_rank import LowRank, inner_product, is_low_rank
from metajax.adaptation.factored.plan import Form
from metajax.adaptation.gradient_steps import (
    InnerLoop,
    as_adaptation,
    gradient_steps,
    inner_loop,
)
from metajax.adaptation.gru import gru_embeddings, gru_gradients
from metajax.adaptation.learned_rates import initial_rates, learned_rates
from metajax.adaptation.neighbourhood import neighbourhood
from metajax.adaptation.partition import (
    choosing,
    combine,
    matching,
    partition,
    paths,
    within,
)
from metajax.adaptation.prototype_steps import prototype_steps
from metajax.adaptation.prototypes import cosine_prototypes, prototypes
from metajax.adaptation.residual_attention import residual_attention
from metajax.adaptation.ridge_head import ridge_head
from metajax.adaptation.sequence_steps import sequence_steps
from metajax.adaptation.zero_shot import zero_shot

__all__ = [
    "Adjoint",
    "FiniteDifference",
    "FirstOrder",
    "Form",
    "Implicit",
    "InnerLoop",
    "InnerState",
    "Linearized",
    "LowRank",
    "Mixed",
    "Reverse",
    "amortised",
    "append_context",
    "as_adaptation",
    "choosing",
    "combine",
    "context_steps",
    "cosine_prototypes",
    "gradient_steps",
    "gru_embeddings",
    "gru_gradients",
    "initial_rates",
    "inner_loop",
    "inner_product",
    "is_low_rank",
    "learned_rates",
    "matching",
    "neighbourhood",
    "partition",
    "paths",
    "prototype_steps",
    "prototypes",
    "residual_attention",
    "ridge_head",
    "sequence_steps",
    "within",
    "zero_shot",
]

"""How to adapt to one user, one rule a file."""

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
from metajax.adaptation.context_steps import beside_features, context_steps
from metajax.adaptation.cosine_prototypes import cosine_prototypes
from metajax.adaptation.factored.inner_state import InnerState
from metajax.adaptation.factored.low_rank import LowRank, inner_product, is_low_rank
from metajax.adaptation.factored.plan import Form
from metajax.adaptation.gradient_steps import (
    InnerLoop,
    Optimizer,
    gradient_steps,
    inner_loop,
    served_by,
)
from metajax.adaptation.gru import gru_embeddings, gru_gradients
from metajax.adaptation.learned_rates import learned_rates, start_rates
from metajax.adaptation.neighbourhood import neighbourhood
from metajax.adaptation.partition import combine, everything, matching, partition, paths, within
from metajax.adaptation.prototype_steps import prototype_steps
from metajax.adaptation.prototypes import prototypes
from metajax.adaptation.residual_attention import attended_labels
from metajax.adaptation.ridge_head import ridge_head
from metajax.adaptation.sequence_steps import sequence_steps
from metajax.adaptation.zero_shot import no_steps

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
    "Optimizer",
    "Reverse",
    "amortised",
    "attended_labels",
    "beside_features",
    "combine",
    "context_steps",
    "cosine_prototypes",
    "everything",
    "gradient_steps",
    "gru_embeddings",
    "gru_gradients",
    "inner_loop",
    "inner_product",
    "is_low_rank",
    "learned_rates",
    "matching",
    "neighbourhood",
    "no_steps",
    "partition",
    "paths",
    "prototype_steps",
    "prototypes",
    "ridge_head",
    "sequence_steps",
    "served_by",
    "start_rates",
    "within",
]

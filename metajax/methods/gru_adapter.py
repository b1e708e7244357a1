"""Adaptation by a learned GRU, on the two-tower network: of gradients, or of items and ratings."""

from dataclasses import dataclass

from metajax import learners
from metajax.adaptation import matching
from metajax.methods.identities import item_tables
from metajax.methods.method import Method
from metajax.methods.objective import (
    RATES,
    adapted_parameters,
    by_gradient_steps,
    objectives,
    outer_optimizer,
)
from metajax.methods.settings import Settings
from metajax.methods.two_tower import (
    GradientOptions,
    TowerOptions,
    identities,
    inner_rates,
    pretrained,
    rating_network,
)
from metajax.types import MetaLearner, Model

__all__ = ["EmbeddingOptions", "methods"]


@dataclass(frozen=True, kw_only=True)
class EmbeddingOptions(TowerOptions):
    """Options of the GRU on items and ratings, without inner steps."""

    adapts: tuple[str, ...] = ()
    """Patterns of the parameters that adapt to a user; by default direct/*, or where items have no
    identities predictor/*."""


def _gru_embeddings(settings: Settings, network: Model) -> MetaLearner:
    return learners.gru_adapter(
        network,
        objectives[settings.objective].loss,
        outer=outer_optimizer(settings),
        sees="embeddings",
        width=settings.options.embedding,
        embed=identities,
        adapts=matching(*adapted_parameters(settings)),
        microbatch=settings.microbatch,
    )


methods: tuple[Method, ...] = (
    Method(
        "gru_gradients",
        learner=by_gradient_steps(learners.gru_adapter, learned_rate=True, sees="gradients"),
        network=rating_network,
        tables=item_tables,
        initial=pretrained,
        options=GradientOptions,
        grid=inner_rates,
    ),
    Method(
        "gru_embeddings",
        learner=_gru_embeddings,
        network=rating_network,
        tables=item_tables,
        initial=pretrained,
        options=EmbeddingOptions,
        grid=RATES,
    ),
)

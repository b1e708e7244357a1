"""LightGCN: trained on known users, serving new ones by the items they chose."""

from metajax import learners
from metajax.methods.graph_fold_in import (
    VectorOptions,
    by_vectors,
    initial_vectors,
    light_network,
    ranking_defaults,
)
from metajax.methods.method import Method

__all__ = ["methods"]

methods: tuple[Method, ...] = (
    Method(
        "light_gcn",
        learner=by_vectors(learners.light_gcn),
        network=light_network,
        initial=initial_vectors,
        members=True,
        options=VectorOptions,
        settings={**ranking_defaults, "objective": "ranking"},
        grid=({}, {"order": "time"}),
        any_support=True,
    ),
)

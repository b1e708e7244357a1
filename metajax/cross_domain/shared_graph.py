"""Shared graph: one graph ridge for both domains, with an adapter of the target's items."""

from metajax.methods import Method
from metajax.methods.graph_ridge import graph_ridge_method, samples_and_aggregates

__all__ = ["methods"]

methods: tuple[Method, ...] = (
    graph_ridge_method("shared_graph", samples_and_aggregates, adapter=True),
)

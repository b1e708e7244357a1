from typing import Any

import jax
import numpy as np
import pytest

from metajax.data import bipartite_graph
from metajax.networks import GraphResidual, GraphSAGE, spectral_nodes

USERS, ITEMS, WIDTH = 8, 6, 2
RNG = np.random.default_rng(0)
# Two groups of users, each with items of its own, and a little noise; nobody chose the last item.
CHOSEN = (np.arange(USERS)[:, None] % 2 == np.arange(ITEMS)[None] % 2) ^ (
    RNG.random((USERS, ITEMS)) < 0.1
)
CHOSEN[:, -1] = False
GRAPH = bipartite_graph(*np.nonzero(CHOSEN), users=USERS, items=ITEMS)


def test_items_span_the_first_singular_vectors_of_the_normalised_choices():
    degrees = [np.maximum(CHOSEN.sum(axis), 1) for axis in (1, 0)]
    r = CHOSEN / np.sqrt(degrees[0])[:, None] / np.sqrt(degrees[1])
    _, values, vectors = np.linalg.svd(r)
    assert values[WIDTH] < 0.7 * values[WIDTH - 1]
    users, items = spectral_nodes(GRAPH, WIDTH, sweeps=30)
    projector = vectors[:WIDTH].T @ vectors[:WIDTH]
    np.testing.assert_allclose(items @ items.T / ITEMS, projector, atol=1e-5)
    np.testing.assert_allclose(users, r @ items, atol=1e-5)
    assert not items[-1].any()


def test_what_cannot_be_spanned_is_refused():
    with pytest.raises(ValueError, match=r"width must be in \[1, 6\] \(the items\), got 7"):
        spectral_nodes(GRAPH, 7)
    with pytest.raises(ValueError, match="sweeps must be >= 1, got 0"):
        spectral_nodes(GRAPH, 2, sweeps=0)


def test_a_residual_starts_at_the_nodes_and_then_adds_a_map_of_what_the_network_says():
    x = RNG.normal(size=(USERS + ITEMS, 3)).astype(np.float32)
    network = GraphResidual(GraphSAGE(2))
    params = network.init(jax.random.key(0), x, GRAPH.edges)["params"]
    np.testing.assert_array_equal(network.apply({"params": params}, x, GRAPH.edges), x)
    kernel = RNG.normal(size=(2, 3))
    params = {**params, "change": {"kernel": kernel}}
    said: Any = GraphSAGE(2).apply({"params": params["network"]}, x, GRAPH.edges)
    expected = x + np.maximum(said, 0) @ kernel
    found: Any = network.apply({"params": params}, x, GRAPH.edges)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.data.graph import bipartite_graph, edges_of
from metajax.networks import (
    GraphAttention,
    GraphConvolution,
    GraphNetwork,
    GraphResidual,
    GraphSAGE,
    LightGCN,
)

REFERENCE = json.loads(Path(__file__).with_name("graph_reference.json").read_text())
X, SEEN_AS = jnp.asarray(REFERENCE["nodes"]), jnp.asarray(REFERENCE["seen_as"])
EDGES = bipartite_graph(**REFERENCE["graph"]).edges
LAYERS = {
    "gcn": GraphConvolution(2),
    "gat": GraphAttention(2, heads=2),
    "gat, mean": GraphAttention(2, heads=2, mean=True),
    "sage": GraphSAGE(2),
    "light": LightGCN(2),
}


def params_of(name):
    """PyTorch Geometric's parameters under the names and shapes of these layers."""
    given = {key: np.array(leaf) for key, leaf in REFERENCE[name]["params"].items()}
    if name == "gcn":
        return {"map": {"kernel": given["lin.weight"].T}, "bias": given["bias"]}
    if name == "sage":
        neighbours = {"kernel": given["lin_l.weight"].T, "bias": given["lin_l.bias"]}
        return {"neighbours": neighbours, "own": {"kernel": given["lin_r.weight"].T}}
    if name.startswith("gat"):
        return {
            "map": {"kernel": given["lin.weight"].T},
            "from": given["att_src"][0],
            "to": given["att_dst"][0],
            "bias": given["bias"],
        }
    return {}


def applied(layer, params, *given, **options) -> Any:
    return layer.apply({"params": params}, *given, **options)


@partial(jax.jit, static_argnums=0)
def judged(layer, params, x, edges):
    """The layer's output and the gradients of a sum over it."""

    def total(params, x):
        out = applied(layer, params, x, edges)
        return jnp.sum(out * SEEN_AS[: len(x), : out.shape[1]]), out

    (_, out), gradients = jax.value_and_grad(total, argnums=(0, 1), has_aux=True)(params, x)
    return out, *gradients


@pytest.mark.parametrize("name", ["gcn", "gat", "gat, mean", "sage"])
def test_a_layer_is_that_of_pytorch_geometric(name):
    # Theirs has no weights in the mean.
    edges = EDGES._replace(weight=jnp.sign(EDGES.weight)) if name == "sage" else EDGES
    out, _, gradient = judged(LAYERS[name], params_of(name), X, edges)
    np.testing.assert_allclose(out, REFERENCE[name]["out"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient, REFERENCE[name]["gradient"], rtol=1e-5, atol=1e-5)


def test_a_step_of_lightgcn_is_that_of_pytorch_geometric():
    steps = applied(LightGCN(1), {}, X, EDGES, method="steps")
    np.testing.assert_allclose(steps[1], REFERENCE["light"]["out"], rtol=1e-5, atol=1e-6)


def test_lightgcn_averages_powers_of_the_normalised_adjacency():
    graph = REFERENCE["graph"]
    a = np.zeros((7, 7))
    a[graph["user"], 4 + np.array(graph["item"])] = graph["weight"]
    a += a.T
    root = np.array([d**-0.5 if d else 0 for d in a.sum(axis=1)])
    a *= root[:, None] * root
    expected = (np.eye(7) + a + a @ a) @ np.array(X) / 3
    found, _, gradient = judged(LAYERS["light"], {}, X, EDGES)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    expected = (np.eye(7) + a + a @ a).T @ np.array(SEEN_AS)[:, :3] / 3
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_neither_padding_nor_the_order_of_edges_counts(name):
    alone = edges_of(EDGES.source[:8], EDGES.target[:8], EDGES.weight[:8], nodes=7)
    order = np.random.default_rng(0).permutation(8)
    shuffled = edges_of(EDGES.source[order], EDGES.target[order], EDGES.weight[order], nodes=7)
    padded = shuffled._replace(
        source=jnp.pad(shuffled.source, (0, 8), constant_values=6),
        target=jnp.pad(shuffled.target, (0, 8), constant_values=6),
        weight=jnp.pad(shuffled.weight, (0, 8)),
    )
    params = params_of(name)
    for found, right in zip(
        jax.tree.leaves(judged(LAYERS[name], params, X, padded)),
        jax.tree.leaves(judged(LAYERS[name], params, X, alone)),
        strict=True,
    ):
        np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_a_graph_without_edges_leaves_each_node_to_itself(name):
    params = params_of(name)
    nothing = edges_of([], [], nodes=7)
    out, *gradients = judged(LAYERS[name], params, X, nothing)
    x = np.array(X)
    if name == "sage":
        expected = x @ params["own"]["kernel"] + params["neighbours"]["bias"]
    elif name == "light":
        expected = x / 3
    else:
        mapped = x @ params["map"]["kernel"]
        if "mean" in name:
            mapped = mapped.reshape(7, 2, 2).mean(axis=1)
        expected = mapped + params["bias"]
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_large_logits_of_attention_do_not_overflow():
    params = jax.tree.map(lambda leaf: 100 * jnp.asarray(leaf), params_of("gat"))
    assert all(
        np.isfinite(leaf).all()
        for leaf in jax.tree.leaves(judged(LAYERS["gat"], params, 100 * X, EDGES))
    )


def test_a_network_has_a_relu_between_its_layers():
    network = GraphNetwork([GraphSAGE(3), GraphConvolution(2)])
    params = jax.jit(network.init)(jax.random.key(0), X, EDGES)["params"]
    hidden = np.maximum(applied(GraphSAGE(3), params["layers_0"], X, EDGES), 0)
    expected = applied(GraphConvolution(2), params["layers_1"], jnp.asarray(hidden), EDGES)
    found = applied(network, params, X, EDGES)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_residual_starts_at_the_nodes_and_then_adds_a_map_of_the_networks_output():
    rng = np.random.default_rng(0)
    edges = bipartite_graph([0, 0, 1, 2], [0, 1, 1, 3], users=3, items=4).edges
    x = rng.normal(size=(7, 3)).astype(np.float32)
    network = GraphResidual(GraphSAGE(2))
    params = network.init(jax.random.key(0), x, edges)["params"]
    np.testing.assert_array_equal(network.apply({"params": params}, x, edges), x)
    kernel = rng.normal(size=(2, 3))
    params = {**params, "change": {"kernel": kernel}}
    features: Any = GraphSAGE(2).apply({"params": params["network"]}, x, edges)
    expected = x + np.maximum(features, 0) @ kernel
    found: Any = network.apply({"params": params}, x, edges)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

"""The sums over edges, in one piece and in blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.data import edges_of
from metajax.networks import graph

NODES, WIDTH, HEADS = 5, 4, 2
RNG = np.random.default_rng(0)
SOURCE, TARGET = RNG.integers(0, NODES - 1, (2, 12))
EDGES = edges_of(SOURCE, TARGET, RNG.random(12) + 0.1, nodes=NODES)
X, SEEN_AS = jnp.asarray(RNG.normal(size=(2, NODES, WIDTH)), jnp.float32)
SHARE = jnp.asarray(RNG.normal(size=(16, HEADS)), jnp.float32)


def by_hand(x, share):
    out = np.zeros((NODES, WIDTH))
    for source, target, each in zip(EDGES.source, EDGES.target, np.array(share), strict=True):
        out[target] += np.array(x)[source] * np.repeat(each, WIDTH // share.shape[1])
    return out


@pytest.mark.parametrize("block", [4, 16])
def test_messages_add_up_whatever_the_blocks(monkeypatch, block):
    monkeypatch.setattr(graph, "_BLOCK", block)
    found = graph.incoming(X, EDGES, SHARE)
    np.testing.assert_allclose(found, by_hand(X, SHARE), rtol=1e-5, atol=1e-6)
    found = graph.incoming(X, EDGES)
    np.testing.assert_allclose(found, by_hand(X, EDGES.weight[:, None]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block", [4, 16])
def test_gradients_are_those_of_the_sums(monkeypatch, block):
    monkeypatch.setattr(graph, "_BLOCK", block)

    def total(x, share):
        return jnp.sum(graph.incoming(x, EDGES, share) * SEEN_AS)

    of_x, of_share = jax.jit(jax.grad(total, argnums=(0, 1)))(X, SHARE)
    expected = np.zeros((NODES, WIDTH))
    x, seen_as = np.array(X), np.array(SEEN_AS)
    for source, target, each, found in zip(*EDGES[:2], np.array(SHARE), of_share, strict=True):
        expected[source] += seen_as[target] * np.repeat(each, WIDTH // HEADS)
        product = (x[source] * seen_as[target]).reshape(HEADS, -1).sum(axis=1)
        np.testing.assert_allclose(found, product, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_x, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block", [4, 16])
def test_sums_against_the_edges_are_the_transpose(monkeypatch, block):
    monkeypatch.setattr(graph, "_BLOCK", block)
    # Between 5 sources and 8 targets: <A x, y> = <x, A' y>.
    y = jnp.asarray(RNG.normal(size=(8, WIDTH)), jnp.float32)

    def product(x, y):
        return jnp.sum(graph.incoming(x, EDGES, nodes=8) * y)

    assert graph.incoming(X, EDGES, nodes=8).shape == (8, WIDTH)
    back = graph.outgoing(y, EDGES, nodes=NODES)
    np.testing.assert_allclose(jnp.sum(X * back), product(X, y), rtol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.grad(product))(X, y), back, rtol=1e-5, atol=1e-6)
    through = jax.jit(jax.grad(lambda y: jnp.sum(X * graph.outgoing(y, EDGES, nodes=NODES))))
    np.testing.assert_allclose(through(y), graph.incoming(X, EDGES, nodes=8), rtol=1e-5, atol=1e-6)


def test_gradients_can_be_differentiated_again(monkeypatch):
    monkeypatch.setattr(graph, "_BLOCK", 4)

    def total(x):
        return jnp.sum(jnp.square(graph.incoming(x, EDGES)) * SEEN_AS)

    matrix = by_hand(np.eye(NODES)[:, :WIDTH], EDGES.weight[:, None])  # columns of the adjacency
    first = jax.grad(total)
    along = jnp.zeros_like(X).at[0, 0].set(1.0)
    found = jax.jit(jax.grad(lambda x: jnp.sum(first(x) * along)))(X)
    # Of sum_i s_i (A x)_i^2, the row of 2 A' diag(s) A for node 0.
    expected = 2 * (matrix.T * np.array(SEEN_AS)[:, 0]) @ matrix[:, 0]
    np.testing.assert_allclose(found[:WIDTH, 0], expected, rtol=1e-5, atol=1e-5)

"""The ring buffer of arrivals, and propagation on its hypergraph."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.knowledge import (
    LiveVectors,
    add_arrivals,
    arrivals_of,
    bipartite_edges,
    fold_in,
    hyperedge_vectors,
    live_buffer,
    live_graph,
    node_vectors,
)
from metajax.networks import LightGCN

NODES, WIDTH, TAU, NOW = 7, 3, 20.0, 100
X = jnp.asarray(np.random.default_rng(0).normal(size=(NODES, WIDTH)), jnp.float32)
TRACED = []


def traced_add(buffer, arrivals):
    TRACED.append(len(arrivals.node))
    return add_arrivals(buffer, arrivals)


ADD = jax.jit(traced_add, donate_argnums=0)


@jax.jit
def vectors(buffer, names, x=X, now=NOW):
    graph = live_graph(buffer, now, TAU)
    return node_vectors(x, graph), hyperedge_vectors(x, graph, names)


def ring(events, capacity=64, batch=5):
    """Puts (node, edge, time) into a ring, some at a time."""
    buffer = live_buffer(capacity)
    for start in range(0, len(events), batch):
        columns = np.array(events[start : start + batch]).T
        buffer = ADD(buffer, arrivals_of(*columns, nodes=NODES))
    return buffer


def by_hand(events, names, x=X, now=NOW):
    """The same in NumPy: H as a matrix, each incidence at its latest time."""
    latest = {}
    for node, edge, time in events:
        latest[node, edge] = max(time, latest.get((node, edge), 0))
    edges = sorted({edge for _, edge in latest})
    incidence = np.zeros((NODES, len(edges)))
    for (node, edge), time in latest.items():
        incidence[node, edges.index(edge)] = np.exp(-max(now - time, 0) / TAU)
    of_node, of_edge = incidence.sum(axis=1), incidence.sum(axis=0)
    root = np.diag([1 / np.sqrt(d) if d else 0 for d in of_node])
    mean = incidence.T / of_edge[:, None]
    rows = [edges.index(name) if name in edges else None for name in names]
    vectors = [np.zeros(WIDTH) if row is None else mean[row] @ np.array(x) for row in rows]
    weights = [0 if row is None else of_edge[row] for row in rows]
    return (
        (root @ incidence @ mean @ root @ np.array(x), of_node),
        (np.array(vectors), np.array(weights)),
    )


def same(found, expected, rtol=2e-5):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-6)


def stream(count, seed=0):
    rng = np.random.default_rng(seed)
    # Names of hyperedges need not be close together; node 6 never comes.
    edge = rng.choice([0, 3, 1_000_000_007, 2**31 - 2], count)
    return list(zip(rng.integers(0, 6, count), edge, rng.integers(0, NOW, count), strict=True))


NAMES = jnp.array([3, 5, 2**31 - 2, 0], jnp.int32)


def test_vectors_equal_those_of_dense_incidence_matrices():
    events = stream(40)
    assert len({event[:2] for event in events}) < 24  # Some nodes come again.
    same(vectors(ring(events), NAMES), by_hand(events, NAMES.tolist()))


def test_order_of_arrival_and_duplicates_make_no_difference():
    events = stream(20)
    shuffled = [events[n] for n in np.random.default_rng(1).permutation(20)]
    expected = vectors(ring(events), NAMES)
    same(vectors(ring([*shuffled, *events, *shuffled]), NAMES), expected, rtol=1e-6)


@pytest.mark.parametrize("events", [[(0, 3, 40), (0, 3, 90)], [(0, 3, 90), (0, 3, 40)]])
def test_a_node_counts_once_in_a_hyperedge_at_its_latest_time(events):
    nodes, edges = vectors(ring(events), NAMES)
    assert nodes.weight[0] == pytest.approx(np.exp(-10 / TAU), rel=1e-6)
    assert edges.weight[0] == nodes.weight[0]
    # All that is in the hyperedge is the node itself.
    np.testing.assert_allclose(nodes.vector[0], X[0], rtol=1e-6)


def test_a_full_buffer_drops_the_oldest_arrivals_whatever_their_time():
    events = stream(150, seed=2)
    buffer = ring(events, capacity=50, batch=9)
    assert (len(buffer.node), int(buffer.filled), int(buffer.next)) == (64, 64, 150 - 128)
    same(vectors(buffer, NAMES), by_hand(events[-64:], NAMES.tolist()))
    newest_first = [(0, 3, NOW), *((1, 5, 0) for _ in range(64))]
    assert vectors(ring(newest_first), NAMES)[1].weight[0] == 0


def test_times_after_now_count_as_now():
    nodes, _ = vectors(ring([(2, 3, NOW + 50)]), NAMES)
    assert nodes.weight.tolist() == [0, 0, 1, 0, 0, 0, 0]


def test_decay_changes_weight_and_not_direction():
    buffer = ring(stream(40))
    at_once, later = (vectors(buffer, NAMES, now=NOW + wait) for wait in (0, 40))
    same(later[0].weight, at_once[0].weight * np.exp(-40 / TAU))
    same(later[0].vector, at_once[0].vector)
    gone = vectors(buffer, NAMES, now=2**31 - 1)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gone))


def test_an_empty_buffer_gives_zero_vectors_and_finite_gradients():
    @jax.jit
    @jax.value_and_grad
    def total(x):
        nodes, edges = vectors(live_buffer(64), NAMES, x)
        return jnp.sum(fold_in(x, nodes, 2.0)) + jnp.sum(edges.vector)

    value, slope = total(X)
    assert value == jnp.sum(X)
    np.testing.assert_array_equal(slope, jnp.ones_like(X))


def test_padding_occupies_no_slot():
    nothing = arrivals_of([], [], [], nodes=NODES)
    three = arrivals_of([1, 2, 3], [0, 0, 0], [7, 8, 9], nodes=NODES)
    buffer = ADD(ADD(ADD(live_buffer(8), three), nothing), three)
    assert buffer.time.tolist() == [7, 8, 9, 7, 8, 9, 0, 0]
    assert (int(buffer.filled), int(buffer.next)) == (6, 6)


def test_the_buffer_is_updated_in_place_without_recompilation():
    buffer = ADD(live_buffer(64), arrivals_of([0], [0], [0], nodes=NODES))
    traced = len(TRACED)
    for n in range(1, 100):
        place = buffer.node.unsafe_buffer_pointer()
        buffer = ADD(buffer, arrivals_of([n % 3], [n], [n], nodes=NODES))
        assert buffer.node.unsafe_buffer_pointer() == place
    assert len(TRACED) == traced
    assert sorted(buffer.edge.tolist()) == list(range(36, 100))


def test_users_and_items_form_a_bipartite_graph():
    events = [(int(node), n % 5, time) for n, (node, _, time) in enumerate(stream(30))]
    latest = {}
    for item, user, time in events:
        latest[user, item] = max(time, latest.get((user, item), 0))
    matrix = np.zeros((5 + NODES, 5 + NODES))
    for (user, item), time in latest.items():
        matrix[user, 5 + item] = matrix[5 + item, user] = np.exp((time - NOW) / TAU)

    @jax.jit
    def passed(buffer, x):
        edges = bipartite_edges(live_graph(buffer, NOW, TAU), users=5, items=NODES)
        return LightGCN(1).apply({}, x, edges), edges.target

    x = jnp.asarray(np.random.default_rng(3).normal(size=(12, 2)), jnp.float32)
    found, target = passed(ring(events), x)
    degree = matrix.sum(axis=1)
    scale = np.array([1 / np.sqrt(d) if d else 0 for d in degree])
    expected = (np.array(x) + scale[:, None] * (matrix @ (scale[:, None] * np.array(x)))) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.all(np.diff(target) >= 0)


def test_fold_in_shrinks_live_vectors_to_learned_ones():
    live = LiveVectors(jnp.full((2, 3), 5.0), jnp.array([6.0, 0.0]))
    expected = (2.0 * X[:2] + live.weight[:, None] * live.vector) / (2.0 + live.weight[:, None])
    np.testing.assert_allclose(fold_in(X[:2], live, 2.0), expected, rtol=1e-6)
    np.testing.assert_array_equal(fold_in(X[:2], live, 2.0)[1], X[1])


@pytest.mark.parametrize(
    ("columns", "rule"),
    [
        (([0, 7], [0, 0], [0, 0]), r"^node must be in \[0, 7\), got 7 in arrival 1\.$"),
        (([0], [2**31 - 1], [0]), r"^edge must be in \[0, 2147483647\), got 2147483647 in ar"),
        (([0], [0], [-1]), r"^time must be in \[0, 2147483648\), got -1 in arrival 0\.$"),
        (([0], [0, 1], [0, 1]), r"columns of one length, got \[\(1,\), \(2,\), \(2,\)\]\.$"),
    ],
)
def test_an_invalid_arrival_is_named(columns, rule):
    with pytest.raises(ValueError, match=rule):
        arrivals_of(*columns, nodes=NODES)


def test_invalid_capacity_decay_and_strength_are_refused():
    with pytest.raises(TypeError, match="time must hold whole numbers, got float64"):
        arrivals_of([0], [0], [0.5], nodes=NODES)
    with pytest.raises(ValueError, match=r"edge must be in \[0, 5\), got 5 in arrival 0"):
        arrivals_of([0], [5], [0], nodes=NODES, edges=5)
    with pytest.raises(ValueError, match=r"capacity must be >= 1, got 0\."):
        live_buffer(0)
    with pytest.raises(ValueError, match="arrivals must be at most 2, with padding, got 4"):
        add_arrivals(live_buffer(2), arrivals_of([0] * 3, [0] * 3, [0] * 3, nodes=NODES))
    for wrong in (0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="tau must be finite and > 0"):
            live_graph(live_buffer(2), NOW, wrong)
        with pytest.raises(ValueError, match="strength must be finite and > 0"):
            fold_in(X, LiveVectors(X, X[:, 0]), wrong)

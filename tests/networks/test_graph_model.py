import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.adaptation import neighbourhood
from metajax.data import bipartite_graph
from metajax.networks import GraphNetwork, GraphSAGE, LightGCN, graph_model, with_graph
from metajax.types import Examples, Inputs, MemberInputs

USERS, ITEMS, WIDTH = 4, 5, 3
USER, ITEM = np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 3, 0])
GRAPH = bipartite_graph(USER, ITEM, users=USERS, items=ITEMS)


def inputs_of(*items):
    blank = jnp.zeros((len(items), 0))
    return Inputs(blank, blank, jnp.array(items))


def drawn(model):
    """Parameters none of which is zero; the graph stays."""
    params = jax.jit(model.init)(jax.random.key(0), inputs_of(0))
    rng = np.random.default_rng(0)
    moved = jax.tree.map(lambda leaf: leaf + rng.normal(size=leaf.shape), params)
    return {**moved, "graph": params["graph"]}


def normalised(users, user, item):
    """The dense adjacency of users, then items, between roots of degrees."""
    a = np.zeros((users + ITEMS, users + ITEMS))
    a[user, users + item] = 1
    a += a.T
    root = np.array([d**-0.5 if d else 0 for d in a.sum(axis=1)])
    return a * root[:, None] * root


def test_known_users_score_by_the_product_of_vectors_and_the_bias_of_items():
    model = graph_model(GRAPH, LightGCN(2), width=WIDTH)
    params = drawn(model)
    a = normalised(USERS, USER, ITEM)
    x = np.concatenate([params["user"], params["item"]])
    nodes = (x + a @ x + a @ a @ x) / 3
    queried = inputs_of(1, 4, 3)
    who = MemberInputs(queried, jnp.array([0, 2, 3]), jnp.ones(3, bool), jnp.ones(3))
    expected = [nodes[u] @ nodes[USERS + i] for u, i in ((0, 1), (2, 4), (3, 3))]
    expected += np.array(params["item_bias"])[[1, 4, 3]]
    np.testing.assert_allclose(model.apply(params, who), expected, rtol=1e-5, atol=1e-6)
    new_user = nodes[[USERS + 1, USERS + 4, USERS + 3]] @ np.array(params["new_user"])
    new_user += np.array(params["item_bias"])[[1, 4, 3]]
    np.testing.assert_allclose(model.apply(params, queried), new_user, rtol=1e-5, atol=1e-6)


def test_a_new_user_equals_a_lightgcn_node_without_outgoing_messages():
    """The user is put into the graph for the step to them, and left out of every other."""
    model = graph_model(GRAPH, LightGCN(2), width=WIDTH)
    params = drawn(model)
    chosen = [1, 3, 4]
    support = Examples(inputs_of(*chosen, 0), jnp.ones(4), jnp.array([True, True, True, False]))
    found = neighbourhood().adapt(model.propagate(params), support)
    x = np.concatenate([params["user"], params["item"]])
    degree = np.bincount(ITEM, minlength=ITEMS)
    messages = np.zeros(WIDTH)
    # Steps 0 and 1 of the items are messages in steps 1 and 2 of the user.
    for step in (x, normalised(USERS, USER, ITEM) @ x):
        for i in chosen:
            messages += step[USERS + i] / np.sqrt(3 * (degree[i] + 1)) / 3
    np.testing.assert_allclose(found, np.array(params["new_user"]) + messages, rtol=1e-5, atol=1e-6)


def test_a_new_user_is_the_mean_of_their_items_with_other_networks():
    model = graph_model(GRAPH, GraphNetwork([GraphSAGE(2)]), width=WIDTH)
    params = drawn(model)
    nodes = model.propagate(params)
    labels = jnp.array([5.0, 2.0, 4.0])
    support = Examples(inputs_of(1, 3, 4), labels, jnp.ones(3, bool))
    found = neighbourhood(relevant=4.0).adapt(nodes, support)
    items = np.array(nodes.item)
    expected = np.array(params["new_user"]) + (items[1] + items[4]) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_users_left_out_equal_a_graph_without_them():
    model = graph_model(GRAPH, LightGCN(2), width=WIDTH)
    params = drawn(model)
    stays = (USER != 0) & (USER != 2)
    smaller = bipartite_graph(USER[stays], ITEM[stays], users=USERS, items=ITEMS)
    expected = model.propagate({**params, "graph": smaller.edges})
    found = jax.jit(model.propagate)(params, jnp.array([2, 0, 2]))
    for leaf, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(leaf, right, rtol=1e-6)


def test_a_graph_without_edges_propagates_to_numbers():
    nothing = bipartite_graph([], [], users=2, items=2)
    model = graph_model(nothing, LightGCN(1), width=WIDTH)
    params = drawn(model)
    nodes = model.propagate(params)
    np.testing.assert_allclose(nodes.user, params["user"] / 2, rtol=1e-6)
    gradient = jax.grad(lambda params: jnp.sum(model.propagate(params).neighbour))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_a_graph_of_fewer_edges_fits_where_there_was_one_of_more():
    model = graph_model(GRAPH, LightGCN(2), width=WIDTH)
    params = drawn(model)
    fewer = bipartite_graph(USER[:1], ITEM[:1], users=USERS, items=ITEMS)
    found = model.propagate(with_graph(params, fewer))
    expected = model.propagate({**params, "graph": fewer.edges})
    for leaf, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(leaf, right, rtol=1e-6)


def test_invalid_sizes_are_refused():
    model = graph_model(GRAPH, width=WIDTH)
    params = jax.eval_shape(model.init, jax.random.key(0), None)
    with pytest.raises(ValueError, match="graph must have 5 items, with padding, got 6"):
        with_graph(params, bipartite_graph(USER, ITEM, users=USERS, items=6))
    twice = bipartite_graph([*USER, *USER], [*ITEM, *ITEM], users=USERS, items=ITEMS)
    with pytest.raises(ValueError, match="graph must have at most 16 edges, with padding, got 32"):
        with_graph(params, twice)
    with pytest.raises(ValueError, match=r"bias must be one number or 5, got the shape \(4,\)"):
        graph_model(GRAPH, bias=jnp.ones(4))
    with pytest.raises(ValueError, match="relevant must be a number, got nan"):
        neighbourhood(relevant=np.nan)
    with pytest.raises(ValueError, match="width must be >= 1, got 0"):
        graph_model(GRAPH, width=0)
    with pytest.raises(ValueError, match="graph must have at most 16777216 nodes, got 16777217"):
        graph_model(GRAPH._replace(users=2**24 + 1 - ITEMS))

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import baselines, losses, registry
from metajax.data import bipartite_graph, blank_graph
from metajax.data.dataset import shapes_of
from metajax.methods.graph_ridge import (
    attentions,
    graph_ridge,
    initial_rating_graph,
    light,
    rating_graph,
)
from metajax.networks import GraphSAGE
from metajax.types import Examples, Inputs, MemberInputs, Task

USERS, ITEMS, WIDTH, HIDDEN = 3, 4, 2, 5
USER, ITEM = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 3])
RNG = np.random.default_rng(0)
KNOWN: dict[str, Any] = {
    "user": RNG.normal(size=(USERS, WIDTH)),
    "item": RNG.normal(size=(ITEMS, WIDTH)),
    "item_bias": 3 + RNG.normal(size=ITEMS),
    "noise": RNG.uniform(0.5, 1, ITEMS),
    "item_domain": np.array([0.0, 1.0, 1.0, 0.0]),
}
GRAPH = bipartite_graph(USER, ITEM, users=USERS, items=ITEMS)
MODEL = rating_graph(blank_graph(USERS, ITEMS, 4), GraphSAGE(HIDDEN), width=WIDTH, adapter=True)


def started():
    return initial_rating_graph(jax.jit(MODEL.init)(jax.random.key(0), None), GRAPH, **KNOWN)


def moved():
    """Parameters none of which is zero; what is fixed stays."""
    params, rng = started(), np.random.default_rng(1)
    learned = {name: params[name] for name in ("network", "correction", "adapter")}
    return params | jax.tree.map(lambda leaf: leaf + rng.normal(size=leaf.shape), learned)


def expected(params, user, item):
    """One layer of GraphSAGE, the adapter of the target and the correction, in NumPy."""
    params = jax.tree.map(np.asarray, params)
    blank = np.zeros((USERS, WIDTH + 1))
    bias = KNOWN["item_bias"]
    known = np.column_stack([KNOWN["item"], bias - bias.mean()])
    x = np.block([[KNOWN["user"], blank], [np.zeros((ITEMS, WIDTH)), known]])
    a = np.zeros((len(x), len(x)))
    a[user, USERS + item] = 1
    a += a.T
    degree = a.sum(axis=1)
    x = np.column_stack([x, np.log1p(degree)])
    mean = a @ x / np.maximum(degree, 1)[:, None]
    layer = params["network"]
    out = x @ layer["own"]["kernel"] + mean @ layer["neighbours"]["kernel"]
    out = (out + layer["neighbours"]["bias"])[USERS:]
    target = KNOWN["item_domain"][:, None]
    out += target * (out @ params["adapter"])
    change = np.maximum(out, 0) @ params["correction"]
    return bias + change[:, WIDTH], KNOWN["item"] + change[:, :WIDTH], KNOWN["noise"]


def test_items_are_described_by_a_layer_an_adapter_and_a_correction():
    params = moved()
    for leaf, right in zip(MODEL.propagate(params)[:3], expected(params, USER, ITEM), strict=True):
        np.testing.assert_allclose(leaf, right, rtol=1e-5, atol=1e-5)


def test_users_left_out_do_not_affect_their_items():
    params = moved()
    found = jax.jit(MODEL.propagate)(params, jnp.array([0, 2]))
    for leaf, right in zip(found[:3], expected(params, USER[2:3], ITEM[2:3]), strict=True):
        np.testing.assert_allclose(leaf, right, rtol=1e-5, atol=1e-5)


def test_the_adapter_changes_items_of_the_target_alone():
    params = moved()
    without = {**params, "adapter": jnp.zeros((HIDDEN, HIDDEN))}
    change = np.abs(MODEL.propagate(params).design - MODEL.propagate(without).design).max(axis=1)
    assert (change[1:3] > 1e-3).all()
    assert (change[[0, 3]] == 0).all()


def test_an_update_moves_learned_parameters_alone():
    blank = jnp.zeros((1, 2, 0))
    inputs = Inputs(blank, blank, jnp.array([[1, 3]]))
    shown = Examples(inputs, jnp.array([[4.0, 2.0]]), jnp.ones((1, 2), bool))
    who = MemberInputs(inputs, jnp.zeros((1, 2), int), shown.mask, shown.labels)
    task = Task(shown, shown._replace(inputs=who))
    learner = graph_ridge(MODEL, losses.squared_error, outer=optax.adamw(0.1))
    params = moved()
    state = learner.init(jax.random.key(0), task)._replace(params=params)
    after = jax.jit(learner.update)(state, task)[0].params
    for name, leaf in params.items():
        same = jax.tree.map(lambda a, b: bool((a == b).all()), leaf, after[name])
        assert all(jax.tree.leaves(same)) == (name in MODEL.fixed), name


def test_sizes_that_do_not_match_are_refused():
    params = started()
    with pytest.raises(ValueError, match=r"user must have the shape \(3, 2\), got \(2, 2\)"):
        initial_rating_graph(params, GRAPH, **{**KNOWN, "user": jnp.zeros((2, 2))})
    with pytest.raises(ValueError, match="width must be >= 1, got 0"):
        rating_graph(GRAPH, width=0)


@pytest.mark.parametrize("name", ["gcn_ridge", "shared_graph"])
def test_the_first_predictions_are_those_of_the_fold_in_of_both_domains(name, two_domains):
    settings = registry.settings_for(name, rank=2)
    params = registry.first_progress(settings, two_domains).state.params
    rule = registry.adaptation_of(settings, shapes_of(two_domains))
    rng = np.random.default_rng(1)
    item = jnp.asarray(rng.permutation(30)[:8])
    inputs = Inputs(jnp.zeros((8, 0)), jnp.zeros((8, 0)), item)
    support = Examples(inputs, jnp.asarray(rng.integers(1, 6, 8), jnp.float32), item % 3 > 0)
    fold_in = baselines.eb_fold_in
    closed = fold_in.fit(two_domains, rank=2)
    expected = fold_in.adaptation.predict(closed, fold_in.adaptation.adapt(closed, support), inputs)

    @jax.jit
    def predicted(params):
        return rule.predict(params, rule.adapt(params, support), inputs)

    np.testing.assert_allclose(predicted(params), expected, rtol=1e-5, atol=1e-5)


def test_users_in_the_graph_start_where_their_ratings_put_them(two_domains):
    """Each is the posterior mean under the identities and the noise of the items they rated."""
    params = registry.first_progress(registry.settings_for("gcn_ridge", rank=2), two_domains)
    params = params.state.params
    log = two_domains.interactions
    for user in log.users[:5]:
        rows = slice(*log.offsets[user : user + 2])
        x = np.asarray(params["item"], np.float64)[log.item[rows]]
        y = log.rating[rows] - np.asarray(params["item_bias"])[log.item[rows]]
        noise = float(params["noise"][0])
        expected = np.linalg.solve(np.eye(3) + x.T @ x / noise, x.T @ y / noise)
        np.testing.assert_allclose(params["user"][user], expected, rtol=1e-3, atol=1e-4)
    nobody = np.flatnonzero(log.user_counts == 0)
    assert not np.asarray(params["user"])[nobody].any()


@pytest.mark.parametrize("name", ["gcn_ridge", "gat_ridge", "sage_ridge"])
def test_the_option_layers_is_the_number_of_layers(name, two_domains):
    settings = registry.settings_for(name, rank=2, width=4, layers=3)
    params = registry.first_progress(settings, two_domains).state.params
    assert set(params["network"]) == {"layers_0", "layers_1", "layers_2"}


def test_the_option_layers_is_the_number_of_steps_of_light_gcn():
    for name in ("light_gcn", "graph_light", "light_gcn_ridge"):
        assert light(registry.settings_for(name)).layers == 2
        assert light(registry.settings_for(name, layers=3)).layers == 3


def test_the_option_heads_divides_the_width():
    for name in ("gat_ridge", "graph_gat"):
        first, last = attentions(registry.settings_for(name, width=6, heads=3)).layers
        assert (first.heads, first.width, last.heads, last.width) == (3, 2, 1, 6)
        with pytest.raises(ValueError, match=r"width must be a multiple of heads \(4\), got 6"):
            attentions(registry.settings_for(name, width=6, heads=4))

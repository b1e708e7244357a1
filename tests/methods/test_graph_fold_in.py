"""Learners on a graph: what they learn, and what an update costs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import losses, registry
from metajax.adaptation import neighbourhood
from metajax.data import bipartite_graph
from metajax.data.dataset import shapes_of
from metajax.methods.graph_fold_in import graph_fold_in, spectral_nodes
from metajax.methods.light_gcn import light_gcn
from metajax.networks import GraphAttention, GraphNetwork, LightGCN, graph_model, with_graph
from metajax.types import Examples, Inputs, MemberInputs, Task

# Sizes that do not meet by chance.
TASKS, SUPPORT, QUERY, USERS, ITEMS, WIDTH = 5, 3, 4, 16, 23, 6
RNG = np.random.default_rng(0)
USER, ITEM = np.divmod(RNG.permutation(USERS * ITEMS)[:60], ITEMS)
GRAPH = bipartite_graph(USER, ITEM, users=USERS, items=ITEMS)
NODES = USERS + ITEMS


def inputs_of(item):
    blank = jnp.zeros((*item.shape, 0))
    return Inputs(blank, blank, jnp.asarray(item, jnp.int32))


def tasks_of(*, members=True, label=lambda item: item % 2) -> Task:
    def part(rows):
        item = RNG.integers(0, ITEMS, (TASKS, rows))
        mask = jnp.ones((TASKS, rows), bool)
        return Examples(inputs_of(item), jnp.asarray(label(item), jnp.float32), mask)

    support, query = part(SUPPORT), part(QUERY)
    if members:
        user = jnp.tile(jnp.arange(TASKS)[:, None], (1, QUERY))
        known = jnp.ones((TASKS, QUERY), bool)
        own = MemberInputs(query.inputs, user, known, query.labels)
        query = query._replace(inputs=own)
    return Task(support, query)


TASKS_OF_MEMBERS = tasks_of()
LIGHT = graph_model(GRAPH, LightGCN(2), width=WIDTH, bias=0.5)


def learner_of(method, model=LIGHT, loss=losses.squared_error, **options):
    return method(model, loss, outer=optax.sgd(1.0), **options)


def started(learner, tasks=TASKS_OF_MEMBERS):
    return jax.jit(learner.init)(jax.random.key(0), tasks)


def test_an_update_follows_the_gradient_of_the_mean_loss_of_known_users():
    learner = learner_of(light_gcn)
    state = started(learner)

    def mean_loss(params):
        def of_task(task):
            return losses.on_examples(LIGHT.apply, losses.squared_error)(params, task.query)

        return jnp.mean(jax.vmap(of_task)(TASKS_OF_MEMBERS))

    value, gradient = jax.jit(jax.value_and_grad(mean_loss))(state.params)
    after, metrics = jax.jit(learner.update)(state, TASKS_OF_MEMBERS)
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-6)
    for name in ("user", "item", "item_bias"):
        expected = state.params[name] - gradient[name]
        np.testing.assert_allclose(after.params[name], expected, rtol=1e-5, atol=1e-7)


def test_a_fold_in_learns_on_the_graph_without_the_users_of_the_update():
    learner = learner_of(graph_fold_in, microbatch=2)
    state = started(learner)
    others = USER >= TASKS
    graph = bipartite_graph(USER[others], ITEM[others], users=USERS, items=ITEMS)
    smaller = graph_model(graph, LightGCN(2), width=WIDTH)
    rule = neighbourhood()

    def mean_loss(params):
        def of_task(task):
            nodes = smaller.propagate({**params, "graph": graph.edges})
            adapted = rule.adapt(nodes, task.support)
            predict = partial(rule.predict, nodes)
            return losses.on_examples(predict, losses.squared_error)(adapted, task.query)

        return jnp.mean(jax.vmap(of_task)(TASKS_OF_MEMBERS))

    trained = {name: state.params[name] for name in ("user", "item", "item_bias", "new_user")}
    gradient = jax.jit(jax.grad(lambda trained: mean_loss({**state.params, **trained})))(trained)
    after, _ = jax.jit(learner.update)(state, TASKS_OF_MEMBERS)
    for name, slope in gradient.items():
        expected = state.params[name] - slope
        np.testing.assert_allclose(after.params[name], expected, rtol=1e-5, atol=1e-7)


def equations(jaxpr, inside=()):
    """All equations of a program, each with the loops it lies in."""
    for equation in jaxpr.eqns:
        yield equation, inside
        name = equation.primitive.name
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(part, "jaxpr", part)
                if hasattr(inner, "eqns"):
                    yield from equations(inner, (*inside, name))


@pytest.mark.parametrize("method", [light_gcn, graph_fold_in])
def test_the_graph_is_gone_through_once_an_update_and_not_for_every_task(method):
    learner = learner_of(method, microbatch=2)
    state = jax.eval_shape(learner.init, jax.random.key(0), TASKS_OF_MEMBERS)
    program = jax.make_jaxpr(learner.update)(state, TASKS_OF_MEMBERS).jaxpr
    found = list(equations(program))
    sums = [
        inside
        for equation, inside in found
        if equation.primitive.name.startswith("scatter")
        and (NODES, WIDTH) in [atom.aval.shape for atom in equation.outvars]
    ]
    # Two layers there and back, none of them in the loop over microbatches.
    assert len(sums) == 4
    assert not any("scan" in inside for inside in sums)
    # What a task has for itself is smaller than the graph.
    edges = len(GRAPH.edges.source)
    for equation, _ in found:
        for shape in [getattr(atom.aval, "shape", ()) for atom in equation.outvars]:
            assert not {NODES, edges} & set(shape[1:]), equation


def test_decay_and_gradients_leave_the_graph_as_it_is():
    learner = graph_fold_in(LIGHT, losses.squared_error, outer=optax.adamw(0.1, weight_decay=1.0))
    state = started(learner)
    after, _ = jax.jit(learner.update)(state, TASKS_OF_MEMBERS)
    for leaf, before in zip(after.params["graph"], GRAPH.edges, strict=True):
        np.testing.assert_array_equal(leaf, before)
    assert np.abs(after.params["item"] - state.params["item"]).max() > 0.01


def test_one_program_serves_the_graphs_of_all_folds():
    learner, traced = learner_of(light_gcn), []

    @jax.jit
    def update(state, tasks):
        traced.append(state)
        return learner.update(state, tasks)

    state = started(learner)
    first, _ = update(state, TASKS_OF_MEMBERS)
    # Fewer edges in the same room.
    other = bipartite_graph(USER[:50], ITEM[:50], users=USERS, items=ITEMS)
    state = state._replace(params=with_graph(state.params, other))
    second, _ = update(state, TASKS_OF_MEMBERS)
    assert len(traced) == 1
    assert np.abs(first.params["item"] - second.params["item"]).max() > 1e-4


NETWORKS = {
    "light": LightGCN(2),
    "attention": GraphNetwork([GraphAttention(3, heads=2)]),
}


@pytest.mark.parametrize(
    ("network", "method", "loss"),
    [
        ("light", light_gcn, losses.bpr),
        ("light", graph_fold_in, losses.softmax_cross_entropy),
        ("attention", graph_fold_in, losses.squared_error),
    ],
)
def test_ratings_and_orders_are_learned(network, method, loss):
    model = graph_model(GRAPH, NETWORKS[network], width=WIDTH)
    learner = method(model, loss, outer=optax.adam(0.05))

    @jax.jit
    def trained(state):
        update = lambda state, _: learner.update(state, TASKS_OF_MEMBERS)  # noqa: E731
        return jax.lax.scan(update, state, length=30)

    state, metrics = trained(started(learner))
    assert metrics["loss"][-1] < 0.5 * metrics["loss"][0]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


def test_member_inputs_are_required():
    learner = learner_of(light_gcn)
    empty = tasks_of(members=False)
    state = jax.eval_shape(learner.init, jax.random.key(0), empty)
    with pytest.raises(TypeError, match="MemberInputs, got Inputs"):
        jax.eval_shape(learner.update, state, empty)


def test_a_fold_in_trains_with_plain_inputs():
    learner = learner_of(graph_fold_in)
    empty = tasks_of(members=False)
    _, metrics = jax.jit(learner.update)(started(learner, empty), empty)
    assert np.isfinite(metrics["loss"])


# Two groups of users, each with items of its own, and a little noise; the last item has no edge.
GROUPS = (np.arange(8)[:, None] % 2 == np.arange(6)[None] % 2) ^ (
    np.random.default_rng(0).random((8, 6)) < 0.1
)
GROUPS[:, -1] = False
GROUPED = bipartite_graph(*np.nonzero(GROUPS), users=8, items=6)


def test_items_span_the_first_singular_vectors_of_the_normalised_choices():
    degrees = [np.maximum(GROUPS.sum(axis), 1) for axis in (1, 0)]
    r = GROUPS / np.sqrt(degrees[0])[:, None] / np.sqrt(degrees[1])
    _, values, vectors = np.linalg.svd(r)
    assert values[2] < 0.7 * values[1]
    users, items = spectral_nodes(GROUPED, 2, sweeps=30)
    projector = vectors[:2].T @ vectors[:2]
    np.testing.assert_allclose(items @ items.T / 6, projector, atol=1e-5)
    np.testing.assert_allclose(users, r @ items, atol=1e-5)
    assert not items[-1].any()


def test_too_many_singular_vectors_are_refused():
    with pytest.raises(ValueError, match=r"width must be in \[1, 6\] \(the items\), got 7"):
        spectral_nodes(GROUPED, 7)
    with pytest.raises(ValueError, match="sweeps must be >= 1, got 0"):
        spectral_nodes(GROUPED, 2, sweeps=0)


@pytest.mark.parametrize("name", ["light_gcn", "graph_gat"])
def test_users_without_interactions_initially_get_popular_items(name, two_domains):
    settings, two_domains = (
        registry.settings_for(name, embedding=4),
        two_domains._replace(item_domain=None),
    )
    params = registry.first_progress(settings, two_domains).state.params
    rule = registry.adaptation_of(settings, shapes_of(two_domains))
    item = jnp.arange(30)
    nothing = Examples(
        Inputs(jnp.zeros((30, 0)), jnp.zeros((30, 0)), item), jnp.ones(30), jnp.zeros(30, bool)
    )

    @jax.jit
    def predicted(params):
        return rule.predict(params, rule.adapt(params, nothing), nothing.inputs)

    log, (low, high) = two_domains.interactions, two_domains.scale
    liked = np.bincount(log.item[log.rating >= low + 0.75 * (high - low)], minlength=30)
    np.testing.assert_allclose(predicted(params), np.log1p(liked), rtol=1e-6)


def test_vectors_are_not_ratings(two_domains):
    settings = registry.settings_for("graph_sage", objective="rating")
    with pytest.raises(ValueError, match="objective must be of an order of items, got 'rating'"):
        registry.learner_of(settings, shapes_of(two_domains))

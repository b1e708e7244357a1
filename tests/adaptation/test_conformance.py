"""What every adaptation owes its users, whatever its rule."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metajax import learners, losses, models
from metajax.adaptation import (
    FirstOrder,
    amortised,
    attended_labels,
    cosine_prototypes,
    gradient_steps,
    matching,
    no_steps,
    prototypes,
    ridge_head,
    sequence_steps,
)
from metajax.base import Adaptation, Examples, Inputs, MetaLearner, Model, Task
from metajax.data import Sequences, bipartite_graph

SUPPORT, QUERY, ITEMS = 4, 3, 5


def embed(params, inputs):
    identity = jnp.take(params["item"], inputs.item, axis=0)
    hidden = inputs.user_features @ params["tower"] + inputs.item_features @ params["tower"]
    return jnp.tanh(hidden + identity)


def apply(params, inputs):
    """A network small enough to compile often: two layers, and an identity of each item."""
    return embed(params, inputs) @ params["predictor"]


MEAN = losses.on_examples(apply, losses.squared_error)
TOTAL = losses.on_examples(apply, losses.total_squared_error)


def steps(optimizer, count, inner_loss=MEAN, **options) -> Adaptation:
    return gradient_steps(inner_loss, optimizer, count, predict=apply, **options)


def examples(rng, n) -> Examples:
    users, items, labels = (jnp.asarray(rng.normal(size=size)) for size in ((n, 2), (n, 2), n))
    inputs = Inputs(users, items, jnp.asarray(rng.integers(0, ITEMS, n)))
    return Examples(inputs, labels, jnp.ones(n, bool))


def task_of(seed) -> Task:
    rng = np.random.default_rng(seed)
    return Task(examples(rng, SUPPORT), examples(rng, QUERY))


class Row(NamedTuple):
    """An adaptation, and what the suite has to know of it."""

    adaptation: Adaptation | MetaLearner
    params: Any
    zero_shot: Callable[..., jax.Array]
    """`zero_shot(params, inputs) -> scores`, what an empty support has to give."""
    in_order: bool = False
    """Whether the order of the support counts."""
    task_of: Callable[[int], Task] = task_of
    """`task_of(seed) -> task`."""


BY_STEPS = {
    "sgd": steps(optax.sgd(0.1), 2),
    "sgd, first order": steps(optax.sgd(0.1), 2, adjoint=FirstOrder()),
    "sgd of the total, scanned": steps(optax.sgd(0.01), 11, TOTAL),
    "sgd of the shrunk mean": steps(
        optax.sgd(0.2),
        2,
        losses.on_examples(apply, partial(losses.shrunk_squared_error, prior=2.0)),
    ),
    "momentum": steps(optax.sgd(0.1, momentum=0.9), 2),
    "adam": steps(optax.adam(0.05, eps_root=1e-6), 2),
}


def some_params():
    rng = np.random.default_rng(1)
    shapes = {"tower": (2, 3), "item": (ITEMS, 3), "predictor": (3,)}
    return {name: jnp.asarray(rng.normal(size=shape)) for name, shape in shapes.items()}


PARAMS, TASK = some_params(), task_of(2)


def drawn(model, spread=0.3, task=TASK):
    """Parameters none of which is zero, as after some training."""
    params = jax.jit(model.init)(jax.random.key(0), task.support.inputs)
    leaves, structure = jax.tree.flatten(params)
    rng = np.random.default_rng(3)
    return structure.unflatten([leaf + spread * rng.normal(size=leaf.shape) for leaf in leaves])


def encoder():
    return models.Encoder((2,), (2,), items=ITEMS, identity_width=2)


def compared(rule, network, zero_shot) -> Row:
    model = models.from_linen(network)
    return Row(rule(model.apply), drawn(model), partial(zero_shot, model.apply))


def amortised_row(network, empty) -> Row:
    """A network that reads the support; `empty(params)` is what it keeps of an empty one."""
    model = models.from_support_module(network)

    def mean(params, state, inputs):
        return model.decode(params, state, inputs).mean

    return Row(
        amortised(model.encode, mean),
        drawn(model),
        lambda params, inputs: mean(params, empty(params), inputs),
    )


def at_the_prior(place, params, inputs):
    placed = place(params, inputs)
    distance = 0.5 * jnp.sum((placed.item - placed.prior) ** 2, axis=1)
    return placed.bias - placed.closeness * distance


def at_the_prior_by_cosine(place, params, inputs):
    placed = place(params, inputs)
    lengths = [jnp.linalg.norm(x, axis=1) for x in (placed.item, placed.prior)]
    cosine = jnp.sum(placed.item * placed.prior, axis=1) / (lengths[0] * lengths[1])
    return 1 + 4 * jax.nn.sigmoid(placed.bias + placed.closeness * cosine)


def ridge_row() -> Row:
    model = models.from_linen(models.RidgeNetwork(ITEMS, 2, tastes=1))

    def expected(params, inputs):
        return model.apply(params, inputs).expected

    return Row(ridge_head(model.apply), drawn(model), expected)


def content_row() -> Row:
    network = models.ContentNetwork(ITEMS, traits=2, width=3, bottleneck=2)
    model = models.from_linen(network)
    params = drawn(model)
    params["item_domain"] = jnp.array([0.0, 0.0, 1.0, 1.0, 1.0])

    def expected(params, inputs):
        return model.apply(params, inputs).expected

    return Row(ridge_head(model.apply), params, expected)


def attribute_prototypes_row() -> Row:
    content = models.ContentNetwork(ITEMS, traits=2, width=3, bottleneck=2)
    model = models.from_linen(models.AttributePrototypes(content, 3, prototypes=2))

    def at_learned_prototypes(params, inputs):
        found = model.apply(params, inputs)
        place, prototype = (
            x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in (found.place, found.prototype)
        )
        logits = found.sharpness * place @ prototype.T + found.log_weight[None]
        return found.expected + jnp.sum(jax.nn.softmax(logits, axis=1) * found.value, axis=1)

    return Row(cosine_prototypes(model.apply), drawn(model), at_learned_prototypes)


def informed_row() -> Row:
    model = models.informed_ridge(ITEMS, 2, tastes=1)
    rng = np.random.default_rng(8)
    params = drawn(Model(model.init, model.apply))
    told = models.Told(
        looked_at=jnp.array([1.0, 1.0, 0.0, 1.0, 1.0]),
        of_item=jnp.asarray(rng.normal(size=(ITEMS, 3))),
        level=jnp.asarray(rng.normal(size=3)),
        unknown=jnp.asarray(rng.normal(size=3)),
    )
    params = {**params, "told": told}

    def zero_shot(params, inputs):
        found = model.apply(params, inputs)
        return found.expected + found.design @ (params["gain"] * params["told"].unknown)

    return Row(ridge_head(model.apply, model.prior), params, zero_shot)


def semantic_map_row() -> Row:
    model = models.from_linen(models.SemanticMap(ITEMS, 3, 2, (3,)))
    params = drawn(model)
    params["known"] = jnp.array([0.0, 0.3, 0.9, 0.0, 0.5])
    learner = learners.semantic_map(model, losses.squared_error, outer=optax.sgd(0.1))

    def expected(params, inputs):
        return model.apply(params, inputs).evidence.expected

    return Row(learner, params, expected)


def student_row() -> Row:
    model = models.from_support_module(models.StudentNetwork(ITEMS, 3, 2))

    def of_strangers(params, inputs):
        return model.decode(params, jnp.zeros(3), inputs)

    return Row(amortised(model.encode, model.decode), drawn(model), of_strangers)


def memory_row() -> Row:
    model = models.user_memory(ITEMS, 2, members=6)
    rng = np.random.default_rng(7)
    root = jnp.asarray(rng.normal(size=(2, ITEMS, 2 * ITEMS)))
    memory = models.MemorisedUsers(
        user=jnp.arange(5.0),
        present=jnp.ones(5),
        features=jnp.asarray(rng.normal(size=(5, 2))),
        preferences=jnp.asarray(rng.integers(0, 5, (5, ITEMS)) / 4),
        inverse=root @ jnp.swapaxes(root, 1, 2),
    )
    blank = model.init(jax.random.key(0), None)
    blank["evidence"] -= 4.0
    params = models.start_memory(blank, memory)

    def zero_shot(params, inputs):
        return model.decode(params, model.encode(params, nothing()), inputs)

    rule = Adaptation(lambda params, support, key=None: model.encode(params, support), model.decode)
    return Row(rule, params, zero_shot)


DOMAINS = jnp.array([0.0, 1.0, 0.0, 1.0, 1.0])


def domains_row(model) -> Row:
    """A model on factors of two domains."""
    params = drawn(Model(model.init, lambda params, inputs: params))
    _, embedding, bias, _ = params["factors"]
    params["factors"] = models.DomainFactors(DOMAINS, embedding, bias, jnp.array([0.5, 2.0]))

    def zero_shot(params, inputs):
        return model.decode(params, model.encode(params, nothing()), inputs)

    return Row(amortised(model.encode, model.decode), params, zero_shot)


def nothing():
    return TASK.support._replace(mask=jnp.zeros(SUPPORT, bool))


def sequence_row() -> Row:
    model = models.from_history_module(models.SequenceNetwork(encoder(), 4, 2, (3,)))

    def zero_shot(params, inputs):
        before = models.InHistory(task_of(5).support, jnp.zeros(QUERY, int), inputs)
        return model.apply(params, before)

    rule = sequence_steps(
        model.apply, losses.squared_error, optax.sgd(0.1), 2, adapts=matching("score/*")
    )
    return Row(rule, drawn(model), zero_shot, in_order=True)


def item_task_of(seed) -> Task:
    """A cold item: labels say which sequences end in it."""
    rng, length = np.random.default_rng(seed), 3

    def part(n):
        item, size = rng.integers(0, ITEMS, (n, length)), rng.integers(1, length + 1, n)
        item = np.where(np.arange(length) < size[:, None], item, 0)
        inputs = Sequences(*map(jnp.asarray, (item, size, rng.normal(size=(n, 1)))))
        return Examples(inputs, jnp.asarray(rng.normal(size=n)), jnp.ones(n, bool))

    return Task(part(SUPPORT), part(QUERY))


def item_row() -> Row:
    model = models.from_support_module(models.PairNetwork(ITEMS, 2, 3, steps=1))
    return Row(
        amortised(model.encode, model.decode),
        drawn(model, 0.3, item_task_of(2)),
        lambda params, inputs: model.decode(params, params["prior"], inputs),
        task_of=item_task_of,
    )


def graph_row(network) -> Row:
    graph = bipartite_graph([0, 0, 1, 2], [0, 1, 1, 3], users=3, items=ITEMS)
    model = models.graph_model(graph, network, width=3)
    learner = learners.graph_fold_in(model, losses.squared_error, outer=optax.sgd(0.1))
    # The graph is no number to be changed a little.
    params = {
        **drawn(Model(model.init, model.apply)),
        "graph": model.init(jax.random.key(0), None)["graph"],
    }
    return Row(learner, params, model.apply)


def rating_graph_row() -> Row:
    graph = bipartite_graph([0, 0, 1, 2], [0, 1, 1, 3], users=3, items=ITEMS)
    model = models.rating_graph(graph, models.GraphSAGE(2), width=2, adapter=True)
    learner = learners.graph_ridge(model, losses.squared_error, outer=optax.sgd(0.1))
    blank = model.init(jax.random.key(0), None)
    params = drawn(Model(model.init, model.apply)) | {"graph": blank["graph"]}
    return Row(learner, {**params, "noise": blank["noise"]}, model.apply)


def of_network(params, inputs):
    return apply(params["network"], inputs)


def learned(recipe, zero_shot=of_network, *, in_order=False, **options) -> Row:
    """A recipe's learner of the network above."""
    network = Model(init=lambda key, inputs: PARAMS, apply=apply)
    learner = recipe(network, losses.squared_error, outer=optax.sgd(0.1), **options)
    batch = jax.tree.map(lambda leaf: leaf[None], TASK)
    start = Model(init=lambda key, inputs: learner.init(key, batch).params, apply=apply)
    return Row(learner, drawn(start, 0.1), zero_shot, in_order)


def nearest_learned_prototype(params, inputs):
    distances = embed(params["network"], inputs)[:, None] - params["prototypes"][None]
    shares = jax.nn.softmax(-jnp.sum(jnp.square(distances), axis=-1))
    return of_network(params, inputs) + shares @ jnp.array(LEVELS)


LEVELS = (-1.0, 0.0, 2.0)
BY_RECIPE = {
    "anil": learned(
        learners.anil, apply, inner=optax.sgd(0.1), steps=2, head=matching("predictor")
    ),
    "boil": learned(
        learners.boil, apply, inner=optax.sgd(0.1), steps=2, head=matching("predictor")
    ),
    "cavia": learned(
        learners.cavia,
        apply,
        inner=optax.sgd(0.1),
        size=2,
        steps=2,
        # The network has no room for more features: the context moves those it has.
        join=lambda inputs, c: inputs._replace(user_features=inputs.user_features + c[None]),
    ),
    "gru of embeddings": learned(
        learners.gru_adapter, sees="embeddings", adapts=matching("predictor"), in_order=True
    ),
    "gru of gradients": learned(learners.gru_adapter, sees="gradients", steps=2),
    "imaml": learned(
        learners.imaml, apply, inner=optax.sgd(0.1), steps=2, proximal=2.0, iterations=2
    ),
    "maml++": learned(learners.maml_plus_plus, rate=0.1, steps=2),
    "meta-sgd": learned(learners.meta_sgd, rate=0.1, steps=2),
    "proto-maml": learned(
        learners.proto_maml,
        nearest_learned_prototype,
        embed=embed,
        levels=LEVELS,
        inner=optax.sgd(0.1),
        adapts=matching(),
    ),
    "reptile": learned(learners.reptile, apply, inner=optax.sgd(0.1), steps=2),
}
LEARN = {
    **{name: Row(adaptation, PARAMS, apply) for name, adaptation in BY_STEPS.items()},
    **BY_RECIPE,
    "prototype, euclidean": compared(
        prototypes, models.PrototypeNetwork(encoder(), 3), at_the_prior
    ),
    "prototype, cosine": compared(
        partial(prototypes, distance="cosine", scale=(1.0, 5.0)),
        models.PrototypeNetwork(encoder(), 3),
        at_the_prior_by_cosine,
    ),
    "attended labels": compared(
        attended_labels,
        models.MatchingNetwork(encoder(), 2, 3, (3,)),
        lambda match, params, inputs: match(params, inputs).score,
    ),
    "conditional process": amortised_row(
        models.ConditionalProcess(encoder(), 4), lambda params: params["prior"]
    ),
    "attentive process": amortised_row(
        models.AttentiveProcess(encoder(), 4, 2),
        lambda params: models.Attended(params["prior_key"], params["prior"], jnp.ones(1, bool)),
    ),
    "student": student_row(),
    "semantic map": semantic_map_row(),
    "cosines to prototypes": attribute_prototypes_row(),
    "neighbours in a graph": graph_row(models.LightGCN(2)),
    "neighbours in a graph, corrected": graph_row(models.GraphResidual(models.GraphSAGE(2))),
    "content of items": content_row(),
    "ratings on a graph": rating_graph_row(),
    "remembered users": memory_row(),
    "sequence": sequence_row(),
    "sequences of an item": item_row(),
    "ridge": ridge_row(),
    "ridge informed by choices": informed_row(),
    "shared and private features": domains_row(models.shared_and_private(ITEMS, 3, 2)),
    "shared space": domains_row(models.shared_space(ITEMS, 3, (2,))),
    "common features": domains_row(models.adversarial(ITEMS, 3, 2)),
    "two domains, one place": domains_row(models.carried_users(ITEMS, 3, (2,))),
    "two domains, relations": domains_row(
        models.related_domains(ITEMS, 3, models.RelationNetwork((2,)))
    ),
    "two domains, a map of the mean": domains_row(
        models.two_domains(ITEMS, 3, models.MapOfMean(2))
    ),
}
ROWS = {"no steps": Row(no_steps(apply), PARAMS, apply), **LEARN}


def padded_with(task, value, item) -> Task:
    """Adds two rows to support and query that their masks hide, before and between the others."""

    def grow(leaf):
        fill = {"f": value, "i": item, "b": False}[leaf.dtype.kind]
        row = jnp.full((1, *leaf.shape[1:]), fill, leaf.dtype)
        return jnp.concatenate([row, leaf[:2], row, leaf[2:]])

    return jax.tree.map(grow, task)


def judged_by(adaptation):
    """The query's loss and scores, and the meta-gradient."""

    def loss(params, task):
        adapted = adaptation.adapt(params, task.support)
        query_loss = losses.on_examples(partial(adaptation.predict, params), losses.squared_error)
        scores = adaptation.predict(params, adapted, task.query.inputs)
        return query_loss(adapted, task.query), scores

    return jax.value_and_grad(loss, has_aux=True)


@pytest.fixture(scope="module", params=ROWS)
def row(request):
    return ROWS[request.param]


@pytest.fixture(scope="module")
def task(row):
    return row.task_of(2)


@pytest.fixture(scope="module")
def judged(row):
    return partial(jax.jit(judged_by(row.adaptation)), row.params)


@pytest.fixture(scope="module")
def batched(row):
    """As `judged`, of five padded tasks at once: one shape, so that it is compiled once."""
    judge = jax.jit(jax.vmap(judged_by(row.adaptation), in_axes=(None, 0)))
    return lambda tasks: judge(row.params, jax.tree.map(lambda *x: jnp.stack(x), *tasks))


def test_a_support_changes_the_scores(row, judged, task):
    (_, scores), _ = judged(task)
    change = np.abs(scores - row.zero_shot(row.params, task.query.inputs)).max()
    assert change < 1e-6 if row is ROWS["no steps"] else change > 1e-3


def test_the_same_support_gives_the_same_bits(judged, task):
    chex.assert_trees_all_equal(judged(task), judged(task))


def test_an_empty_support_gives_the_zero_shot_answer(row, judged, task):
    nothing = task.support._replace(mask=jnp.zeros(SUPPORT, bool))
    (_, scores), gradient = judged(task._replace(support=nothing))
    expected = row.zero_shot(row.params, task.query.inputs)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)
    # Adam's step is a function of the gradient even where that is zero: then only finite.
    chex.assert_tree_all_finite(gradient)
    chex.assert_trees_all_equal_shapes(gradient, row.params)


def test_the_order_of_the_support_counts_where_it_is_said_to(row, judged, task):
    shuffled = jax.tree.map(lambda leaf: leaf[jnp.array([2, 0, 3, 1])], task.support)
    other, scores = judged(task._replace(support=shuffled)), judged(task)
    if row.in_order:
        assert np.abs(other[0][1] - scores[0][1]).max() > 1e-3
    else:
        chex.assert_trees_all_close(other, scores, rtol=1e-4, atol=1e-5)


def test_one_trace_serves_every_support_size(row, task):
    adaptation, sizes = row.adaptation, []

    @jax.jit
    def scores(params, task):
        sizes.append(task.support.mask.shape)
        adapted = adaptation.adapt(params, task.support)
        return adaptation.predict(params, adapted, task.query.inputs)

    for size in range(SUPPORT + 1):
        mask = jnp.arange(SUPPORT) < size
        scores.trace(row.params, task._replace(support=task.support._replace(mask=mask)))
    assert sizes == [(SUPPORT,)]


def test_padding_adds_nothing(judged, batched, task):
    fills = ((np.nan, 0), (np.inf, 4), (3e38, -1), (1.0, 10**6), (-1e9, -(10**6)))
    padded = [padded_with(task, value, item) for value, item in fills]
    assert_alike(batched(padded), [judged(task)] * len(padded))


def test_vmap_equals_a_loop(row, judged, batched):
    tasks = [row.task_of(seed) for seed in range(5)]
    few = tasks[1].support._replace(mask=jnp.array([True, False, True, False]))
    tasks[1] = tasks[1]._replace(support=few)
    looped = [judged(task) for task in tasks]
    assert_alike(batched([padded_with(task, 0.0, 0) for task in tasks]), looped)


def test_jit_equals_eager(row, judged, task):
    adapted = row.adaptation.adapt(row.params, task.support)
    eager = row.adaptation.predict(row.params, adapted, task.query.inputs)
    (_, scores), _ = judged(task)
    np.testing.assert_allclose(scores, eager, rtol=1e-4, atol=1e-5)


def assert_alike(padded, plain):
    """Compares what a batch of padded tasks gave with what each task gave without padding."""
    (loss, scores), gradient = padded
    (each_loss, each_scores), each_gradient = jax.tree.map(lambda *x: jnp.stack(x), *plain)
    np.testing.assert_allclose(loss, each_loss, rtol=1e-5)
    at_query = scores[:, jnp.array([1, 2, 4])]
    np.testing.assert_allclose(at_query, each_scores, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(gradient, each_gradient, rtol=1e-4, atol=1e-5)

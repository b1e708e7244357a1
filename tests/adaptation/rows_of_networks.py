"""Rows of the suite with networks of their own."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from conformance import ITEMS, QUERY, SUPPORT, Row, drawn, nothing, task_of

from metajax import cross_domain, losses, networks
from metajax.adaptation import (
    amortised,
    cosine_prototypes,
    matching,
    prototypes,
    residual_attention,
    ridge_head,
    sequence_steps,
)
from metajax.data import bipartite_graph
from metajax.methods.attentive_neighbours import MemorisedUsers, initial_memory, user_memory
from metajax.methods.attribute_prototypes import AttributePrototypes
from metajax.methods.graph_fold_in import graph_fold_in
from metajax.methods.graph_ridge import graph_ridge, rating_graph
from metajax.methods.matching_network import MatchingNetwork
from metajax.methods.mecos import PairNetwork
from metajax.methods.neural_process import Attended, AttentiveProcess, ConditionalProcess
from metajax.methods.prototypical import PrototypeNetwork
from metajax.methods.semantic_map import SemanticMap, semantic_map
from metajax.methods.sequential import SequenceNetwork, from_history_module
from metajax.types import Adaptation, Examples, InHistory, Model, Sequences, Task


def encoder():
    return networks.Encoder((2,), (2,), items=ITEMS, identity_width=2)


def compared(rule, network, zero_shot) -> Row:
    model = networks.from_linen(network)
    return Row(rule(model.apply), drawn(model), partial(zero_shot, model.apply))


def amortised_row(network, empty) -> Row:
    """A network that reads the support; `empty(params)` is what it keeps of an empty one."""
    model = networks.from_support_module(network)

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
    model = networks.from_linen(networks.RidgeNetwork(ITEMS, 2, tastes=1))

    def expected(params, inputs):
        return model.apply(params, inputs).expected

    return Row(ridge_head(model.apply), drawn(model), expected)


def content_row() -> Row:
    network = networks.ContentNetwork(ITEMS, traits=2, width=3, bottleneck=2)
    model = networks.from_linen(network)
    params = drawn(model)
    params["item_domain"] = jnp.array([0.0, 0.0, 1.0, 1.0, 1.0])

    def expected(params, inputs):
        return model.apply(params, inputs).expected

    return Row(ridge_head(model.apply), params, expected)


def attribute_prototypes_row() -> Row:
    content = networks.ContentNetwork(ITEMS, traits=2, width=3, bottleneck=2)
    model = networks.from_linen(AttributePrototypes(content, 3, prototypes=2))

    def at_learned_prototypes(params, inputs):
        found = model.apply(params, inputs)
        place, prototype = (
            x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in (found.place, found.prototype)
        )
        logits = found.sharpness * place @ prototype.T + found.log_weight[None]
        return found.expected + jnp.sum(jax.nn.softmax(logits, axis=1) * found.value, axis=1)

    return Row(cosine_prototypes(model.apply), drawn(model), at_learned_prototypes)


def informed_row() -> Row:
    model = cross_domain.informed_ridge_network(ITEMS, 2, tastes=1)
    rng = np.random.default_rng(8)
    params = drawn(Model(model.init, model.apply))
    table = cross_domain.PriorTable(
        has_feedback=jnp.array([1.0, 1.0, 0.0, 1.0, 1.0]),
        of_item=jnp.asarray(rng.normal(size=(ITEMS, 3))),
        level=jnp.asarray(rng.normal(size=3)),
        unknown=jnp.asarray(rng.normal(size=3)),
    )
    params = {**params, "table": table}

    def zero_shot(params, inputs):
        found = model.apply(params, inputs)
        return found.expected + found.design @ (params["gain"] * params["table"].unknown)

    return Row(ridge_head(model.apply, model.prior), params, zero_shot)


def semantic_map_row() -> Row:
    model = networks.from_linen(SemanticMap(ITEMS, 3, 2, (3,)))
    params = drawn(model)
    params["known"] = jnp.array([0.0, 0.3, 0.9, 0.0, 0.5])
    learner = semantic_map(model, losses.squared_error, outer=optax.sgd(0.1))

    def expected(params, inputs):
        return model.apply(params, inputs).evidence.expected

    return Row(learner, params, expected)


def student_row() -> Row:
    model = networks.from_support_module(cross_domain.StudentNetwork(ITEMS, 3, 2))

    def of_strangers(params, inputs):
        return model.decode(params, jnp.zeros(3), inputs)

    return Row(amortised(model.encode, model.decode), drawn(model), of_strangers)


def memory_row() -> Row:
    model = user_memory(ITEMS, 2, members=6)
    rng = np.random.default_rng(7)
    root = jnp.asarray(rng.normal(size=(2, ITEMS, 2 * ITEMS)))
    memory = MemorisedUsers(
        user=jnp.arange(5.0),
        present=jnp.ones(5),
        features=jnp.asarray(rng.normal(size=(5, 2))),
        preferences=jnp.asarray(rng.integers(0, 5, (5, ITEMS)) / 4),
        inverse=root @ jnp.swapaxes(root, 1, 2),
    )
    blank = model.init(jax.random.key(0), None)
    blank["evidence"] -= 4.0
    params = initial_memory(blank, memory)

    def zero_shot(params, inputs):
        return model.decode(params, model.encode(params, nothing()), inputs)

    rule = Adaptation(lambda params, support, key=None: model.encode(params, support), model.decode)
    return Row(rule, params, zero_shot)


DOMAINS = jnp.array([0.0, 1.0, 0.0, 1.0, 1.0])


RELATIONS = cross_domain.relation_transfer_network(ITEMS, 3, cross_domain.RelationNetwork((2,)))


def domains_row(model) -> Row:
    """A model on factors of two domains."""
    params = drawn(Model(model.init, lambda params, inputs: params))
    _, embedding, bias, _ = params["factors"]
    params["factors"] = cross_domain.DomainFactors(DOMAINS, embedding, bias, jnp.array([0.5, 2.0]))

    def zero_shot(params, inputs):
        return model.decode(params, model.encode(params, nothing()), inputs)

    return Row(amortised(model.encode, model.decode), params, zero_shot)


def sequence_row() -> Row:
    model = from_history_module(SequenceNetwork(encoder(), 4, 2, (3,)))

    def zero_shot(params, inputs):
        before = InHistory(task_of(5).support, jnp.zeros(QUERY, int), inputs)
        return model.apply(params, before)

    rule = sequence_steps(
        model.apply, losses.squared_error, optax.sgd(0.1), 2, adapts=matching("score/*")
    )
    return Row(rule, drawn(model), zero_shot, in_order=True)


def item_task_of(seed) -> Task:
    """A cold item: labels mark the sequences that end in it."""
    rng, length = np.random.default_rng(seed), 3

    def part(n):
        item, size = rng.integers(0, ITEMS, (n, length)), rng.integers(1, length + 1, n)
        item = np.where(np.arange(length) < size[:, None], item, 0)
        inputs = Sequences(*map(jnp.asarray, (item, size, rng.normal(size=(n, 1)))))
        return Examples(inputs, jnp.asarray(rng.normal(size=n)), jnp.ones(n, bool))

    return Task(part(SUPPORT), part(QUERY))


def item_row() -> Row:
    model = networks.from_support_module(PairNetwork(ITEMS, 2, 3, steps=1))
    return Row(
        amortised(model.encode, model.decode),
        drawn(model, 0.3, item_task_of(2)),
        lambda params, inputs: model.decode(params, params["prior"], inputs),
        task_of=item_task_of,
    )


def graph_row(network) -> Row:
    graph = bipartite_graph([0, 0, 1, 2], [0, 1, 1, 3], users=3, items=ITEMS)
    model = networks.graph_model(graph, network, width=3)
    learner = graph_fold_in(model, losses.squared_error, outer=optax.sgd(0.1))
    # The graph is no number to be changed a little.
    params = {
        **drawn(Model(model.init, model.apply)),
        "graph": model.init(jax.random.key(0), None)["graph"],
    }
    return Row(learner, params, model.apply)


def rating_graph_row() -> Row:
    graph = bipartite_graph([0, 0, 1, 2], [0, 1, 1, 3], users=3, items=ITEMS)
    model = rating_graph(graph, networks.GraphSAGE(2), width=2, adapter=True)
    learner = graph_ridge(model, losses.squared_error, outer=optax.sgd(0.1))
    blank = model.init(jax.random.key(0), None)
    params = drawn(Model(model.init, model.apply)) | {"graph": blank["graph"]}
    return Row(learner, {**params, "noise": blank["noise"]}, model.apply)


OF_NETWORKS: dict[str, Callable[[], Row]] = {
    "prototype, euclidean": partial(
        compared, prototypes, PrototypeNetwork(encoder(), 3), at_the_prior
    ),
    "prototype, cosine": partial(
        compared,
        partial(prototypes, distance="cosine", scale=(1.0, 5.0)),
        PrototypeNetwork(encoder(), 3),
        at_the_prior_by_cosine,
    ),
    "attended labels": partial(
        compared,
        residual_attention,
        MatchingNetwork(encoder(), 2, 3, (3,)),
        lambda match, params, inputs: match(params, inputs).score,
    ),
    "conditional process": partial(
        amortised_row, ConditionalProcess(encoder(), 4), lambda params: params["prior"]
    ),
    "attentive process": partial(
        amortised_row,
        AttentiveProcess(encoder(), 4, 2),
        lambda params: Attended(params["prior_key"], params["prior"], jnp.ones(1, bool)),
    ),
    "student": student_row,
    "semantic map": semantic_map_row,
    "cosines to prototypes": attribute_prototypes_row,
    "neighbours in a graph": partial(graph_row, networks.LightGCN(2)),
    "neighbours in a graph, corrected": partial(
        graph_row, networks.GraphResidual(networks.GraphSAGE(2))
    ),
    "content of items": content_row,
    "ratings on a graph": rating_graph_row,
    "remembered users": memory_row,
    "sequence": sequence_row,
    "sequences of an item": item_row,
    "ridge": ridge_row,
    "informed ridge": informed_row,
    "shared and private features": partial(
        domains_row, cross_domain.shared_and_private_network(ITEMS, 3, 2)
    ),
    "shared space": partial(domains_row, cross_domain.shared_space_network(ITEMS, 3, (2,))),
    "adversarial features": partial(domains_row, cross_domain.adversarial_network(ITEMS, 3, 2)),
    "shared-user MLP": partial(domains_row, cross_domain.shared_user_mlp(ITEMS, 3, (2,))),
    "relation transfer": partial(
        domains_row,
        RELATIONS,
    ),
    "EMCDR": partial(
        domains_row, cross_domain.two_domain_network(ITEMS, 3, cross_domain.PosteriorMeanMap(2))
    ),
}
"""Builders of rows by name, so that nothing is compiled before it is used."""

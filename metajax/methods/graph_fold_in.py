"""Graph fold-in: rankings by vectors on the graph, trained on users as if they were new."""

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metajax.adaptation import neighbourhood
from metajax.baselines.preferences import liked_counts
from metajax.data import blank_graph, training_graph
from metajax.data.dataset import Shapes, TrainingSet
from metajax.fields import Range, bounded
from metajax.learners.graph import new_user_learner
from metajax.methods.graph_ridge import (
    Layers,
    attentions,
    convolutions,
    light,
    samples_and_aggregates,
)
from metajax.methods.method import Method
from metajax.methods.objective import objectives, outer_optimizer
from metajax.methods.settings import Options, Settings
from metajax.networks import GraphModel, GraphResidual, graph_model, with_graph
from metajax.networks.graph import LightGCN
from metajax.types import (
    BipartiteGraph,
    Edges,
    MetaLearner,
    Params,
)

__all__ = [
    "AttentionOptions",
    "LayerOptions",
    "VectorOptions",
    "by_vectors",
    "graph_fold_in",
    "initial_vectors",
    "light_network",
    "methods",
    "ranking_defaults",
    "spectral_nodes",
]


def spectral_nodes(
    graph: BipartiteGraph, width: int, *, sweeps: int = 10, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Leading singular vectors of the normalised graph, as initial embeddings.

    With R the users' choices, each divided by the roots of both ends' degrees, the items' vectors
    span the first right singular vectors of R, and those of the users are R times them. Products
    of the items' vectors are then the weights between items of an ideal low-pass filter. Found by
    orthogonal iteration: a sweep is two steps along the edges.

    Args:
        graph: Of users and items.
        width: D, directions, at least 1 and at most as many as there are items.
        sweeps: Iterations, >= 1.
        seed: Of the random initial directions.

    Returns:
        `[U, D]` users and `[I, D]` items, float32; the mean square of the items' is 1 where
        all of them are in the graph.

    Raises:
        ValueError: If an argument is out of range.

    References:
        Shen et al., How Powerful is Graph Convolution for Recommendation?, CIKM 2021, where
        LightGCN and linear autoencoders are low-pass filters, and one in closed form competes with
        what is trained. Halko, Martinsson and Tropp, Finding Structure with Randomness, SIAM Review
        2011, algorithm 4.4.
    """
    if not 1 <= width <= graph.items:
        raise ValueError(f"width must be in [1, {graph.items}] (the items), got {width}.")
    if sweeps < 1:
        raise ValueError(f"sweeps must be >= 1, got {sweeps}.")
    items = np.random.default_rng(seed).normal(size=(graph.items, width))
    for _ in range(sweeps):
        _, swept = _swept(jnp.asarray(items, jnp.float32), graph.edges, users=graph.users)
        items = np.linalg.qr(np.asarray(swept))[0]
    items = np.float32(np.sqrt(graph.items)) * items.astype(np.float32)
    users, _ = _swept(jnp.asarray(items), graph.edges, users=graph.users)
    return np.asarray(users), items


@partial(jax.jit, static_argnames="users")
def _swept(items: jax.Array, edges: Edges, *, users: int) -> tuple[jax.Array, jax.Array]:
    """Propagates items' vectors to the users, and back."""
    nodes = jnp.pad(items, ((users, 0), (0, 0)))
    _, there, back = LightGCN(2).steps(nodes, edges)
    return there[:users], back[users:]


def graph_fold_in(
    model: GraphModel,
    loss: Callable[..., jax.Array],
    *,
    outer: optax.GradientTransformation,
    relevant: float = -math.inf,
    microbatch: int | None = None,
) -> MetaLearner:
    """Graph fold-in: graph embeddings, trained on users as if they were new.

    The support of a task is joined to the graph as a new user, and the loss is that of the query.
    With `MemberInputs` an update leaves out the edges of all its users, so that the graph does not
    leak the query; with plain `Inputs` it does.

    Args, Returns and Raises: as in `light_gcn`.
    """
    rule = neighbourhood(relevant=relevant)
    return new_user_learner(model, rule, loss, outer=outer, microbatch=microbatch)


@dataclass(frozen=True, kw_only=True)
class VectorOptions(Options):
    """Options of rankings by vectors of nodes."""

    embedding: int = bounded(32, least=1)
    """Width of the vectors of users and items."""
    layers: int = bounded(2, least=1, search=Range(1, 4))
    """Layers, or steps of propagation."""
    length: float = bounded(1.0, above=0, search=Range(0.1, 10.0, log=True))
    """Length of the initial vectors, a multiple of that of the smoothest directions. Where layers
    are added, and a new user is the mean of their items, vectors whose mean square is 1 would let
    one item alone outweigh popularity many times."""
    bias_rate: float = bounded(0.2, above=0, search=Range(0.02, 1.0, log=True))
    """Learning rate of the items' biases, a share of `rate`: each learns from the few tasks in
    which its item is near the top."""


@dataclass(frozen=True, kw_only=True)
class LayerOptions(VectorOptions):
    """Options of rankings by vectors with further layers."""

    width: int = bounded(32, least=1)
    """Width of the layers."""


@dataclass(frozen=True, kw_only=True)
class AttentionOptions(LayerOptions):
    """Options of rankings by vectors with attention."""

    heads: int = bounded(2, least=1)
    """Attention heads of all layers but the last, which has one; they divide the width."""


ranking_defaults = MappingProxyType(
    {
        "objective": "ndcg",
        "order": "random",
        "rate": 0.01,
        "weight_decay": 0.0,
        "tasks": 256,
        "updates": 100,
    }
)
"""Defaults of rankings by vectors of nodes."""


def light_network(settings: Settings, shapes: Shapes) -> GraphModel:
    """Builds LightGCN, with room for the graph of the training set."""
    return _network(settings, shapes, light(settings))


def initial_vectors(settings: Settings, training: TrainingSet) -> Callable[[Params], Params]:
    """Initialises by the graph, its smoothest directions, and the logarithm of popularity."""
    graph, length = training_graph(training), settings.options.length
    popularity = np.log1p(liked_counts(training))

    def initial(params: Params) -> Params:
        width = params["item"].shape[1]
        user, item = spectral_nodes(graph, width, seed=settings.seed)
        vectors = {"user": length * user, "item": length * item, "item_bias": popularity}
        values = {name: jnp.asarray(value, jnp.float32) for name, value in vectors.items()}
        return {**with_graph(params, graph), **values}

    return initial


def by_vectors(
    learner: Callable[..., MetaLearner],
) -> Callable[[Settings, GraphModel], MetaLearner]:
    """Returns `Method.learner` of a learner of vectors of nodes, such as `graph_fold_in`."""

    def build(settings: Settings, network: GraphModel) -> MetaLearner:
        slow = replace(settings, rate=settings.options.bias_rate * settings.rate)
        optimizers: dict[Hashable, optax.GradientTransformation] = {
            "slow": outer_optimizer(slow),
            "fast": outer_optimizer(settings),
        }
        outer = optax.partition(
            optimizers, lambda params: {n: "slow" if n == "item_bias" else "fast" for n in params}
        )
        return learner(
            network,
            objectives[settings.objective].loss,
            outer=outer,
            microbatch=settings.microbatch,
        )

    return build


def _network(settings: Settings, shapes: Shapes, network: Any) -> GraphModel:
    if objectives[settings.objective].rating:
        raise ValueError(f"objective must be of an order of items, got {settings.objective!r}.")
    graph = blank_graph(shapes.users, shapes.items, shapes.rows)
    return graph_model(graph, network, width=min(settings.options.embedding, shapes.items))


def _with_layers(name: str, layers: Layers, options: type = LayerOptions) -> Method:
    def network(settings: Settings, shapes: Shapes) -> GraphModel:
        # The output of layers, added to the vectors of nodes, is initially 0.
        return _network(settings, shapes, GraphResidual(layers(settings)))

    return _fold_in(name, network, options, length=0.2)


def _fold_in(
    name: str,
    network: Callable[[Settings, Shapes], GraphModel],
    options: type,
    **changes: Any,
) -> Method:
    return Method(
        name,
        learner=by_vectors(graph_fold_in),
        network=network,
        initial=initial_vectors,
        members=True,
        options=options,
        settings={**ranking_defaults, **changes},
        grid=({}, {"order": "time"}),
        ranges={"rate": Range(1e-3, 0.1, log=True)},
        any_support=True,
    )


methods: tuple[Method, ...] = (
    _fold_in("graph_light", light_network, VectorOptions, rate=0.03),
    _with_layers("graph_gcn", convolutions),
    _with_layers("graph_gat", attentions, AttentionOptions),
    _with_layers("graph_sage", samples_and_aggregates),
)
"""LightGCN's propagation without layers, then with layers of three kinds."""

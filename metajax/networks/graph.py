"""Message passing on graphs: sums over edges, layers, and a recommender on the users' graph.

All are sums over the edges into a node, of arrays that lead with the edges or the nodes: there is
never a matrix of nodes by nodes. Padding has weight 0 and adds nothing; a node that no edge leads
to has an empty sum.

Messages are by far the largest array: those of a million edges both ways, of 64 numbers each, fill
half a gigabyte. Made and added up in blocks, there and on the way back, they stay in a processor's
caches, and cost a third of the time.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from metajax.types import BipartiteGraph, Edges, Inputs, MemberInputs, NodeVectors, Params

__all__ = [
    "GraphAttention",
    "GraphConvolution",
    "GraphModel",
    "GraphNetwork",
    "GraphResidual",
    "GraphSAGE",
    "LightGCN",
    "edges_as_floats",
    "edges_in",
    "graph_model",
    "in_degree",
    "incoming",
    "outgoing",
    "with_graph",
]


# Edges a block. More, so that an accelerator has fewer steps to take one after the other, cost a
# CPU its caches.
_BLOCK = 1 << 14


def in_degree(edges: Edges, nodes: int) -> jax.Array:
    """Sums the weights of the edges into each node, `[N]`."""
    return jax.ops.segment_sum(edges.weight, edges.target, nodes, indices_are_sorted=True)


def incoming(
    x: jax.Array, edges: Edges, share: jax.Array | None = None, *, nodes: int | None = None
) -> jax.Array:
    """Sums the messages into each node.

    Args:
        x: `[N, D]` what each node sends.
        edges: Along which.
        share: `[M, H]` by what each edge multiplies it, each column another H-th of D; None means
            the weight of the edge.
        nodes: Number of targets where they are not the sources; None means N.

    Returns:
        `[nodes, D]`, 0 where no edge leads to.
    """
    share = edges.weight[:, None] if share is None else share
    return _added(True, len(x) if nodes is None else nodes, x, share, edges.source, edges.target)


def outgoing(x: jax.Array, edges: Edges, *, nodes: int) -> jax.Array:
    """Sums at each source the messages of its targets, against the edges.

    Args:
        x: `[N, D]` what each target sends.
        edges: Against which, by their weights.
        nodes: Number of sources.

    Returns:
        `[nodes, D]`, 0 where no edge leads from.
    """
    return _added(False, nodes, x, edges.weight[:, None], edges.target, edges.source)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _added(
    in_order: bool,
    nodes: int,
    x: jax.Array,
    share: jax.Array,
    source: jax.Array,
    target: jax.Array,
) -> jax.Array:
    def add(total: jax.Array, block: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        share, source, target = block
        by_head = _at(x, source).reshape(*share.shape, -1) * share[:, :, None]
        sent = by_head.reshape(-1, x.shape[1])
        return total.at[target].add(sent, indices_are_sorted=in_order, mode="drop"), None

    nothing = jnp.zeros((nodes, x.shape[1]), x.dtype)
    if len(source) <= _BLOCK:
        return add(nothing, (share, source, target))[0]
    return jax.lax.scan(add, nothing, _blocks(share, source, target))[0]


def _kept(in_order: bool, nodes: int, *given: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    return _added(in_order, nodes, *given), given


def _back(
    in_order: bool, nodes: int, given: tuple[jax.Array, ...], slope: jax.Array
) -> tuple[Any, ...]:
    """Backward pass of `_added`; the gradient of a share is the product of both ends."""
    del in_order, nodes
    x, share, source, target = given

    # A product with ones adds up rows several times faster than a sum along them.
    heads = jnp.repeat(jnp.eye(share.shape[1], dtype=x.dtype), x.shape[1] // share.shape[1], axis=0)

    def product(block: tuple[jax.Array, ...]) -> jax.Array:
        source, target = block
        return jnp.matmul(_at(x, source) * _at(slope, target), heads, precision="highest")

    if len(source) <= _BLOCK:
        shares = product((source, target))
    else:
        shares = jax.lax.map(product, _blocks(source, target)).reshape(share.shape)
    return _added(False, len(x), slope, share, target, source), shares, None, None


_added.defvjp(_kept, _back)


def _at(x: jax.Array, node: jax.Array) -> jax.Array:
    # Clipping only spares a check: builders of edges refuse what leads out of range.
    return jnp.take(x, node, axis=0, mode="clip")


def _blocks(*columns: jax.Array) -> tuple[jax.Array, ...]:
    """Cuts columns of edges, whose number is a power of two."""
    return tuple(column.reshape(-1, _BLOCK, *column.shape[1:]) for column in columns)


_SLOPE = 0.2


class GraphConvolution(nn.Module):
    """Graph convolution: neighbours are summed with symmetric degree normalisation.

    With weights A, degrees d of A + I, and a linear map W: `d^-1/2 (A + I) d^-1/2 x W + b`.

    Attributes:
        width: D', numbers a node.

    References:
        Kipf and Welling, Semi-Supervised Classification with Graph Convolutional Networks, ICLR
        2017, equation 2, without the nonlinearity.
    """

    width: int

    @nn.compact
    def __call__(self, x: jax.Array, edges: Edges) -> jax.Array:
        """Maps `[N, D]` to `[N, D']`."""
        scale = jax.lax.rsqrt(in_degree(edges, len(x)) + 1)[:, None]
        sent = scale * nn.Dense(self.width, use_bias=False, name="map")(x)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.width,))
        return scale * (incoming(sent, edges) + sent) + bias[None]


class GraphAttention(nn.Module):
    """Graph attention: neighbours and the node itself are averaged by attention weights.

    The logit of an edge from j to i is `LeakyReLU(a . W x_j + b . W x_i)`, of slope .2, and
    attention its softmax over the edges into i. Weights only mark the edges that exist.

    Attributes:
        width: Numbers a node and head.
        heads: H; their outputs lie side by side, D' = H width, unless `mean`.
        mean: True to average heads, D' = width: for a last layer.

    References:
        Velickovic et al., Graph Attention Networks, ICLR 2018, equations 1 to 6, without the
        nonlinearity behind.
    """

    width: int
    heads: int = 1
    mean: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, edges: Edges) -> jax.Array:
        """Maps `[N, D]` to `[N, D']`."""
        init = nn.initializers.lecun_normal(in_axis=-1, out_axis=-2)
        mapped = nn.Dense(self.heads * self.width, use_bias=False, name="map")(x)
        # Sums within heads are products with ones: several times faster on a CPU.
        heads = jnp.repeat(jnp.eye(self.heads, dtype=x.dtype), self.width, axis=0)

        def form(name: str) -> jax.Array:
            weight = self.param(name, init, (self.heads, self.width))
            return mapped @ (weight.reshape(-1, 1) * heads)  # [N, H]

        sent, received = form("from"), form("to")
        own = nn.leaky_relu(sent + received, _SLOPE)
        logits = nn.leaky_relu(sent[edges.source] + received[edges.target], _SLOPE)  # [M, H]
        logits = jnp.where(edges.weight[:, None] > 0, logits, -jnp.inf)
        # Any shift cancels; the largest keeps the exponentials finite.
        most = jax.ops.segment_max(logits, edges.target, len(x), indices_are_sorted=True)
        most = jax.lax.stop_gradient(jnp.maximum(most, own))
        share = jnp.exp(logits - most[edges.target])
        own = jnp.exp(own - most)
        total = own + jax.ops.segment_sum(share, edges.target, len(x), indices_are_sorted=True)
        mixed = incoming(mapped, edges, share) + mapped * (own @ heads.T)
        mixed *= (1 / total) @ heads.T
        mixed = mixed.reshape(len(x), self.heads, -1).mean(axis=1) if self.mean else mixed
        return mixed + self.param("bias", nn.initializers.zeros_init(), mixed.shape[1:])[None]


class GraphSAGE(nn.Module):
    """Adds a map of each node to a map of the mean of its neighbours: `x W + mean(x) V + b`.

    Attributes:
        width: D', numbers a node.

    References:
        Hamilton, Ying and Leskovec, Inductive Representation Learning on Large Graphs, NeurIPS
        2017, algorithm 1 with the mean aggregator. Differs: all neighbours, weighted by their
        edges, none sampled; without the nonlinearity and the scaling to length 1 behind.
    """

    width: int

    @nn.compact
    def __call__(self, x: jax.Array, edges: Edges) -> jax.Array:
        """Maps `[N, D]` to `[N, D']`."""
        degree = in_degree(edges, len(x))
        mean = incoming(x, edges) / jnp.where(degree > 0, degree, 1)[:, None]
        neighbours = nn.Dense(self.width, name="neighbours")(mean)
        return nn.Dense(self.width, use_bias=False, name="own")(x) + neighbours


class LightGCN(nn.Module):
    """LightGCN: the mean of 0 to `layers` steps of linear propagation.

    A step is `d^-1/2 A d^-1/2 x`: no weights to learn, no nonlinearity.

    Attributes:
        layers: K, steps.

    References:
        He et al., LightGCN: Simplifying and Powering Graph Convolution Network for
        Recommendation, SIGIR 2020, equations 3 and 4 with all alpha = 1 / (K + 1).
    """

    layers: int = 3

    def __call__(self, x: jax.Array, edges: Edges) -> jax.Array:
        """Maps `[N, D]` to `[N, D]`."""
        return jnp.asarray(sum(self.steps(x, edges))) / (self.layers + 1)

    def steps(self, x: jax.Array, edges: Edges) -> list[jax.Array]:
        """Returns the nodes after 0 to K steps, each `[N, D]`."""
        degree = in_degree(edges, len(x))
        scale = jnp.where(degree > 0, jax.lax.rsqrt(jnp.where(degree > 0, degree, 1)), 0)[:, None]
        found = [x]
        for _ in range(self.layers):
            found.append(scale * incoming(scale * found[-1], edges))
        return found


class GraphNetwork(nn.Module):
    """Sequence of layers with ReLU between them.

    Attributes:
        layers: Such as `GraphConvolution`, which map nodes `[N, D]` and edges to nodes.
    """

    layers: Sequence[nn.Module]

    def __call__(self, x: jax.Array, edges: Edges) -> jax.Array:
        """Maps `[N, D]` to `[N, D']` of the last layer."""
        for n, layer in enumerate(self.layers):
            x = layer(nn.relu(x) if n else x, edges)  # pyrefly: ignore
        return x


class GraphResidual(nn.Module):
    """Adds a linear map of a network's output to the nodes; the map is initialised to 0.

    So nodes start as they are, wherever they come from.

    Attributes:
        network: Maps nodes `[N, D]` and edges to nodes `[N, D']`.
    """

    network: nn.Module

    @nn.compact
    def __call__(self, x: jax.Array, edges: Edges) -> jax.Array:
        """Maps `[N, D]` to `[N, D]`."""
        zeros = nn.initializers.zeros_init()
        change = nn.Dense(x.shape[1], use_bias=False, kernel_init=zeros, name="change")
        return x + change(nn.relu(self.network(x, edges)))  # pyrefly: ignore


# Whole numbers up to here are exact in float32.
_NODES = 2**24


class GraphModel(NamedTuple):
    """A network on a graph as pure functions.

    What `propagate` returns is to be shared: it costs the whole graph, a score D numbers.
    """

    init: Callable[..., Params]
    """`init(key, inputs) -> params`."""
    apply: Callable[[Params, Any], jax.Array]
    """`apply(params, inputs) -> scores [N]`: `score` of what is propagated."""
    propagate: Callable[..., Any]
    """`propagate(params, without=None) -> nodes`, `NodeVectors` for instance; `without` `[n]` are
    users whose edges are left out, as if they were not in the graph."""
    score: Callable[[Any, Any], jax.Array]
    """`score(nodes, inputs) -> scores [N]` of who has shown nothing; of a user in the graph where
    inputs are `MemberInputs` and the model has vectors of users."""
    fixed: tuple[str, ...] = ("graph",)
    """Names of parameters that are not trained, and must not decay."""


def graph_model(
    graph: BipartiteGraph,
    network: nn.Module | None = None,
    *,
    width: int = 64,
    bias: float | jax.Array = 0.0,
) -> GraphModel:
    """Scores of users and items by inner products of propagated embeddings, plus item biases.

    The network propagates a table of embeddings over the graph. New users get their vectors from
    the items they chose (`adaptation.neighbourhood`): with LightGCN exactly by its steps, from an
    embedding that all new users share and without messages to the items; with any other network
    by the mean of the items.

    The graph is among the parameters, and not in the closure: as a constant of the program it
    would be compiled into it, and each fold would need a program of its own. It is not trained, and
    is kept as floats so that parameters which hold it can be differentiated; an optimizer with
    weight decay must leave it alone, as that of `learners.graph_learner` does.

    Args:
        graph: Of the training users; see `data.training_graph`. Another one of as many nodes
            is put in its place by `with_graph`.
        network: Maps nodes `[N, width]` and `Edges` to nodes `[N, D]`, for instance
            `GraphNetwork([GraphSAGE(64), GraphSAGE(64)])`; None means `LightGCN(3)`.
        width: Numbers an embedding.
        bias: Initial bias of the items, one for all or `[I]`: for ratings their mean.

    Returns:
        The model.

    Raises:
        ValueError: If `width` < 1, `bias` is neither one number nor I, or the graph has more than
            2^24 nodes.

    Example:
        >>> from metajax.data import bipartite_graph
        >>> graph = bipartite_graph([0, 0, 1], [0, 1, 1], users=2, items=3)
        >>> model = graph_model(graph, LightGCN(2), width=8)
        >>> nodes = model.propagate(model.init(jax.random.key(0), None))
        >>> nodes.user.shape, nodes.item.shape
        ((2, 8), (3, 8))
    """
    if width < 1:
        raise ValueError(f"width must be >= 1, got {width}.")
    if graph.users + graph.items > _NODES:
        raise ValueError(
            f"graph must have at most {_NODES} nodes, got {graph.users + graph.items}."
        )
    users, items = graph.users, graph.items
    if jnp.shape(bias) not in ((), (items,)):
        raise ValueError(f"bias must be one number or {items}, got the shape {jnp.shape(bias)}.")
    network = LightGCN() if network is None else network

    def init(key: jax.Array, inputs: Any) -> Params:
        del inputs
        key_user, key_item, key_network = jax.random.split(key, 3)
        draw = nn.initializers.normal(0.1)
        nodes = draw(key_user, (users, width)), draw(key_item, (items, width))
        started = network.init(key_network, jnp.concatenate(nodes), graph.edges)
        params = started.get("params", {})
        out: Any = jax.eval_shape(network.apply, started, jnp.concatenate(nodes), graph.edges)
        return {
            "graph": edges_as_floats(graph.edges),
            "user": nodes[0],
            "item": nodes[1],
            "network": params,
            "item_bias": jnp.zeros(items) + bias,
            "new_user": jnp.zeros(out.shape[1]),
        }

    def propagate(params: Params, without: jax.Array | None = None) -> NodeVectors:
        edges = edges_in(params, without)
        x = jnp.concatenate([params["user"], params["item"]])
        out, sent, power = _passed(network, params["network"], x, edges)
        return NodeVectors(
            out[:users],
            out[users:],
            params["item_bias"],
            params["new_user"],
            sent[users:],
            jnp.array(power),
        )

    def score(nodes: NodeVectors, inputs: Inputs | MemberInputs) -> jax.Array:
        if isinstance(inputs, MemberInputs):
            vector, inputs = nodes.user[inputs.user], inputs.inputs
        else:
            vector = nodes.new_user[None]
        return nodes.item_bias[inputs.item] + jnp.sum(nodes.item[inputs.item] * vector, axis=1)

    def apply(params: Params, inputs: Inputs | MemberInputs) -> jax.Array:
        return score(propagate(params), inputs)

    return GraphModel(init, apply, propagate, score)


def with_graph(params: Params, graph: BipartiteGraph) -> Params:
    """Replaces the graph among parameters.

    Args:
        params: Parameters of a `graph_model`.
        graph: Of as many users and items, and no more edges than there is room for.

    Returns:
        The parameters, changed.

    Raises:
        ValueError: If a size does not fit.
    """
    for name, size, other in (
        ("users", len(params["user"]), graph.users),
        ("items", len(params["item"]), graph.items),
    ):
        if size != other:
            raise ValueError(f"graph must have {size} {name}, with padding, got {other}.")
    room, used = len(params["graph"].source), len(graph.edges.source)
    if used > room:
        raise ValueError(f"graph must have at most {room} edges, with padding, got {used}.")
    last = graph.users + graph.items - 1
    fills = last, last, 0
    padded = (
        jnp.pad(leaf, (0, room - used), constant_values=fill)
        for leaf, fill in zip(graph.edges, fills, strict=True)
    )
    return {**params, "graph": edges_as_floats(Edges(*padded))}


def edges_as_floats(edges: Edges) -> Edges:
    """Converts edges to floats, as they are stored among parameters."""
    return Edges(*(leaf.astype(jnp.float32) for leaf in edges))


def edges_in(params: Params, without: jax.Array | None = None) -> Edges:
    """Returns the graph among parameters.

    Args:
        params: With `graph`, and with tables `user` and `item` of the nodes.
        without: `[n]` users whose edges get weight 0; None means no user.

    Returns:
        The edges.
    """
    floats = jax.lax.stop_gradient(params["graph"])
    source, target = floats.source.astype(jnp.int32), floats.target.astype(jnp.int32)
    if without is None:
        return Edges(source, target, floats.weight)
    stays = jnp.ones(len(params["user"]) + len(params["item"])).at[without].set(0)
    return Edges(source, target, floats.weight * stays[source] * stays[target])


def _passed(
    network: nn.Module, params: Params, x: jax.Array, edges: Edges
) -> tuple[jax.Array, jax.Array, float]:
    """Returns the nodes `[N, D]`, their messages to new users `[N, D]`, and the power."""
    applied: Callable[..., Any] = partial(network.apply, {"params": params})
    if not isinstance(network, LightGCN):
        out = applied(x, edges)
        return out, out, 1.0
    steps = applied(x, edges, method="steps")
    # A new user is one more neighbour of each of its items.
    scale = jax.lax.rsqrt(in_degree(edges, len(x)) + 1)[:, None]
    nothing = jnp.zeros_like(x)
    sent = scale * sum(steps[:-1], nothing)
    return sum(steps, nothing) / len(steps), sent / len(steps), 0.5

"""Message-passing layers on a graph.

All are sums over the edges into a node, of arrays that lead with the edges or the nodes: there is
never a matrix of nodes by nodes. Padding has weight 0 and adds nothing; a node that no edge leads
to has an empty sum.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from metajax.networks.messages import in_degree, incoming
from metajax.types import Edges

__all__ = [
    "GraphAttention",
    "GraphConvolution",
    "GraphNetwork",
    "GraphResidual",
    "GraphSAGE",
    "LightGCN",
]

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
    attention its softmax over the edges into i. Weights only say which edges are there.

    Attributes:
        width: Numbers a node and head.
        heads: H; their outputs lie side by side, D' = H width, unless `mean`.
        mean: Whether heads are averaged, D' = width: for a last layer.

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

"""Networks, one architecture a file."""

from metajax.networks.content_network import Adapter, ContentNetwork, initial_content
from metajax.networks.encoder import Encoded, Encoder, initial_encoder
from metajax.networks.graph import (
    GraphAttention,
    GraphConvolution,
    GraphModel,
    GraphNetwork,
    GraphResidual,
    GraphSAGE,
    LightGCN,
    graph_model,
    with_graph,
)
from metajax.networks.linen import from_linen, from_support_module
from metajax.networks.meta_params import with_meta_params
from metajax.networks.rating_network import RatingNetwork, initial_bias, initial_identity
from metajax.networks.ridge_network import RidgeNetwork, initial_evidence
from metajax.networks.update_gru import update_gru

__all__ = [
    "Adapter",
    "ContentNetwork",
    "Encoded",
    "Encoder",
    "GraphAttention",
    "GraphConvolution",
    "GraphModel",
    "GraphNetwork",
    "GraphResidual",
    "GraphSAGE",
    "LightGCN",
    "RatingNetwork",
    "RidgeNetwork",
    "from_linen",
    "from_support_module",
    "graph_model",
    "initial_bias",
    "initial_content",
    "initial_encoder",
    "initial_evidence",
    "initial_identity",
    "update_gru",
    "with_graph",
    "with_meta_params",
]

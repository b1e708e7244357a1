"""Networks, one architecture a file."""

from metajax.networks.content_network import Adapter, ContentNetwork, start_content
from metajax.networks.encoder import Encoded, Encoder, initial_encoder
from metajax.networks.graph_layers import (
    GraphAttention,
    GraphConvolution,
    GraphNetwork,
    GraphResidual,
    GraphSAGE,
    LightGCN,
)
from metajax.networks.graph_model import GraphModel, graph_model, start_graph
from metajax.networks.linen import from_linen, from_support_module
from metajax.networks.meta_params import with_meta_params
from metajax.networks.rating_graph import at_items, rating_graph, start_rating_graph
from metajax.networks.rating_network import RatingNetwork, initial_bias, initial_identity
from metajax.networks.ridge_network import RidgeNetwork, initial_evidence
from metajax.networks.spectral_nodes import spectral_nodes
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
    "at_items",
    "from_linen",
    "from_support_module",
    "graph_model",
    "initial_bias",
    "initial_encoder",
    "initial_evidence",
    "initial_identity",
    "rating_graph",
    "spectral_nodes",
    "start_content",
    "start_graph",
    "start_rating_graph",
    "update_gru",
    "with_meta_params",
]

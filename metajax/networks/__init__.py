"""Networks, one architecture a file."""

from metajax.networks.attribute_prototypes import AttributePrototypes
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
from metajax.networks.matching_network import MatchingNetwork
from metajax.networks.meta_params import with_meta_params
from metajax.networks.neural_process import Attended, AttentiveProcess, ConditionalProcess
from metajax.networks.pair_network import PairNetwork
from metajax.networks.prototype_network import PrototypeNetwork
from metajax.networks.rating_graph import at_items, rating_graph, start_rating_graph
from metajax.networks.rating_network import RatingNetwork, initial_bias, initial_identity
from metajax.networks.ridge_network import RidgeNetwork, initial_evidence
from metajax.networks.semantic_map import Mapped, SemanticMap, start_semantic_map
from metajax.networks.sequence_network import SequenceNetwork, from_history_module
from metajax.networks.spectral_nodes import spectral_nodes
from metajax.networks.update_gru import update_gru
from metajax.networks.user_memory import MemorisedUsers, start_memory, user_memory

__all__ = [
    "Adapter",
    "Attended",
    "AttentiveProcess",
    "AttributePrototypes",
    "ConditionalProcess",
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
    "Mapped",
    "MatchingNetwork",
    "MemorisedUsers",
    "PairNetwork",
    "PrototypeNetwork",
    "RatingNetwork",
    "RidgeNetwork",
    "SemanticMap",
    "SequenceNetwork",
    "at_items",
    "from_history_module",
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
    "start_memory",
    "start_rating_graph",
    "start_semantic_map",
    "update_gru",
    "user_memory",
    "with_meta_params",
]

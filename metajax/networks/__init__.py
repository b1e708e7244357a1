"""Networks, one architecture a file."""

from metajax.networks.adversarial import AdversarialModel, adversarial, start_adversarial
from metajax.networks.attribute_prototypes import AttributePrototypes
from metajax.networks.beside import beside
from metajax.networks.carried_users import PairScore, carried_users
from metajax.networks.content_network import Adapter, ContentNetwork, start_content
from metajax.networks.embedding_map import EmbeddingMap, MapOfMean, fit_map, map_rows
from metajax.networks.encoder import Encoded, Encoder, start_encoder
from metajax.networks.gradient_reversal import reversal_schedule, reverse_gradient
from metajax.networks.graph_layers import (
    GraphAttention,
    GraphConvolution,
    GraphNetwork,
    GraphResidual,
    GraphSAGE,
    LightGCN,
)
from metajax.networks.graph_model import GraphModel, graph_model, start_graph
from metajax.networks.informed_ridge import InformedRidge, Told, informed_ridge, start_told
from metajax.networks.linen import from_linen
from metajax.networks.matched_rows import copy_rows, matched_rows
from metajax.networks.matching_network import MatchingNetwork
from metajax.networks.neural_process import Attended, AttentiveProcess, ConditionalProcess
from metajax.networks.pair_network import PairNetwork
from metajax.networks.prototype_network import PrototypeNetwork
from metajax.networks.rating_graph import at_items, rating_graph, start_rating_graph
from metajax.networks.rating_network import RatingNetwork, start_bias, start_identity
from metajax.networks.relation_network import Related, RelationNetwork, related_domains
from metajax.networks.ridge_network import RidgeNetwork, start_evidence
from metajax.networks.semantic_map import Mapped, SemanticMap, start_semantic_map
from metajax.networks.sequence_network import SequenceNetwork, from_history_module
from metajax.networks.shared_and_private import (
    Separated,
    SeparationModel,
    shared_and_private,
    start_separated,
)
from metajax.networks.shared_space import shared_space, start_maps
from metajax.networks.spectral_nodes import spectral_nodes
from metajax.networks.student_network import StudentNetwork, start_student
from metajax.networks.support_model import from_support_module
from metajax.networks.two_domains import (
    BothSides,
    DomainFactors,
    known_of,
    rating_at,
    side_of,
    start_factors,
    two_domains,
)
from metajax.networks.update_gru import update_gru
from metajax.networks.user_memory import MemorisedUsers, start_memory, user_memory

__all__ = [
    "Adapter",
    "AdversarialModel",
    "Attended",
    "AttentiveProcess",
    "AttributePrototypes",
    "BothSides",
    "ConditionalProcess",
    "ContentNetwork",
    "DomainFactors",
    "EmbeddingMap",
    "Encoded",
    "Encoder",
    "GraphAttention",
    "GraphConvolution",
    "GraphModel",
    "GraphNetwork",
    "GraphResidual",
    "GraphSAGE",
    "InformedRidge",
    "LightGCN",
    "MapOfMean",
    "Mapped",
    "MatchingNetwork",
    "MemorisedUsers",
    "PairNetwork",
    "PairScore",
    "PrototypeNetwork",
    "RatingNetwork",
    "Related",
    "RelationNetwork",
    "RidgeNetwork",
    "SemanticMap",
    "Separated",
    "SeparationModel",
    "SequenceNetwork",
    "StudentNetwork",
    "Told",
    "adversarial",
    "at_items",
    "beside",
    "carried_users",
    "copy_rows",
    "fit_map",
    "from_history_module",
    "from_linen",
    "from_support_module",
    "graph_model",
    "informed_ridge",
    "known_of",
    "map_rows",
    "matched_rows",
    "rating_at",
    "rating_graph",
    "related_domains",
    "reversal_schedule",
    "reverse_gradient",
    "shared_and_private",
    "shared_space",
    "side_of",
    "spectral_nodes",
    "start_adversarial",
    "start_bias",
    "start_content",
    "start_encoder",
    "start_evidence",
    "start_factors",
    "start_graph",
    "start_identity",
    "start_maps",
    "start_memory",
    "start_rating_graph",
    "start_semantic_map",
    "start_separated",
    "start_student",
    "start_told",
    "two_domains",
    "update_gru",
    "user_memory",
]

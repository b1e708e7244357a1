"""Networks, one architecture a file."""

from metajax.models.adversarial import AdversarialModel, adversarial, start_adversarial
from metajax.models.attribute_prototypes import AmongPrototypes, AttributePrototypes
from metajax.models.beside import beside
from metajax.models.carried_users import PairScore, carried_users
from metajax.models.content_network import Adapter, ContentNetwork, start_content
from metajax.models.embedding_map import EmbeddingMap, MapOfMean, fit_map, map_rows
from metajax.models.encoder import Encoded, Encoder, start_encoder
from metajax.models.gradient_reversal import reversal_schedule, reverse_gradient
from metajax.models.graph_layers import (
    GraphAttention,
    GraphConvolution,
    GraphNetwork,
    GraphResidual,
    GraphSAGE,
    LightGCN,
)
from metajax.models.graph_model import GraphModel, NodeVectors, graph_model, start_graph
from metajax.models.informed_ridge import InformedRidge, Told, informed_ridge, start_told
from metajax.models.linen import from_linen
from metajax.models.matched_rows import copy_rows, matched_rows
from metajax.models.matching_network import MatchingNetwork
from metajax.models.neural_process import Attended, AttentiveProcess, ConditionalProcess, Gaussian
from metajax.models.pair_network import PairNetwork
from metajax.models.prototype_network import PrototypeNetwork
from metajax.models.rating_graph import at_items, rating_graph, start_rating_graph
from metajax.models.rating_network import RatingNetwork, start_bias, start_identity
from metajax.models.relation_network import Related, RelationNetwork, related_domains
from metajax.models.ridge_network import RidgeNetwork, start_evidence
from metajax.models.semantic_map import Mapped, SemanticMap, start_semantic_map
from metajax.models.sequence_network import InHistory, SequenceNetwork, from_history_module
from metajax.models.shared_and_private import (
    Separated,
    SeparationModel,
    shared_and_private,
    start_separated,
)
from metajax.models.shared_space import shared_space, start_maps
from metajax.models.spectral_nodes import spectral_nodes
from metajax.models.student_network import StudentNetwork, start_student
from metajax.models.support_model import SupportModel, from_support_module
from metajax.models.two_domains import (
    BothSides,
    DomainFactors,
    known_of,
    rating_at,
    side_of,
    start_factors,
    two_domains,
)
from metajax.models.update_gru import UpdateGRU, update_gru
from metajax.models.user_memory import MemorisedUsers, start_memory, user_memory

__all__ = [
    "Adapter",
    "AdversarialModel",
    "AmongPrototypes",
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
    "Gaussian",
    "GraphAttention",
    "GraphConvolution",
    "GraphModel",
    "GraphNetwork",
    "GraphResidual",
    "GraphSAGE",
    "InHistory",
    "InformedRidge",
    "LightGCN",
    "MapOfMean",
    "Mapped",
    "MatchingNetwork",
    "MemorisedUsers",
    "NodeVectors",
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
    "SupportModel",
    "Told",
    "UpdateGRU",
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

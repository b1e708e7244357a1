"""Recommendation across two domains: data, protocol and methods."""

from metajax.baselines import Baseline, item_mean
from metajax.cross_domain.adversarial import adversarial
from metajax.cross_domain.adversarial_network import (
    AdversarialModel,
    adversarial_network,
    start_adversarial,
)
from metajax.cross_domain.carried_users import PairScore, carried_users
from metajax.cross_domain.content_fold_in import content_fold_in
from metajax.cross_domain.distilled import distilled
from metajax.cross_domain.domain_factors import (
    BothSides,
    DomainFactors,
    known_of,
    rating_at,
    side_of,
    start_factors,
    two_domains,
)
from metajax.cross_domain.domain_pair import Crossing, load_domains
from metajax.cross_domain.domains import Domains, join_domains, random_domains, split_domains
from metajax.cross_domain.embedding_map import EmbeddingMap, MapOfMean, fit_map, map_rows
from metajax.cross_domain.emcdr import emcdr
from metajax.cross_domain.gradient_reversal import reversal_schedule, reverse_gradient
from metajax.cross_domain.informed_ridge_network import (
    InformedRidge,
    Told,
    informed_ridge_network,
    start_told,
)
from metajax.cross_domain.joint_fold_in import joint_fold_in
from metajax.cross_domain.linear_map import linear_map
from metajax.cross_domain.matched_rows import copy_rows, matched_rows
from metajax.cross_domain.overlap import read_overlap_list
from metajax.cross_domain.relation_network import Related, RelationNetwork, related_domains
from metajax.cross_domain.shared_and_private import difference_loss, shared_and_private
from metajax.cross_domain.shared_and_private_network import (
    Separated,
    SeparationModel,
    shared_and_private_network,
    start_separated,
)
from metajax.cross_domain.shared_space import shared_space
from metajax.cross_domain.shared_space_network import shared_space_network, start_maps
from metajax.cross_domain.student_network import StudentNetwork, start_student
from metajax.cross_domain.target_only import target_only
from metajax.cross_domain.tasks import cross_table, sample_cross_tasks, source_table, with_strangers
from metajax.cross_domain.transfer import parameter_transfer, relation_transfer
from metajax.cross_domain.transferred_factors import fit_transferred_factors
from metajax.cross_domain.unrated_tasks import sample_unrated_tasks, unrated_table
from metajax.cross_domain.users import CrossUsers, cross_users

__all__ = [
    "AdversarialModel",
    "BothSides",
    "CrossUsers",
    "Crossing",
    "DomainFactors",
    "Domains",
    "EmbeddingMap",
    "InformedRidge",
    "MapOfMean",
    "PairScore",
    "Related",
    "RelationNetwork",
    "Separated",
    "SeparationModel",
    "StudentNetwork",
    "Told",
    "adversarial",
    "adversarial_network",
    "carried_users",
    "content_fold_in",
    "copy_rows",
    "cross_table",
    "cross_users",
    "difference_loss",
    "distilled",
    "emcdr",
    "fit_map",
    "fit_transferred_factors",
    "informed_ridge_network",
    "join_domains",
    "joint_fold_in",
    "known_of",
    "linear_map",
    "load_domains",
    "map_rows",
    "matched_rows",
    "of_two_domains",
    "parameter_transfer",
    "random_domains",
    "rating_at",
    "read_overlap_list",
    "related_domains",
    "relation_transfer",
    "reversal_schedule",
    "reverse_gradient",
    "sample_cross_tasks",
    "sample_unrated_tasks",
    "shared_and_private",
    "shared_and_private_network",
    "shared_space",
    "shared_space_network",
    "side_of",
    "source_table",
    "split_domains",
    "start_adversarial",
    "start_factors",
    "start_maps",
    "start_separated",
    "start_student",
    "start_told",
    "target_only",
    "two_domains",
    "unrated_table",
    "with_strangers",
    "without_transfer",
]

of_two_domains: tuple[Baseline, ...] = (target_only, linear_map, joint_fold_in, content_fold_in)
"""Closed forms that tell a source from a target domain."""

without_transfer: tuple[Baseline, ...] = (item_mean, target_only)
"""Closed forms that see the target domain alone: what every transfer has to beat."""

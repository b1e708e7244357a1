"""Recommendation across two domains: data, protocol, closed forms and methods.

The source has much data of a user, the target little; users, attributes or the distribution of
tastes may be common to both.
"""

from metajax.cross_domain.adversarial import (
    AdversarialModel,
    adversarial,
    adversarial_network,
    initial_adversarial,
    reversal_schedule,
    reverse_gradient,
    with_unmatched_source_users,
)
from metajax.cross_domain.content_adapter import content_fold_in
from metajax.cross_domain.distilled import (
    StudentNetwork,
    distilled,
    initial_student,
    sample_unrated_tasks,
    unrated_table,
)
from metajax.cross_domain.domain_factors import (
    CanonicalFactors,
    DomainFactors,
    UserState,
    canonical_factors,
    domain_of,
    domain_posterior,
    initial_factors,
    rating_at,
    two_domain_network,
)
from metajax.cross_domain.domains import (
    DomainPair,
    Domains,
    join_domains,
    load_domains,
    random_domains,
    split_domains,
)
from metajax.cross_domain.embedding_map import EmbeddingMap, fit_map, map_rows
from metajax.cross_domain.emcdr import PosteriorMeanMap, emcdr
from metajax.cross_domain.informed_ridge import (
    InformedRidgeModel,
    PriorTable,
    fit_implicit_feedback_prior,
    informed_ridge_network,
    initial_informed_ridge,
)
from metajax.cross_domain.joint_fold_in import fit_joint_factors, joint_fold_in
from metajax.cross_domain.linear_map import linear_map
from metajax.cross_domain.overlap import copy_rows, matched_rows, read_overlap_list
from metajax.cross_domain.parameter_transfer import (
    RatingMLP,
    fit_transferred_factors,
    parameter_transfer,
    shared_user_mlp,
)
from metajax.cross_domain.relation_transfer import (
    RelationNetwork,
    relation_transfer,
    relation_transfer_network,
)
from metajax.cross_domain.shared_and_private import (
    SeparatedFeatures,
    SeparationModel,
    difference_loss,
    initial_separation,
    shared_and_private,
    shared_and_private_network,
)
from metajax.cross_domain.shared_space import (
    initial_shared_space,
    shared_space,
    shared_space_network,
)
from metajax.cross_domain.target_only import target_only
from metajax.cross_domain.tasks import cross_table, sample_cross_tasks, source_table
from metajax.cross_domain.users import cross_users

__all__ = [
    "AdversarialModel",
    "CanonicalFactors",
    "DomainFactors",
    "DomainPair",
    "Domains",
    "EmbeddingMap",
    "InformedRidgeModel",
    "PosteriorMeanMap",
    "PriorTable",
    "RatingMLP",
    "RelationNetwork",
    "SeparatedFeatures",
    "SeparationModel",
    "StudentNetwork",
    "UserState",
    "adversarial",
    "adversarial_network",
    "canonical_factors",
    "content_fold_in",
    "copy_rows",
    "cross_table",
    "cross_users",
    "difference_loss",
    "distilled",
    "domain_of",
    "domain_posterior",
    "emcdr",
    "fit_implicit_feedback_prior",
    "fit_joint_factors",
    "fit_map",
    "fit_transferred_factors",
    "informed_ridge_network",
    "initial_adversarial",
    "initial_factors",
    "initial_informed_ridge",
    "initial_separation",
    "initial_shared_space",
    "initial_student",
    "join_domains",
    "joint_fold_in",
    "linear_map",
    "load_domains",
    "map_rows",
    "matched_rows",
    "parameter_transfer",
    "random_domains",
    "rating_at",
    "read_overlap_list",
    "relation_transfer",
    "relation_transfer_network",
    "reversal_schedule",
    "reverse_gradient",
    "sample_cross_tasks",
    "sample_unrated_tasks",
    "shared_and_private",
    "shared_and_private_network",
    "shared_space",
    "shared_space_network",
    "shared_user_mlp",
    "source_table",
    "split_domains",
    "target_only",
    "two_domain_network",
    "unrated_table",
    "with_unmatched_source_users",
]

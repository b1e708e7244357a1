"""The simple methods every learner has to beat, behind the same contract."""

from metajax.baselines.attributes import attribute_ridge, demographics
from metajax.baselines.autoencoder import ease
from metajax.baselines.base import Baseline
from metajax.baselines.biases import global_mean, item_mean, item_user_bias
from metajax.baselines.blend import ease_blend, item_knn_blend, popularity_blend
from metajax.baselines.content import content_fold_in
from metajax.baselines.content_ridge import content_ridge, fit_content_ridge
from metajax.baselines.factors import Factors, fit_factors
from metajax.baselines.fold_in import eb_fold_in
from metajax.baselines.joint_fold_in import joint_fold_in
from metajax.baselines.linear_map import linear_map
from metajax.baselines.neighbours import item_knn
from metajax.baselines.target_only import target_only
from metajax.baselines.transferred_factors import fit_transferred_factors
from metajax.baselines.tuning import tune
from metajax.baselines.unpersonalised import popularity, random_order

__all__ = [
    "Baseline",
    "Factors",
    "attribute_ridge",
    "content_fold_in",
    "content_ridge",
    "demographics",
    "ease",
    "ease_blend",
    "eb_fold_in",
    "fit_content_ridge",
    "fit_factors",
    "fit_transferred_factors",
    "global_mean",
    "item_knn",
    "item_knn_blend",
    "item_mean",
    "item_user_bias",
    "joint_fold_in",
    "linear_map",
    "of_new_items",
    "of_two_domains",
    "popularity",
    "popularity_blend",
    "random_order",
    "registry",
    "target_only",
    "tune",
    "without_transfer",
]

registry: tuple[Baseline, ...] = (
    global_mean,
    item_mean,
    item_user_bias,
    demographics,
    attribute_ridge,
    eb_fold_in,
    random_order,
    popularity,
    item_knn,
    ease,
    item_knn_blend,
    ease_blend,
)
"""Every simple baseline, those of ratings first, from the simplest up."""

of_two_domains: tuple[Baseline, ...] = (target_only, linear_map, joint_fold_in, content_fold_in)
"""Those that tell a source from a target domain, and mean nothing without."""

without_transfer: tuple[Baseline, ...] = (item_mean, target_only)
"""Those that look at the target domain alone: what every transfer has to beat."""

of_new_items: tuple[Baseline, ...] = (content_ridge,)
"""Those that order items which nobody has chosen yet, by what is said of them."""

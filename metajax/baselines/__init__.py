"""Baselines in closed form, fitted without meta-training: biases, factors, neighbours, content."""

from metajax.baselines.attributes import attribute_ridge, demographics
from metajax.baselines.baseline import Baseline, Blend, WeightTable
from metajax.baselines.biases import global_mean, item_mean, item_user_bias
from metajax.baselines.blends import ease_blend, item_knn_blend, popularity_blend
from metajax.baselines.content_profile import content_profile
from metajax.baselines.content_ridge import content_ridge, fit_content_ridge
from metajax.baselines.content_schedule import content_schedule
from metajax.baselines.ease import ease
from metajax.baselines.eb_fold_in import eb_fold_in
from metajax.baselines.factors import Factors, fit_factors
from metajax.baselines.graph_filter import graph_filter
from metajax.baselines.implicit_als import implicit_als
from metajax.baselines.item_knn import item_knn
from metajax.baselines.popularity import popularity, random_order
from metajax.baselines.recent_popularity import recent_popularity

__all__ = [
    "Baseline",
    "Blend",
    "Factors",
    "WeightTable",
    "attribute_ridge",
    "content_profile",
    "content_ridge",
    "content_schedule",
    "demographics",
    "ease",
    "ease_blend",
    "eb_fold_in",
    "fit_content_ridge",
    "fit_factors",
    "global_mean",
    "graph_filter",
    "implicit_als",
    "item_knn",
    "item_knn_blend",
    "item_mean",
    "item_user_bias",
    "popularity",
    "popularity_blend",
    "random_order",
    "recent_popularity",
]

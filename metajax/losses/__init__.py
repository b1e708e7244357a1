"""Losses of scores against labels, with a mask in every signature."""

from metajax.losses.examples import (
    absolute_error,
    gaussian_nll,
    shrunk_squared_error,
    sigmoid_cross_entropy,
    squared_error,
    total_squared_error,
)
from metajax.losses.lists import approximate_ndcg, bpr, softmax_cross_entropy
from metajax.losses.masks import blanked, masked_mean, on_examples

__all__ = [
    "absolute_error",
    "approximate_ndcg",
    "blanked",
    "bpr",
    "gaussian_nll",
    "masked_mean",
    "on_examples",
    "shrunk_squared_error",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "squared_error",
    "total_squared_error",
]

"""Trained methods, one file each: network, learner, initial values, options and grid.

A module of this folder, or of `metajax.cross_domain`, with a tuple `methods` of `Method`s is found
by `metajax.registry`. `method` is the contract, `settings` the settings.
"""

from metajax.methods.method import Method
from metajax.methods.objective import by_gradient_steps, by_one_pass, objectives, outer_optimizer
from metajax.methods.settings import (
    Options,
    Settings,
    to_dict,
)

__all__ = [
    "Method",
    "Options",
    "Settings",
    "by_gradient_steps",
    "by_one_pass",
    "objectives",
    "outer_optimizer",
    "to_dict",
]

"""Models fitted to all users of a log, and the folders that serve them without the data.

from metajax import data, engine, runs
model = engine.fit(data.load("ml-100k"), "eb_fold_in")
engine.save(model, "models/films")
model = engine.load("models/films")                       # later, elsewhere
runs.recommend(model.recommender, {"Fargo": 5})
"""

from metajax.engine.export import export, program
from metajax.engine.extension import with_events, with_items
from metajax.engine.fit import (
    UnlinkedGraphError,
    chosen_method,
    everyone,
    fit,
    judged,
    linked,
    read_linked,
)
from metajax.engine.model import FittedModel, is_model, load, save
from metajax.engine.new_users import judged_on
from metajax.engine.refit import over_items_of, refit
from metajax.engine.solver import ColdStartSolver

__all__ = [
    "ColdStartSolver",
    "FittedModel",
    "UnlinkedGraphError",
    "chosen_method",
    "everyone",
    "export",
    "fit",
    "is_model",
    "judged",
    "judged_on",
    "linked",
    "load",
    "over_items_of",
    "program",
    "read_linked",
    "refit",
    "save",
    "with_events",
    "with_items",
]

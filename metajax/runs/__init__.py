"""Training runs: create, train, resume, judge, load, and recommend from them.

from metajax import runs
recommender = runs.train("runs/maml", Settings(data="ml-100k"))   # or resumes
recommender = runs.load("runs/maml")                              # later, elsewhere
runs.recommend(recommender, {"Fargo (1996)": 5})
"""

from metajax.runs.recommendation import (
    Recommendation,
    Recommender,
    recommend,
    recommend_batch,
)
from metajax.runs.run import (
    Run,
    Trainable,
    create,
    free_folder,
    last_good,
    load,
    open_run,
    resumed,
    settings_of,
    train,
    train_run,
)

__all__ = [
    "Recommendation",
    "Recommender",
    "Run",
    "Trainable",
    "create",
    "free_folder",
    "last_good",
    "load",
    "open_run",
    "recommend",
    "recommend_batch",
    "resumed",
    "settings_of",
    "train",
    "train_run",
]

"""Training runs: create, train, resume, judge, load, and recommend from them.

from metajax import runs
recommender = runs.train("runs/maml", Settings(data="ml-100k"))   # or resumes
recommender = runs.load("runs/maml")                              # later, elsewhere
runs.recommend(recommender, {"Fargo (1996)": 5})
"""

from metajax.runs.candidates import candidates
from metajax.runs.data_parallel import DataParallel, check_workers
from metajax.runs.folder import Claim, claim, last_good
from metajax.runs.parameter_server import ParameterServer
from metajax.runs.recommendation import (
    Recommendation,
    Recommendations,
    predict,
    recommend,
    recommend_batch,
    similar,
)
from metajax.runs.recommender import Recommender
from metajax.runs.run import (
    Run,
    Trainable,
    create,
    load,
    open_run,
    resumed,
    settings_of,
    train,
    train_run,
    with_absolute_data,
)

__all__ = [
    "Claim",
    "DataParallel",
    "ParameterServer",
    "Recommendation",
    "Recommendations",
    "Recommender",
    "Run",
    "Trainable",
    "candidates",
    "check_workers",
    "claim",
    "create",
    "last_good",
    "load",
    "open_run",
    "predict",
    "recommend",
    "recommend_batch",
    "resumed",
    "settings_of",
    "similar",
    "train",
    "train_run",
    "with_absolute_data",
]

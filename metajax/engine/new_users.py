"""Evaluation of a fitted model on users of another log, such as one of what came later.

A model folder holds no interactions: of the users that it was fitted to it knows hashes alone. They
are left out, so that every user who is judged is a cold user, and nothing is fitted here: not the
encoding, nor a baseline.
"""

import numpy as np

from metajax.data.cold_users import POOL, support_sizes
from metajax.data.dataset import Dataset
from metajax.data.interactions import Interactions, from_columns
from metajax.data.schema import encode
from metajax.data.splits import ColdTasks, Order, cold_user_tasks, standardised_tasks
from metajax.engine.extension import with_columns
from metajax.engine.model import FittedModel, hashed
from metajax.evaluation import Compared, Evaluation, evaluate, table
from metajax.evaluation.evaluate import ConstantPredictionsError
from metajax.evaluation.tables import Judged
from metajax.runs.recommender import Recommender

__all__ = ["judged_on"]

_PROTOCOL = "new users"


def judged_on(model: FittedModel, dataset: Dataset, *, seed: int = 0) -> Compared:
    """Judges a fitted model on the users of a log that it was not fitted to.

    Of each user the first K = 0, 1, 3, 5 or 10 interactions are shown, in order of time or, where
    the log has no times, in seeded random order; those after the tenth are asked for, or the last
    one of a user with fewer. They are judged as recommendations are made: lists are ordered by
    `rank`, or else by the predicted ratings, which also of a method that predicts ratings alone.

    Args:
        model: The model.
        dataset: The log. Its items are those of the model with the same ids, and its attributes of
            users those of the model with the same names.
        seed: Seed of the order of interactions at the same time.

    Returns:
        Figures with bootstrap intervals over users, and a sentence for everything that is left out.

    Raises:
        ValueError: If the log has no ratings, or ratings off the model's scale, and the model has
            learned from ratings; if `dataset` was loaded with a scale, transform or threshold of
            its own; if nobody is left to judge; or if predictions cannot be judged, as `evaluate`.
    """
    found = model.recommender
    for name in ("scale", "transform", "relevant"):
        if name in (dataset.options or {}):
            raise ValueError(f"{name} (--{name}) is that of the model: leave it out.")
    log = _in_unit_of_model(found, dataset)
    log, notes = _known(model, dataset, log)
    order: Order = "time" if log.timed else "random"
    if order == "random":
        notes.append("the log has no times: the interactions shown are drawn at random")
    tasks = cold_user_tasks(log, log.users, pool=POOL, order=order, seed=seed)
    if found.scale is not None:
        tasks = standardised_tasks(tasks, found.labels)
    users, missing = with_columns(dataset.users, found.user_schema)
    if missing:
        notes.append(f"of users the log has no {', '.join(missing)}: they count as missing")
    evaluation, reason = _evaluated(model, tasks, encode(found.user_schema, users), seed)
    notes += [reason] if reason else []
    records = table([Judged("learned", {order: evaluation})], protocol=_PROTOCOL, seeds=[seed])
    return Compared(records, notes)


def _in_unit_of_model(recommender: Recommender, dataset: Dataset) -> Interactions:
    """Returns the log with labels that the model maps, and grades where it has no ratings."""
    log, name = dataset.interactions, dataset.name
    if recommender.scale is None:
        strengths = np.ones_like(log.rating) if dataset.scale is not None else log.rating
        try:
            return log._replace(rating=recommender.grades.of(strengths))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    if dataset.scale is None:
        raise ValueError(
            f"{name}: the log has no ratings, and the model has learned from ratings: name their "
            "column (--rating-column), or fit a model to a log without ratings."
        )
    low, high = sorted(recommender.scale)
    wrong = log.rating[(log.rating < low) | (log.rating > high)]
    if len(wrong):
        raise ValueError(
            f"{name}: ratings must be on the model's scale, {low:g} to {high:g}, got {wrong[0]:g} "
            f"({len(wrong):,} of {len(log.rating):,} are off it): give them in its unit, or leave "
            "them out (--drop)."
        )
    return log


def _known(
    model: FittedModel, dataset: Dataset, log: Interactions
) -> tuple[Interactions, list[str]]:
    """Keeps new users and known items; returns the rest over the model's items, and notes.

    Raises:
        ValueError: If nothing is left.
    """
    ids = model.recommender.catalogue.ids
    place = {name: n for n, name in enumerate(ids.tolist())}
    item = np.array([place.get(name, -1) for name in log.item_ids.tolist()], np.int64)[log.item]
    fitted = np.isin(hashed(log.user_ids.tolist()), model.fitted_users)
    new = ~fitted[log.user]
    unknown = new & (item < 0)
    keep = new & (item >= 0)
    of_fit = len(np.intersect1d(log.users, np.flatnonzero(fitted)))
    users, rows = f"{of_fit:,} of {len(log.users):,} users", int(unknown.sum())
    if not keep.any():
        raise ValueError(
            f"{dataset.name}: nobody is left to judge the model on: {users} were in the fit, and "
            f"{rows:,} of the others' {int(new.sum()):,} interactions are with items that the "
            "model does not know."
        )
    notes = [f"{users} were in the fit and are left out"] if of_fit else []
    if rows:
        items = len(np.unique(log.item[unknown]))
        notes.append(
            f"{rows:,} of {int(new.sum()):,} interactions are with {items:,} items that the model "
            "does not know, and are left out"
        )
    if model.recommender.scale is None and dataset.scale is not None:
        notes.append("the model has learned without ratings: every rating counts as an interaction")
    columns = (log.user[keep], item[keep], log.rating[keep], log.time[keep])
    return from_columns(*columns, user_ids=log.user_ids, item_ids=ids), notes


def _evaluated(
    model: FittedModel, tasks: ColdTasks, user_features: np.ndarray, seed: int
) -> tuple[Evaluation, str]:
    """Judges ratings and lists, or ratings alone and says why.

    Raises:
        ValueError: If neither can be judged.
    """
    found, shapes = model.recommender, model.shapes
    rating = found.rating and shapes.scale is not None

    def judge(*, ranking: bool) -> Evaluation:
        return evaluate(
            found.adaptation,
            found.params,
            tasks,
            user_features,
            found.catalogue.item_features,
            scale=shapes.scale,
            labels=found.labels,
            relevant=shapes.threshold,
            method=model.method,
            ks=support_sizes(tasks),
            rating=rating,
            ranking=ranking,
            natural=ranking,
            allow_constant=model.method == "global_mean",
            seed=seed,
        )

    if rating and not (tasks.query_rating >= shapes.threshold).any():
        least = float(found.labels.outside(shapes.threshold))
        reason = f"lists are not judged: no rating asked for is a relevant one, {least:g} or better"
        return judge(ranking=False), reason
    try:
        return judge(ranking=True), ""
    except ConstantPredictionsError as error:
        if not rating:
            raise
        return judge(ranking=False), f"lists are not judged: {str(error).removesuffix('.')}"

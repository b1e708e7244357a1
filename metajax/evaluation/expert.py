"""Methods that are trained by updates, as experts of the hybrid engine.

The engine fits its experts to parts of the users and asks each for its parameters alone. Here a
training by updates, with its early stopping, becomes such a fit.
"""

from typing import Any

import numpy as np

from metajax.baselines import Baseline
from metajax.data.cold_users import inner_folds, support_sizes
from metajax.data.dataset import Shapes, TrainingSet, shapes_of
from metajax.data.schema import Schema
from metajax.data.splits import ColdTasks, Fold, Order, Split, cold_user_tasks
from metajax.evaluation.tuning import refit_on, train_on
from metajax.methods import Method
from metajax.registry import (
    first_progress,
    judged_adaptation_of,
    ordering,
    predicts_ratings,
    settings_for,
    trained_method_of,
)
from metajax.types import Params

__all__ = ["trained_expert"]

# The share of users on whom training stops early is one in so many.
_PARTS = 7


def trained_expert(
    method: str | Method, shapes: Shapes, *, stop: bool = True, **changes: Any
) -> Baseline:
    """Makes a method that is trained by updates one that is fitted in a single call.

    Args:
        method: A method of one domain, or its name.
        shapes: `data.dataset.shapes_of` a training set with the items and attributes of the data
            that it is going to be fitted to: its network is built for them.
        stop: True to hold out a seventh of the users of each fit, on whom training stops early,
            and to train again on everyone for as many updates; False to train on everyone for all
            of the updates of the settings, in less than half of the time.
        **changes: Settings of `registry.settings_for`, such as `updates` or `objective`.

    Returns:
        The method, of the kind "learned", without a grid. It predicts ratings where its objective
        is the rating; without ratings in the log its objective is an order.

    Raises:
        ValueError: If there is no such method or setting, or it does not suit the shapes; of its
            `fit`, if the items or attributes of the training set are not those of the shapes.

    Example:
        >>> from metajax.hybrid import hybrid
        >>> shapes = Shapes(items=100, user_width=8, item_width=16, scale=(1.0, 5.0))
        >>> hybrid(more=[(trained_expert("maml", shapes, updates=100), {})]).predicts
        'both'
    """
    method = trained_method_of(method)
    if method.two_domains or shapes.domains != 1:
        raise ValueError(f"experts must be of one domain, got {method.name!r} for two.")
    settings = settings_for(method, **changes)
    if shapes.scale is None:
        if method.needs_ratings:
            raise ValueError(f"method {method.name!r} needs ratings, and the data have none.")
        settings = ordering(settings, shapes.items)
    built_for = _described(shapes)

    def fit(training: TrainingSet) -> Params:
        found = _described(shapes_of(training))
        if found != built_for:
            raise ValueError(
                f"{method.name} was built for (items, user_width, item_width, scale) = "
                f"{built_for}, got {found}."
            )
        whole = _everyone(training)
        updates = settings.updates
        if stop:
            part = inner_folds(whole, folds=_PARTS, seed=settings.seed)[0]
            ks = {panel: support_sizes(tasks) for panel, tasks in part.validation.items()}
            first = first_progress(settings, part.training, method)
            *_, (last, _) = train_on(part._replace(ks=ks), settings, first, method)
            updates = max(int(last.best_step), 1)
        first = first_progress(settings, training, method)
        return refit_on(whole, settings, first, updates, method)

    return Baseline(
        method.name,
        "both" if predicts_ratings(settings) else "ranking",
        fit,
        judged_adaptation_of(settings, shapes, method),
        kind="learned",
    )


def _described(shapes: Shapes) -> tuple[Any, ...]:
    return shapes.items, shapes.user_width, shapes.item_width, shapes.scale


def _everyone(training: TrainingSet) -> Split:
    """Returns a split in which every user is a training user, with panels but no tests."""
    log, nobody = training.interactions, np.zeros(0, np.int64)
    orders: tuple[Order, ...] = ("random", "time") if log.timed else ("random",)
    panels: dict[str, ColdTasks] = {
        order: cold_user_tasks(log, nobody, order=order) for order in orders
    }
    fold = Fold(log.users, nobody, nobody)
    return Split(fold, Schema(()), Schema(()), training, training, {}, panels, {})

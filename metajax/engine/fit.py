"""Fit of a method to all users of a log.

What has to be chosen, the setting of a closed form's grid or the number of updates of a trained
method, is chosen on held-out users of one fold of P1. The choice is then fitted to everyone, so
that a user new to the model is the only cold user.
"""

from collections.abc import Callable, Mapping
from typing import Any

from metajax import registry
from metajax.baselines import Baseline
from metajax.data.cold_users import cold_users
from metajax.data.dataset import Dataset, graded, shapes_of, units_of
from metajax.data.schema import encoded
from metajax.data.splits import Fold, Split, standardised
from metajax.engine.model import FittedModel, recommender_of
from metajax.evaluation import train_on
from metajax.evaluation.tuning import check_ranked, refit_on, tuned
from metajax.methods import Method, Settings
from metajax.runs.recommendation import catalogue_of
from metajax.types import Params

__all__ = ["DEFAULT", "everyone", "fit"]

DEFAULT = "eb_fold_in"
"""The method of a log with ratings, where none is named."""

_IMPLICIT = "ease"
"""The method of a log without ratings, where none is named."""

# In a smaller log no fold leaves users of every part.
_FEWEST_USERS = 10


def fit(
    dataset: Dataset,
    method: str | None = None,
    *,
    settings: Settings | None = None,
    trials: int | None = None,
    seed: int = 0,
    begin: Callable[[str], None] = lambda stage: None,
    on_row: Callable[[Any], None] = lambda row: None,
) -> FittedModel:
    """Fits a method to all users of a log.

    Args:
        dataset: The data.
        method: Name of a closed form or a trained method of one domain. None: `eb_fold_in`, or
            `ease` for a log without ratings.
        settings: Of a trained method, `registry.settings_for`; None: its own.
        trials: Number of settings of a closed form's grid to try; None: all.
        seed: Seed of the held-out users.
        begin: Called with the name of each of two stages: choosing, and fitting everyone.
        on_row: Called with each row of figures while a trained method is validated.

    Returns:
        The model. In a log of fewer than ten users nothing can be held out: a closed form gets the
        first setting of its grid, and a trained method is refused.

    Raises:
        ValueError: If there is no such method, it needs two domains or ratings that the log lacks,
            or the log is empty.
        DivergedError: If training diverged.

    Example:
        >>> from metajax import data
        >>> fit(data.load("synthetic"), "item_mean", trials=1).method
        'item_mean'
    """
    if not len(dataset.interactions.item):
        raise ValueError(f"{dataset.name}: there are no interactions to fit a method to.")
    found = registry.method_of(method or (_IMPLICIT if dataset.implicit else DEFAULT))
    if found.two_domains:
        raise ValueError(
            f"method {found.name!r} needs two domains, a source and a target, got one."
        )
    registry.check_suits(found, dataset)
    whole = everyone(dataset)
    shapes = shapes_of(whole.training)
    begin("choosing on held-out users")
    if isinstance(found, Baseline):
        chosen = _setting(found, dataset, trials, seed)
        begin("fitting everyone")
        params = found.fit(whole.training, **chosen)
    else:
        chosen, params = _trained(found, dataset, whole, settings, seed, begin, on_row)
    catalogue = catalogue_of(dataset.items, whole.training.item_features)
    scale, grades = units_of(dataset)
    recommender = recommender_of(
        found.name,
        chosen,
        shapes,
        params,
        whole.user_schema,
        catalogue,
        scale,
        whole.labels,
        grades,
    )
    return FittedModel(found.name, chosen, shapes, recommender, whole.item_schema)


def everyone(dataset: Dataset) -> Split:
    """Encodes and standardises a log as a split in which every user is a training user.

    Args:
        dataset: The data.

    Returns:
        The split, without tasks to validate or test on.
    """
    data = graded(dataset)
    users = data.interactions.users
    user_schema, item_schema, training = encoded(data, data.interactions, users)
    fold = Fold(users, users[:0], users[:0])
    split = Split(fold, user_schema, item_schema, training, training, {}, {}, {})
    return standardised(split, data)


def _setting(
    baseline: Baseline, dataset: Dataset, trials: int | None, seed: int
) -> Mapping[str, Any]:
    if len(baseline.grid[:trials]) <= 1 or len(dataset.interactions.users) < _FEWEST_USERS:
        return baseline.grid[0]
    split = cold_users(dataset, seed=seed)
    return next(iter(tuned(baseline, split, trials=trials, one_model=True).values())).settings


def _trained(
    method: Method,
    dataset: Dataset,
    whole: Split,
    settings: Settings | None,
    seed: int,
    begin: Callable[[str], None],
    on_row: Callable[[Any], None],
) -> tuple[Mapping[str, Any], Params]:
    """Finds the number of updates on held-out users, then trains on everyone for as many."""
    users = len(dataset.interactions.users)
    if users < _FEWEST_USERS:
        raise ValueError(
            f"method {method.name!r} is trained until users held out stop gaining, which needs "
            f"{_FEWEST_USERS} users, got {users}: take a closed form, such as eb_fold_in."
        )
    settings = registry.settings_for(method, seed=seed) if settings is None else settings
    settings = registry.settings_on(settings, dataset)
    split = cold_users(dataset, seed=seed)
    if not registry.predicts_ratings(settings):
        check_ranked(split)
    best = 1
    for last, row in train_on(split, settings, registry.first_progress(settings, split.training)):
        best = max(int(last.best_step), 1)
        on_row(row)
    begin("fitting everyone")
    first = registry.first_progress(settings, whole.final)
    params = refit_on(whole, settings, first, best)
    shared = vars(settings) | vars(settings.options)
    known = registry.settings_for(method)
    plain = vars(known) | vars(known.options)
    changed = {n: v for n, v in shared.items() if n not in ("method", "options", "data")}
    return {n: v for n, v in changed.items() if v != plain[n]}, params

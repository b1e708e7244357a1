"""Fit of a method to all users of a log.

What has to be chosen, the setting of a closed form's grid or the number of updates of a trained
method, is chosen on held-out users of one fold of P1. The choice is then fitted to everyone, so
that a user new to the model is the only cold user.

Of a knowledge graph the content vectors of linked items (`knowledge.item_vectors`) are appended to
the items' encoded attributes, so that every method that sees those sees the graph.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metajax import evaluation, knowledge, registry
from metajax.baselines import Baseline
from metajax.data.cold_users import cold_users
from metajax.data.dataset import Dataset, graded, shapes_of, units_of
from metajax.data.fetch import Progress
from metajax.data.inspection import FEWEST_USERS
from metajax.data.schema import encoded
from metajax.data.splits import Fold, Split, standardised
from metajax.engine.consolidation import fisher_of
from metajax.engine.model import FittedModel, hashed, recommender_of
from metajax.evaluation import Record, train_on
from metajax.evaluation.tables import Judged
from metajax.evaluation.tuning import check_ranked, fits, refit_on, tuned
from metajax.knowledge import KnowledgeGraph
from metajax.methods import Method, Settings
from metajax.runs.catalogue import catalogue_of, titles_of
from metajax.types import Params

__all__ = [
    "DEFAULT",
    "STAGES",
    "UnlinkedGraphError",
    "chosen_method",
    "everyone",
    "fit",
    "fitted_model",
    "judged",
    "linked",
    "read_linked",
    "vectors_of",
    "with_facts",
    "with_vectors",
]

DEFAULT = "hybrid"
"""The method, where none is named."""

STAGES = ("choosing on held-out users", "fitting everyone")
"""Names of the stages of `fit`."""


class UnlinkedGraphError(ValueError):
    """A graph that links to no item of a log."""


def fit(
    dataset: Dataset,
    method: str | None = None,
    *,
    settings: Settings | None = None,
    trials: int | None = None,
    fold: int = 0,
    seed: int = 0,
    graph: KnowledgeGraph | None = None,
    begin: Callable[[str], None] = lambda stage: None,
    on_row: Callable[[Any], None] = lambda row: None,
) -> FittedModel:
    """Fits a method to all users of a log.

    Args:
        dataset: The data.
        method: Name of a closed form or a trained method of one domain. None: `hybrid`.
        settings: Of a trained method, `registry.settings_for`; None: its own.
        trials: Number of settings of a closed form's grid to try; None: all.
        fold: Fold whose users are held out to choose the setting of a closed form, 0 to 4; that of
            a trained method is in its settings.
        seed: Seed of the held-out users.
        graph: A knowledge graph whose entities are items, by its links or as `linked` finds; None:
            there is none.
        begin: Called with the name of each of the two `STAGES` when it begins.
        on_row: Called with each row of figures while a trained method is validated.

    Returns:
        The model. In a log of fewer than ten users nothing can be held out: a closed form gets the
        first setting of its grid, and a trained method is refused.

    Raises:
        ValueError: If there is no such method, it needs two domains or ratings that the log lacks,
            the log is empty, or the graph links to no item or says nothing of the items.
        DivergedError: If training diverged.

    Example:
        >>> from metajax import data
        >>> fit(data.load("synthetic"), "item_mean", trials=1).method
        'item_mean'
    """
    found = chosen_method(dataset, method)
    vectors = vectors_of(graph, dataset)
    whole = with_vectors(everyone(dataset), vectors)
    begin(STAGES[0])
    if isinstance(found, Baseline):
        chosen = _setting(found, dataset, vectors, trials, fold, seed)
        begin(STAGES[1])
        (params,) = fits(found, whole.training, [chosen])
        model = fitted_model(found.name, chosen, params, dataset, whole)
    else:
        trained = _trained(found, dataset, whole, vectors, settings, seed, begin, on_row)
        chosen, params, updates, fisher = trained
        model = fitted_model(found.name, chosen, params, dataset, whole)
        model = model._replace(updates=updates, fisher=fisher)
    return with_facts(model, graph, dataset)


def fitted_model(
    method: str, chosen: Mapping[str, Any], params: Params, dataset: Dataset, whole: Split
) -> FittedModel:
    """Returns the model of a method that has been fitted.

    Args:
        method: Its name.
        chosen: Its settings.
        params: Its parameters.
        dataset: The data.
        whole: The data encoded, as `everyone`, to which it is fitted.
    """
    catalogue = catalogue_of(dataset.items, whole.training.item_features)
    scale, grades = units_of(dataset)
    shapes = shapes_of(whole.training)
    recommender = recommender_of(
        method,
        chosen,
        shapes,
        params,
        whole.user_schema,
        catalogue,
        scale,
        whole.labels,
        grades,
    )
    rows = whole.fold.train.astype(np.int32)
    users = hashed(dataset.interactions.user_ids[rows].tolist())
    item_schema = whole.item_schema
    return FittedModel(method, chosen, shapes, recommender, item_schema, users, rows)


def with_facts(model: FittedModel, graph: KnowledgeGraph | None, dataset: Dataset) -> FittedModel:
    """Adds the facts of a graph that several items share, by which recommendations are explained.

    Args:
        model: The model.
        graph: As in `fit`.
        dataset: The data, whose items are the model's.
    """
    if graph is None:
        return model
    facts = knowledge.shared_facts(linked(graph, dataset), dataset.items.ids)
    recommender = model.recommender
    catalogue = recommender.catalogue._replace(facts=facts)
    return model._replace(recommender=recommender._replace(catalogue=catalogue))


def chosen_method(dataset: Dataset, method: str | None = None) -> Method | Baseline:
    """Returns the method of a name, or the default of `fit`, where it suits the data.

    Raises:
        ValueError: If there is no such method, it needs two domains or ratings that the log lacks,
            or the log is empty.
    """
    if not len(dataset.interactions.item):
        raise ValueError(f"{dataset.name}: there are no interactions to fit a method to.")
    found = registry.method_of(method or DEFAULT)
    if found.two_domains:
        raise ValueError(
            f"method {found.name!r} needs two domains, a source and a target, got one."
        )
    registry.check_suits(found, dataset)
    return found


def linked(graph: KnowledgeGraph, dataset: Dataset) -> KnowledgeGraph:
    """Links a graph to the items of a data set by their ids or titles: `knowledge.link_items`.

    Raises:
        UnlinkedGraphError: If no item is linked.
    """
    items = dataset.items
    found = knowledge.link_items(graph, items.ids, titles_of(items))
    if not found.links:
        entities, ids = (
            ", ".join(map(repr, names[:3]))
            for names in (graph.entities.names, list(map(str, items.ids[:3])))
        )
        raise UnlinkedGraphError(
            f"the graph links to no item of {dataset.name}: no entity ({entities}, ...) is called "
            f"as an item's id ({ids}, ...) or title; give a file of links."
        )
    return found


def read_linked(
    source: str | os.PathLike[str],
    dataset: Dataset,
    *,
    link: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> KnowledgeGraph:
    """Reads a graph and links it to the items of a data set.

    Literals, such as years and texts, relate no items and are left out.

    Args:
        source: A name of `knowledge.graph_names()`, or a path as for `knowledge.read_graph`.
        dataset: The data.
        link: A RecBole `.link` file: the entity of each item; None: as in `linked`.
        progress: Called as bytes are downloaded.

    Raises:
        ValueError: If it cannot be read, or there are links for a name, which has its own.
        UnlinkedGraphError: If no item is linked.
    """
    reading: dict[str, Any] = {}
    if source not in knowledge.graph_names():
        reading = {"literals": "attributes", "link": None if link is None else Path(link)}
    elif link is not None:
        raise ValueError(f"link must be left out for {source}, which has links of its own.")
    path = source if isinstance(source, str) else Path(source)
    graph = knowledge.load_graph(path, progress=progress, **reading)
    try:
        return linked(graph, dataset)
    except ValueError as problem:
        raise UnlinkedGraphError(f"{source}: {problem}") from None


def judged(
    dataset: Dataset,
    method: str | None = None,
    *,
    baselines: Sequence[str] = (),
    settings: Settings | None = None,
    trials: int | None = None,
    fold: int = 0,
    seed: int = 0,
    graph: KnowledgeGraph | None = None,
    begin: Callable[[str], None] = lambda stage: None,
) -> list[Record]:
    """Judges a method on users held out of a fold of P1, to which it is fitted anew.

    A model that was fitted to everyone has seen all users, so that it cannot be judged on them.

    Args:
        dataset: The data.
        method: As in `fit`.
        baselines: Names of closed forms to judge beside it.
        settings: As in `fit`.
        trials: As in `fit`; of the baselines too.
        fold: Fold whose users are the cold ones, 0 to 4.
        seed: Seed of the folds.
        graph: As in `fit`.
        begin: Called with the name of each method when its turn comes.

    Returns:
        The records of `evaluation.table`.

    Raises:
        ValueError: As `fit`, or if the data have too few users to hold some out or predictions
            cannot be judged.
        DivergedError: If training diverged.
    """
    found = [chosen_method(dataset, name) for name in dict.fromkeys([*baselines, method])]
    for other in found[:-1]:
        if not isinstance(other, Baseline):
            raise ValueError(f"baselines must be closed forms, got {other.name!r}.")
    vectors = vectors_of(graph, dataset)
    split = with_vectors(evaluation.prepare("P1", dataset, fold=fold, seed=seed), vectors)
    results = []
    for one in found:
        begin(one.name)
        if isinstance(one, Baseline):
            fitted = tuned(one, split, trials=trials, one_model=True)
        else:
            fitted = dict.fromkeys(split.test, _validated(one, dataset, split, settings, seed))
        by_order = {panel: evaluation.judge(m, split, panel) for panel, m in fitted.items()}
        kind = "baseline" if one.name in baselines else "learned"
        results.append(Judged(kind, by_order))
    return evaluation.table(results, protocol="P1", seeds=[seed])


def everyone(dataset: Dataset) -> Split:
    """Encodes and standardises a log as a split in which every user is a training user.

    Args:
        dataset: The data.

    Returns:
        The split, without tasks to validate or test on. Items that no user at all has count as new.
    """
    data = graded(dataset)
    users = data.interactions.users
    user_schema, item_schema, training = encoded(data, data.interactions, users)
    training = training._replace(new_items=data.interactions.item_counts == 0)
    fold = Fold(users, users[:0], users[:0])
    split = Split(fold, user_schema, item_schema, training, training, {}, {}, {})
    return standardised(split, data)


def vectors_of(graph: KnowledgeGraph | None, dataset: Dataset) -> np.ndarray | None:
    """Returns `[I, D]` content vectors of the items of a data set; None without a graph.

    Raises:
        UnlinkedGraphError: If no item is linked.
        ValueError: If the graph says nothing of the items.
    """
    if graph is None:
        return None
    return knowledge.item_vectors(linked(graph, dataset), dataset.items.ids)


def with_vectors(split: Split, vectors: np.ndarray | None) -> Split:
    """Appends vectors of the items, `[I, D]`, to their encoded attributes."""
    if vectors is None:
        return split
    features = np.concatenate([split.training.item_features, vectors], axis=1)
    return split._replace(
        training=split.training._replace(item_features=features),
        final=split.final._replace(item_features=features),
    )


def _setting(
    baseline: Baseline,
    dataset: Dataset,
    vectors: np.ndarray | None,
    trials: int | None,
    fold: int,
    seed: int,
) -> Mapping[str, Any]:
    if len(baseline.grid[:trials]) <= 1 or len(dataset.interactions.users) < FEWEST_USERS:
        return baseline.grid[0]
    split = with_vectors(cold_users(dataset, fold=fold, seed=seed), vectors)
    return next(iter(tuned(baseline, split, trials=trials, one_model=True).values())).settings


def _settings(method: Method, dataset: Dataset, settings: Settings | None, seed: int) -> Settings:
    """Returns the settings of a training, where the data have users to hold out."""
    users = len(dataset.interactions.users)
    if users < FEWEST_USERS:
        raise ValueError(
            f"method {method.name!r} is trained until its loss on held-out users stops falling, "
            f"which needs {FEWEST_USERS} users, got {users}: take a closed form, such as "
            "eb_fold_in."
        )
    settings = registry.settings_for(method, seed=seed) if settings is None else settings
    return registry.settings_on(settings, dataset)


def _validated(
    method: Method, dataset: Dataset, split: Split, settings: Settings | None, seed: int
) -> evaluation.FittedMethod:
    """Trains on the training users of a fold, until its validation users stop gaining."""
    settings = _settings(method, dataset, settings, seed)
    first = registry.first_progress(settings, split.training)
    *_, (last, _) = train_on(split, settings, first)
    return evaluation.learned(settings, split, last.best)


def _trained(
    method: Method,
    dataset: Dataset,
    whole: Split,
    vectors: np.ndarray | None,
    settings: Settings | None,
    seed: int,
    begin: Callable[[str], None],
    on_row: Callable[[Any], None],
) -> tuple[Mapping[str, Any], Params, int, Params]:
    """Finds the number of updates on held-out users, then trains on everyone for as many.

    Returns:
        The settings that are not the method's own, the parameters, the number of updates, and
        the Fisher information.
    """
    settings = _settings(method, dataset, settings, seed)
    split = with_vectors(cold_users(dataset, fold=settings.fold, seed=settings.seed), vectors)
    if not registry.predicts_ratings(settings):
        check_ranked(split)
    best = 1
    for last, row in train_on(split, settings, registry.first_progress(settings, split.training)):
        best = max(int(last.best_step), 1)
        on_row(row)
    begin(STAGES[1])
    first = registry.first_progress(settings, whole.final)
    params = refit_on(whole, settings, first, best)
    shared = vars(settings) | vars(settings.options)
    known = registry.settings_for(method)
    plain = vars(known) | vars(known.options)
    changed = {n: v for n, v in shared.items() if n not in ("method", "options", "data")}
    chosen = {n: v for n, v in changed.items() if v != plain[n]}
    return chosen, params, best, fisher_of(settings, whole.final, params)

"""Warm refit: a model fitted to more data, or to new data alone, from what an earlier fit found.

Ids, the scale of ratings and the encoding of attributes stay as they are, and so do the model's
items, beside which new ones take their places. A closed form is fitted anew with its setting; one
with a `refit` of its own, such as `hybrid`, keeps what took longest to find. A trained method goes
on from its parameters, and may be kept from forgetting earlier data by their replay or by elastic
weight consolidation.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax import registry
from metajax.baselines import Baseline
from metajax.data.dataset import Dataset, Table, TrainingSet, graded, shapes_of
from metajax.data.interactions import select_users
from metajax.data.labels import BEST, WORST
from metajax.data.schema import encode
from metajax.data.splits import Fold, Split
from metajax.engine.carrying import Places, carried, carried_fisher
from metajax.engine.consolidation import consolidated_method, fisher_of
from metajax.engine.extension import with_columns, with_events, with_known_items
from metajax.engine.fit import (
    chosen_method,
    everyone,
    fitted_model,
    vectors_of,
    with_facts,
    with_vectors,
)
from metajax.engine.model import FittedModel, hashed
from metajax.knowledge import KnowledgeGraph
from metajax.methods import Method, Settings
from metajax.runs.catalogue import Catalogue
from metajax.training import begin, train
from metajax.types import Task

__all__ = ["UPDATES_SHARE", "over_items_of", "refit"]

UPDATES_SHARE = 0.25
"""Updates of a warm refit, as a share of those of the training from scratch."""


def refit(
    model: FittedModel,
    dataset: Dataset,
    *,
    graph: KnowledgeGraph | None = None,
    replay: Dataset | None = None,
    updates: int | None = None,
    ewc: float | None = None,
) -> FittedModel:
    """Fits the method of a model to other data, warm: nothing is chosen again.

    A closed form knows of these data alone afterwards: give all of them, or the earlier ones by
    `replay`. A trained method knows items and users of the model again by their ids; rows of new
    ones are as `engine.carrying` says.

    Args:
        model: The model.
        dataset: The data, such as those of the model with later interactions and new items, or the
            later ones alone.
        graph: As in `fit`; needed if the model was fitted with one.
        replay: The earlier data, or a part of them. Of a pair of user and item in both, the
            interaction of `dataset` stays. A trained method draws half of the tasks of every update
            from their users.
        updates: Of a trained method, meta-updates, >= 1; None: a quarter of those of its training
            from scratch.
        ewc: Of a trained method, weight of the penalty for leaving its parameters, >= 0, each as
            much as the earlier tasks depend on it: `learners.ewc_penalty`. None: there is none.

    Returns:
        The model of these data. Its catalogue holds the items of both.

    Raises:
        ValueError: If the data are in another unit than those of the model, have ratings where
            those had none or reversely, lack a graph, an option is out of range or does not suit
            the method, or as `fit`.
        DivergedError: If training diverged.

    References:
        Kirkpatrick et al., Overcoming catastrophic forgetting in neural networks, PNAS 114(13),
        2017, for the penalty; Rolnick et al., Experience Replay for Continual Learning, NeurIPS
        2019, for the replay.
    """
    found = chosen_method(dataset, model.method)
    given = {"updates": updates, "ewc": ewc}
    given = {name: value for name, value in given.items() if value is not None}
    if isinstance(found, Baseline) and given:
        raise ValueError(
            f"{' and '.join(given)} must be left out for {found.name!r}: it is a closed form, "
            "which is not trained by updates."
        )
    data = _in_unit_of(model, dataset)
    whole_log = data
    if replay is not None:
        whole_log = with_events(_in_unit_of(model, replay), data)._replace(name=dataset.name)
    whole_log = over_items_of(model, whole_log)
    if not isinstance(found, Baseline):
        ids = None if replay is None else (data.users.ids, replay.users.ids)
        refitted = _trained(found, model, whole_log, graph, ids, updates, ewc)
    elif found.refit is None:
        whole = with_vectors(everyone(whole_log), vectors_of(graph, whole_log))
        params = found.fit(whole.training, **model.settings)
        refitted = fitted_model(found.name, model.settings, params, whole_log, whole)
    else:
        whole = encoded_as(model, whole_log, graph)
        params = found.refit(model.recommender.params, whole.training, **model.settings)
        refitted = fitted_model(found.name, model.settings, params, whole_log, whole)
    # Nobody whom the earlier model has seen is new to this one.
    earlier = model.fitted_users[~np.isin(model.fitted_users, refitted.fitted_users)]
    users = np.concatenate([refitted.fitted_users, earlier])
    return with_facts(refitted._replace(fitted_users=users), graph, whole_log)


def _trained(
    method: Method,
    model: FittedModel,
    dataset: Dataset,
    graph: KnowledgeGraph | None,
    mixed: tuple[np.ndarray, np.ndarray] | None,
    updates: int | None,
    strength: float | None,
) -> FittedModel:
    """Trains further, from the parameters of a model.

    Args:
        method: The method.
        model: The model.
        dataset: All data, replayed ones among them.
        graph: As in `refit`.
        mixed: Ids of the users of the new data and of the replayed ones, of whom each gives half
            of the tasks; None: everyone is alike.
        updates: As in `refit`.
        strength: The `ewc` of `refit`.
    """
    whole = encoded_as(model, dataset, graph)
    training, shapes = whole.training, shapes_of(whole.training)
    settings = registry.settings_for(method, **model.settings)
    if updates is None:
        updates = max(round(UPDATES_SHARE * (model.updates or settings.updates)), 1)
    settings = registry.with_changes(settings, updates=updates)
    first = registry.first_progress(settings, training)
    places = _places(model, dataset)
    fresh, earlier = first.state.params, model.recommender.params
    params = carried(settings, model.shapes, earlier, fresh, places)
    fisher = None
    trained_by = method
    if strength is not None:
        if model.fisher is None:
            raise ValueError(
                "ewc needs Fisher information, and the model holds none: fit it once more without "
                "--from, which adds it."
            )
        fisher = carried_fisher(settings, model.shapes, model.fisher, fresh, places)
        trained_by = consolidated_method(method, params, fisher, strength)
        first = registry.first_progress(settings, training, trained_by)
    sample, table = _tasks(settings, training, mixed)
    *_, (last, _) = train(
        registry.learner_of(settings, shapes, trained_by),
        sample,
        table,
        begin(first.state._replace(params=params)),
        validate=None,
        updates=updates,
        seed=settings.seed,
        per_dispatch=settings.per_dispatch,
        validate_every=settings.validate_every,
    )
    information = fisher_of(settings, training, last.best)
    if fisher is not None:
        information = jax.tree.map(jnp.add, information, fisher)
    found = fitted_model(method.name, model.settings, last.best, dataset, whole)
    return found._replace(updates=model.updates, fisher=information)


def _tasks(
    settings: Settings, training: TrainingSet, mixed: tuple[np.ndarray, np.ndarray] | None
) -> tuple[Callable[[Any, jax.Array], Task], Any]:
    """Returns a sampler of tasks and its table: of everyone, or half of users of either log."""
    shapes = shapes_of(training)
    if mixed is None:
        sampler = registry.sampler_of(settings, shapes)
        return sampler.sample, sampler.table(training, seed=settings.seed)
    log = training.interactions
    half = max(settings.tasks // 2, 1)
    sizes = max(settings.tasks - half, 1), half
    samplers = [
        registry.sampler_of(registry.with_changes(settings, tasks=size), shapes) for size in sizes
    ]
    tables = tuple(
        sampler.table(
            training._replace(
                interactions=select_users(log, np.flatnonzero(np.isin(log.user_ids, ids)))
            ),
            seed=settings.seed,
        )
        for sampler, ids in zip(samplers, mixed, strict=True)
    )

    def sample(tables: Any, key: jax.Array) -> Task:
        keys = jax.random.split(key, len(samplers))
        drawn = [
            sampler.sample(table, own)
            for sampler, table, own in zip(samplers, tables, keys, strict=True)
        ]
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *drawn)

    return sample, tables


def _places(model: FittedModel, dataset: Dataset) -> Places:
    def shared(earlier: np.ndarray, now: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        _, was, here = np.intersect1d(earlier, now, return_indices=True)
        return was, here

    log, rows = dataset.interactions, model.user_rows
    was, now = shared(model.fitted_users[: len(rows)], hashed(log.user_ids.tolist()))
    return Places(shared(model.recommender.catalogue.ids, log.item_ids), (rows[was], now))


def encoded_as(model: FittedModel, dataset: Dataset, graph: KnowledgeGraph | None) -> Split:
    """Encodes and standardises a log as the training set of a model was.

    Args:
        model: The model.
        dataset: The data, in its unit and over its items.
        graph: As in `refit`.

    Returns:
        As `everyone`. Categories that are new count as unknown.

    Raises:
        ValueError: If the model was fitted with a graph and there is none, or reversely, or a value
            does not fit its column.
    """
    found = model.recommender
    data = graded(dataset)
    log, users = data.interactions, data.interactions.users
    if found.scale is not None:
        log = log._replace(rating=found.labels.clipped(log.rating))
    user_features, item_features = (
        encode(schema, with_columns(table, schema)[0])
        for schema, table in ((found.user_schema, data.users), (model.item_schema, data.items))
    )
    scale = None if found.scale is None else (WORST, BEST)
    training = TrainingSet(
        log,
        user_features,
        item_features,
        scale,
        relevant=model.shapes.relevant,
        new_items=log.item_counts == 0,
    )
    fold = Fold(users, users[:0], users[:0])
    split = Split(
        fold, found.user_schema, model.item_schema, training, training, {}, {}, {}, found.labels
    )
    return with_vectors(split, _vectors_along(model, dataset, graph))


def _vectors_along(
    model: FittedModel, dataset: Dataset, graph: KnowledgeGraph | None
) -> np.ndarray | None:
    """Returns content vectors along the axes that those of the model have."""
    catalogue, width = model.recommender.catalogue, model.item_schema.width
    earlier = catalogue.item_features[:, width:]
    if (graph is None) != (not earlier.shape[1]):
        had, has = ("a", "there is none") if graph is None else ("no", "there is one")
        raise ValueError(f"the model was fitted with {had} graph, and now {has}.")
    vectors = vectors_of(graph, dataset)
    if vectors is None:
        return None
    # Main axes have no sign, and more facts turn them: mapped by the items that both describe.
    place = np.searchsorted(dataset.items.ids, catalogue.ids)
    back = np.linalg.lstsq(vectors[place].astype(np.float64), earlier, rcond=1e-6)[0]
    return (vectors @ back).astype(np.float32)


def _in_unit_of(model: FittedModel, dataset: Dataset) -> Dataset:
    """Returns the data with the scale, the transform and the threshold of a model.

    Raises:
        ValueError: If the data have others.
    """
    found, name, options = model.recommender, dataset.name, dataset.options or {}
    if dataset.implicit and found.scale is not None:
        raise ValueError(f"the model has learned from ratings, and {name} {dataset.unrated}.")
    if found.scale is None and not dataset.implicit:
        raise ValueError(f"the model has learned without ratings, and {name} has some.")
    if found.scale is None:
        relevant, transform = found.grades.relevant, found.grades.transform
    else:
        relevant, transform = _threshold_of(model), found.labels.transform
    for option, own in (("relevant", relevant), ("transform", transform)):
        given = getattr(dataset, option)
        if option in options and given is not None and not _same(given, own):
            raise ValueError(
                f"{name}: {option} (--{option}) must be that of the model, "
                f"{'none' if own is None else own}, got {given}: leave it out."
            )
    data = dataset._replace(relevant=relevant, transform=transform)
    if found.scale is None:
        return data
    low, high = sorted(found.scale)
    ratings, scale = dataset.interactions.rating, dataset.scale or found.scale
    wrong = ratings[(ratings < low) | (ratings > high)]
    if len(wrong) or (dataset.scale_given and scale != found.scale):
        got = f"a rating of {wrong[0]:g}" if len(wrong) else f"{scale[0]:g} to {scale[1]:g}"
        raise ValueError(
            f"{name}: ratings must be on the scale of the model, "
            f"{found.scale[0]:g} to {found.scale[1]:g}, got {got}."
        )
    return data._replace(scale=found.scale, scale_given=True)


def _threshold_of(model: FittedModel) -> float | None:
    """Returns the lowest rating of a relevant item in the unit of the log; None: not given."""
    relevant = model.shapes.relevant
    return None if relevant is None else float(model.recommender.labels.outside(relevant))


def _same(given: float | str, own: float | str | None) -> bool:
    if isinstance(given, str) or isinstance(own, str) or own is None:
        return given == own
    return bool(np.isclose(given, own, rtol=1e-5))


def over_items_of(model: FittedModel, dataset: Dataset) -> Dataset:
    """Adds the items of a model to a data set: `with_known_items`."""
    catalogue: Catalogue = model.recommender.catalogue
    known = catalogue.attributes or Table(catalogue.ids, {}, {})
    return with_known_items(dataset, known)

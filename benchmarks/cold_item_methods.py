"""Methods of `cold_items.py`: scores of all films for all users, from content features."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from cold_item_data import Described, evened

from metajax import baselines
from metajax.baselines.preferences import liked_counts
from metajax.data.dataset import TrainingSet, shapes_of
from metajax.data.interactions import Interactions, select_rows
from metajax.hybrid import hybrid
from metajax.knowledge import (
    entities_as_users,
    item_features,
    link_predictor,
    tfidf,
    training_triples,
)
from metajax.registry import (
    judged_adaptation_of,
    learner_of,
    sampler_of,
    settings_for,
    trained_method_of,
)
from metajax.types import Examples, Inputs

__all__ = ["METHODS"]

WIDTH, MARGIN, RATE, BATCH, EPOCHS = 32, 4.0, 0.01, 1024, 40


def _at_random(about: Described, log: Interactions, seed: int) -> np.ndarray:
    del log
    return np.random.default_rng(seed).random((about.users, about.items))


def _by_size(about: Described, log: Interactions, seed: int) -> np.ndarray:
    del log, seed
    return np.tile(about.size.astype(np.float32), (about.users, 1))


def _cosine(about: Described, log: Interactions, seed: int, *, source: str) -> np.ndarray:
    """Sums the cosines of a film with those that the user likes."""
    del seed
    of = getattr(about, source)
    features = item_features(of.graph, of.entity)
    rows = np.zeros((about.items, len(features.relation)), np.float32)
    rows[features.item, features.feature] = tfidf(features)
    return (about.liked(log) @ rows) @ rows.T


def _ridge(
    about: Described, log: Interactions, seed: int, *, of: tuple[str, ...], **settings: float
) -> np.ndarray:
    training = _with_vectors(about, log, seed, of)
    return _scores(baselines.content_ridge, training, training, **settings)


def _engine(about: Described, log: Interactions, seed: int, *, of: tuple[str, ...]) -> np.ndarray:
    training = _with_vectors(about, log, seed, of)
    return _scores(hybrid(), training, training)


def _with_vectors(
    about: Described, log: Interactions, seed: int, of: tuple[str, ...]
) -> TrainingSet:
    vectors = {**about.vectors, "random": about.vectors["graph"][about.shuffled(seed)]}
    if "RotatE" in of:
        vectors["RotatE"] = _rotated(about, seed)
    return about.training(log, np.concatenate([vectors[name] for name in of], axis=1))


def _ease(about: Described, log: Interactions, seed: int, **settings: float) -> np.ndarray:
    del seed
    people = about.training(log, np.zeros((about.items, 0)))
    extended = _with_entities(about, people)
    return _scores(baselines.ease, extended, people, **settings)


def _with_entities(about: Described, training: TrainingSet) -> TrainingSet:
    for source in (about.attributes, about.graph):
        training = entities_as_users(training, *source)
    return training


def _network(
    about: Described, log: Interactions, seed: int, *, name: str, updates: int
) -> np.ndarray:
    """Trains entity vectors, from which film vectors are propagated, by rankings of films."""
    people = about.training(log, np.zeros((about.items, 0)))
    nobody = people._replace(interactions=select_rows(log, np.zeros(len(log.item), bool)))
    graph = _with_entities(about, nobody)
    settings = settings_for(name, seed=seed)
    shapes = shapes_of(graph)
    sampler, learner = sampler_of(settings, shapes), learner_of(settings, shapes)
    table = sampler.table(people, seed=seed)
    first, second = jax.random.split(jax.random.key(seed))
    state = learner.init(first, sampler.sample(table, first))
    params = trained_method_of(name).initial(settings, graph)(state.params)
    params = {**params, "item_bias": jnp.log1p(jnp.asarray(liked_counts(people)))}
    state = state._replace(params=params)
    update = jax.jit(lambda state, key: learner.update(state, sampler.sample(table, key))[0])
    for n in range(updates):
        state = update(state, jax.random.fold_in(second, n))
    return _predicted(judged_adaptation_of(settings, shapes), state.params, people)


def _rotated(about: Described, seed: int) -> np.ndarray:
    """Trains RotatE on the graph without awards; returns its vectors of films."""
    if seed not in about.rotated:
        graph, entity = about.graph
        sizes = {"entities": len(graph.entities.names), "relations": len(graph.relations.names)}
        learner = link_predictor(
            "RotatE", optax.adam(RATE), width=WIDTH, margin=MARGIN, batch=BATCH
        )
        first, second = jax.random.split(jax.random.key(seed))
        state, given = learner.init(first, **sizes), training_triples(graph.triples, **sizes)
        epoch = jax.jit(learner.epoch)
        for n in range(EPOCHS):
            state, _ = epoch(state, given, jax.random.fold_in(second, n))
        halves = jax.tree.leaves(state.params["entity"])
        table = np.concatenate([np.asarray(half) for half in halves], axis=1)
        known = (entity >= 0)[:, None]
        films = np.where(known, table[entity], 0)
        films = np.where(known, films - films.sum(axis=0) / known.sum(), 0)
        about.rotated[seed] = evened(films)
    return about.rotated[seed]


def _scores(
    baseline: baselines.Baseline, training: TrainingSet, people: TrainingSet, **settings: float
) -> np.ndarray:
    return _predicted(baseline.adaptation, baseline.fit(training, **settings), people)


def _predicted(method: Any, params: Any, people: TrainingSet) -> np.ndarray:
    """Scores every film for every user, adapted to all of their training ratings."""
    log = people.interactions
    length = log.user_counts
    users, most = len(length), length.max()
    user = log.user
    at = user, np.arange(len(user)) - log.offsets[user]
    item, rating = np.zeros((users, most), np.int32), np.zeros((users, most), np.float32)
    mask = np.zeros((users, most), bool)
    item[at], rating[at], mask[at] = log.item, log.rating, True
    score = method.rank or method.predict
    features = jnp.asarray(people.user_features), jnp.asarray(people.item_features)
    shown = jnp.asarray(item), jnp.asarray(rating), jnp.asarray(mask)
    return np.asarray(_all_scores(method.adapt, score, params, *features, *shown))


@partial(jax.jit, static_argnums=(0, 1))
def _all_scores(
    adapt: Any,
    predict: Any,
    params: Any,
    user_features: jax.Array,
    item_features: jax.Array,
    item: jax.Array,
    rating: jax.Array,
    mask: jax.Array,
) -> jax.Array:
    """Returns `[U, I]` scores; of the supports `[U, S]` items, ratings and marks are given."""

    def inputs(user: jax.Array, items: jax.Array) -> Inputs:
        features = jnp.broadcast_to(user, (len(items), len(user)))
        return Inputs(features, item_features[items], items)

    def one(given: tuple[jax.Array, ...]) -> jax.Array:
        user, items, labels, where = given
        adapted = adapt(params, Examples(inputs(user, items), labels, where))
        everything = jnp.arange(len(item_features), dtype=jnp.int32)
        return predict(params, adapted, inputs(user, everything))

    return jax.lax.map(one, (user_features, item, rating, mask), batch_size=64)


_RIDGES = baselines.content_ridge.grid
_Grid = Sequence[Mapping[str, Any]]
_UPDATES: _Grid = ({"updates": 0}, {"updates": 20}, {"updates": 60})

METHODS: dict[str, tuple[Callable[..., np.ndarray], _Grid]] = {
    "random": (_at_random, ({},)),
    "number of facts": (_by_size, ({},)),
    "genre": (partial(_cosine, source="genres"), ({},)),
    "genre and year": (partial(_cosine, source="attributes"), ({},)),
    "TF-IDF": (partial(_cosine, source="graph"), ({},)),
    "TF-IDF with awards": (partial(_cosine, source="awarded"), ({},)),
    "EASE, entities as users": (
        _ease,
        tuple({"ridge": r} for r in (300.0, 1000.0, 3000.0, 10000.0)),
    ),
    "LightGCN on the graph": (partial(_network, name="graph_light"), _UPDATES),
    "GraphSAGE on the graph": (partial(_network, name="graph_sage"), _UPDATES),
    **{
        f"ridge: {label}": (partial(_ridge, of=of), _RIDGES)
        for label, of in (
            ("attributes", ("attributes",)),
            ("attributes, random graph", ("attributes", "random")),
            ("graph", ("graph",)),
            ("attributes, graph", ("attributes", "graph")),
            ("attributes, graph with awards", ("attributes", "awards")),
            ("RotatE", ("RotatE",)),
            ("attributes, RotatE", ("attributes", "RotatE")),
            ("attributes, graph, RotatE", ("attributes", "graph", "RotatE")),
        )
    },
    **{
        f"hybrid: {', '.join(of)}": (partial(_engine, of=of), ({},))
        for of in (("attributes",), ("attributes", "graph"), ("attributes", "graph", "RotatE"))
    },
}
"""How to score, and the settings to try, the default first."""

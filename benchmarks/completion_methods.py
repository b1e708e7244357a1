"""Methods that complete the triples of new films.

All methods see the triples of the old films and, of a new film, those of the other relations; each
returns scores of candidates, all tails of the queried relation in old films.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from growth_methods import Programs
from knowledge_data import FilmGraph

from metajax.data.dataset import room
from metajax.knowledge import new_rows, training_triples
from metajax.knowledge.ranking import candidate_scores

__all__ = [
    "NewFilms",
    "Question",
    "fitted",
    "frequency",
    "neighbours",
    "new_films",
    "question",
    "rotate",
    "stacked",
    "trained",
]


class NewFilms(NamedTuple):
    """Facts of old films and of new ones. Entities of old facts come first, then new films."""

    old: np.ndarray
    """`[n, 3]` facts whose tail is in two of them."""
    new: np.ndarray
    """`[m, 3]` facts whose tail is in an old one."""
    entities: int
    """Number of entities in old facts."""
    films: int
    """Number of new films."""
    facts: np.ndarray
    """`[R]` number of facts of new films by relation, whatever the tail."""


class Question(NamedTuple):
    """A relation whose facts of the new films are hidden."""

    relation: int
    candidates: np.ndarray
    """`[C]` entities."""
    count: np.ndarray
    """`[C]` number of old films with each."""
    right: np.ndarray
    """`[F, C]` bool, the hidden facts."""


def new_films(films: FilmGraph, first_year: int, last_year: int) -> NewFilms:
    """Splits films into those of some years, the new ones, and earlier ones."""
    graph, year = films
    triples = graph.triples.astype(np.int64)
    head, _, tail = triples.T
    of_old = (year[head] > 0) & (year[head] < first_year) & (year[tail] < first_year)
    old = triples[of_old]
    # By facts of old films alone, so that degrees do not leak those of new films.
    degree = np.bincount(old[:, [0, 2]].ravel(), minlength=len(year))
    old = old[degree[old[:, 2]] >= 2]
    new = triples[(year[head] >= first_year) & (year[head] <= last_year)]
    entities, recent = np.unique(old[:, [0, 2]]), np.unique(new[:, 0])
    number = np.full(len(year), -1)
    number[entities] = np.arange(len(entities))
    number[recent] = len(entities) + np.arange(len(recent))

    def numbered(rows: np.ndarray) -> np.ndarray:
        return np.stack([number[rows[:, 0]], rows[:, 1], number[rows[:, 2]]], axis=1)

    facts = np.bincount(new[:, 1], minlength=len(graph.relations.names))
    new = numbered(new)
    new = new[(new[:, 2] >= 0) & (new[:, 2] < len(entities))]
    return NewFilms(numbered(old), new, len(entities), len(recent), facts)


def question(given: NewFilms, relation: int) -> Question:
    """Hides a relation of the new films."""
    tails = given.old[given.old[:, 1] == relation][:, 2]
    candidates, count = np.unique(tails, return_counts=True)
    right = np.zeros((given.films, len(candidates)), bool)
    rows = given.new[given.new[:, 1] == relation]
    rows = rows[np.isin(rows[:, 2], candidates)]
    right[rows[:, 0] - given.entities, np.searchsorted(candidates, rows[:, 2])] = True
    return Question(relation, candidates, count, right)


def frequency(given: NewFilms, query: Question) -> np.ndarray:
    """Scores candidates by their number of old films."""
    return np.tile(query.count.astype(np.float64), (given.films, 1))


def neighbours(given: NewFilms, query: Question, *, nearest: int = 50) -> np.ndarray:
    """Sums the cosines of the nearest old films that have a tail.

    Nearness is by TF-IDF of all that is shown; where none has it, what is frequent comes first.
    """
    old, new = _vectors(given, query.relation)
    cosine = new @ old.T
    least = np.partition(cosine, -nearest, axis=1)[:, -nearest]
    kept = np.where(cosine >= least[:, None], cosine, 0)
    films, tails = np.unique(given.old[:, 0]), given.old[given.old[:, 1] == query.relation]
    has = np.zeros((len(films), len(query.candidates)))
    has[np.searchsorted(films, tails[:, 0]), np.searchsorted(query.candidates, tails[:, 2])] = 1
    return kept @ has + 1e-6 * query.count


def rotate(
    given: NewFilms, query: Question, run: Programs, params: Any, key: jax.Array, epochs: int
) -> np.ndarray:
    """Places the new films by their shown facts, trains their rows, and scores by RotatE."""
    sizes = {"entities": given.entities + given.films, "relations": len(given.facts)}
    shown = training_triples(given.new[given.new[:, 1] != query.relation], **sizes)
    new = new_rows(params, entities=given.entities, relations=len(given.facts))
    params = run.place(params, shown, new["entity"])
    params = run.train(params, shown, key, epochs, new, None)
    film = given.entities + jnp.arange(given.films)
    queries = jnp.stack([film, jnp.full_like(film, query.relation), film], axis=1)
    scores = _scores(run.learner.score, params, queries, side="tail")
    return np.asarray(scores)[:, query.candidates].astype(np.float64)


def trained(given: NewFilms, run: Programs, key: jax.Array, epochs: int) -> Any:
    """Trains RotatE on the old films; its tables have room for the new ones."""
    first, second = jax.random.split(key)
    entities, relations = given.entities, len(given.facts)
    rows = room(entities + given.films)
    params = run.learner.init(first, entities=rows, relations=relations).params
    old = training_triples(given.old, entities=entities, relations=relations)
    everything = new_rows(params, entities=0, relations=0)
    return run.train(params, old, second, epochs, everything, None)


def stacked(scores: Sequence[np.ndarray]) -> np.ndarray:
    """Stacks scores of several methods, standardised for each film."""
    rows = np.stack(scores, axis=-1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    spread = rows.std(axis=1, keepdims=True)
    return rows / np.where(spread > 0, spread, 1)


def fitted(scores: np.ndarray, right: np.ndarray, steps: int = 150) -> np.ndarray:
    """Fits weights of the methods by maximum likelihood of the right answers.

    The likelihood is a softmax of the weighted sum over a right answer and all wrong ones.

    Args:
        scores: `[F, C, M]` from `stacked`.
        right: `[F, C]` bool.
        steps: Of Adam.

    Returns:
        `[M]` weights.
    """
    query = right.any(axis=1)
    return np.asarray(_fitted(jnp.asarray(scores[query], jnp.float32), right[query], steps))


@partial(jax.jit, static_argnames="steps")
def _fitted(scores: jax.Array, right: jax.Array, steps: int) -> jax.Array:
    def loss(weights: jax.Array) -> jax.Array:
        total = scores @ weights
        wrong = jax.nn.logsumexp(total, axis=1, keepdims=True, where=~right)
        likely = total - jnp.logaddexp(total, wrong)
        return -jnp.mean(likely, where=right) + 1e-3 * jnp.sum(weights**2)

    optimizer = optax.adam(0.1)

    def step(_: jax.Array, carry: Any) -> Any:
        weights, state = carry
        updates, state = optimizer.update(jax.grad(loss)(weights), state)
        return optax.apply_updates(weights, updates), state

    weights = jnp.zeros(scores.shape[-1])
    return jax.lax.fori_loop(0, steps, step, (weights, optimizer.init(weights)))[0]


_scores = jax.jit(candidate_scores, static_argnames=("score", "side"))


def _vectors(given: NewFilms, relation: int) -> tuple[np.ndarray, np.ndarray]:
    """TF-IDF vectors of old and of new films by the other relations, of unit length."""
    size, films = given.entities, np.unique(given.old[:, 0])
    shown, new = (rows[rows[:, 1] != relation] for rows in (given.old, given.new))
    attributes, place = np.unique(shown[:, 1] * size + shown[:, 2], return_inverse=True)
    old = np.zeros((len(films), len(attributes)), np.float32)
    old[np.searchsorted(films, shown[:, 0]), place] = 1
    wanted = new[:, 1] * size + new[:, 2]
    known = np.isin(wanted, attributes)
    other = np.zeros((given.films, len(attributes)), np.float32)
    other[new[known, 0] - size, np.searchsorted(attributes, wanted[known])] = 1
    rarity = np.log(len(films) / old.sum(axis=0))

    def unit(rows: np.ndarray) -> np.ndarray:
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows / np.where(length > 0, length, 1)

    return unit(old * rarity), unit(other * rarity)

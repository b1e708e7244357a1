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
    "beside",
    "fitted",
    "frequency",
    "neighbours",
    "new_films",
    "question",
    "rotate",
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
    said: np.ndarray
    """`[R]` number of facts of new films by relation, whatever the tail."""


class Question(NamedTuple):
    """A relation of which nothing is said of the new films."""

    relation: int
    candidates: np.ndarray
    """`[C]` entities."""
    count: np.ndarray
    """`[C]` number of old films that each is said of."""
    right: np.ndarray
    """`[F, C]` bool, the facts that are asked for."""


def new_films(films: FilmGraph, first_year: int, last_year: int) -> NewFilms:
    """Takes the films of some years for new, and earlier ones for old; there are no later ones."""
    graph, year = films
    triples = graph.triples.astype(np.int64)
    head, _, tail = triples.T
    of_old = (year[head] > 0) & (year[head] < first_year) & (year[tail] < first_year)
    old = triples[of_old]
    # By what old films say alone: who is in two facts must not tell that one is of a new film.
    degree = np.bincount(old[:, [0, 2]].ravel(), minlength=len(year))
    old = old[degree[old[:, 2]] >= 2]
    new = triples[(year[head] >= first_year) & (year[head] <= last_year)]
    entities, recent = np.unique(old[:, [0, 2]]), np.unique(new[:, 0])
    number = np.full(len(year), -1)
    number[entities] = np.arange(len(entities))
    number[recent] = len(entities) + np.arange(len(recent))

    def numbered(rows: np.ndarray) -> np.ndarray:
        return np.stack([number[rows[:, 0]], rows[:, 1], number[rows[:, 2]]], axis=1)

    said = np.bincount(new[:, 1], minlength=len(graph.relations.names))
    new = numbered(new)
    new = new[(new[:, 2] >= 0) & (new[:, 2] < len(entities))]
    return NewFilms(numbered(old), new, len(entities), len(recent), said)


def question(given: NewFilms, relation: int) -> Question:
    """Hides a relation of the new films."""
    tails = given.old[given.old[:, 1] == relation][:, 2]
    candidates, count = np.unique(tails, return_counts=True)
    right = np.zeros((given.films, len(candidates)), bool)
    rows = given.new[given.new[:, 1] == relation]
    rows = rows[np.isin(rows[:, 2], candidates)]
    right[rows[:, 0] - given.entities, np.searchsorted(candidates, rows[:, 2])] = True
    return Question(relation, candidates, count, right)


def frequency(given: NewFilms, asked: Question) -> np.ndarray:
    """Scores what most old films have highest."""
    return np.tile(asked.count.astype(np.float64), (given.films, 1))


def neighbours(given: NewFilms, asked: Question, *, nearest: int = 50) -> np.ndarray:
    """Adds up the cosines of those of the nearest old films that have a tail.

    Nearness is by TF-IDF of all that is shown; where none has it, what is frequent comes first.
    """
    old, new = _vectors(given, asked.relation)
    cosine = new @ old.T
    least = np.partition(cosine, -nearest, axis=1)[:, -nearest]
    kept = np.where(cosine >= least[:, None], cosine, 0)
    films, tails = np.unique(given.old[:, 0]), given.old[given.old[:, 1] == asked.relation]
    has = np.zeros((len(films), len(asked.candidates)))
    has[np.searchsorted(films, tails[:, 0]), np.searchsorted(asked.candidates, tails[:, 2])] = 1
    return kept @ has + 1e-6 * asked.count


def rotate(
    given: NewFilms, asked: Question, run: Programs, params: Any, key: jax.Array, epochs: int
) -> np.ndarray:
    """Places the new films by what is shown, trains their rows, and scores by RotatE."""
    sizes = {"entities": given.entities + given.films, "relations": len(given.said)}
    shown = training_triples(given.new[given.new[:, 1] != asked.relation], **sizes)
    new = new_rows(params, entities=given.entities, relations=len(given.said))
    params = run.place(params, shown, new["entity"])
    params = run.train(params, shown, key, epochs, new, None)
    film = given.entities + jnp.arange(given.films)
    queries = jnp.stack([film, jnp.full_like(film, asked.relation), film], axis=1)
    scores = _scores(run.learner.score, params, queries, side="tail")
    return np.asarray(scores)[:, asked.candidates].astype(np.float64)


def trained(given: NewFilms, run: Programs, key: jax.Array, epochs: int) -> Any:
    """Trains RotatE on the old films; its tables have room for the new ones."""
    first, second = jax.random.split(key)
    entities, relations = given.entities, len(given.said)
    rows = room(entities + given.films)
    params = run.learner.init(first, entities=rows, relations=relations).params
    old = training_triples(given.old, entities=entities, relations=relations)
    everything = new_rows(params, entities=0, relations=0)
    return run.train(params, old, second, epochs, everything, None)


def beside(scores: Sequence[np.ndarray]) -> np.ndarray:
    """Puts scores of several methods side by side, of each film with mean 0 and variance 1."""
    rows = np.stack(scores, axis=-1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    spread = rows.std(axis=1, keepdims=True)
    return rows / np.where(spread > 0, spread, 1)


def fitted(scores: np.ndarray, right: np.ndarray, steps: int = 150) -> np.ndarray:
    """Finds what each method counts: weights under which right answers are the most likely.

    Each right answer is to be told from all wrong ones, by a softmax of the weighted sum.

    Args:
        scores: `[F, C, M]` from `beside`.
        right: `[F, C]` bool.
        steps: Of Adam.

    Returns:
        `[M]` weights.
    """
    asked = right.any(axis=1)
    return np.asarray(_fitted(jnp.asarray(scores[asked], jnp.float32), right[asked], steps))


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
    """Weighs what other relations say of old films and of new ones by TF-IDF, to unit length."""
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

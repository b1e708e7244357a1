"""Snapshots of growing graphs, and their test triples."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from knowledge_data import FilmGraph, Split

__all__ = ["Snapshots", "entities_arriving", "films_by_year"]


class Snapshots(NamedTuple):
    """A graph whose entities are numbered as they arrive; triples by when they arrive."""

    train: list[np.ndarray]
    test: list[np.ndarray]
    every: np.ndarray
    sizes: list[int]
    """Entities known at each."""
    relations: int


def entities_arriving(split: Split, seed: int, arrivals: int) -> Snapshots:
    """Lets entities arrive in random order, three fifths at first; a triple with its later one."""
    size = len(split.entities)
    number = np.random.default_rng(seed).permutation(size)
    sizes = [round(size * (0.6 + 0.4 * n / arrivals)) for n in range(arrivals + 1)]
    train, test = (
        _by_snapshot(_numbered(part, number), sizes) for part in (split.train, split.test)
    )
    return Snapshots(train, test, _numbered(split.every, number), sizes, len(split.relations))


def films_by_year(
    films: FilmGraph,
    seed: int,
    *,
    last_years: Sequence[int],
    share: float = 0.1,
    largest: int = 300,
) -> Snapshots:
    """Lets films arrive by year, and other entities with the first film they are linked to.

    Facts of films whose year is not known are left out. A share of each snapshot's facts is the
    test, two entities joined twice with both facts; what has an entity that no fact of training
    had by then goes to training.

    Args:
        films: Films and their years.
        seed: Of the test.
        last_years: The last year of each snapshot, rising.
        share: Of the facts that are for the test.
        largest: Maximum number of test facts of each snapshot.

    Returns:
        The snapshots.
    """
    triples = films.graph.triples.astype(np.int64)
    triples = triples[films.year[triples[:, 0]] > 0]
    head, _, tail = triples.T
    snapshot = np.searchsorted(last_years, films.year)
    # Other entities arrive with their first film.
    arrived = np.where(films.year > 0, snapshot, len(last_years))
    other = films.year[tail] == 0
    np.minimum.at(arrived, tail[other], snapshot[head[other]])
    counted = np.unique(triples[:, [0, 2]])
    counted = counted[np.argsort(arrived[counted], kind="stable")]
    number = np.full(len(films.year), -1)
    number[counted] = np.arange(len(counted))
    sizes = [int(np.sum(arrived[counted] <= n)) for n in range(len(last_years))]

    every = _numbered(triples, number)
    rng = np.random.default_rng(seed)
    ends = np.sort(every[:, [0, 2]], axis=1)
    _, pair = np.unique(ends[:, 0] * len(number) + ends[:, 1], return_inverse=True)
    drawn = rng.random(pair.max() + 1)[pair] < share
    at = _snapshot(every, sizes)
    train, test, seen = [], [], np.zeros(len(counted), bool)
    for n in range(len(sizes)):
        rows, is_drawn = every[at == n], drawn[at == n]
        seen[rows[~is_drawn][:, [0, 2]]] = True
        for_test = is_drawn & seen[rows[:, [0, 2]]].all(axis=1)
        seen[rows[:, [0, 2]]] = True
        train.append(rows[~for_test])
        test.append(rng.permutation(rows[for_test])[:largest])
    return Snapshots(train, test, every, sizes, len(films.graph.relations.names))


def _numbered(triples: np.ndarray, number: np.ndarray) -> np.ndarray:
    return np.stack([number[triples[:, 0]], triples[:, 1], number[triples[:, 2]]], axis=1)


def _snapshot(triples: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Finds the snapshot from which on both entities of a triple are known."""
    return np.searchsorted(sizes, triples[:, [0, 2]].max(axis=1), side="right")


def _by_snapshot(triples: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    at = _snapshot(triples, sizes)
    return [triples[at == n] for n in range(len(sizes))]

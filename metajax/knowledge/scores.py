"""Scores of triples: RotatE, TransE, DistMult, ComplEx, and the frequency baseline.

Every score is of one form, `match(tail_query(h, r), t) = match(head_query(r, t), h)`: candidates
are compared with a query made of the two known elements. A query is computed once, whatever the
number of candidates, and training, ranking and growth are the same for all scores.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.knowledge.graph import KnowledgeGraph
from metajax.types import Params

__all__ = [
    "ComplexParts",
    "Score",
    "frequency_baseline",
    "score_names",
    "score_of",
]


class ComplexParts(NamedTuple):
    """Complex numbers as two arrays.

    As one complex array, ranking at 40,943 entities and 500 dimensions takes 100 times the memory:
    XLA then materialises all differences, instead of fusing them into the sum of moduli.
    """

    real: jax.Array
    """`[.., D]`."""
    imaginary: jax.Array
    """`[.., D]`."""


class Score(NamedTuple):
    """A score of triples, of entity embeddings `e` and relation embeddings `r`.

    Leading axes broadcast, so that one query meets many candidates.
    """

    entities: Callable[[jax.Array, int, int, float], Any]
    """`entities(key, count, width, bound) -> e [count, D]`: initial embeddings."""
    relations: Callable[[jax.Array, int, int, float], Any]
    """`relations(key, count, width, bound) -> r [count, D]`: initial embeddings."""
    operator: Callable[[Any], Any]
    """`operator(r) -> o`: what queries apply. Computed once for a table: many queries read it, and
    their gradients would compute a cosine anew for each."""
    tail_query: Callable[[Any, Any], Any]
    """`tail_query(head, o) -> e`: the point that tails are compared with."""
    head_query: Callable[[Any, Any], Any]
    """`head_query(o, tail) -> e`: the point that heads are compared with."""
    match: Callable[[Any, Any], jax.Array]
    """`match(query, entity) -> [..]`: higher is more plausible."""
    features: Callable[[Any], jax.Array]
    """`features(o) -> [.., F]`: features of relations, for the relation-cluster term."""
    is_distance: bool
    """True if `match` is a negative distance, and queries are isometries."""


def score_of(name: str) -> Score:
    """Looks a score up by name.

    Args:
        name: RotatE, TransE (L1), DistMult or ComplEx.

    Raises:
        ValueError: If the name is another.

    References:
        RotatE: Sun et al., ICLR 2019, arXiv:1902.10197, equation 4; phases are not wrapped. TransE:
        Bordes et al., NeurIPS 2013; entities are not normalised. DistMult: Yang et al., ICLR 2015,
        arXiv:1412.6575. ComplEx: Trouillon et al., ICML 2016, arXiv:1606.06357, equation 9.
    """
    if name not in _SCORES:
        raise ValueError(f"score must be one of {', '.join(_SCORES)}, got {name}.")
    return _SCORES[name]


def score_names() -> tuple[str, ...]:
    """Names of the scores."""
    return tuple(_SCORES)


def _uniform(key: jax.Array, count: int, width: int, bound: float) -> jax.Array:
    """Draws `[count, width]` numbers uniformly from [-bound, bound]."""
    return jax.random.uniform(key, (count, width), minval=-bound, maxval=bound)


def _complex_uniform(key: jax.Array, count: int, width: int, bound: float) -> ComplexParts:
    first, second = jax.random.split(key)
    return ComplexParts(_uniform(first, count, width, bound), _uniform(second, count, width, bound))


def _phases(key: jax.Array, count: int, width: int, bound: float) -> jax.Array:
    del bound
    return _uniform(key, count, width, jnp.pi)


def _times(a: ComplexParts, b: ComplexParts) -> ComplexParts:
    real = a.real * b.real - a.imaginary * b.imaginary
    return ComplexParts(real, a.real * b.imaginary + a.imaginary * b.real)


def _conjugate(a: ComplexParts) -> ComplexParts:
    return ComplexParts(a.real, -a.imaginary)


def _moduli(query: ComplexParts, entity: ComplexParts) -> jax.Array:
    # The addend makes the gradient 0 where both are equal; a modulus is at least 1e-6.
    difference = query.real - entity.real, query.imaginary - entity.imaginary
    squares = jnp.square(difference[0]) + jnp.square(difference[1])
    return -jnp.sum(jnp.sqrt(squares + 1e-12), axis=-1)


def _joined(parts: ComplexParts) -> jax.Array:
    return jnp.concatenate(parts, axis=-1)


def _identity(relation: Any) -> Any:
    return relation


# Relations rotate each complex coordinate by a phase: `-sum |h e^(i r) - t|`.
_ROTATE = Score(
    entities=_complex_uniform,
    relations=_phases,
    operator=lambda phase: ComplexParts(jnp.cos(phase), jnp.sin(phase)),
    tail_query=_times,
    head_query=lambda turn, tail: _times(tail, _conjugate(turn)),
    match=_moduli,
    features=_joined,
    is_distance=True,
)

# Relations are translations: `-sum |h + r - t|`.
_TRANSE = Score(
    entities=_uniform,
    relations=_uniform,
    operator=_identity,
    tail_query=jnp.add,
    head_query=lambda shift, tail: tail - shift,
    match=lambda query, entity: -jnp.sum(jnp.abs(query - entity), axis=-1),
    features=_identity,
    is_distance=True,
)

# Relations weight coordinates: `sum h r t`.
_DISTMULT = Score(
    entities=_uniform,
    relations=_uniform,
    operator=_identity,
    tail_query=jnp.multiply,
    head_query=jnp.multiply,
    match=lambda query, entity: jnp.sum(query * entity, axis=-1),
    features=_identity,
    is_distance=False,
)

# DistMult in complex numbers: `Re(sum h r conj(t))`.
_COMPLEX = Score(
    entities=_complex_uniform,
    relations=_complex_uniform,
    operator=_identity,
    tail_query=_times,
    head_query=lambda relation, tail: _times(tail, _conjugate(relation)),
    match=lambda query, entity: jnp.sum(
        query.real * entity.real + query.imaginary * entity.imaginary, axis=-1
    ),
    features=_joined,
    is_distance=False,
)

_SCORES = {"RotatE": _ROTATE, "TransE": _TRANSE, "DistMult": _DISTMULT, "ComplEx": _COMPLEX}


def frequency_baseline(training: KnowledgeGraph) -> tuple[Score, Params]:
    """Scores an entity by how often it is the head, or the tail, of the relation in training.

    The other entity of the query is ignored. The result is for `filtered_ranks` and `complete`.

    Args:
        training: The graph whose triples are counted.

    Returns:
        The score and its parameters, for all names of the graph.

    Example:
        >>> from metajax.knowledge import complete, graph_from_names
        >>> films = graph_from_names([("Alien", "genre", "Horror"), ("Clue", "genre", "Comedy"),
        ...                           ("It", "genre", "Horror")])
        >>> score, params = frequency_baseline(films)
        >>> [(answer.entity, answer.score) for answer in
        ...  complete(score, params, films, entity="Clue", relation="genre", top=2).answers]
        [('Horror', 2.0), ('Alien', 0.0)]
    """
    entities, relations = len(training.entities.names), len(training.relations.names)
    counts = np.zeros((entities, 2 * relations), np.float32)
    head, relation, tail = training.triples.T
    np.add.at(counts, (head, relation), 1)
    np.add.at(counts, (tail, relations + relation), 1)
    return _FREQUENCY, {"entity": jnp.asarray(counts), "relation": jnp.eye(relations)}


def _untrained(*arguments: Any) -> Any:
    raise ValueError("frequency_baseline has no initial embeddings: it is counted, not trained.")


def _counts_of(relation: jax.Array, place: int) -> jax.Array:
    """Selects the counts of heads (0) or tails (1) of a relation from those of an entity."""
    other = jnp.zeros_like(relation)
    return jnp.concatenate([other, relation] if place else [relation, other], axis=-1)


_FREQUENCY = Score(
    entities=_untrained,
    relations=_untrained,
    operator=lambda relation: relation,
    tail_query=lambda head, relation: _counts_of(relation, 1),
    head_query=lambda relation, tail: _counts_of(relation, 0),
    match=lambda query, entity: jnp.sum(query * entity, axis=-1),
    features=lambda relation: relation,
    is_distance=False,
)

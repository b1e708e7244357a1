"""How plausible a triple of head, relation and tail is: what tells one embedding from another.

Every score here is of one form, `match(tail_query(h, r), t) = match(head_query(r, t), h)`: the
entity that is asked for is compared with a point that the other two give. So a query is made
once, whatever the number of candidates, and training, ranking and growth are the same for all.
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

    As one complex array, ranking at 40,943 entities and 500 dimensions takes 100 times the
    memory: XLA then keeps all differences, instead of adding up their moduli as they are made.
    """

    real: jax.Array
    """`[.., D]`."""
    imaginary: jax.Array
    """`[.., D]`."""


class Score(NamedTuple):
    """A score of triples, of embedded entities `e` and relations `r` with leading axes.

    Leading axes broadcast, so that one query meets many candidates.
    """

    entities: Callable[[jax.Array, int, int, float], Any]
    """`entities(key, count, width, bound) -> e [count, D]`: their first values."""
    relations: Callable[[jax.Array, int, int, float], Any]
    """`relations(key, count, width, bound) -> r [count, D]`."""
    operator: Callable[[Any], Any]
    """`operator(r) -> o`: what queries apply. Made once for a table: read by many queries, and in
    their gradient, a cosine would be computed anew for each."""
    tail_query: Callable[[Any, Any], Any]
    """`tail_query(head, o) -> e`: where the tail is looked for."""
    head_query: Callable[[Any, Any], Any]
    """`head_query(o, tail) -> e`: where the head is."""
    match: Callable[[Any, Any], jax.Array]
    """`match(query, entity) -> [..]`: the higher, the more plausible."""
    features: Callable[[Any], jax.Array]
    """`features(o) -> [.., F]`: what tells relations apart."""
    is_distance: bool
    """Whether `match` is minus a distance, and queries keep distances."""


def score_of(name: str) -> Score:
    """Looks a score up by the name it is known by.

    Args:
        name: RotatE, TransE (with L1), DistMult or ComplEx.

    Returns:
        The score.

    Raises:
        ValueError: If the name is another.

    References:
        RotatE: Sun et al., ICLR 2019, arXiv 1902.10197, equation 4; phases are stored as they
        are. TransE: Bordes et al., NeurIPS 2013; entities are not kept on a sphere. DistMult:
        Yang et al., ICLR 2015, arXiv 1412.6575. ComplEx: Trouillon et al., ICML 2016, arXiv
        1606.06357, equation 9.
    """
    if name not in _SCORES:
        raise ValueError(f"score must be one of {', '.join(_SCORES)}, got {name}.")
    return _SCORES[name]


def score_names() -> tuple[str, ...]:
    """Lists the names of scores."""
    return tuple(_SCORES)


def _spread(key: jax.Array, count: int, width: int, bound: float) -> jax.Array:
    """Draws `[count, width]` numbers uniformly from [-bound, bound]."""
    return jax.random.uniform(key, (count, width), minval=-bound, maxval=bound)


def _halves(key: jax.Array, count: int, width: int, bound: float) -> ComplexParts:
    first, second = jax.random.split(key)
    return ComplexParts(_spread(first, count, width, bound), _spread(second, count, width, bound))


def _phases(key: jax.Array, count: int, width: int, bound: float) -> jax.Array:
    del bound
    return _spread(key, count, width, jnp.pi)


def _times(a: ComplexParts, b: ComplexParts) -> ComplexParts:
    real = a.real * b.real - a.imaginary * b.imaginary
    return ComplexParts(real, a.real * b.imaginary + a.imaginary * b.real)


def _conjugate(a: ComplexParts) -> ComplexParts:
    return ComplexParts(a.real, -a.imaginary)


def _moduli(query: ComplexParts, entity: ComplexParts) -> jax.Array:
    # The addend makes the gradient 0 where the two are equal; a coordinate is 1e-6 long at least.
    difference = query.real - entity.real, query.imaginary - entity.imaginary
    squares = jnp.square(difference[0]) + jnp.square(difference[1])
    return -jnp.sum(jnp.sqrt(squares + 1e-12), axis=-1)


def _joined(halves: ComplexParts) -> jax.Array:
    return jnp.concatenate(halves, axis=-1)


def _itself(relation: Any) -> Any:
    return relation


# Relations turn each coordinate of the complex plane by a phase: `-sum |h e^(i r) - t|`.
_ROTATE = Score(
    entities=_halves,
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
    entities=_spread,
    relations=_spread,
    operator=_itself,
    tail_query=jnp.add,
    head_query=lambda shift, tail: tail - shift,
    match=lambda query, entity: -jnp.sum(jnp.abs(query - entity), axis=-1),
    features=_itself,
    is_distance=True,
)

# Relations weigh coordinates: `sum h r t`.
_DISTMULT = Score(
    entities=_spread,
    relations=_spread,
    operator=_itself,
    tail_query=jnp.multiply,
    head_query=jnp.multiply,
    match=lambda query, entity: jnp.sum(query * entity, axis=-1),
    features=_itself,
    is_distance=False,
)

# DistMult in complex numbers: `Re(sum h r conj(t))`.
_COMPLEX = Score(
    entities=_halves,
    relations=_halves,
    operator=_itself,
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
    """Scores an entity by how often training has it as the head, or the tail, of the relation.

    The entity that is given makes no difference. Nothing is learned, so that both go to
    `filtered_ranks` or `complete` as they are.

    Args:
        training: What is counted.

    Returns:
        The score and its parameters, of every name of the graph.

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


def _nothing_to_learn(*arguments: Any) -> Any:
    raise ValueError("frequencies are counted, not trained.")


def _asking(relation: jax.Array, place: int) -> jax.Array:
    """Picks the counts of a relation's heads (0) or tails (1) out of an entity's."""
    other = jnp.zeros_like(relation)
    return jnp.concatenate([other, relation] if place else [relation, other], axis=-1)


_FREQUENCY = Score(
    entities=_nothing_to_learn,
    relations=_nothing_to_learn,
    operator=lambda relation: relation,
    tail_query=lambda head, relation: _asking(relation, 1),
    head_query=lambda relation, tail: _asking(relation, 0),
    match=lambda query, entity: jnp.sum(query * entity, axis=-1),
    features=lambda relation: relation,
    is_distance=False,
)

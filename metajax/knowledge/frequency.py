"""What any embedding has to be better than: what is often the answer is the answer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metajax.knowledge.graph import KnowledgeGraph
from metajax.knowledge.scores import Score
from metajax.types import Params

__all__ = ["frequency"]


def frequency(training: KnowledgeGraph) -> tuple[Score, Params]:
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
        >>> score, params = frequency(films)
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

"""What is missing in a graph: the most plausible answers to a question about an entity."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.knowledge.graph import KnowledgeGraph, index_of, triples_of
from metajax.knowledge.ranking import candidate_scores
from metajax.knowledge.scores import Score
from metajax.types import Params

__all__ = [
    "Answer",
    "Completion",
    "complete",
]


class Answer(NamedTuple):
    """One entity that may be in the place asked for."""

    entity: str
    """Its name."""
    score: float
    """As the score has it, without a margin."""
    known: bool
    """Whether this is a known fact."""


class Completion(NamedTuple):
    """The most plausible answers to a question."""

    answers: tuple[Answer, ...]
    """The best first."""
    known: int
    """How many known facts answer it, left out or not."""


def complete(
    score: Score,
    params: Params,
    training: KnowledgeGraph,
    *,
    entity: str,
    relation: str,
    side: str = "tail",
    top: int = 10,
    known: Any = None,
    keep_known: bool = False,
) -> Completion:
    """Ranks what could be the tail, or the head, of a fact with an entity and a relation.

    Args:
        score: As the parameters were trained with.
        params: `entity` and `relation`, as from a `link_predictor`.
        training: The facts they were trained on. Entities it has a name for and the table no row
            are no answers.
        entity: Name of the head, or where the head is asked for of the tail.
        relation: Name of the relation.
        side: What is asked for, tail or head.
        top: At most so many answers.
        known: `[m, 3]` all known facts; None: those of training.
        keep_known: Keep answers that are known facts, marked, and not leave them out.

    Returns:
        The answers.

    Raises:
        KeyError: If the entity or the relation is unknown; the nearest is named.
        ValueError: If one of them has no fact in training or no row of a table, a score is not
            finite, `top` < 1, or `side` is another.

    Example:
        >>> from metajax.knowledge import graph_from_names, score_of
        >>> films = graph_from_names([("Alien", "like", "Aliens"), ("Aliens", "like", "Clue")])
        >>> params = {"entity": jnp.array([[0.0], [1], [2]]), "relation": jnp.array([[1.0]])}
        >>> found = complete(score_of("TransE"), params, films, entity="Aliens", relation="like")
        >>> [answer.entity for answer in found.answers], found.known
        (['Aliens', 'Alien'], 1)
    """
    if top < 1:
        raise ValueError(f"top must be >= 1, got {top}.")
    if side not in ("tail", "head"):
        raise ValueError(f"side must be tail or head, got {side!r}.")
    at = index_of(training.entities, entity)
    of = index_of(training.relations, relation, "relation")
    triples_of(training, entity)
    if not (training.triples[:, 1] == of).any():
        raise ValueError(f"relation {relation!r} has no triple: nothing is known about it.")
    for what, name, row in (("entity", entity, at), ("relation", relation, of)):
        # Out of range would fill in NaN, not raise.
        if row >= (rows := len(jax.tree.leaves(params[what])[0])):
            raise ValueError(
                f"params must have a row for {what} {name!r}, which is number {row}; got {rows}."
            )
    scores = np.asarray(_scores(score, params, jnp.array([[at, of, at]], jnp.int32), side=side)[0])
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite, got others: the embeddings have diverged.")
    every = training.triples if known is None else np.asarray(known)
    given, asked = (0, 2) if side == "tail" else (2, 0)
    right = every[(every[:, given] == at) & (every[:, 1] == of), asked]
    is_known = np.isin(np.arange(len(scores)), right)
    # Rows of the table beyond the names are room for entities to come.
    is_open = (np.arange(len(scores)) < len(training.entities.names)) & (keep_known | ~is_known)
    best = np.argsort(np.where(is_open, -scores, np.inf), kind="stable")[
        : min(top, int(is_open.sum()))
    ]
    answers = [
        Answer(training.entities.names[n], float(scores[n]), bool(is_known[n])) for n in best
    ]
    return Completion(tuple(answers), len(np.unique(right)))


_scores = jax.jit(candidate_scores, static_argnames=("score", "side"))

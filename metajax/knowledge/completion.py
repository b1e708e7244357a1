"""Knowledge graph completion: the most plausible missing tails, or heads, of a query."""

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
    """One candidate for the missing element."""

    entity: str
    """Its name."""
    score: float
    """Its score, without a margin."""
    known: bool
    """True if the triple is known."""


class Completion(NamedTuple):
    """The most plausible answers to a query."""

    answers: tuple[Answer, ...]
    """The best first."""
    known: int
    """Number of known answers, whether shown or not."""


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
    """Ranks the tails, or heads, of a query of an entity and a relation.

    Args:
        score: The score that the parameters were trained with.
        params: `entity` and `relation`, as of a `link_predictor`.
        training: Their training graph. Entities with a name but without a row of the table are no
            candidates.
        entity: Name of the head, or of the tail where the head is missing.
        relation: Name of the relation.
        side: The missing element, tail or head.
        top: Most answers.
        known: `[m, 3]` all known triples; None: those of training.
        keep_known: Keep and mark known answers, instead of dropping them.

    Returns:
        The answers, best first.

    Raises:
        KeyError: If the entity or the relation is unknown; the nearest is suggested.
        ValueError: If one of them has no training triple or no row of a table, a score is not
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
        raise ValueError(f"relation {relation!r} has no triple.")
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
    known_end, missing_end = (0, 2) if side == "tail" else (2, 0)
    right = every[(every[:, known_end] == at) & (every[:, 1] == of), missing_end]
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

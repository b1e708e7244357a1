"""Filtered ranks of heads and tails among all entities, in bounded memory.

No candidates are sampled. Ties count by the realistic rank, the mean of the optimistic and the
pessimistic one: by the optimistic rank, a model that scores everything alike would be perfect.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.data.dataset import room
from metajax.knowledge.negative_sampling import checked_triples
from metajax.knowledge.scores import Score
from metajax.types import Params

__all__ = [
    "Ranks",
    "candidate_scores",
    "filtered_ranks",
    "rank_batch",
    "ranking_metrics",
]

_SIDES = ("head", "tail")


class Ranks(NamedTuple):
    """Ranks of heads and tails of n triples, from 1."""

    optimistic: np.ndarray
    """`[2, n]` ranks with ties resolved for the target; heads first, then tails."""
    pessimistic: np.ndarray
    """`[2, n]` ranks with ties resolved against the target."""
    candidates: np.ndarray
    """`[2, n]` number of candidates, the target among them."""

    @property
    def realistic(self) -> np.ndarray:
        """`[2, n]` the mean of both."""
        return (self.optimistic + self.pessimistic) / 2


def filtered_ranks(
    score: Score,
    params: Params,
    triples: Any,
    *,
    entities: int,
    relations: int,
    known: Any,
    candidates: Any = None,
    batch: int = 256,
) -> Ranks:
    """Ranks the head and the tail of each triple among all entities.

    Other entities that give a known triple are not candidates. Entities without a training triple
    are ranked like all others: leave their triples out if that is not intended.

    Args:
        score: The score that the parameters were trained with.
        params: `entity` and `relation`, as of a `link_predictor`.
        triples: `[n, 3]` the triples to rank.
        entities: Number of entities; further rows of the table are no candidates.
        relations: Number of relations.
        known: `[m, 3]` all known triples: of training, validation and test.
        candidates: `[entities]` bool, candidates besides the target; None: all.
        batch: Queries at once; memory is about 6 bytes for each query and entity.

    Returns:
        The ranks.

    Raises:
        ValueError: If a score is not finite, an id is out of range, or `candidates` or the entity
            table has another length.
        TypeError: If ids are not integers.

    References:
        Bordes et al., NeurIPS 2013 (filtered). Berrendorf et al., On the Ambiguity of Rank-Based
        Evaluation of Entity Alignment or Link Prediction Methods, arXiv:2002.06914 (realistic).
    """
    triples = checked_triples(triples, entities=entities, relations=relations)
    known = checked_triples(known, entities=entities, relations=relations, name="known")
    rows = len(jax.tree.leaves(params["entity"])[0])
    if rows < entities:
        raise ValueError(f"params must have at least {entities} entities, got {rows}.")
    allowed = np.ones(entities, bool) if candidates is None else np.asarray(candidates)
    if allowed.shape != (entities,) or allowed.dtype != bool:
        raise ValueError(
            f"candidates must be {entities} bools, got {allowed.dtype} {list(allowed.shape)}."
        )
    shown = jnp.asarray(np.pad(allowed, (0, rows - entities)))
    found = np.zeros((3, 2, len(triples)), np.int64)
    size = min(batch, room(len(triples)))
    for side, name in enumerate(_SIDES):
        answers = _listed(_by_query(known, name), triples, name, rows)
        for at in range(0, len(triples), size):
            # The last batch is filled up cyclically.
            some = np.resize(np.arange(at, min(at + size, len(triples))), size)
            *ranks, finite = _rank(score, params, triples[some], answers[some], shown, side=name)
            if not finite:
                raise ValueError(f"scores must be finite, got others in batch {at // size}.")
            left = len(triples) - at
            found[:, side, at : at + size] = np.asarray(ranks)[:, :left]
    return Ranks(*found)


def rank_batch(
    score: Score,
    params: Params,
    triples: jax.Array,
    answers: jax.Array,
    candidates: jax.Array,
    *,
    side: str,
    chunk: int = 512,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Ranks one side of a batch of triples.

    Args:
        score: The score that the parameters were trained with.
        params: `entity [N]` and `relation`.
        triples: `[B, 3]` int32.
        answers: `[B, L]` int32 known answers to each query; N in padding.
        candidates: `[N]` bool.
        side: head or tail.
        chunk: Entities scored at once, so that they fit into a processor's caches.

    Returns:
        Optimistic and pessimistic ranks and numbers of candidates, `[B]` int32 each, and whether
        all scores are finite, `[]`.
    """
    scores = candidate_scores(score, params, triples, side=side, chunk=chunk)
    own = triples[:, 2 if side == "tail" else 0]
    # Read from the same array: recomputed, it may differ in the last bit and break ties.
    right = jnp.take_along_axis(scores, own[:, None], axis=1)
    row = jnp.arange(len(triples))
    against = jnp.broadcast_to(candidates[None], scores.shape)
    against = against.at[row[:, None], answers].set(False, mode="drop")
    against = against.at[row, own].set(False)
    finite = jnp.all(jnp.isfinite(scores) | ~against) & jnp.all(jnp.isfinite(right))
    above = jnp.sum((scores > right) & against, axis=1)
    level = jnp.sum((scores == right) & against, axis=1)
    others = jnp.sum(against, axis=1)
    return 1 + above, 1 + above + level, 1 + others, finite


# One program for all evaluations of the same shape.
_rank = jax.jit(rank_batch, static_argnames=("score", "side"))


def candidate_scores(
    score: Score, params: Params, triples: jax.Array, *, side: str, chunk: int = 512
) -> jax.Array:
    """Scores every entity as the head or tail of each triple.

    Args:
        score: The score that the parameters were trained with.
        params: `entity [N]` and `relation`.
        triples: `[B, 3]` int32; the element on the side to be scored is ignored.
        side: head or tail.
        chunk: Entities at once.

    Returns:
        `[B, N]` scores.

    Raises:
        ValueError: If `side` is another.
    """
    if side not in _SIDES:
        raise ValueError(f"side must be one of {', '.join(_SIDES)}, got {side}.")
    entity = params["entity"]
    rows = len(jax.tree.leaves(entity)[0])
    chunk = min(chunk, rows)

    def taken(table: Any, place: int) -> Any:
        return jax.tree.map(lambda leaf: jnp.take(leaf, triples[:, place], axis=0), table)

    operator = score.operator(taken(params["relation"], 1))
    if side == "tail":
        query = score.tail_query(taken(entity, 0), operator)
    else:
        query = score.head_query(operator, taken(entity, 2))
    query = jax.tree.map(lambda leaf: leaf[:, None], query)

    def fill(at: jax.Array, scores: jax.Array) -> jax.Array:
        # The last chunk starts early enough to be whole: some entities are scored twice alike.
        start = jnp.minimum(at * chunk, rows - chunk)
        some = jax.tree.map(
            lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, chunk)[None], entity
        )
        return jax.lax.dynamic_update_slice(scores, score.match(query, some), (0, start))

    return jax.lax.fori_loop(0, -(-rows // chunk), fill, jnp.zeros((len(triples), rows)))


def ranking_metrics(ranks: Ranks) -> dict[str, float]:
    """Metrics of realistic ranks, over both sides.

    Args:
        ranks: Of at least one triple.

    Returns:
        `mrr`, `mrr_optimistic` and `mrr_pessimistic`; `hits@1`, `hits@3`, `hits@10`; `mean_rank`;
        and `amri`, the adjusted mean rank index: 1 is perfect, 0 the expectation of a random order,
        whatever the number of candidates.

    Raises:
        ValueError: If there is no rank.

    Example:
        >>> ranks = Ranks(np.array([[1], [2]]), np.array([[1], [4]]), np.array([[5], [5]]))
        >>> found = ranking_metrics(ranks)
        >>> round(found["mrr"], 3), found["hits@1"], found["mean_rank"], found["amri"]
        (0.667, 0.5, 2.0, 0.5)

    References:
        Berrendorf et al., arXiv:2002.06914, section 4 (AMRI).
    """
    realistic = ranks.realistic
    if not realistic.size:
        raise ValueError("ranks must be of at least one triple, got none.")
    # By chance the rank is in the middle of all candidates.
    chance = np.mean((ranks.candidates + 1) / 2)
    amri = 1 - (realistic.mean() - 1) / (chance - 1) if chance > 1 else 1.0
    return {
        "mrr": float(np.mean(1 / realistic)),
        "mrr_optimistic": float(np.mean(1 / ranks.optimistic)),
        "mrr_pessimistic": float(np.mean(1 / ranks.pessimistic)),
        **{f"hits@{k}": float(np.mean(realistic <= k)) for k in (1, 3, 10)},
        "mean_rank": float(realistic.mean()),
        "amri": float(amri),
    }


def _by_query(known: np.ndarray, side: str) -> tuple[np.ndarray, np.ndarray]:
    """Sorts triples by the query that they answer: keys `[m]` and answers `[m]`."""
    key = _key(known, side)
    order = np.argsort(key, kind="stable")
    return key[order], known[order, 2 if side == "tail" else 0]


def _key(triples: np.ndarray, side: str) -> np.ndarray:
    given = triples[:, 0 if side == "tail" else 2].astype(np.int64)
    return given << 32 | triples[:, 1]


def _listed(
    sorted_triples: tuple[np.ndarray, np.ndarray], triples: np.ndarray, side: str, fill: int
) -> np.ndarray:
    """Known answers to each query, `[n, L]`; L is a power of two, at least the longest list."""
    keys, answers = sorted_triples
    query = _key(triples, side)
    start, stop = (np.searchsorted(keys, query, side=end) for end in ("left", "right"))
    longest = room(int((stop - start).max(initial=1)))
    place = start[:, None] + np.arange(longest)
    found = np.take(answers, place, mode="clip") if len(answers) else np.zeros_like(place)
    return np.where(place < stop[:, None], found, fill).astype(np.int32)

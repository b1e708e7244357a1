"""The loss of a fact: it should score above what is false, most of all above the hardest of it."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from metajax.knowledge.negatives import Corrupted
from metajax.knowledge.scores import Score

__all__ = ["embedded", "fact_losses", "places", "self_adversarial"]

# Rows of a table that is small.
_FEW = 64


def self_adversarial(scores: jax.Array, *, where: jax.Array, temperature: float = 1.0) -> jax.Array:
    """Averages `-log sigmoid(-score)` of false triples, the hardest of them most.

    Args:
        scores: `[.., K]` scores, margin included.
        where: `[.., K]` bool, False where the triple is not false.
        temperature: Weights are the softmax of `temperature * score`; no gradient goes through
            them.

    Returns:
        `[..]` the average; 0 where nothing is kept.

    Example:
        >>> import math
        >>> loss = self_adversarial(jnp.zeros(4), where=jnp.arange(4) < 2)
        >>> abs(float(loss) - math.log(2)) < 1e-6
        True
    """
    # Low but finite: the softmax of nothing would be NaN.
    logits = jnp.where(where, temperature * jax.lax.stop_gradient(scores), -1e9)
    weights = jnp.where(where, jax.nn.softmax(logits), 0)
    return jnp.sum(weights * jax.nn.softplus(scores), axis=-1)


def places(given: Corrupted) -> dict[str, jax.Array]:
    """Lists which embeddings are read, so that each table is read once.

    Args:
        given: C chunks of B facts, with K replacements for each slot.

    Returns:
        Ids of entities `[C, 2 B + ..]`, of heads and tails and what replaces them, and of
        relations `[C, B + ..]`.
    """
    head, relation, tail = (given.facts[:, :, place] for place in range(3))
    entity = [head, tail]
    entity += [given.replacement[slot] for slot in ("head", "tail") if slot in given.replacement]
    relations = [relation]
    if "relation" in given.replacement:
        relations.append(given.replacement["relation"])
    return {"entity": jnp.concatenate(entity, 1), "relation": jnp.concatenate(relations, 1)}


def embedded(tables: dict[str, Any], given: Corrupted) -> dict[str, Any]:
    """Reads rows of the tables `entity` and `relation`, as `places` lists them."""
    return {
        name: jax.tree.map(partial(_rows, ids=ids), tables[name])
        for name, ids in places(given).items()
    }


def fact_losses(
    score: Score,
    read: dict[str, Any],
    given: Corrupted,
    *,
    margin: float,
    temperature: float = 1.0,
    joint: bool = False,
) -> jax.Array:
    """Computes half the loss of each fact and half that of the false triples made of it.

    Args:
        score: What is trained.
        read: From `embedded`; of relations, their operators.
        given: Facts and what is false.
        margin: Added to each score.
        temperature: As in `self_adversarial`.
        joint: Weigh the false triples of all slots together, else slot by slot.

    Returns:
        `[C, B]` losses.

    References:
        Sun et al., ICLR 2019, arXiv 1902.10197, equation 6, halved as their program does.
    """
    size = given.facts.shape[1]
    at = {"head": 2 * size, "relation": size, "tail": 2 * size}
    if "head" in given.replacement:
        at["tail"] += given.replacement["head"].shape[1]

    def rows(table: str, start: int, count: int) -> Any:
        return jax.tree.map(lambda leaf: leaf[:, start : start + count], read[table])

    def replaced(slot: str) -> Any:
        table = "relation" if slot == "relation" else "entity"
        other = rows(table, at[slot], given.replacement[slot].shape[1])
        return jax.tree.map(lambda leaf: leaf[:, None], other)

    def apart(embeddings: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[:, :, None], embeddings)

    head, tail, relation = (
        rows("entity", 0, size),
        rows("entity", size, size),
        rows("relation", 0, size),
    )
    tail_query = score.tail_query(head, relation)
    scored = {
        "head": lambda: score.match(apart(score.head_query(relation, tail)), replaced("head")),
        "relation": lambda: score.match(
            score.tail_query(apart(head), replaced("relation")), apart(tail)
        ),
        "tail": lambda: score.match(apart(tail_query), replaced("tail")),
    }
    scores = [margin + scored[slot]() for slot in given.replacement]
    false = list(given.false.values())
    if joint:
        scores, false = [jnp.concatenate(scores, -1)], [jnp.concatenate(false, -1)]
    against = sum(
        self_adversarial(s, where=f, temperature=temperature)
        for s, f in zip(scores, false, strict=True)
    )
    true = jax.nn.softplus(-margin - score.match(tail_query, tail))
    return (true + against / len(scores)) / 2


def _rows(table: jax.Array, ids: jax.Array) -> jax.Array:
    # Gradients of few rows collide where they are added up, for which some versions of XLA take
    # hundreds of times longer on a GPU (jax#38806); as a product it costs a CPU the same.
    if len(table) <= _FEW:
        return jnp.matmul(jax.nn.one_hot(ids, len(table)), table, precision="highest")
    # Clipping only spares a check: ids out of range are refused where facts are made.
    return jnp.take(table, ids, axis=0, mode="clip")

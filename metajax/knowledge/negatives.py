"""False triples: one place of a fact is filled with something else, drawn at random."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metajax.knowledge.facts import SLOTS, Facts, is_known

__all__ = ["Corrupted", "corrupted"]


class Corrupted(NamedTuple):
    """C chunks of B facts; the facts of a chunk share what is put into their places.

    So C K embeddings are read for each slot, and C K rows of their gradient written, and not
    C B K.
    """

    facts: jax.Array
    """`[C, B, 3]` int32 head, relation, tail."""
    mask: jax.Array
    """`[C, B]` bool, False where there is no fact."""
    replacement: dict[str, jax.Array]
    """By slot `[C, K]` int32 what is put there."""
    false: dict[str, jax.Array]
    """By slot `[C, B, K]` bool, False where that gives a fact after all: this one, or any of
    those known, if the slot is filtered."""


def corrupted(
    facts: Facts,
    rows: jax.Array,
    key: jax.Array,
    *,
    chunk: int,
    negatives: int,
    slots: Sequence[str] = SLOTS,
) -> Corrupted:
    """Draws false triples, as many for each slot.

    Args:
        facts: What is known.
        rows: `[C B]` int32 rows of facts, the size of a chunk a divisor of their number; a row
            that is padding is masked.
        key: Random key.
        chunk: B, facts that share false ones.
        negatives: K, replacements for each slot.
        slots: Of head, relation, tail.

    Returns:
        The facts and what is false.
    """
    mask = rows < facts.count
    # Out of range would fill in NaN, not raise.
    rows = jnp.where(mask, rows, 0).reshape(-1, chunk)
    triples = facts.triples[rows]
    counts = {"head": facts.entities, "relation": facts.relations, "tail": facts.entities}
    replacement, false = {}, {}
    for slot, own_key in zip(slots, jax.random.split(key, len(slots)), strict=True):
        drawn = jax.random.randint(own_key, (len(rows), negatives), 0, counts[slot])
        shape = *rows.shape, negatives
        if slot in facts.known:
            asked = jnp.broadcast_to(drawn[:, None], shape)
            hit = is_known(facts.known[slot][rows], asked)
        else:
            hit = triples[:, :, SLOTS.index(slot), None] == drawn[:, None]
        replacement[slot], false[slot] = drawn, ~hit
    return Corrupted(triples, mask.reshape(rows.shape), replacement, false)

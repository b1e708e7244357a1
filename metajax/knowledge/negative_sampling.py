"""Negative sampling: training triples on the device, and corruptions of them.

A negative replaces the head, the relation or the tail of a triple by a random one. Filtered slots
exclude all known triples from the negatives.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metajax.data.dataset import room

__all__ = [
    "Negatives",
    "TrainingTriples",
    "checked_triples",
    "is_known",
    "sample_negatives",
    "training_triples",
]

SLOTS = ("head", "relation", "tail")
"""The places of a triple, in order."""

_WORD = 32


class TrainingTriples(NamedTuple):
    """Triples on the device, with filters for negative sampling.

    Counts are values and not shapes: more triples need no recompilation.
    """

    triples: jax.Array
    """`[N, 3]` int32 head, relation, tail; rows from `count` on are padding."""
    count: jax.Array
    """`[]` int32, the number of triples."""
    entities: jax.Array
    """`[]` int32 number of known entities; negatives are drawn among them."""
    relations: jax.Array
    """`[]` int32 number of known relations."""
    known: dict[str, jax.Array]
    """By filtered slot `[N, W]` uint32: bit j is set where putting j into the slot of that triple
    gives a known triple."""
    cluster: jax.Array | None = None
    """`[R]` int32 cluster of each relation, -1 for none; R is a power of two."""


def training_triples(
    triples: Any,
    *,
    entities: int,
    relations: int,
    filtered: Sequence[str] = ("relation",),
    known: Any = None,
    cluster: Any = None,
) -> TrainingTriples:
    """Puts triples on the device, padded to a power of two.

    Filtering relations costs one bit for each triple and relation. It matters: in a graph of films
    8 of 10 awards won are nominations too, so that unfiltered relation negatives are often true.
    Filtering entities costs one bit for each triple and entity, and only pays in small dense
    graphs.

    Args:
        triples: `[n, 3]` integers: head, relation, tail.
        entities: Number of entities, >= 2.
        relations: Number of relations, >= 1.
        filtered: Slots in which known triples are excluded from the negatives.
        known: `[m, 3]` further known triples, for instance of earlier snapshots.
        cluster: `[relations]` labels for the relation-cluster term, from `cluster_relations`.

    Returns:
        The triples.

    Raises:
        ValueError: If there is no triple, an id is out of range or a slot unknown.
        TypeError: If ids are not integers.

    Example:
        >>> data = training_triples([[0, 0, 1], [1, 1, 0]], entities=2, relations=2)
        >>> data.triples.tolist(), data.known["relation"].tolist()  # bits 0 and 1
        ([[0, 0, 1], [1, 1, 0]], [[1], [2]])
    """
    if set(filtered) - set(SLOTS):
        raise ValueError(f"filtered must be of {', '.join(SLOTS)}, got {', '.join(filtered)}.")
    triples = checked_triples(triples, entities=entities, relations=relations)
    if not len(triples):
        raise ValueError("triples must hold at least one triple, got none.")
    every = triples
    if known is not None:
        known = checked_triples(known, entities=entities, relations=relations, name="known")
        every = np.concatenate([triples, known])
    padding = room(len(triples)) - len(triples)
    sizes = {"head": entities, "relation": relations, "tail": entities}
    bits = {slot: _bits(every, slot, sizes[slot])[: len(triples)] for slot in filtered}

    def padded(rows: np.ndarray) -> jax.Array:
        return jnp.asarray(np.pad(rows, ((0, padding), (0, 0))))

    return TrainingTriples(
        padded(triples),
        jnp.int32(len(triples)),
        jnp.int32(entities),
        jnp.int32(relations),
        {slot: padded(rows) for slot, rows in bits.items()},
        None if cluster is None else _labels(cluster, relations),
    )


def is_known(bits: jax.Array, index: jax.Array) -> jax.Array:
    """Tests bits.

    Args:
        bits: `[.., W]` uint32 words.
        index: `[.., K]` positions, in [0, 32 W).

    Returns:
        `[.., K]` bool.
    """
    words = jnp.take_along_axis(bits, index // _WORD, axis=-1)
    return (words >> (index % _WORD).astype(jnp.uint32)) & 1 == 1


def checked_triples(
    triples: Any, *, entities: int, relations: int, name: str = "triples"
) -> np.ndarray:
    """Checks triples and returns them as `[n, 3]` int32.

    Args:
        triples: `[n, 3]` integers.
        entities: Number of entities.
        relations: Number of relations.
        name: Name of the argument, for errors.

    Raises:
        ValueError: If the shape is another, a count too low, or an id out of range.
        TypeError: If ids are not integers.
    """
    for what, least, size in (("entities", 2, entities), ("relations", 1, relations)):
        if size < least:
            raise ValueError(f"{what} must be >= {least}, got {size}.")
    rows = np.asarray(triples)
    if rows.ndim != 2 or rows.shape[1] != 3:
        raise ValueError(f"{name} must have shape [n, 3], got {list(rows.shape)}.")
    if rows.size and rows.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold whole numbers, got {rows.dtype}.")
    wrong = (rows < 0) | (rows >= np.array([entities, relations, entities]))
    if wrong.any():
        at, place = map(int, np.argwhere(wrong)[0])
        size = relations if SLOTS[place] == "relation" else entities
        raise ValueError(
            f"{SLOTS[place]} must be in [0, {size}), got {rows[at, place]} in row {at} of {name}."
        )
    return rows.astype(np.int32)


def _bits(every: np.ndarray, slot: str, size: int) -> np.ndarray:
    """Bitsets of the known values of a slot, by the two other elements of a triple."""
    place = SLOTS.index(slot)
    first, second = np.delete(every, place, axis=1).astype(np.int64).T
    _, pair = np.unique(first * (second.max() + 1) + second, return_inverse=True)
    value = every[:, place].astype(np.uint32)
    bits = np.zeros((pair.max() + 1, -(-room(size) // _WORD)), np.uint32)
    np.bitwise_or.at(bits, (pair, value // _WORD), np.uint32(1) << value % _WORD)
    return bits[pair]


def _labels(cluster: Any, relations: int) -> jax.Array:
    labels = np.asarray(cluster)
    if labels.shape != (relations,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"cluster must be {relations} whole numbers, got {labels.dtype} {list(labels.shape)}."
        )
    padded = np.pad(labels, (0, room(relations) - relations), constant_values=-1)
    return jnp.asarray(padded, jnp.int32)


class Negatives(NamedTuple):
    """C chunks of B triples; the triples of a chunk share their replacements.

    So C K embeddings are gathered for each slot, and C K rows of their gradient scattered, and not
    C B K.
    """

    triples: jax.Array
    """`[C, B, 3]` int32 head, relation, tail."""
    mask: jax.Array
    """`[C, B]` bool, False in padding."""
    replacement: dict[str, jax.Array]
    """By slot `[C, K]` int32 the sampled ids."""
    is_negative: dict[str, jax.Array]
    """By slot `[C, B, K]` bool, False where the replacement gives the triple itself, or, in a
    filtered slot, any known one."""


def sample_negatives(
    data: TrainingTriples,
    rows: jax.Array,
    key: jax.Array,
    *,
    chunk: int,
    negatives: int,
    slots: Sequence[str] = SLOTS,
) -> Negatives:
    """Samples negatives, equally many for each slot.

    Args:
        data: The training triples.
        rows: `[C B]` int32 rows of them; rows of padding are masked.
        key: Random key.
        chunk: B, triples that share replacements; divides the number of rows.
        negatives: K, replacements for each slot.
        slots: Of head, relation, tail.

    Returns:
        The triples with their negatives.
    """
    mask = rows < data.count
    # Out of range would fill in NaN, not raise.
    rows = jnp.where(mask, rows, 0).reshape(-1, chunk)
    triples = data.triples[rows]
    counts = {"head": data.entities, "relation": data.relations, "tail": data.entities}
    replacement, is_negative = {}, {}
    for slot, own_key in zip(slots, jax.random.split(key, len(slots)), strict=True):
        drawn = jax.random.randint(own_key, (len(rows), negatives), 0, counts[slot])
        shape = *rows.shape, negatives
        if slot in data.known:
            index = jnp.broadcast_to(drawn[:, None], shape)
            hit = is_known(data.known[slot][rows], index)
        else:
            hit = triples[:, :, SLOTS.index(slot), None] == drawn[:, None]
        replacement[slot], is_negative[slot] = drawn, ~hit
    return Negatives(triples, mask.reshape(rows.shape), replacement, is_negative)

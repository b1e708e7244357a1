from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.knowledge import training_triples
from metajax.knowledge.negative_sampling import is_known, sample_negatives

TRIPLES = [[0, 0, 1], [0, 2, 1], [1, 1, 2]]


@pytest.mark.parametrize("relations", [3, 70])
def test_every_bit_marks_a_known_triple(relations):
    rng = np.random.default_rng(0)
    triples = np.unique(rng.integers(0, (4, relations, 4), (60, 3)), axis=0)
    shown, further = triples[::2], triples[1::2]
    slots = ("head", "relation", "tail")
    given = training_triples(shown, entities=4, relations=relations, filtered=slots, known=further)
    every = {tuple(row) for row in triples.tolist()}
    assert given.triples.shape == (32, 3)
    for place, slot in enumerate(slots):
        size = relations if slot == "relation" else 4
        index = jnp.broadcast_to(jnp.arange(size), (len(shown), size))
        found = np.asarray(is_known(given.known[slot][: len(shown)], index))
        for row, known in zip(shown.tolist(), found, strict=True):
            for value in range(size):
                changed = (*row[:place], value, *row[place + 1 :])
                assert known[value] == (changed in every)


def test_more_triples_keep_the_shapes():
    few = training_triples(TRIPLES, entities=3, relations=3, filtered=("relation", "tail"))
    more = training_triples(
        [*TRIPLES, [3, 1, 2]], entities=4, relations=4, filtered=("relation", "tail")
    )
    shapes = [
        [leaf.shape for leaf in (given.triples, *given.known.values())] for given in (few, more)
    ]
    assert shapes[0] == shapes[1] == [(4, 3), (4, 1), (4, 1)]
    assert int(few.count) == 3


@pytest.mark.parametrize(
    ("triples", "options", "message"),
    [
        ([[0, 0, 3]], {}, r"^tail must be in \[0, 3\), got 3 in row 0 of triples\.$"),
        ([[0, -1, 1]], {}, r"^relation must be in \[0, 3\), got -1 in row 0 of triples\.$"),
        ([[0, 0]], {}, r"^triples must have shape \[n, 3\], got \[1, 2\]\.$"),
        (np.zeros((0, 3), int), {}, r"^triples must hold at least one triple, got none\.$"),
        (TRIPLES, {"known": [[9, 0, 0]]}, r"^head must be in \[0, 3\), got 9 in row 0 of known\.$"),
        (TRIPLES, {"entities": 1}, r"^entities must be >= 2, got 1\.$"),
        (
            TRIPLES,
            {"filtered": ["tale"]},
            r"^filtered must be of head, relation, tail, got tale\.$",
        ),
        (TRIPLES, {"cluster": [0, 1]}, r"^cluster must be 3 whole numbers, got int64 \[2\]\.$"),
    ],
)
def test_invalid_triples_are_refused(triples, options, message):
    given: dict[str, Any] = {"entities": 3, "relations": 3, **options}
    with pytest.raises(ValueError, match=message):
        training_triples(triples, **given)


def test_ids_must_be_integers():
    with pytest.raises(TypeError, match=r"^triples must hold whole numbers, got float64\.$"):
        training_triples([[0.0, 1.0, 2.0]], entities=3, relations=3)


SLOTS = ("head", "relation", "tail")


@pytest.mark.parametrize("filtered", [("relation",), (), SLOTS])
def test_a_replacement_is_negative_unless_its_triple_is_known(filtered):
    rng = np.random.default_rng(1)
    triples = np.unique(rng.integers(0, (5, 4, 5), (40, 3)), axis=0)
    given = training_triples(triples, entities=5, relations=4, filtered=filtered)
    rows = jnp.asarray(np.append(rng.permutation(len(triples))[:7], len(triples)))
    drawn = jax.jit(lambda key: sample_negatives(given, rows, key, chunk=4, negatives=9))(
        jax.random.key(0)
    )
    np.testing.assert_array_equal(drawn.mask.ravel(), [True] * 7 + [False])
    every = {tuple(row) for row in triples.tolist()}
    for place, slot in enumerate(SLOTS):
        assert drawn.replacement[slot].shape == (2, 9)
        assert set(np.unique(drawn.replacement[slot])) == set(range(4 if place == 1 else 5))
        for chunk in range(2):
            for row in range(4):
                own = np.asarray(drawn.triples[chunk, row]).tolist()
                for k, value in enumerate(drawn.replacement[slot][chunk].tolist()):
                    changed = (*own[:place], value, *own[place + 1 :])
                    hit = changed in every if slot in filtered else changed == tuple(own)
                    assert drawn.is_negative[slot][chunk, row, k] == (not hit)

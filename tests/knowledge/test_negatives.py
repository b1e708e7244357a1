import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.knowledge import training_triples
from metajax.knowledge.negative_sampling import sample_negatives

SLOTS = ("head", "relation", "tail")


@pytest.mark.parametrize("filtered", [("relation",), (), SLOTS])
def test_a_replacement_counts_as_false_exactly_where_no_fact_is_known(filtered):
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

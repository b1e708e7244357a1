import jax
import numpy as np
import pytest

from metajax.knowledge import filtered_ranks, frequency_baseline, graph_from_triples, vocabulary_of

ENTITIES, RELATIONS = 9, 3


def graph():
    rng = np.random.default_rng(0)
    triples = rng.integers(0, (ENTITIES, RELATIONS, ENTITIES), (40, 3))
    return graph_from_triples(triples, vocabulary_of("abcdefghi"), vocabulary_of("rst"))


def test_ranks_are_those_of_counts():
    training = graph()
    triples = training.triples
    score, params = frequency_baseline(training)
    found = filtered_ranks(
        score, params, triples[:10], entities=ENTITIES, relations=RELATIONS, known=triples
    )
    for n, (head, relation, tail) in enumerate(triples[:10]):
        for side, (given, right) in enumerate(((tail, head), (head, tail))):
            column, other = (0, 2) if side == 0 else (2, 0)
            same = triples[triples[:, 1] == relation]
            counts = np.bincount(same[:, column], minlength=ENTITIES).astype(float)
            own = counts[right]
            counts[same[same[:, other] == given, column]] = -1
            assert found.optimistic[side, n] == 1 + np.sum(counts > own)
            assert found.pessimistic[side, n] == 1 + np.sum(counts >= own)


def test_frequencies_are_not_trained():
    score, _ = frequency_baseline(graph())
    with pytest.raises(ValueError, match="counted, not trained"):
        score.entities(jax.random.key(0), 9, 2, 1.0)

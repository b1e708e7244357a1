import itertools

import numpy as np

from metajax.knowledge import degrees, graph_from_names, relation_clusters, relation_signatures


def test_a_fact_counts_for_both_ends():
    graph = graph_from_names([("a", "r", "b"), ("a", "s", "c"), ("c", "r", "c")])
    assert degrees(graph).tolist() == [2, 1, 3]


def test_signatures_are_shares_of_roles(monkeypatch):
    monkeypatch.setattr(relation_clusters, "_BLOCK", 3)
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, (8, 3, 8), (30, 3))
    graph = graph_from_names([(f"e{h}", f"r{r}", f"e{t}") for h, r, t in drawn])
    triples = graph.triples
    expected = np.zeros((3, 2, 2, 3))  # relation, whose role, role as head or tail, of relation
    for r in range(3):
        facts = np.flatnonzero(triples[:, 1] == r)
        for end, role, s in itertools.product((0, 1), (0, 1), range(3)):
            others = triples[:, 1] == s
            for n in facts:
                same = others & (triples[:, 2 * role] == triples[n, 2 * end])
                # A fact does not speak for itself.
                same[n] &= role != end
                expected[r, end, role, s] += same.any() / len(facts)
    np.testing.assert_allclose(relation_signatures(graph), expected.reshape(3, 12), rtol=1e-6)


def test_aliases_of_a_relation_have_signatures_that_are_close():
    rng = np.random.default_rng(0)
    facts = [
        (f"film{n}", f"{relation}{rng.integers(2)}", f"{relation}{rng.integers(9)}")
        for n in range(100)
        for relation in ("actor", "actor", "actor", "genre", "genre")
    ]
    actor, actor_alias, genre, genre_alias = relation_signatures(graph_from_names(facts))
    near = np.linalg.norm(actor - actor_alias), np.linalg.norm(genre - genre_alias)
    assert max(near) < np.linalg.norm(actor - genre) / 3

import numpy as np
import pytest

from metajax.knowledge import InversePair, fold_inverses, graph_from_names, inverse_pairs

FILMS = [(f"film{n}", "director", f"person{n % 2}") for n in range(4)]
FILMS += [(f"film{n}", "genre", "Horror") for n in range(4)]
DIRECTED = [(person, "directed", film) for film, relation, person in FILMS[:4]]


def named(graph):
    entity, relation = graph.entities.names, graph.relations.names
    return {(entity[h], relation[r], entity[t]) for h, r, t in graph.triples}


def test_inverse_pairs_equal_those_of_two_loops():
    rng = np.random.default_rng(0)
    facts = [(str(h), f"r{r}", str(t)) for h, r, t in rng.integers(0, 4, (40, 3))]
    graph = graph_from_names(facts)
    facts = set(facts)
    expected = {}
    for r in range(4):
        for s in range(r, 4):
            sizes = [sum(relation == f"r{n}" for _, relation, _ in facts) for n in (r, s)]
            shared = sum(
                (t, f"r{s}", h) in facts for h, relation, t in facts if relation == f"r{r}"
            )
            if shared:
                expected[r, s] = shared, shared / min(sizes)
    found = inverse_pairs(graph, share=1e-9)
    assert {tuple(sorted(pair[:2])): pair[2:] for pair in found} == expected
    assert [pair.shared for pair in found] == sorted(
        (s for s, _ in expected.values()), reverse=True
    )


def test_folding_keeps_the_relation_whose_heads_are_described():
    graph = graph_from_names(FILMS + DIRECTED)
    assert inverse_pairs(graph) == [InversePair(kept=1, folded=0, shared=4, share=1.0)]
    folded = fold_inverses(graph)
    assert named(folded) == set(FILMS)
    assert folded.relations == graph.relations
    # Whatever the names.
    renamed = [
        (h, {"director": "by", "directed": "a"}.get(r, r), t) for h, r, t in FILMS + DIRECTED
    ]
    assert ("film0", "by", "person0") in named(fold_inverses(graph_from_names(renamed)))


def test_a_triple_of_only_the_folded_relation_is_reversed():
    graph = graph_from_names(FILMS[:-1] + DIRECTED[:3] + [("person9", "directed", "film1")])
    assert [pair.share for pair in inverse_pairs(graph, share=0.7)] == [0.75]
    assert inverse_pairs(graph) == []
    assert fold_inverses(graph).count == graph.count
    assert named(fold_inverses(graph, share=0.7)) == {*FILMS[:-1], ("film1", "director", "person9")}


def test_folding_keeps_one_direction_of_a_symmetric_relation():
    graph = graph_from_names([("a", "kin", "b"), ("b", "kin", "a"), ("c", "kin", "c")])
    (pair,) = inverse_pairs(graph)
    assert pair == InversePair(0, 0, 3, 1.0)
    assert named(fold_inverses(graph)) == {("a", "kin", "b"), ("c", "kin", "c")}


def test_a_share_of_one_asks_for_all_triples():
    pair = InversePair(kept=1, folded=0, shared=4, share=1.0)
    assert inverse_pairs(graph_from_names(FILMS + DIRECTED), share=1) == [pair]
    assert inverse_pairs(graph_from_names(FILMS + DIRECTED[:3]), share=1) == [
        pair._replace(shared=3)
    ]
    more = [*DIRECTED[:3], ("person0", "directed", "film3")]
    assert inverse_pairs(graph_from_names(FILMS + more), share=1) == []


def test_no_triple_is_folded_into_a_relation_that_is_folded_itself():
    # "1" is the inverse of "0" and of "2"; "3" makes their heads and tails alike.
    graph = graph_from_names([("a", "0", "b"), ("b", "1", "a"), ("a", "2", "b"), ("b", "3", "c")])
    assert [pair[:2] for pair in inverse_pairs(graph)] == [(0, 1), (1, 2)]
    assert named(fold_inverses(graph)) == {("a", "0", "b"), ("a", "2", "b"), ("b", "3", "c")}


@pytest.mark.parametrize("share", [0, 1.1, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\], got"):
        inverse_pairs(graph_from_names(FILMS), share=share)

import json

import numpy as np
import pytest

from metajax.knowledge import (
    check_seen,
    fold_inverses,
    graph_from_names,
    keep_triples,
    leaked_triples,
    read_graph,
    split_entities,
    split_from_json,
    split_graph,
    split_of_files,
    split_to_json,
    split_triples,
    with_triples,
)


@pytest.fixture(scope="module")
def doubled():
    """300 triples between 40 entities, each also in reverse."""
    rng = np.random.default_rng(0)
    facts = [(f"e{h}", f"r{r}", f"e{t}") for h, r, t in rng.integers(0, (40, 3, 40), (300, 3))]
    return graph_from_names(facts + [(t, f"inverse {r}", h) for h, r, t in facts])


def test_a_random_split_leaks_inverses_and_ours_does_not(doubled):
    drawn = np.random.default_rng(1).random(doubled.count) < 0.2
    naive = keep_triples(doubled, ~drawn), keep_triples(doubled, drawn)
    assert leaked_triples(*naive).mean() > 0.7
    for whole in (doubled, fold_inverses(doubled)):
        training, test = split_triples(whole, share=0.2, seed=1)
        assert not leaked_triples(training, test).any()
        pairs = [set(map(frozenset, part.triples[:, [0, 2]].tolist())) for part in (training, test)]
        assert not pairs[0] & pairs[1]


def test_a_leak_is_a_triple_in_the_opposite_direction():
    graph = graph_from_names([("a", "r", "b"), ("b", "s", "a"), ("a", "s", "c"), ("a", "r", "c")])
    assert graph.triples.tolist() == [[0, 0, 1], [0, 0, 2], [0, 1, 2], [1, 1, 0]]
    held_out = np.array([False, False, True, True])
    # (a s c) has (a r c) in training, which is another relation the same way round.
    assert leaked_triples(
        keep_triples(graph, ~held_out), keep_triples(graph, held_out)
    ).tolist() == [
        False,
        True,
    ]


def test_a_split_is_a_partition_and_training_covers_all_names(doubled):
    training, test = split_triples(doubled, share=0.3, seed=2)
    both = np.concatenate([training.triples, test.triples]).tolist()
    assert sorted(both) == sorted(doubled.triples.tolist())
    assert abs(test.count - 0.3 * doubled.count) < 10
    check_seen(training, test)
    assert len(np.unique(training.triples[:, [0, 2]])) == len(np.unique(doubled.triples[:, [0, 2]]))
    again, other = (
        split_triples(doubled, share=0.3, seed=2)[1],
        split_triples(doubled, share=0.3)[1],
    )
    np.testing.assert_array_equal(test.triples, again.triples)
    assert not np.array_equal(test.triples, other.triples)


@pytest.mark.parametrize(
    ("share", "rule"), [(0.999, "of 2 triples that can be held out"), (1, r"in \(0, 1\)")]
)
def test_an_impossible_share_is_refused(share, rule):
    graph = graph_from_names([("a", "r", "b"), ("b", "r", "c")])
    with pytest.raises(ValueError, match=rule):
        split_triples(graph, share=share)


def test_all_triples_of_some_entities_are_held_out(doubled):
    training, new = split_entities(doubled, [3, 5])
    assert not np.isin(training.triples[:, [0, 2]], [3, 5]).any()
    assert np.isin(new.triples[:, [0, 2]], [3, 5]).any(axis=1).all()
    assert training.count + new.count == doubled.count


def test_a_relation_or_an_entity_unseen_in_training_is_refused():
    graph = graph_from_names([("a", "r", "b"), ("a", "s", "b"), ("a", "r", "c")])
    r, s = (graph.triples[:, 1] == n for n in (0, 1))
    with pytest.raises(
        ValueError, match=r"^every relation of the test must .* got 1 unseen: 's'\.$"
    ):
        check_seen(keep_triples(graph, r), keep_triples(graph, s))
    with pytest.raises(ValueError, match=r"every entity of the test must .* got 1 unseen: 'c'"):
        check_seen(keep_triples(graph, graph.triples[:, 2] == 1), keep_triples(graph, r))


@pytest.mark.parametrize("seed", range(10))
def test_a_rare_relation_stays_in_training(seed):
    dense = [(str(a), "r", str(b)) for a in range(8) for b in range(a)]
    graph = graph_from_names([*dense, ("7", "rare", "6"), ("5", "rare", "4")])
    training, _ = split_triples(graph, share=0.6, seed=seed)
    assert set(training.triples[:, 1]) == {0, 1}


def test_inverses_are_folded_by_the_given_share():
    likes = [(str(a), "like", str(b)) for a in range(8) for b in range(a)]
    liked = [(b, "liked by", a) for a, _, b in likes]
    graph = graph_from_names([*likes[7:], *liked[:-7]])
    assert split_graph(graph, share=0.2).folded == {}
    split = split_graph(graph, share=0.2, inverse_share=0.5)
    assert (split.folded, len(split.known)) == ({"liked by": "like"}, len(likes))


@pytest.fixture(scope="module")
def graph(films):
    return read_graph(films)


def test_a_graph_is_folded_and_split_without_leaks(graph):
    parts = split_graph(graph, without=["*award*"], share=0.1)
    # 40 films, of a genre and a director each; the directors also have inverse facts.
    assert [part.count for part in parts[:3]] == [64, 8, 8]
    assert len(np.unique(parts.known, axis=0)) == 80
    for part in (parts.validation, parts.test):
        assert not leaked_triples(parts.training, part).any()
        assert part.entities == parts.training.entities
    assert parts.training.relations.names == ("director", "genre")
    assert parts.folded == {"directed": "director"}
    assert parts.unseen == {"entity": ["prize0", "prize1"], "relation": ["award_won"]}
    assert list(parts.left_out.values()) == [40, 40]


@pytest.mark.parametrize("pattern", ["directed", "director", "direct*"])
def test_a_pattern_of_either_inverse_drops_both(graph, pattern):
    parts = split_graph(graph, without=[pattern])
    assert parts.training.relations.names == ("award_won", "genre")
    assert parts.folded == {}
    assert parts.unseen["relation"] == ["directed", "director"]


def test_entities_with_literals_only_are_unseen():
    ring = [(str(n), "next", str((n + 1) % 9)) for n in range(9)]
    whole = graph_from_names(
        [*ring, ("0", "to", "4"), ("4", "to", "8"), ("8", "to", "2")],
        attributes=[("lonely", "year", "1979", ""), ("3", "year", "1986", "")],
    )
    parts = split_graph(whole, share=0.1)
    assert parts.unseen["entity"] == ["lonely"]
    assert "lonely" not in parts.training.entities.index


def test_triples_of_symmetric_relations_are_known_in_both_directions():
    pairs = [(f"{n}", f"{(n + 1) % 9}") for n in range(9)]
    neighbours = [(one, "next to", other) for pair in pairs for one, other in (pair, pair[::-1])]
    likes = [(f"{n}", "likes", f"{(n + 2) % 9}") for n in range(9)]
    parts = split_graph(graph_from_names([*neighbours, *likes, ("0", "next to", "0")]), share=0.1)
    assert (parts.symmetric, parts.folded) == (["next to"], {})
    assert sum(part.count for part in parts[:3]) == 9 + 9 + 1
    names, relations = parts.training.entities.names, parts.training.relations.names
    known = [(names[head], relations[r], names[tail]) for head, r, tail in parts.known]
    assert sorted(known) == sorted([*neighbours, *likes, ("0", "next to", "0")])


def test_a_string_is_no_sequence_of_patterns(graph):
    with pytest.raises(TypeError, match=r"sequence of patterns, got the string '\*award\*'\.$"):
        split_graph(graph, without="*award*")


@pytest.mark.parametrize("share", [-0.1, 0.5, float("nan")])
def test_a_share_of_half_or_more_is_refused(graph, share):
    with pytest.raises(ValueError, match=rf"^share must be in \[0, 0\.5\), got {share}\.$"):
        split_graph(graph, share=share)


def test_all_triples_can_be_for_training(graph):
    parts = split_graph(graph, share=0)
    assert (parts.validation.count, parts.test.count) == (0, 0)
    assert parts.training.count == len(parts.known) == split_graph(graph).known.shape[0]
    again = split_from_json(json.loads(json.dumps(split_to_json(parts))))
    assert [part.count for part in again[:3]] == [part.count for part in parts[:3]]


def test_the_split_of_files_is_kept():
    triples = [("a", "r", "b"), ("b", "r", "c"), ("c", "award", "a")]
    valid = [("a", "r", "c"), ("a", "r", "b")]
    test = [("c", "r", "a"), ("a", "r", "z"), ("a", "award", "b")]
    label = ("a", "http://www.w3.org/2000/01/rdf-schema#label", "Alien", "")
    whole = graph_from_names([*triples, *valid, *test], attributes=[label])
    e, r = whole.entities.index, whole.relations.index
    training, validation, last = (
        with_triples(whole, np.array([(e[a], r[b], e[c]) for a, b, c in part]))
        for part in (triples, valid, test)
    )
    parts = split_of_files(training, validation, last, without=["aw*"])
    names, relations = parts.training.entities.names, parts.training.relations.names
    named = [[(names[a], relations[b], names[c]) for a, b, c in part.triples] for part in parts[:3]]
    assert [sorted(part) for part in named] == [triples[:2], valid[:1], test[:1]]
    assert parts.left_out == {
        "are of dropped relations": 2,
        "are in training too": 1,
        "have a name without a training triple": 1,
    }
    assert (parts.labels, parts.folded) == ({"a": "Alien"}, {})
    assert parts.unseen == {"entity": ["z"], "relation": ["award"]}
    assert split_of_files(training, None, last).validation.count == 0
    with pytest.raises(ValueError, match="the test triples must have names of training, and none"):
        split_of_files(training, None, with_triples(last, np.array([[e["a"], r["r"], e["z"]]])))


def test_a_split_survives_json(graph):
    parts = split_graph(graph._replace(links=(("7", 3),)))
    again = split_from_json(json.loads(json.dumps(split_to_json(parts))))
    for one, other in zip(parts[:3], again[:3], strict=True):
        np.testing.assert_array_equal(one.triples, other.triples)
        assert one[3:] == other[3:]
    assert again[3:] == parts[3:]


@pytest.mark.parametrize(
    "wrong", [{}, [], {"entities": ["a"]}, {"entities": ["a"], "relations": 1, "links": [[1]]}]
)
def test_other_json_is_refused(wrong):
    with pytest.raises(ValueError, match="a split must be complete"):
        split_from_json(wrong)

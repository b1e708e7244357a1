import json

import numpy as np
import pytest

from metajax.knowledge import (
    graph_from_names,
    leaked_triples,
    read_graph,
    split_from_json,
    split_graph,
    split_to_json,
)


@pytest.fixture(scope="module")
def graph(films):
    return read_graph(films)


def test_a_graph_is_folded_and_split_without_leaks(graph):
    parts = split_graph(graph, without=["*award*"], share=0.1)
    # 40 films, of a genre and a director each; the directors also say which films are theirs.
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
def test_a_pattern_of_either_direction_leaves_both_out(graph, pattern):
    parts = split_graph(graph, without=[pattern])
    assert parts.training.relations.names == ("award_won", "genre")
    assert parts.folded == {}
    assert parts.unseen["relation"] == ["directed", "director"]


def test_entities_that_only_literals_tell_of_are_unseen():
    ring = [(str(n), "next", str((n + 1) % 9)) for n in range(9)]
    whole = graph_from_names(
        [*ring, ("0", "to", "4"), ("4", "to", "8"), ("8", "to", "2")],
        attributes=[("lonely", "year", "1979", ""), ("3", "year", "1986", "")],
    )
    parts = split_graph(whole, share=0.1)
    assert parts.unseen["entity"] == ["lonely"]
    assert "lonely" not in parts.training.entities.index


def test_facts_of_symmetric_relations_are_known_both_ways_round():
    pairs = [(f"{n}", f"{(n + 1) % 9}") for n in range(9)]
    beside = [(one, "beside", other) for pair in pairs for one, other in (pair, pair[::-1])]
    likes = [(f"{n}", "likes", f"{(n + 2) % 9}") for n in range(9)]
    parts = split_graph(graph_from_names([*beside, *likes, ("0", "beside", "0")]), share=0.1)
    assert (parts.symmetric, parts.folded) == (["beside"], {})
    assert sum(part.count for part in parts[:3]) == 9 + 9 + 1
    names, relations = parts.training.entities.names, parts.training.relations.names
    known = [(names[head], relations[r], names[tail]) for head, r, tail in parts.known]
    assert sorted(known) == sorted([*beside, *likes, ("0", "beside", "0")])


def test_one_pattern_is_no_sequence_of_patterns(graph):
    with pytest.raises(TypeError, match=r"sequence of patterns, got the string '\*award\*'\.$"):
        split_graph(graph, without="*award*")


@pytest.mark.parametrize("share", [0, 0.5, float("nan")])
def test_a_share_that_cannot_be_had_twice_is_refused(graph, share):
    with pytest.raises(ValueError, match=rf"^share must be in \(0, 0\.5\), got {share}\.$"):
        split_graph(graph, share=share)


def test_parts_come_back_from_json(graph):
    parts = split_graph(graph._replace(links=(("7", 3),)))
    again = split_from_json(json.loads(json.dumps(split_to_json(parts))))
    for one, other in zip(parts[:3], again[:3], strict=True):
        np.testing.assert_array_equal(one.triples, other.triples)
        assert one[3:] == other[3:]
    assert again[3:] == parts[3:]


@pytest.mark.parametrize(
    "wrong", [{}, [], {"entities": ["a"]}, {"entities": ["a"], "relations": 1, "links": [[1]]}]
)
def test_something_else_is_refused(wrong):
    with pytest.raises(ValueError, match="a split must be complete"):
        split_from_json(wrong)

import numpy as np
import pytest

from metajax.knowledge import (
    drop_unused,
    graph_from_names,
    keep_triples,
    neighbourhood,
    prune_tails,
    without_relations,
)

GRAPH = graph_from_names(
    [
        ("Alien", "award_won", "Oscar"),
        ("Alien", "genre", "Horror"),
        ("Alien", "sequel", "Aliens"),
        ("Aliens", "award_won", "Oscar"),
        ("Aliens", "genre", "Action"),
        ("Heat", "genre", "Crime"),
    ],
    attributes=[("Heat", "year", "1995", ""), ("Oscar", "since", "1929", "")],
    links=[("1", "Heat"), ("2", "Alien")],
)


def named(graph):
    entity, relation = graph.entities.names, graph.relations.names
    return [(entity[h], relation[r], entity[t]) for h, r, t in graph.triples]


def test_relations_are_left_out_by_pattern():
    kept = without_relations(GRAPH, "award*", "sequel")
    assert {relation for _, relation, _ in named(kept)} == {"genre"}
    assert kept[4:] == GRAPH[4:]
    with pytest.raises(
        KeyError, match=r"no relation matches 'awards'; there are 'award_won', 'genre'"
    ):
        without_relations(GRAPH, "awards")
    with pytest.raises(ValueError, match="at least one triple, got none"):
        without_relations(GRAPH, "*")


def test_a_tail_of_one_fact_is_pruned_and_one_with_facts_of_its_own_is_not():
    assert named(prune_tails(GRAPH)) == [
        ("Alien", "award_won", "Oscar"),
        ("Alien", "sequel", "Aliens"),
        ("Aliens", "award_won", "Oscar"),
    ]
    assert prune_tails(GRAPH, 1).count == GRAPH.count
    with pytest.raises(ValueError, match=r"degree must be >= 1, got 0\."):
        prune_tails(GRAPH, 0)


def test_what_is_about_an_entity_has_it_at_either_end():
    aliens = GRAPH.entities.index["Aliens"]
    assert named(neighbourhood(GRAPH, [aliens])) == [
        ("Alien", "sequel", "Aliens"),
        ("Aliens", "award_won", "Oscar"),
        ("Aliens", "genre", "Action"),
    ]


def test_names_that_no_fact_has_can_be_left_out():
    few = drop_unused(without_relations(GRAPH, "award*", "sequel"))
    assert few.entities.names == ("Action", "Alien", "Aliens", "Crime", "Heat", "Horror")
    assert few.relations.names == ("genre",)
    assert named(few) == [
        ("Alien", "genre", "Horror"), ("Aliens", "genre", "Action"), ("Heat", "genre", "Crime")
    ]  # fmt: skip
    assert [(few.entities.names[a.entity], a.value) for a in few.attributes] == [("Heat", "1995")]
    assert [(item, few.entities.names[e]) for item, e in few.links] == [
        ("1", "Heat"),
        ("2", "Alien"),
    ]


def test_facts_are_kept_by_booleans_alone():
    with pytest.raises(ValueError, match=r"kept must be 6 booleans, got int64 \(2,\)"):
        keep_triples(GRAPH, np.array([0, 1]))

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.knowledge import (
    Attribute,
    add_triples,
    degrees,
    drop_unused,
    graph_from_names,
    graph_from_triples,
    index_of,
    keep_triples,
    neighbourhood,
    prune_tails,
    triples_of,
    vocabulary_of,
    without_relations,
)

FACTS = [
    ("Alien", "director", "Scott"),
    ("Alien", "genre", "Horror"),
    ("Aliens", "director", "Cameron"),
]


def test_the_order_of_a_file_and_repeated_lines_make_no_difference():
    one, other = graph_from_names(FACTS), graph_from_names([*FACTS[::-1], FACTS[0]])
    assert one[3:] == other[3:]
    np.testing.assert_array_equal(one.triples, other.triples)
    assert one.entities.names == ("Alien", "Aliens", "Cameron", "Horror", "Scott")
    assert one.triples.tolist() == [[0, 0, 4], [0, 1, 3], [1, 0, 2]]


def test_columns_are_padded_by_an_unused_row():
    graph = graph_from_names(FACTS)
    assert (graph.count, graph.entity_rows, graph.relation_rows) == (3, 8, 4)
    assert graph.head.tolist() == [0, 0, 1, 7]
    assert graph.relation.tolist() == [0, 1, 0, 3]
    assert graph.tail.tolist() == [4, 3, 2, 7]
    assert graph.mask.tolist() == [True, True, True, False]
    assert {column.dtype for column in graph[:3]} == {np.dtype(np.int32)}
    # Even where the number of names is a power of two, the last row has no name.
    assert graph_from_names([("a", "r", "b")]).entity_rows == 4


def test_added_triples_keep_indices():
    graph = graph_from_names(FACTS)
    larger = add_triples(graph, [("Aaa", "genre", "Horror"), FACTS[1], ("Alien", "cast", "Weaver")])
    assert larger.entities.names == (*graph.entities.names, "Aaa", "Weaver")
    assert larger.relations.names == ("director", "genre", "cast")
    assert larger.triples.tolist() == [*graph.triples.tolist(), [5, 1, 3], [0, 2, 6]]
    assert graph.count == 3


def test_added_triples_need_no_recompilation_within_capacity():
    traced = 0

    @jax.jit
    def degrees(head, tail, table):
        nonlocal traced
        traced += 1
        return jnp.zeros(len(table)).at[head].add(1).at[tail].add(1)

    graph = graph_from_names(FACTS)
    for new in [[], [("Aliens", "genre", "Action")], [("Heat", "genre", "Action")]]:
        graph = add_triples(graph, new) if new else graph
        found = degrees(graph.head, graph.tail, np.zeros(graph.entity_rows))
        expected = np.bincount(graph.triples[:, [0, 2]].ravel(), minlength=8)
        np.testing.assert_array_equal(found[:-1], expected[:-1])
        traced_by_then, sizes = traced, (len(graph.head), graph.entity_rows)
        assert (traced_by_then == 1) == (sizes == (4, 8))
    assert (len(graph.head), traced) == (8, 2)


def test_attributes_and_links_name_entities():
    graph = graph_from_names(
        FACTS,
        attributes=[("Alien", "year", "1979", "xsd:gYear"), ("Solaris", "year", "1972", "")],
        links=[("183", "Alien")],
    )
    solaris = index_of(graph.entities, "Solaris")
    assert graph.attributes == (
        Attribute(0, "year", "1979", "xsd:gYear"),
        Attribute(solaris, "year", "1972"),
    )
    assert graph.links == (("183", 0),)
    larger = add_triples(
        graph, [], attributes=[("Solaris", "year", "1972", "")], links=[("9", "Solaris")]
    )
    assert larger.attributes == graph.attributes
    assert larger.links == (("183", 0), ("9", solaris))


def test_an_entity_without_triples_is_refused():
    graph = graph_from_names(FACTS, attributes=[("Solaris", "year", "1972", "")])
    assert triples_of(graph, "Alien").tolist() == [[0, 0, 4], [0, 1, 3]]
    assert triples_of(graph, "Horror").tolist() == [[0, 1, 3]]
    with pytest.raises(ValueError, match=r"^entity 'Solaris' has no triple\.$"):
        triples_of(graph, "Solaris")
    with pytest.raises(KeyError, match="no entity 'Aliem'; did you mean 'Alien'"):
        triples_of(graph, "Aliem")


def test_links_to_unknown_entities_are_counted_and_five_are_named():
    with pytest.raises(ValueError, match=r"got 7 unknown: '0', '1', '2', '3', '4', \.\.\.\.$"):
        graph_from_names(FACTS, links=[(str(n), str(n)) for n in range(7)])


def test_an_empty_graph_is_refused():
    with pytest.raises(ValueError, match=r"^a graph must have at least one triple, got none\.$"):
        graph_from_names([])


def test_an_index_out_of_range_is_named():
    names = vocabulary_of("ab"), vocabulary_of("r")
    with pytest.raises(ValueError, match=r"in \[0, \[2, 1, 2\]\), got \[0, 1, 1\] in row 1"):
        graph_from_triples(np.array([[0, 0, 1], [0, 1, 1]]), *names)


def test_degrees_count_both_ends():
    graph = graph_from_names([("a", "r", "b"), ("a", "s", "c"), ("c", "r", "c")])
    assert degrees(graph).tolist() == [2, 1, 3]


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


def test_relations_are_dropped_by_pattern():
    kept = without_relations(GRAPH, "award*", "sequel")
    assert {relation for _, relation, _ in named(kept)} == {"genre"}
    assert kept[4:] == GRAPH[4:]
    with pytest.raises(
        KeyError, match=r"no relation matches 'awards'; there are 'award_won', 'genre'"
    ):
        without_relations(GRAPH, "awards")
    with pytest.raises(ValueError, match="at least one triple, got none"):
        without_relations(GRAPH, "*")


def test_tails_are_pruned_by_their_degree_as_head_or_tail():
    assert named(prune_tails(GRAPH)) == [
        ("Alien", "award_won", "Oscar"),
        ("Alien", "sequel", "Aliens"),
        ("Aliens", "award_won", "Oscar"),
    ]
    assert prune_tails(GRAPH, 1).count == GRAPH.count
    with pytest.raises(ValueError, match=r"degree must be >= 1, got 0\."):
        prune_tails(GRAPH, 0)


def test_a_neighbourhood_has_triples_in_both_directions():
    aliens = GRAPH.entities.index["Aliens"]
    assert named(neighbourhood(GRAPH, [aliens])) == [
        ("Alien", "sequel", "Aliens"),
        ("Aliens", "award_won", "Oscar"),
        ("Aliens", "genre", "Action"),
    ]


def test_unused_names_are_dropped():
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


def test_triples_are_kept_by_booleans_only():
    with pytest.raises(ValueError, match=r"kept must be 6 booleans, got int64 \(2,\)"):
        keep_triples(GRAPH, np.array([0, 1]))

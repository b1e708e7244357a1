import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.knowledge import (
    Attribute,
    add_triples,
    graph_from_names,
    graph_from_triples,
    index_of,
    triples_of,
    vocabulary_of,
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


def test_columns_are_padded_by_a_row_that_nobody_has():
    graph = graph_from_names(FACTS)
    assert (graph.count, graph.entity_rows, graph.relation_rows) == (3, 8, 4)
    assert graph.head.tolist() == [0, 0, 1, 7]
    assert graph.relation.tolist() == [0, 1, 0, 3]
    assert graph.tail.tolist() == [4, 3, 2, 7]
    assert graph.mask.tolist() == [True, True, True, False]
    assert {column.dtype for column in graph[:3]} == {np.dtype(np.int32)}
    # Even where the number of names is a power of two, the last row is nobody's.
    assert graph_from_names([("a", "r", "b")]).entity_rows == 4


def test_what_is_added_moves_nothing_that_was_there():
    graph = graph_from_names(FACTS)
    larger = add_triples(graph, [("Aaa", "genre", "Horror"), FACTS[1], ("Alien", "cast", "Weaver")])
    assert larger.entities.names == (*graph.entities.names, "Aaa", "Weaver")
    assert larger.relations.names == ("director", "genre", "cast")
    assert larger.triples.tolist() == [*graph.triples.tolist(), [5, 1, 3], [0, 2, 6]]
    assert graph.count == 3


def test_arrivals_are_not_compiled_anew_while_there_is_room():
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


def test_links_to_unknown_entities_are_counted_and_five_of_them_named():
    with pytest.raises(ValueError, match=r"got 7 unknown: '0', '1', '2', '3', '4', \.\.\.\.$"):
        graph_from_names(FACTS, links=[(str(n), str(n)) for n in range(7)])


def test_an_empty_graph_is_refused():
    with pytest.raises(ValueError, match=r"^a graph must have at least one triple, got none\.$"):
        graph_from_names([])


def test_an_index_out_of_range_is_named():
    names = vocabulary_of("ab"), vocabulary_of("r")
    with pytest.raises(ValueError, match=r"in \[0, \[2, 1, 2\]\), got \[0, 1, 1\] in row 1"):
        graph_from_triples(np.array([[0, 0, 1], [0, 1, 1]]), *names)

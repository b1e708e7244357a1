import numpy as np
import pytest

from metajax.data import TrainingSet, bipartite_graph, edges_of, from_columns, training_graph
from metajax.data.dataset import shapes_of


def test_edges_lie_in_order_of_their_targets_and_padding_behind_them():
    edges = edges_of([0, 1, 2, 2, 0], [2, 0, 0, 1, 2], [1, 2, 3, 4, 5], nodes=4)
    assert edges.source.tolist() == [1, 2, 2, 0, 0, 3, 3, 3]
    assert edges.target.tolist() == [0, 0, 1, 2, 2, 3, 3, 3]
    assert edges.weight.tolist() == [2, 3, 4, 1, 5, 0, 0, 0]


def test_users_and_items_see_each_other():
    graph = bipartite_graph([1, 0], [2, 0], [0.5, 2], users=2, items=3)
    named = zip(*(column.tolist() for column in graph.edges), strict=True)
    assert list(named) == [(2, 0, 2), (4, 1, 0.5), (0, 2, 2), (1, 4, 0.5)]


def test_a_graph_may_have_no_edge():
    edges = bipartite_graph([], [], users=1, items=1).edges
    assert [column.tolist() for column in edges] == [[1], [1], [0]]


def test_a_training_graph_counts_its_users_as_the_log_does():
    names = np.array(list("abcde"))
    log = from_columns(
        np.array([1, 1, 3, 4]),
        np.array([0, 2, 1, 2]),
        np.array([5, 2, 4, 3]),
        user_ids=names,
        item_ids=names[:3],
    )
    training = TrainingSet(log, np.zeros((5, 1)), np.zeros((3, 1)), (1.0, 5.0))
    graph = training_graph(training, relevant=3)
    # There is room for eight users.
    assert (graph.users, graph.items) == (8, 3)
    shapes = shapes_of(training)
    assert (shapes.users, 2 * shapes.rows) == (8, len(graph.edges.source))
    edges = set(zip(graph.edges.source.tolist(), graph.edges.target.tolist(), strict=True))
    both = {(1, 8 + 0), (3, 8 + 1), (4, 8 + 2)}
    assert edges - {(10, 10)} == both | {(b, a) for a, b in both}
    assert graph.edges.weight.sum() == 6


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"user": [0, 1], "item": [0, 3]},
            r"item must be in \[0, 3\), got 3 in edge 1 \(user 1, item 3\)\.",
        ),
        (
            {"user": [0, -1], "item": [0, 1]},
            r"user must be in \[0, 2\), got -1 in edge 1 \(user -1, item 1\)\.",
        ),
        ({"user": [0], "item": [0, 1]}, "must be columns of one length"),
        ({"user": [0], "item": [0], "weight": [0]}, "weight must be finite and > 0, got 0.0 in"),
        ({"user": [0], "item": [0], "weight": [np.nan]}, "got nan in edge 0"),
        ({"user": [0], "item": [0], "weight": [1, 2]}, "weight must be a column of 1 numbers"),
        ({"user": [0], "item": [0], "users": 0}, "users must be >= 1, got 0."),
    ],
)
def test_an_edge_that_cannot_be_is_named(columns, message):
    with pytest.raises(ValueError, match=message):
        bipartite_graph(**{"users": 2, "items": 3, **columns})


def test_nodes_are_whole_numbers():
    with pytest.raises(TypeError, match="source must hold whole numbers, got float64"):
        edges_of([0.5], [1], nodes=2)


def test_a_threshold_that_is_no_number_is_refused():
    log = from_columns(
        np.array([0]), np.array([0]), user_ids=np.array(["a"]), item_ids=np.array(["b"])
    )
    training = TrainingSet(log, np.zeros((1, 0)), np.zeros((1, 0)), None)
    with pytest.raises(ValueError, match="relevant must be a number, got nan"):
        training_graph(training, relevant=np.nan)

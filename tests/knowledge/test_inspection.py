from metajax.knowledge import graph_from_names
from metajax.knowledge.inspection import problems, relation_table, summary
from metajax.knowledge.readers import Statements

FACTS = [
    ("Alien", "director", "Scott"),
    ("Scott", "directed", "Alien"),
    ("Alien", "genre", "Horror"),
    ("Alien", "genre", "Horror"),
    ("Alien", "like", "Alien"),
    ("Heat", "genre", "Crime"),
]
GRAPH = graph_from_names(
    FACTS,
    attributes=[("Solaris", "year", "1972", "")],
    links=[("1", "Alien"), ("2", "Alien"), ("3", "Heat")],
)


def test_summary_and_relation_table():
    assert summary(GRAPH) == {
        "triples": "5",
        "entities": "6, 0 to 5 triples each (median 1, 50 % have one)",
        "relations": "4",
        "attributes": "1",
        "linked items": "3 to 2 entities",
    }
    assert relation_table(GRAPH) == [
        ("genre", 2, 2, 2, 2),
        ("directed", 1, 1, 1, 0),
        ("director", 1, 1, 1, 0),
        ("like", 1, 1, 1, 0),
    ]


def test_problems_name_their_lines():
    lines = Statements("films.tsv", FACTS, range(2, 8))
    assert problems(GRAPH, lines, ["1", "2", "3", "4"]) == [
        "1 of 6 triples are repeated: line 5",
        "1 of 6 triples are of an entity with itself: line 6",
        "'directed' is the inverse of 'director' (1 triples): fold inverses before splitting",
        "'like' is symmetric (1 triples): fold inverses before splitting",
        "3 of 4 relations have one triple: 'directed', 'director', 'like'",
        "1 of 6 entities have no triple: 'Solaris'",
        "1 entities are several items each: 'Alien'",
        "1 of 4 items are linked to no entity: '4'",
    ]
    assert problems(GRAPH, lines._replace(lines=None))[0].endswith("repeated: Alien genre Horror")


def test_a_clean_graph_has_no_problem():
    assert problems(graph_from_names([FACTS[2], FACTS[5]])) == []

import numpy as np

from metajax.data.dataset import Table
from metajax.knowledge import SharedFacts
from metajax.runs.facts import CommonFact, common_facts

TITLES = np.array(["Fargo", "Alien", "Blood Simple", "Legend", "Big", "Jaws", "Ran", "Heat"])
ATTRIBUTES = Table(
    TITLES,
    {
        "genres": np.array(
            ["Crime Drama", "Horror", "Crime Drama", "Drama", "Drama", "", "Drama", "Crime"]
        ),
        "studio": np.array(["A", "B", "", "B", "", "B", "C", "C"]),
        "year": np.array(["1996"] * 8),
        "title": TITLES,
    },
    {"genres": "tokens", "studio": "categorical", "year": "numeric", "title": "text"},
)
GRAPH = SharedFacts(
    np.array([0, 0, 1, 1, 2, 2, 3, 3], np.int32),
    np.array([0, 2, 1, 2, 0, 2, 1, 3], np.int32),
    np.array(["directed by", "directed by", "actor", "actor"]),
    np.array(["Coen", "Scott", "Doe", "Roe"]),
)


def test_common_facts_are_those_of_liked_items_the_rarest_of_each_relation():
    coen, scott = (("directed by", name) for name in ("Coen", "Scott"))
    found = common_facts([2, 3, 5], [0, 1], TITLES, ATTRIBUTES, GRAPH)
    assert found[0] == (
        CommonFact(*coen, ("Fargo",)),
        CommonFact("actor", "Doe", ("Fargo", "Alien")),
        CommonFact("genres", "Crime", ("Fargo",)),  # More than half of all are dramas.
    )
    assert found[1] == (CommonFact(*scott, ("Alien",)), CommonFact("studio", "B", ("Alien",)))
    assert found[2] == (CommonFact("studio", "B", ("Alien",)),)
    genres = Table(
        TITLES, {"genres": np.array(["a", "b a", "a b", *"bccccc"][:8])}, {"genres": "tokens"}
    )
    assert common_facts([1], [2, 3], TITLES, genres, None) == [
        (CommonFact("genres", "b", ("Blood Simple", "Legend")),)
    ]
    assert common_facts([2], [0], TITLES, None, GRAPH)[0][0].value == "Coen"
    assert common_facts([2, 3], [], TITLES, ATTRIBUTES, GRAPH) == [(), ()]
    assert common_facts([2], [0], TITLES, None, None) == [()]


def test_few_of_many_facts_are_told():
    names = np.array(list("abcdef"))
    pairs = np.array([(i, fact) for i in (0, 1) for fact in range(6)])
    graph = SharedFacts(pairs[:, 0], pairs[:, 1], names, names)
    columns = {name: np.array(["x", "x", *"yyyyyy"]) for name in "abc"}
    table = Table(TITLES, columns, dict.fromkeys("abc", "categorical"))
    (found,) = common_facts([0], [1], TITLES, table, graph)
    assert [fact.relation for fact in found] == ["a", "b", "c", "a", "b"]

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
    np.array([0, 1, 2, 3], np.int32),
    np.array([0, 1, 0, 1], np.int32),
    np.array(["directed by", "directed by"]),
    np.array(["Coen", "Scott"]),
)


def test_common_facts_are_those_of_liked_items_the_rarest_first():
    found = common_facts([2, 3, 5], [0, 1], TITLES, ATTRIBUTES, GRAPH)
    assert found[0] == (
        CommonFact("directed by", "Coen", ("Fargo",)),
        CommonFact("genres", "Crime", ("Fargo",)),
    )  # More than half of all are dramas.
    assert found[1] == (
        CommonFact("directed by", "Scott", ("Alien",)),
        CommonFact("studio", "B", ("Alien",)),
    )
    assert found[2] == (CommonFact("studio", "B", ("Alien",)),)
    assert common_facts([7], [0, 2], TITLES, ATTRIBUTES, None) == [
        (CommonFact("genres", "Crime", ("Fargo", "Blood Simple")),)
    ]
    assert common_facts([2], [0], TITLES, None, GRAPH)[0][0].value == "Coen"
    assert common_facts([2, 3], [], TITLES, ATTRIBUTES, GRAPH) == [(), ()]
    assert common_facts([2], [0], TITLES, None, None) == [()]

import importlib
import math
from pathlib import Path

import jax
import numpy as np
import pytest

from metajax import knowledge


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module


# Films 0 to 3 and the year of each; people 4 to 7, genres 8 and 9.
YEAR = np.array([1990, 1995, 1996, 1997, 0, 0, 0, 0, 0, 0])
BY, WITH, GENRE = range(3)
FACTS = [
    (0, BY, 4), (0, WITH, 5), (0, GENRE, 8), (1, BY, 4), (1, WITH, 6), (1, GENRE, 9),
    (2, BY, 7), (2, WITH, 5), (2, GENRE, 8), (3, BY, 4), (3, BY, 6), (3, WITH, 5), (3, WITH, 7),
    (3, GENRE, 8),
]  # fmt: skip


@pytest.fixture
def given(script):
    names = knowledge.vocabulary_of(map(str, range(10)))
    relations = knowledge.vocabulary_of(("by", "with", "genre"))
    graph = knowledge.graph_from_triples(np.array(FACTS), names, relations)
    films = script("knowledge_data").FilmGraph(graph, YEAR)
    return script("completion_methods").new_films(films, 1997, 1998)


def test_candidates_come_from_old_films_alone(script, given):
    methods = script("completion_methods")
    # Of the old films' people and genres 4, 5 and 8 are in two facts; of 3, 4 and 5 in new ones.
    assert given.old.tolist() == [
        [0, BY, 3], [0, WITH, 4], [0, GENRE, 5], [1, BY, 3], [2, WITH, 4], [2, GENRE, 5],
    ]  # fmt: skip
    assert (given.entities, given.films) == (6, 1)
    assert given.new.tolist() == [[6, BY, 3], [6, WITH, 4], [6, GENRE, 5]]
    assert given.facts.tolist() == [2, 2, 1]
    query = methods.question(given, WITH)
    assert query.candidates.tolist() == [4]
    assert query.count.tolist() == [2]
    assert query.right.tolist() == [[True]]


def test_neighbours_sum_cosines_of_the_other_relations(script, given):
    methods = script("completion_methods")
    query = methods.question(given, WITH)
    # Film 0 and the new one have the same facts; 2 shares the genre alone, 1 the director alone,
    # each in 2 of 3 films, so that the cosines are 1, and 1 / sqrt(2) twice.
    for nearest, cosines in ((1, 1), (3, 1 + 1 / math.sqrt(2))):
        scores = methods.neighbours(given, query, nearest=nearest)
        np.testing.assert_allclose(scores, [[cosines + 2e-6]], rtol=1e-6)


def test_rotate_scores_do_not_depend_on_hidden_facts(script, given):
    methods, growth = script("completion_methods"), script("growth_methods")
    run = growth.programs(32)
    params = run.learner.init(jax.random.key(0), entities=8, relations=3).params
    # Untrained: compiling takes long, and training has tests of its own.
    run = run._replace(train=lambda params, *rest: params)
    query = methods.question(given, BY)
    found = methods.rotate(given, query, run, params, jax.random.key(1), 2)
    hidden = given._replace(new=given.new[given.new[:, 1] != BY])
    np.testing.assert_array_equal(
        found, methods.rotate(hidden, query, run, params, jax.random.key(1), 2)
    )
    moved = given._replace(new=given.new[:2])
    other = methods.rotate(moved, query, run, params, jax.random.key(1), 2)
    assert abs(found - other).max() > 1e-3


def test_hits_share_the_middle_of_equal_ranks_and_skip_other_right_tails(script):
    hits = script("film_completion").hits
    scores = np.array([[3.0, 2, 2, 1], [1, 1, 1, 0], [0, 1, 2, 3]])
    right = np.array([[1, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
    # First film: ranks 1, 1.5 and 2 without the other right ones; second: the middle of three.
    assert hits(scores, right, length=1).tolist() == [1, 0, 0]
    assert hits(scores, right, length=2).tolist() == [3, 1, 0]


def test_weights_are_where_the_likelihood_is_flat(script):
    methods = script("completion_methods")
    rng = np.random.default_rng(0)
    scores = methods.stacked([rng.normal(size=(30, 4)) for _ in range(2)])
    np.testing.assert_allclose(scores.std(axis=1), 1)
    right = rng.random((30, 4)) < 1 / (1 + np.exp(2 - 2 * scores[:, :, 0]))
    right[:, 3] = False
    weights = methods.fitted(scores, right, steps=400)
    # The gradient by hand: of each right tail, what it has above the mean over it and the wrong.
    gradient, count = np.zeros(2), 0
    for film, tail in zip(*np.nonzero(right), strict=True):
        kept = ~right[film]
        kept[tail] = True
        likely = np.exp(scores[film, kept] @ weights)
        gradient += scores[film, tail] - likely @ scores[film, kept] / likely.sum()
        count += 1
    np.testing.assert_allclose(gradient / count - 2e-3 * weights, 0, atol=1e-3)
    assert weights[0] > 0.5 > abs(weights[1])


def test_shares_are_of_all_facts_and_differences_are_paired(script):
    completion = script("film_completion")
    findable = {"by": np.array([2, 0, 2]), "with": np.array([1, 1, 0])}
    counts = {
        ("by", completion.BASELINE): np.array([1.0, 0, 2]),
        ("with", completion.BASELINE): np.array([0.0, 1, 0]),
        ("by", "best"): np.array([2.0, 0, 2]),
        ("with", "best"): np.array([0.0, 1, 0]),
    }
    records = {
        (r["relation"], r["method"], r["metric"]): r
        for r in completion.records_of(counts, findable, 3)
    }
    together = completion.TOGETHER
    assert records["by", completion.BASELINE, "hits@10"]["mean"] == 0.75
    assert records[together, "best", "hits@10"]["mean"] == 0.75
    above = f"hits@10 above {completion.BASELINE}"
    assert records["by", "best", above]["mean"] == 0.25
    same = records["with", "best", above]
    assert (same["mean"], same["low"], same["high"]) == (0, 0, 0)
    # Drawn thrice, the first film has .5 more; never drawn, there is none.
    assert 0 <= records["by", "best", above]["low"] < 0.25 < records["by", "best", above]["high"]
    assert len(records) == 3 * 3


def test_178_films_of_the_last_two_years_are_linked(script, ml100k, film_graph):
    films = script("knowledge_data").film_graph()
    names = films.graph.entities.names
    linked = dict(film_graph.links)
    year = dict(zip(ml100k.items.ids.tolist(), ml100k.items.columns["year"], strict=True))
    assert np.sum(films.year >= 1997) == 178
    assert np.sum(films.year > 0) == len({entity for item, entity in linked.items() if year[item]})
    # Toy Story and Fargo.
    for item, expected in (("1", 1995), ("100", 1996)):
        assert films.year[names.index(film_graph.entities.names[linked[item]])] == expected

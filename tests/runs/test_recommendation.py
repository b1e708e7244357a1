import jax.numpy as jnp
import numpy as np
import pytest

from metajax.data.dataset import Table
from metajax.data.schema import fit_schema
from metajax.runs.recommendation import (
    Catalogue,
    Recommender,
    catalogue_of,
    parse_numbers,
    parse_pairs,
    recommend,
)
from metajax.types import Adaptation

# A user's state is the mean of their ratings (3 for none); an item scores that plus its price,
# plus the user's scaled age.
mean_plus_price = Adaptation(
    adapt=lambda params, support, key=None: (
        (jnp.sum(jnp.where(support.mask, support.labels, 0)) + 3 * ~jnp.any(support.mask))
        / jnp.maximum(jnp.sum(support.mask), 1)
    ),
    predict=lambda params, adapted, inputs: (
        adapted + inputs.item_features[:, 0] + params * inputs.user_features[:, 0]
    ),
)
users = Table(np.array(["u", "v"]), {"age": np.array(["20", "40"])}, {"age": "numeric"})
recommender = Recommender(
    mean_plus_price,
    params=jnp.array(1.0),
    user_schema=fit_schema(users, np.arange(2)),
    catalogue=Catalogue(
        ids=np.array(["1", "2", "3", "4"]),
        titles=np.array(["Fargo", "Star Wars", "Hamlet", "Hamlet"]),
        item_features=np.array([[0.5], [0.25], [0.75], [0.0]], np.float32),
    ),
    scale=(1.0, 5.0),
)


def test_the_best_unseen_items_come_first():
    found = recommend(recommender, {"star wars": 4, "1": 2}, {"age": 30})
    assert [(r.title, r.item_id, r.score) for r in found] == [
        ("Hamlet", "3", 3.75),
        ("Hamlet", "4", 3.0),
    ]


def test_without_ratings_the_zero_shot_answer_comes():
    found = recommend(recommender, {}, {"age": 40}, top=2)  # (40 - 30) / 10 = 1
    assert [(r.item_id, r.score) for r in found] == [("3", 4.75), ("1", 4.5)]


def test_titles_are_found_however_they_are_typed():
    titles = np.array(["Die große Straße", "Am\u00e9lie", "Hamlet", "Fargo"])
    abroad = recommender._replace(catalogue=recommender.catalogue._replace(titles=titles))
    for typed in ("die große strasse", "AME\u0301LIE"):
        assert len(recommend(abroad, {typed: 5})) == 3


def test_more_ratings_than_there_are_items_left_is_fine():
    ratings = {"1": 3, "2": 3, "3": 3, "4": 3}
    assert recommend(recommender, ratings) == []


@pytest.mark.parametrize(
    ("ratings", "user", "error", "words"),
    [
        ({"Fargoo": 5}, {}, KeyError, "no item has the title or id 'Fargoo'; nearest are 'Fargo'"),
        ({"Hamlet": 5}, {}, ValueError, "got 'Hamlet' for the ids 3, 4"),
        ({"Fargo": 5, "fargo ": 4}, {}, ValueError, "must name an item once"),
        ({"Fargo": 6}, {}, ValueError, r"rating of 'Fargo' must be in \[1, 5\], got 6"),
        ({"Fargo": float("nan")}, {}, ValueError, "got nan"),
        ({}, {"agee": 3}, KeyError, "age"),
        ({}, {"age": "old"}, ValueError, "age.*old"),
    ],
)
def test_bad_input_is_named(ratings, user, error, words):
    with pytest.raises(error, match=words):
        recommend(recommender, ratings, user)


def test_predictions_out_of_range_are_refused():
    broken = recommender._replace(params=jnp.array(jnp.nan))
    with pytest.raises(ValueError, match="NaN"):
        recommend(broken, {})


def test_an_item_without_a_title_goes_by_its_id():
    items = Table(np.array(["a", "b"]), {"title": np.array(["", "B"])}, {"title": "text"})
    assert catalogue_of(items, np.zeros((2, 0))).titles.tolist() == ["a", "B"]


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        (" a = 1 , b=2 ", {"a": "1", "b": "2"}),
        ("Usual Suspects, The=5, Fargo=4", {"Usual Suspects, The": "5", "Fargo": "4"}),
    ],
)
def test_pairs_are_read(text, pairs):
    assert parse_pairs(text, "--user") == pairs


@pytest.mark.parametrize("text", ["a", "a=", "=1", "a=1, b", "a=1, a=2"])
def test_what_is_not_pairs_is_refused(text):
    with pytest.raises(ValueError, match="--user"):
        parse_pairs(text, "--user")


def test_a_rating_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="--ratings must rate by numbers, got Fargo=good"):
        parse_numbers({"Fargo": "good"}, "--ratings")


def test_only_what_is_new_of_the_target_is_recommended():
    domain = np.array([0, 1, 0, 1])
    two = recommender._replace(catalogue=recommender.catalogue._replace(item_domain=domain))
    assert [r.item_id for r in recommend(two, {"source:Hamlet": 4})] == ["2", "4"]
    assert [r.item_id for r in recommend(two, {"target:Hamlet": 4})] == ["2"]
    assert [r.item_id for r in recommend(two, {"target: 4": 4}, source=True)] == ["3", "1", "2"]
    with pytest.raises(KeyError, match="no item has the title or id 'target:Fargo'"):
        recommend(two, {"target:Fargo": 4})
    # Where there is one domain a colon is part of a title.
    with pytest.raises(KeyError, match="'source:Hamlet'"):
        recommend(recommender, {"source:Hamlet": 4})


def test_what_is_known_of_the_source_is_seen_first():
    def in_order(params, support, key=None):
        return jnp.sum(jnp.where(support.mask, support.labels, 0) * 10.0 ** jnp.arange(4))

    told = mean_plus_price._replace(adapt=in_order)
    catalogue = recommender.catalogue._replace(item_domain=np.array([0, 1, 0, 1]))
    two = recommender._replace(adaptation=told, catalogue=catalogue)
    # 2 for the source's and 5 for the target's: 2 + 50, and 0 of the only price that is left.
    (best,) = recommend(two, {"Star Wars": 5, "Fargo": 2}, {"age": 30})
    assert best.score == 52

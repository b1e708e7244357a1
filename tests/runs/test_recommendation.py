import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.baselines import Blend
from metajax.cli.recommend import parse_numbers, parse_pairs
from metajax.data.dataset import Table
from metajax.data.labels import Labels
from metajax.data.schema import fit_schema
from metajax.runs import explanation, scores
from metajax.runs.candidates import candidates
from metajax.runs.catalogue import Catalogue, catalogue_of, find_item, parse_names
from metajax.runs.recommendation import predict, recommend, recommend_batch, similar
from metajax.runs.recommender import Recommender, liked_rating
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


def test_without_ratings_the_scores_are_zero_shot():
    found = recommend(recommender, {}, {"age": 40}, top=2)  # (40 - 30) / 10 = 1
    assert [(r.item_id, r.score) for r in found] == [("3", 4.75), ("1", 4.5)]


def test_titles_match_whatever_their_case_and_accents():
    titles = np.array(["Die große Straße", "Am\u00e9lie", "Hamlet", "Fargo"])
    abroad = recommender._replace(catalogue=recommender.catalogue._replace(titles=titles))
    for typed in ("die große strasse", "AME\u0301LIE"):
        assert len(recommend(abroad, {typed: 5})) == 3


BATCH = [{}, {"Fargo": 5}, {"star wars": 4, "1": 2}, {"1": 3, "2": 3, "3": 3, "4": 3}, {"4": 1}]


@pytest.mark.parametrize("host_scores", [scores._HOST_SCORES, 8])  # One block, and three.
def test_a_batch_gives_each_user_their_own_list(host_scores, monkeypatch):
    monkeypatch.setattr(scores, "_HOST_SCORES", host_scores)
    users = [{"age": 40}, None, {"age": 30}, {}, {"age": 20}]
    found = recommend_batch(recommender, BATCH, users, top=2)
    for ratings, user, lines in zip(BATCH, users, found, strict=True):
        alone = recommend(recommender, ratings, user, top=2)
        assert [line.item_id for line in lines] == [line.item_id for line in alone]
        expected = [line.score for line in alone]
        np.testing.assert_allclose([line.score for line in lines], expected, rtol=1e-6)
    assert recommend_batch(recommender, []) == []
    assert recommend_batch(recommender, BATCH[:1]) == [recommend(recommender, {})]


def test_an_id_that_is_a_title_too_is_an_id_where_that_is_asked():
    titles = np.array(["2", "Star Wars", "Hamlet", "Hamlet"])
    named = recommender._replace(catalogue=recommender.catalogue._replace(titles=titles))
    found = [recommend_batch(named, [{"2": 4}], by_id=flag)[0] for flag in (False, True)]
    left = [sorted(line.item_id for line in lines) for lines in found]
    assert left == [["2", "3", "4"], ["1", "3", "4"]]
    with pytest.raises(KeyError, match="user ann: no item has the id 'Star Wars'"):
        recommend_batch(named, [{"Star Wars": 4}], by_id=True, names=["ann"])


def test_a_large_batch_is_scored_in_parts(monkeypatch):
    users = [{"age": 20 + n} for n in range(7)]
    whole = recommend_batch(recommender, [{"1": 4}] * 7, users)
    monkeypatch.setattr(scores, "_SCORES", 8)  # two users by four items
    jax.clear_caches()
    assert recommend_batch(recommender, [{"1": 4}] * 7, users) == whole


def test_batches_of_similar_sizes_share_one_program():
    traced = []

    def adapt(params, support, key=None):
        traced.append(support.mask.shape)
        return mean_plus_price.adapt(params, support)

    counting = recommender._replace(adaptation=mean_plus_price._replace(adapt=adapt))
    for size in (5, 6, 8):
        recommend_batch(counting, [{"1": 3}] * size)
    recommend_batch(counting, [{"1": 3, "2": 4, "3": 5}] * 7)
    assert traced == [(4,)]


@pytest.mark.parametrize(
    ("ratings", "users", "error", "words"),
    [
        ([{}, {"Fargoo": 5}], None, KeyError, "user 1: no item has the title or id 'Fargoo'"),
        ([{"Fargo": 6}], None, ValueError, r"user 0: rating of 'Fargo' must be in \[1, 5\]"),
        ([{}, {}], [{}], ValueError, "users must be as many as ratings, 2, got 1"),
        ([{}, {}], [{}, {"agee": 3}], KeyError, "user 1: .*age"),
    ],
)
def test_bad_input_of_a_batch_names_the_user(ratings, users, error, words):
    with pytest.raises(error, match=words):
        recommend_batch(recommender, ratings, users)


def test_a_user_of_a_batch_whose_scores_are_not_finite_is_named():
    broken = recommender._replace(params=jnp.array(jnp.nan))
    with pytest.raises(ValueError, match="user 0: the adapted model predicts NaN"):
        recommend_batch(broken, [{}])


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


def test_the_id_replaces_a_missing_title():
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
def test_malformed_pairs_are_refused(text):
    with pytest.raises(ValueError, match="--user"):
        parse_pairs(text, "--user")


def test_a_rating_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="--ratings must rate by numbers, got Fargo=good"):
        parse_numbers({"Fargo": "good"}, "--ratings")


def test_only_unrated_items_of_the_target_are_recommended():
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


def test_items_of_two_logs_without_titles_are_named_by_their_own_ids():
    ids = np.array(["source:7", "source:b", "target:7", "target:target:1"])
    domain = np.array([0, 0, 1, 1])
    catalogue = catalogue_of(Table(ids, {}, {}), np.zeros((4, 0)), domain)
    assert catalogue.titles.tolist() == ["7", "b", "7", "target:1"]
    asked = ("b", "source:7", "target:7", "target:target:1")
    assert [find_item(catalogue, name) for name in asked] == [1, 0, 2, 3]
    with pytest.raises(ValueError, match="got '7' for the ids source:7, target:7: give an id"):
        find_item(catalogue, "7")


def test_ratings_of_the_source_come_first_in_the_support():
    def in_order(params, support, key=None):
        return jnp.sum(jnp.where(support.mask, support.labels, 0) * 10.0 ** jnp.arange(4))

    result = mean_plus_price._replace(adapt=in_order)
    catalogue = recommender.catalogue._replace(item_domain=np.array([0, 1, 0, 1]))
    two = recommender._replace(adaptation=result, catalogue=catalogue, rating=False)
    # 2 for the source's and 5 for the target's: 2 + 50, and 0 of the only price that is left.
    (best,) = recommend(two, {"Star Wars": 5, "Fargo": 2}, {"age": 30})
    assert best.score == 52


@pytest.mark.parametrize(
    ("asked", "item"),
    [
        ("emma", 0),
        ("Emma", 1),
        ("EMMA", 2),
        ("Am\u00e9lie", 3),
        ("Ame\u0301lie", 4),
        ("p\u00e9", 5),
        ("pe\u0301", 6),
        ("300", 7),
        (300, 8),
        (np.int64(300), 8),
        (" FARGO ", 7),
        ("A7", 9),
        ("a7", 10),
    ],
)
def test_what_is_equal_comes_before_what_is_alike(asked, item):
    """Ids that differ in case or composition alone, and a title that is another item's id."""
    rows = [
        ("i0", "emma"), ("i1", "Emma"), ("i2", "EMMA"),
        ("i3", "Am\u00e9lie"), ("i4", "Ame\u0301lie"),
        ("p\u00e9", "x"), ("pe\u0301", "y"), ("i7", "300"), ("300", "z"), ("A7", "w"), ("a7", "v"),
        ("i11", "Fargo"),
    ]  # fmt: skip
    ids, titles = map(np.array, zip(*rows, strict=True))
    catalogue = Catalogue(ids, titles, np.zeros((len(ids), 0), np.float32))
    expected = 11 if asked == " FARGO " else item
    assert find_item(catalogue, asked) == expected


def test_what_is_alike_several_times_is_asked_about():
    ids = np.array(["P1", "p1", "x"])
    catalogue = Catalogue(ids, ids, np.zeros((3, 0), np.float32))
    assert find_item(catalogue, "p1") == 1
    with pytest.raises(ValueError, match="got 'ｐ1' for the ids P1, p1"):
        find_item(catalogue, "ｐ1")
    with pytest.raises(KeyError, match="no item has the id 7"):
        find_item(catalogue, 7)
    with pytest.raises(TypeError, match=r"named by titles or ids, got 1\.5"):
        find_item(catalogue, 1.5)  # pyrefly: ignore


def test_whole_numbers_are_ids():
    assert recommend(recommender, {2: 4, np.int32(1): 2}, {"age": 30}) == recommend(
        recommender, {"star wars": 4, "1": 2}, {"age": 30}
    )


def test_items_without_ratings_are_liked_or_met():
    stars = recommender._replace(labels=Labels(liked=4.0))
    assert liked_rating(stars) == 4
    assert recommend(stars, ["Fargo", 2]) == recommend(stars, {"Fargo": 4, "2": 4})
    assert recommend(stars, ["Fargo", 2]) != recommend(stars, {"Fargo": 5, "2": 5})
    assert recommend(stars, []) == recommend(stars, {})
    percent = stars._replace(
        scale=(20.0, 100.0), labels=Labels(20.0, 100.0, 20.0, 100.0, liked=4.0)
    )
    assert liked_rating(percent) == 80
    assert recommend(percent, ["Fargo"]) == recommend(percent, {"Fargo": 80})
    implicit = recommender._replace(scale=None)
    assert recommend(implicit, ["Fargo", 2]) == recommend(implicit, {"1": 1, "2": 1})
    assert recommend_batch(implicit, [["Fargo"]]) == [recommend(implicit, ["Fargo"])]
    with pytest.raises(TypeError, match="a mapping, or a sequence of items, got 'Fargo'"):
        recommend(implicit, "Fargo")
    catalogue = recommender.catalogue._replace(titles=np.array(["A, B", "B", "C", "D, E"]))
    assert parse_names(catalogue, "b, a, B,3, D, C") == ["b", "a, B", "3", "D", "C"]


def test_ratings_and_their_deviations_stay_on_the_scale():
    varied = mean_plus_price._replace(
        predict_variance=lambda params, adapted, inputs: jnp.full(inputs.item.shape, 0.25)
    )
    of_stars = recommender._replace(adaptation=varied)
    found = recommend(of_stars, {"star wars": 5, "1": 4}, {"age": 45}, top=2)
    # Hamlet's 4.5 + .75 + 1.5 and 4.5 + 1.5 are above 5, and so is most of what is around them.
    assert [(r.item_id, r.score, r.deviation) for r in found] == [("3", 5, 0), ("4", 5, 0)]
    (best, second) = recommend(of_stars, {"star wars": 4, "1": 3}, {"age": 30})
    assert (best.score, best.deviation) == (4.25, pytest.approx((4.75 - 3.75) / 2))
    assert (second.score, second.deviation) == (3.5, pytest.approx(0.5))
    (cut,) = recommend(of_stars, {"star wars": 4, "1": 3}, {"age": 35}, top=1)
    assert (cut.score, cut.deviation) == (4.75, pytest.approx((5 - 4.25) / 2))
    # Times -20, low numbers being good.
    turned = of_stars._replace(scale=(-20.0, -100.0), labels=Labels(-20, -100, -20, -100))
    (best, _) = recommend(turned, {"star wars": -80, "1": -60}, {"age": 30})
    assert (best.score, best.deviation) == (pytest.approx(-85), pytest.approx(10))
    plain = recommend(recommender, {"star wars": 4, "1": 3}, {"age": 30})
    assert [r.deviation for r in plain] == [None, None]


# As `mean_plus_price`, but an item's price counts as often as the user's mean says.
mean_times_price = mean_plus_price._replace(
    predict=lambda params, adapted, inputs: adapted * inputs.item_features[:, 0]
)
priced = recommender._replace(adaptation=mean_times_price)


def test_predictions_are_in_the_unit_of_the_log_and_within_its_scale():
    found = predict(recommender, {"Fargo": 4}, ["Star Wars", "3", "Fargo"], {"age": 30})
    assert found.tolist() == [4.25, 4.75, 4.5]
    high = Labels(0.0, 100.0, 0.0, 100.0)  # 1 to 5 inside.
    percent = recommender._replace(scale=(0.0, 100.0), labels=high)
    # 75 is 4 inside; 4.25 is 81.25.
    assert predict(percent, {"Fargo": 75}, ["Star Wars"], {"age": 30}).tolist() == [81.25]
    assert predict(percent, {"Fargo": 100}, ["Star Wars"], {"age": 30}).tolist() == [100]
    with pytest.raises(TypeError, match="items must be a sequence"):
        predict(recommender, {}, "Fargo")


def test_reasons_are_the_scores_with_a_rating_less_those_without_it():
    ratings = {"Fargo": 5, "Star Wars": 2, "3": 3}
    found = recommend(recommender, ratings, {"age": 30}, explain=True)
    # The mean is 10/3; without each of the ratings 5/2, 4 and 7/2.
    (title, change), *others = found[0].reasons
    assert found[0].item_id == "4"
    assert (title, others) == ("Fargo", [])
    assert change == pytest.approx(10 / 3 - 5 / 2, abs=1e-5)
    # Beyond the end of the scale, at 5, too: a mean of 14/3, or of 9/2 without the second.
    (best,) = recommend(recommender, {"2": 5, "3": 5, "4": 4}, {"age": 50}, explain=True)
    assert best.score == 5
    assert [title for title, _ in best.reasons] == ["Star Wars", "Hamlet"]
    assert [change for _, change in best.reasons] == pytest.approx([1 / 6, 1 / 6], abs=1e-5)
    assert recommend(recommender, {}, explain=True)[0].reasons == ()
    assert recommend(recommender, ratings)[0].reasons == ()


def test_parts_of_experts_sum_to_the_lead_over_what_the_user_has_not_met():
    blend = Blend(
        lambda params: ("dropped", "price", "age"),
        lambda params, adapted, inputs: jnp.stack(
            [
                jnp.zeros(inputs.item.shape),
                adapted + inputs.item_features[:, 0],
                params * inputs.user_features[:, 0] + 2 * (inputs.item == 1),
            ],
            axis=1,
        ),
        lambda params: {},
    )
    blended = recommender._replace(blend=blend)
    asked = np.array([False, True, False, True])
    found = recommend(blended, {"Fargo": 5}, {"age": 30}, among=asked, explain=True)
    by_id = {line.item_id: line.experts for line in found}
    names, parts = zip(*by_id["2"], strict=True)
    assert names == ("age", "price")
    assert parts == pytest.approx((4 / 3, -1 / 12), abs=1e-6)
    names, parts = zip(*by_id["4"], strict=True)
    assert names == ("price", "age")
    assert parts == pytest.approx((-1 / 3, -2 / 3), abs=1e-6)
    assert recommend(blended, {}, {"age": 30}, explain=True)[0].experts
    assert recommend(blended, {"Fargo": 5}, {"age": 30})[0].experts == ()


def test_reasons_are_found_in_blocks(monkeypatch):
    ratings = {"Fargo": 5, "Star Wars": 2, "3": 3}
    whole = recommend(recommender, ratings, explain=True)
    monkeypatch.setattr(scores, "_HOST_SCORES", 8)  # Two users of four items.
    parts = recommend(recommender, ratings, explain=True)
    assert [line.reasons for line in parts] == [line.reasons for line in whole] != [()]
    # Together, and not one by one.
    monkeypatch.setattr(explanation, "_FEW_ROWS", 2)
    blocks = recommend(recommender, ratings, explain=True)
    ((title, change), *others), *_ = [line.reasons for line in blocks]
    assert ((title, pytest.approx(change, abs=1e-6)), *others) == whole[0].reasons


def test_few_reasons_need_no_program_of_their_own():
    traced = []

    def adapt(params, support, key=None):
        traced.append(support.mask.shape)
        return mean_plus_price.adapt(params, support)

    names = np.array([f"p{n}" for n in range(9)])
    counting = recommender._replace(
        adaptation=mean_plus_price._replace(adapt=adapt),
        catalogue=Catalogue(names, names, np.zeros((9, 1), np.float32)),
    )
    # Of four ratings, too, which alone are padded to four.
    recommend(counting, dict.fromkeys(names[:5].tolist(), 3), explain=True)
    assert traced == [(8,)]


def test_reasons_are_in_the_unit_of_the_log_where_low_is_good():
    ranks = recommender._replace(scale=(100.0, 0.0), labels=Labels(100.0, 0.0, 100.0, 0.0))
    found = recommend(ranks, {"Fargo": 0, "Star Wars": 50}, {"age": 30}, explain=True)
    # Inside 5 and 3, the mean 4; without the first 3: one unit, 25 ranks, nearer to the best.
    assert found[0].reasons == (("Fargo", pytest.approx(-25, abs=1e-3)),)


def test_similar_items_are_those_that_liking_one_raises_most():
    found = similar(priced, "Fargo")
    # (5 - 1) times the price of each.
    assert [(f.item_id, f.score) for f in found] == [("3", 3.0), ("2", 1.0), ("4", 0.0)]
    assert [f.item_id for f in similar(priced, "Fargo", top=1)] == ["3"]
    implicit = priced._replace(scale=None)  # 1 of one item, or 3 of none.
    assert [f.item_id for f in similar(implicit, "Fargo")] == ["4", "2", "3"]
    with pytest.raises(ValueError, match="liking 'Fargo' changes the scores of all items alike"):
        similar(recommender, "Fargo")
    with pytest.raises(ValueError, match="top must be >= 1"):
        similar(priced, "Fargo", top=0)


described = recommender.catalogue._replace(
    attributes=Table(
        recommender.catalogue.ids,
        {
            "genres": np.array(["Crime Melodrama", "War Drama", "Drama", "drama"]),
            "year": np.array(["1996", "1977", "1996.0", ""]),
            "studio": np.array(["A B", "c", "", "a b"]),
        },
        {"genres": "tokens", "year": "numeric", "studio": "categorical"},
    )
)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 1, 2, 3]),
        ({"exclude": ["fargo", 2]}, [2, 3]),
        ({"only": ["fargo", "3"], "exclude": ["3"]}, [0]),
        ({"category": {"genres": "Drama"}}, [1, 2, 3]),
        ({"category": {"genres": "drama", "year": 1996}}, [2]),
        ({"category": {"studio": "A b"}}, [0, 3]),
    ],
)
def test_candidates_are_selected_by_name_and_by_attribute(options, expected):
    assert np.flatnonzero(candidates(described, **options)).tolist() == expected


def test_only_candidates_are_recommended():
    among = candidates(described, category={"genres": "drama"})
    found = recommend(recommender, {"3": 4}, among=among)
    assert [f.item_id for f in found] == ["2", "4"]
    assert recommend_batch(recommender, [{"3": 4}], among=among) == [found]
    chosen = candidates(described, exclude=["3"])
    assert [f.item_id for f in similar(priced, "Fargo", among=chosen)] == ["2", "4"]
    with pytest.raises(ValueError, match="among must be a bool for each of the 4 items"):
        recommend(recommender, {}, among=np.ones(3, bool))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"category": {"genre": "Drama"}}, ValueError, "got 'genre'; did you mean 'genres'"),
        ({"category": {"genres": "Drame"}}, ValueError, "no item has genres 'Drame'; did you"),
        ({"category": {"year": "new"}}, ValueError, "year must be a number, got 'new'"),
        ({"category": {"year": 1}}, ValueError, "known are 1977, 1996, 1996.0"),
        ({"only": ["3"], "exclude": ["3"]}, ValueError, "leave no item"),
        ({"only": "3"}, TypeError, "only must be a sequence"),
        ({"exclude": ["Farg"]}, KeyError, "Farg"),
    ],
)
def test_a_selection_of_nothing_is_refused(options, error, words):
    with pytest.raises(error, match=words):
        candidates(described, **options)
    with pytest.raises(ValueError, match="which have none: genres"):
        candidates(recommender.catalogue, category={"genres": "x"})


@pytest.mark.parametrize("top", [1, 3, 6, 9])
def test_the_best_of_a_batch_are_those_of_a_stable_sort(top):
    # Many ties, and what may not be shown: by rule, or as the user knows it.
    values = np.random.default_rng(0).integers(0, 3, (8, 6)).astype(np.float32)
    fixed = Adaptation(
        lambda params, support, key=None: support.inputs.user_features[0],
        lambda params, adapted, query: adapted,
    )
    allowed = np.array([True, False, True, True, True, True])
    known = np.tile(np.array([0, 3, 0], np.int32), (8, 1))
    mask = np.tile([False, True, False], (8, 1))
    mask[5] = True
    values[6, 4] = np.nan
    users = (values, known, np.zeros((8, 3), np.float32), mask)
    found = scores._best_items(
        fixed, {}, jnp.zeros((6, 1)), users, allowed, np.zeros(top, np.int32)
    )
    for n, own in enumerate(values):
        left = [i for i in range(6) if allowed[i] and i not in known[n][mask[n]]]
        worth = np.nan_to_num(own, nan=-np.inf)
        expected = [i for i in np.argsort(-worth, kind="stable").tolist() if i in left][:top]
        assert [i for i in found.items[n].tolist() if i >= 0] == expected
        assert found.finite[n] == (n != 6)
        shown = found.scores[n][: len(expected)]
        np.testing.assert_array_equal(shown, own[expected])


@pytest.mark.parametrize("broken", [None, "first", "asked", "other"])
def test_ratings_are_predicted_of_the_first_items_and_of_those_asked_for(broken):
    order = np.array([3.0, 9, 1, 7, 5, 2], np.float32)
    rated = 10 + np.arange(6, dtype=np.float32)
    if broken:
        rated[{"first": 1, "asked": 5, "other": 2}[broken]] = np.nan
    split = Adaptation(
        lambda params, support, key=None: None,
        lambda params, adapted, query: jnp.asarray(rated)[query.item],
        predict_variance=lambda params, adapted, query: query.item.astype(np.float32),
        rank=lambda params, adapted, query: jnp.asarray(order)[query.item],
    )
    none = np.zeros((1, 1), np.int32)
    users = (np.zeros((1, 1), np.float32), none, none.astype(np.float32), none.astype(bool))
    asked = np.array([5, 0], np.int32)
    found = scores._best_items(split, {}, jnp.zeros((6, 1)), users, np.ones(6, bool), asked)
    np.testing.assert_array_equal(found.items, [[1, 3]])
    np.testing.assert_array_equal(found.scores, rated[[[1, 3]]])
    np.testing.assert_array_equal(found.variances, [[1, 3]])
    np.testing.assert_array_equal(found.asked, rated[[[5, 0]]])
    assert found.finite == (broken != "first")

import jax
import numpy as np
import pytest

from metajax.baselines import (
    content_profile,
    content_schedule,
    ease,
    item_knn,
    popularity,
    popularity_blend,
    random_order,
    recent_popularity,
)
from metajax.baselines import preferences as preferences_module
from metajax.baselines.preferences import (
    cooccurrence,
    liked_counts,
    preference_curve,
    preferences,
    support_preferences,
)


@pytest.fixture(scope="module")
def dense(training):
    """Returns the users' preferences as a matrix, one star 0, five stars 1."""
    log = training.interactions
    matrix = np.zeros((14, 7))
    matrix[log.user, log.item] = (log.rating - 1) / 4
    return matrix


def test_a_preference_is_the_place_on_the_scale(training):
    log = training.interactions._replace(rating=np.array([1, 2, 3, 4, 5], np.float32))
    graded = training._replace(interactions=log)
    curve = preference_curve(graded.scale, sharpness=2.0)
    expected = [0, 1 / 16, 4 / 16, 9 / 16, 1]
    np.testing.assert_allclose(preferences(graded, curve), expected, rtol=1e-6)
    implicit = training._replace(scale=None)
    assert set(preferences(implicit, preference_curve(None)).tolist()) == {1.0}


def test_support_preferences_agree_with_training_preferences(make_support):
    curve = preference_curve((1.0, 5.0), sharpness=3.0)
    item, weight = support_preferences(curve, make_support([3, 1], [4.0, 1.0], padding=1))
    assert item.tolist() == [3, 1, 0]
    np.testing.assert_allclose(weight, [27 / 64, 0, 0], rtol=1e-6)
    _, weight = support_preferences(preference_curve(None), make_support([3], [1.0], padding=1))
    np.testing.assert_array_equal(weight, [1, 0])


def test_liked_counts_start_at_four_stars(training):
    log = training.interactions
    four = np.bincount(log.item[log.rating >= 4], minlength=7)
    np.testing.assert_array_equal(liked_counts(training), four)
    np.testing.assert_array_equal(liked_counts(training, least=0), np.bincount(log.item, None, 7))


@pytest.mark.parametrize("sparse", [0, 1e9])
def test_cooccurrence_is_the_gram_matrix_whatever_the_way(training, dense, monkeypatch, sparse):
    monkeypatch.setattr(preferences_module, "_CHUNK", 3)
    monkeypatch.setattr(preferences_module, "_SPARSE", sparse)
    curve = preference_curve(training.scale)
    expected = dense.T @ dense
    np.testing.assert_allclose(cooccurrence(training, curve), expected, rtol=1e-6)
    np.testing.assert_allclose(cooccurrence(training, curve, slice(2, 5)), expected[2:5], rtol=1e-6)


def test_popularity_ranks_by_the_count(training, make_support, candidates):
    params = popularity.fit(training)
    scores = popularity.adaptation.predict(
        params, popularity.adaptation.adapt(params, make_support([0], [5.0])), candidates
    )
    np.testing.assert_array_equal(scores, liked_counts(training))


def test_recent_likes_count_more(training):
    log = training.interactions
    rng = np.random.default_rng(0)
    time = rng.integers(0, 100 * 86_400, len(log.item))
    timed = training._replace(interactions=log._replace(time=time))
    expected = np.zeros(7)
    for item, rating, when in zip(log.item, log.rating, time, strict=True):
        if rating >= 4:
            expected[item] += 0.5 ** ((time.max() - when) / 86_400 / 10)
    found = recent_popularity.fit(timed, half_life=10.0)
    np.testing.assert_allclose(found.liked, expected, rtol=1e-5)
    plain = recent_popularity.fit(training)
    np.testing.assert_array_equal(plain.liked, liked_counts(training))


@pytest.fixture
def described(training):
    features = np.random.default_rng(3).normal(size=(7, 2)).astype(np.float32)
    return training._replace(item_features=features)


def profile_of(described, distance):
    """Scores of a profile of items 1 and 4, the second liked by a quarter, in NumPy."""
    x = described.item_features - described.item_features.mean(axis=0)
    x = x / np.sqrt(np.mean(np.sum(x**2, axis=1)))
    mean = (x[1] + 0.25 * x[4]) / 1.25
    if distance == "euclidean":
        return -np.linalg.norm(x - mean, axis=1)
    return x @ mean / np.linalg.norm(x, axis=1) / np.linalg.norm(mean)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_a_content_profile_is_near_to_what_a_user_likes(
    described, make_support, candidates, distance
):
    params = content_profile.fit(described, distance=distance)
    adapted = content_profile.adaptation.adapt(params, make_support([1, 4], [5.0, 2.0]))
    scores = content_profile.adaptation.predict(params, adapted, candidates)
    liked = liked_counts(described)
    expected = profile_of(described, distance) + 1e-4 * liked / liked.max()
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    empty = content_profile.adaptation.adapt(params, make_support([], [], padding=1))
    scores = content_profile.adaptation.predict(params, empty, candidates)
    np.testing.assert_array_equal(np.argsort(-scores, stable=True), np.argsort(-liked, stable=True))
    # A catalogue and nothing else is enough.
    log = described.interactions
    bare = log._replace(
        offsets=np.zeros_like(log.offsets), item=log.item[:0], rating=log.rating[:0],
        time=log.time[:0],
    )  # fmt: skip
    for method in (content_profile, content_schedule, recent_popularity):
        params = method.fit(described._replace(interactions=bare))
        adapted = method.adaptation.adapt(params, make_support([1, 4], [5.0, 2.0]))
        assert np.isfinite(method.adaptation.predict(params, adapted, candidates)).all()


def test_the_schedule_moves_from_content_to_neighbours(described, make_support, candidates):
    params = content_schedule.fit(described, shrinkage=1.0)
    shown = {}
    for count, weight in ((2, 0.8), (4, 0.8), (5, 0.5), (19, 0.5), (20, 0.2)):
        support = make_support(([1, 4] * 10)[:count], ([5.0, 2.0] * 10)[:count], padding=1)
        scores = []
        for method, own in ((content_profile, params.content), (item_knn, params.personal)):
            adapted = method.adaptation.adapt(own, support)
            part = np.asarray(method.adaptation.predict(own, adapted, candidates))
            scores.append((part - part.mean()) / part.std())
        adapted = content_schedule.adaptation.adapt(params, support)
        found = content_schedule.adaptation.predict(params, adapted, candidates)
        expected = weight * scores[0] + (1 - weight) * scores[1]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        shown[count] = found
    assert not np.allclose(shown[19], shown[20], atol=1e-2)


def test_random_order_is_fair_and_each_users_own(training, make_support, candidates):
    params = random_order.fit(training)

    def order(features, key=None):
        adapted = random_order.adaptation.adapt(
            params, make_support([0], [5.0], features=features), key
        )
        return random_order.adaptation.predict(params, adapted, candidates)

    one, same, other = order((1.0, 2.0)), order((1.0, 2.0)), order((1.0, 3.0))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    key = jax.random.key(0)
    np.testing.assert_array_equal(order((1.0, 2.0), key), order((1.0, 3.0), key))
    # The mean of 200 x 7 uniform draws has standard deviation .0077.
    draws = jax.jit(jax.vmap(lambda key: order((1.0,), key)))(jax.random.split(key, 200))
    np.testing.assert_allclose(np.mean(draws), 0.5, atol=0.03)
    np.testing.assert_allclose(
        np.asarray(np.corrcoef(draws, rowvar=False), float), np.eye(7), atol=0.3
    )


def test_item_knn_sums_the_shrunk_cosines_of_the_nearest(training, dense, make_support, candidates):
    norm = np.sqrt(np.sum(dense**2, axis=0))
    cosine = dense.T @ dense / (np.outer(norm, norm) + 2.0)
    np.fill_diagonal(cosine, 0)
    for row in cosine:
        row[np.argsort(-row)[3:]] = 0
    liked = liked_counts(training)
    expected = 1.0 * cosine[1] + 0.25 * cosine[4] + 1e-4 * liked / liked.max()

    params = item_knn.fit(training, neighbours=3, shrinkage=2.0)
    assert params.item.shape == (7, 3)
    adapted = item_knn.adaptation.adapt(params, make_support([1, 4], [5.0, 2.0]))
    np.testing.assert_allclose(
        item_knn.adaptation.predict(params, adapted, candidates), expected, rtol=1e-5
    )


def test_ease_regresses_each_item_on_all_others(training, dense, make_support, candidates):
    expected = np.zeros((7, 7))
    for item in range(7):
        others = np.delete(np.arange(7), item)
        x = dense[:, others]
        expected[others, item] = np.linalg.solve(x.T @ x + 3.0 * np.eye(6), x.T @ dense[:, item])
    params = ease.fit(training, ridge=3.0)
    np.testing.assert_allclose(params.weights, expected, atol=1e-5)
    # A user of the training set, folded in, gets the row of X B.
    log = training.interactions
    rows = slice(log.offsets[2], log.offsets[3])
    adapted = ease.adaptation.adapt(params, make_support(log.item[rows], log.rating[rows]))
    scores = ease.adaptation.predict(params, adapted, candidates) - params.prior
    np.testing.assert_allclose(scores, dense[2] @ expected, atol=1e-5)


def test_a_blend_adds_log_popularity_and_grows_with_the_support(training, make_support, candidates):
    blend = popularity_blend("blend", ease, ({},))
    params = blend.fit(training, weight=2.0, growth=0.5, ridge=3.0)
    log_liked = np.log1p(liked_counts(training))

    def scores(baseline, params, support):
        return baseline.adaptation.predict(
            params, baseline.adaptation.adapt(params, support), candidates
        )

    for items, factor in (([1], 2.0), ([1, 2, 4, 5], 4.0)):
        support = make_support(items, [5.0] * len(items), padding=1)
        taste = scores(ease, ease.fit(training, ridge=3.0), support)
        expected = log_liked / log_liked.max() + factor * taste
        np.testing.assert_allclose(scores(blend, params, support), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("baseline", "settings", "message"),
    [
        (popularity, {"least": 1.5}, r"least must be in \[0, 1\], got 1.5"),
        (item_knn, {"neighbours": 0}, "neighbours must be >= 1, got 0"),
        (item_knn, {"shrinkage": -1.0}, "shrinkage must be >= 0, got -1.0"),
        (ease, {"ridge": 0.0}, "ridge must be > 0, got 0.0"),
        (ease, {"sharpness": 0.0}, "sharpness must be > 0, got 0.0"),
        (recent_popularity, {"half_life": 0.0}, "half_life must be > 0, got 0.0"),
        (content_profile, {"distance": "cosin"}, "distance"),
        (
            content_schedule,
            {"weights": (0.5, 1.5, 0)},
            r"weights must be three numbers in \[0, 1\]",
        ),
        (popularity_blend("blend", ease, ({},)), {"weight": -1.0}, "weight must be >= 0, got -1.0"),
    ],
)
def test_bad_settings_are_named(training, baseline, settings, message):
    with pytest.raises(ValueError, match=message):
        baseline.fit(training, **settings)


def test_a_scale_upside_down_is_refused():
    with pytest.raises(ValueError, match="scale must run from low to high"):
        preference_curve((5.0, 1.0))

import numpy as np
import pytest

from metajax.baselines import attribute_factors, fit_factors
from metajax.baselines.attribute_factors import (
    predicted_by_attributes,
    unrated_by_attributes,
    with_attributes,
)

RNG = np.random.default_rng(3)
FEATURES, VALUES = RNG.normal(size=(7, 2)), RNG.normal(size=(7, 2))
COUNT = np.array([4, 1, 0, 9, 2, 5, 0])
RATED = np.flatnonzero(COUNT)


def distances(rows, columns):
    return np.array([[np.sum((a - b) ** 2) for b in columns] for a in rows])


def kernel(rows, columns):
    scale = distances(FEATURES[RATED], FEATURES[RATED]).mean()
    return np.exp(-distances(rows, columns) / (2 * scale))


def posterior(rows, known, ridge):
    """The mean of a Gaussian process around the mean rating, of which only `known` is known."""
    level = COUNT[RATED] @ VALUES[RATED] / COUNT.sum()
    noise = ridge * COUNT[RATED].mean() / COUNT[known]
    system = kernel(FEATURES[known], FEATURES[known]) + np.diag(noise)
    weights = np.linalg.solve(system, VALUES[known] - level)
    return level + kernel(FEATURES[rows], FEATURES[known]) @ weights


def test_expectations_are_the_posterior_of_a_gaussian_process():
    found = predicted_by_attributes(FEATURES, VALUES, COUNT, ridge=0.7)
    np.testing.assert_allclose(found.values, posterior(np.arange(7), RATED, 0.7), rtol=1e-6)


def test_the_error_is_that_of_items_that_were_left_out():
    found = predicted_by_attributes(FEATURES, VALUES, COUNT, ridge=0.7)
    left_out = [posterior([i], np.setdiff1d(RATED, i), 0.7)[0] - VALUES[i] for i in RATED]
    expected = COUNT[RATED] @ np.square(left_out) / COUNT.sum()
    np.testing.assert_allclose(found.error, expected, rtol=1e-6)


def test_the_items_rated_most_are_the_landmarks():
    found = predicted_by_attributes(FEATURES, VALUES, COUNT, ridge=0.7, landmarks=1)
    level = COUNT @ VALUES / COUNT.sum()
    # All of it is a multiple of how near an item is to the one rated nine times.
    far = distances(FEATURES, FEATURES[[3]])
    near = np.exp(-far / far[RATED].mean() / 2)
    np.testing.assert_allclose(found.values - level, near * (found.values[3] - level), rtol=1e-6)


def test_values_of_unrated_items_are_ignored():
    blank = np.where(COUNT[:, None] > 0, VALUES, np.nan)
    seen, given = (predicted_by_attributes(FEATURES, v, COUNT) for v in (VALUES, blank))
    np.testing.assert_array_equal(given.values, seen.values)
    np.testing.assert_array_equal(given.error, seen.error)


def test_one_function_predicts_many_values_of_unrated_items():
    predict = unrated_by_attributes(FEATURES, COUNT, ridge=0.7)
    expected = predicted_by_attributes(FEATURES, VALUES, COUNT, ridge=0.7).values[COUNT == 0]
    np.testing.assert_allclose(predict(VALUES[RATED]), expected, rtol=1e-6)
    np.testing.assert_allclose(predict(np.ones((len(RATED), 1))), 1, rtol=1e-6)
    mean = unrated_by_attributes(np.zeros((7, 2)), COUNT)(VALUES[RATED])
    np.testing.assert_allclose(mean, np.tile(COUNT @ VALUES / COUNT.sum(), (2, 1)))


def test_a_large_catalogue_has_fewer_landmarks(monkeypatch):
    few = predicted_by_attributes(FEATURES, VALUES, COUNT, landmarks=2)
    monkeypatch.setattr(attribute_factors, "_MOST", 14)
    bounded = predicted_by_attributes(FEATURES, VALUES, COUNT)
    np.testing.assert_array_equal(bounded.values, few.values)


@pytest.mark.parametrize("features", [np.zeros((7, 0)), np.tile(RNG.normal(size=40), (7, 1))])
def test_uninformative_attributes_predict_zero(features):
    found = predicted_by_attributes(features, VALUES, COUNT)
    np.testing.assert_array_equal(found.values, np.zeros((7, 2)))
    level = COUNT @ VALUES / COUNT.sum()
    np.testing.assert_allclose(found.error, COUNT @ (VALUES - level) ** 2 / COUNT.sum())


def test_vectors_shrink_to_predictions_and_only_unrated_items_get_predicted_biases(
    training,
):
    features = RNG.normal(size=(7, 2)).astype(np.float32)
    training = training._replace(item_features=features)
    factors = fit_factors(training.interactions, rank=2, steps=3)
    count = training.interactions.item_counts
    assert count[6] == 0 < count[:6].min()
    changed, spread = with_attributes(factors, training, vector_ridge=4.0)
    both = np.column_stack([factors.item_bias, factors.item_factors]).astype(np.float64)
    expected = predicted_by_attributes(features, both, count)
    np.testing.assert_array_equal(changed.item_bias[:6], factors.item_bias[:6])
    np.testing.assert_allclose(changed.item_bias[6], expected.values[6, 0], rtol=1e-6)
    kept = (4 / (count + 4))[:, None] * expected.values[:, 1:]
    np.testing.assert_allclose(changed.item_factors, both[:, 1:] + kept, rtol=1e-5)
    np.testing.assert_allclose(spread, [*np.zeros(6), np.sqrt(expected.error[0])])


def test_without_attributes_factors_stay_as_they_are(training):
    training = training._replace(item_features=np.zeros((7, 0), np.float32))
    factors = fit_factors(training.interactions, rank=2, steps=3)
    changed, _ = with_attributes(factors, training)
    for one, other in zip(changed, factors, strict=True):
        np.testing.assert_array_equal(one, other)


def test_invalid_arguments_are_refused(training):
    with pytest.raises(ValueError, match=r"ridge must be > 0, got 0"):
        predicted_by_attributes(FEATURES, VALUES, COUNT, ridge=0.0)
    with pytest.raises(ValueError, match=r"landmarks must be >= 1, got 0"):
        predicted_by_attributes(FEATURES, VALUES, COUNT, landmarks=0)
    with pytest.raises(ValueError, match=r"vector_ridge must be > 0, got -1"):
        with_attributes(fit_factors(training.interactions, rank=1), training, vector_ridge=-1.0)

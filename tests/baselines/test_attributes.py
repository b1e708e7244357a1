import numpy as np
import pytest

from metajax.baselines import attribute_ridge, demographics, item_user_bias
from metajax.baselines.biases import fit_biases


def test_weights_solve_the_weighted_ridge_regression(training, make_support):
    log = training.interactions
    params = demographics.fit(training, ridge=2.0, user_shrinkage=3.0)
    count = log.user_counts[:13]
    rest = log.rating - params.biases.mean - np.asarray(params.biases.item_bias)[log.item]
    residual = np.add.reduceat(rest, log.offsets[:13]) / count
    weight = count / (count + 3.0)
    weight /= weight.sum()
    # The intercept stays free: no penalty in its row.
    x = np.column_stack([np.ones(13), training.user_features[:13]])
    penalty = np.diag([0, 1, 1, 1]) * 2.0 / 13
    expected = np.linalg.solve(x.T @ (weight[:, None] * x) + penalty, x.T @ (weight * residual))
    np.testing.assert_allclose(params.intercept, expected[0], atol=1e-5)
    np.testing.assert_allclose(params.weights, expected[1:], atol=1e-5)

    guess = expected @ [1, 0.5, -1.0, 2.0]
    empty = demographics.adaptation.adapt(params, make_support([], [], padding=1))
    assert empty == pytest.approx(guess, abs=1e-5)
    one = demographics.adaptation.adapt(params, make_support([1], [5.0]))
    left = 5.0 - params.biases.mean - params.biases.item_bias[1]
    assert one == pytest.approx(float((left + 3 * guess) / (1 + 3)), abs=1e-5)


def test_an_infinite_ridge_leaves_the_biases_alone(training, make_support):
    support = make_support([1], [5.0])
    params = demographics.fit(training, ridge=1e9)
    expected = item_user_bias.adaptation.adapt(item_user_bias.fit(training), support)
    np.testing.assert_allclose(demographics.adaptation.adapt(params, support), expected, atol=1e-5)


def test_a_ridge_of_zero_is_refused(training):
    with pytest.raises(ValueError, match=r"ridge must be > 0, got 0"):
        demographics.fit(training, ridge=0.0)


def test_an_items_bias_is_shrunk_to_its_regression_on_features(training):
    features = np.random.default_rng(5).normal(size=(7, 2)).astype(np.float32)
    training, log = training._replace(item_features=features), training.interactions
    params = attribute_ridge.fit(
        training, item_ridge=2.0, ridge=1e9, item_shrinkage=4.0, user_shrinkage=3.0
    )
    start = fit_biases(log, item_shrinkage=4.0, user_shrinkage=3.0)
    user, count = log.user, log.item_counts
    rest = log.rating - start.mean - np.asarray(start.item_bias)[log.item]
    rated = log.user_counts
    total, prior = np.bincount(user, rest, 14), float(start.prior_bias)
    user_bias = (total + 3.0 * prior) / (rated + 3.0)
    rest = log.rating - start.mean - user_bias[user]
    residual = np.bincount(log.item, rest, 7)[:6] / count[:6]
    weight = count[:6] / (count[:6] + 4.0)
    weight /= weight.sum()
    x = np.column_stack([np.ones(7), features])
    penalty = np.diag([0, 1, 1]) * 2.0 / 6
    gram = x[:6].T @ (weight[:, None] * x[:6]) + penalty
    expected = x @ np.linalg.solve(gram, x[:6].T @ (weight * residual))
    # Nobody rated the last item: it has the prediction of its features.
    assert count[6] == 0
    item_bias = np.asarray(params.biases.item_bias)
    np.testing.assert_allclose(item_bias[6], expected[6], atol=1e-5)
    shrunk = (count[:6] * residual + 4.0 * expected[:6]) / (count[:6] + 4.0)
    np.testing.assert_allclose(item_bias[:6], shrunk, atol=1e-5)


def test_an_item_ridge_of_zero_is_refused(training):
    with pytest.raises(ValueError, match=r"item_ridge must be > 0, got 0"):
        attribute_ridge.fit(training, item_ridge=0.0)

import numpy as np
import pytest

from metajax.baselines import global_mean, item_mean, item_user_bias
from metajax.baselines.biases import fit_biases
from metajax.data.dataset import TrainingSet
from metajax.data.interactions import select_users


def test_global_mean_is_the_mean_rating(training):
    assert global_mean.fit(training) == pytest.approx(training.interactions.rating.mean(), rel=1e-6)


def test_item_mean_is_the_shrunk_mean_of_each_item(training):
    log = training.interactions
    mean = log.rating.mean()
    for item in range(7):
        ratings = log.rating[log.item == item]
        expected = (ratings.sum() + 2 * mean) / (len(ratings) + 2)
        fitted = item_mean.fit(training, item_shrinkage=2.0)["item_mean"][item]
        assert fitted == pytest.approx(expected, rel=1e-6)


def test_biases_solve_the_joint_least_squares_problem(training):
    log = training.interactions
    users, items, k_item, k_user = 13, 6, 2.0, 3.0
    user, rows = log.user, len(log.item)
    # Unknowns: item biases, user biases, and the mean that user biases shrink to.
    design = np.zeros((rows + items + users, items + users + 1))
    design[np.arange(rows), log.item] = 1
    design[np.arange(rows), items + user] = 1
    design[rows : rows + items, :items] = np.sqrt(k_item) * np.eye(items)
    design[rows + items :, items:-1] = np.sqrt(k_user) * np.eye(users)
    design[rows + items :, -1] = -np.sqrt(k_user)
    target = np.concatenate([log.rating - log.rating.mean(), np.zeros(items + users)])
    solution = np.linalg.lstsq(design, target)[0]

    biases = fit_biases(log, item_shrinkage=k_item, user_shrinkage=k_user)
    np.testing.assert_allclose(biases.item_bias[:items], solution[:items], atol=1e-5)
    np.testing.assert_allclose(biases.prior_bias, solution[-1], atol=1e-5)
    assert biases.item_bias[6] == 0


def test_a_users_bias_is_the_shrunk_mean_residual(training, make_support, candidates):
    params = item_user_bias.fit(training, user_shrinkage=4.0)
    bias = item_user_bias.adaptation.adapt(params, make_support([1, 2], [5.0, 4.0], padding=1))
    left = 9.0 - 2 * params.mean - params.item_bias[1] - params.item_bias[2]
    expected = (left + 4 * params.prior_bias) / (2 + 4)
    assert bias == pytest.approx(float(expected), rel=1e-5)
    scores = item_user_bias.adaptation.predict(params, bias, candidates)
    np.testing.assert_allclose(scores, params.mean + params.item_bias + bias, rtol=1e-6)


def test_bad_settings_and_empty_logs_are_named(training):
    with pytest.raises(ValueError, match=r"user_shrinkage must be > 0, got 0"):
        fit_biases(training.interactions, user_shrinkage=0.0)
    empty = training._replace(interactions=select_users(training.interactions, np.array([13])))
    assert isinstance(empty, TrainingSet)
    for baseline in (global_mean, item_mean, item_user_bias):
        with pytest.raises(ValueError, match="at least one interaction"):
            baseline.fit(empty)

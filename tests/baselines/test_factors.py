from typing import Any

import numpy as np
import pytest

from metajax.baselines import factors, fit_factors
from metajax.data.interactions import from_columns, select_users


def _float64(factors):
    return [np.asarray(leaf, np.float64) for leaf in factors]


def _user_rows(log):
    for begin, end in zip(log.offsets[:-1], log.offsets[1:], strict=True):
        if end > begin:
            yield log.item[begin:end], log.rating[begin:end]


def _log_likelihood(log, factors):
    mean, bias, vectors, prior_mean, prior, noise = _float64(factors)
    total = 0.0
    for item, rating in _user_rows(log):
        x = np.insert(vectors[item], 0, 1, axis=1)
        error = rating - mean - bias[item] - x @ prior_mean
        covariance = x @ prior @ x.T + noise * np.eye(len(item))
        total -= error @ np.linalg.solve(covariance, error) + np.linalg.slogdet(covariance)[1]
    return total / 2


def _em_step(log, factors, item_ridge, bias_ridge):
    """Goes through users and items one by one, straight from the definition."""
    mean, bias, vectors, prior_mean, prior, noise = _float64(factors)
    width = len(prior_mean)
    posteriors, error = [], 0.0
    gram = np.tile(np.diag([bias_ridge] + [item_ridge] * (width - 1)), (len(bias), 1, 1))
    response = np.zeros((len(bias), width))
    for item, rating in _user_rows(log):
        x = np.insert(vectors[item], 0, 1, axis=1)
        covariance = np.linalg.inv(np.linalg.inv(prior) + x.T @ x / noise)
        residual = rating - mean - bias[item]
        latent = covariance @ (np.linalg.solve(prior, prior_mean) + x.T @ residual / noise)
        posteriors.append((latent, covariance))
        error += np.sum((residual - x @ latent) ** 2) + np.trace(x @ covariance @ x.T)
        for i, r in zip(item, rating, strict=True):
            # E[t t'] and E[t (r - mean - b)] for t = [1, z] and w = [b, z].
            t = np.append(1, latent[1:])
            gram[i] += np.outer(t, t)
            gram[i][1:, 1:] += covariance[1:, 1:]
            response[i] += t * (r - mean - latent[0])
            response[i][1:] -= covariance[1:, 0]
    latents = np.array([latent for latent, _ in posteriors])
    prior_mean = latents.mean(0)
    spread = latents - prior_mean
    prior = np.mean([c for _, c in posteriors], axis=0) + spread.T @ spread / len(latents)
    rated = log.item_counts > 0
    solution = np.zeros((len(bias), width))
    solution[rated] = np.linalg.solve(gram[rated], response[rated][:, :, None])[:, :, 0]
    return mean, solution[:, 0], solution[:, 1:], prior_mean, prior, error / len(log.item)


def _predictive(factors):
    """Returns mean, covariance and noise of a new user's ratings: what no rescaling changes."""
    mean, bias, vectors, prior_mean, prior, noise = _float64(factors)
    x = np.insert(vectors, 0, 1, axis=1)
    return mean + bias + x @ prior_mean, x @ prior @ x.T, noise


def test_a_step_equals_em_written_out_user_by_user(training):
    log = training.interactions
    settings = {"rank": 2, "item_ridge": 3.0, "bias_ridge": 1.0}
    expected = _em_step(log, fit_factors(log, steps=2, **settings), 3.0, 1.0)
    got = _predictive(fit_factors(log, steps=3, **settings))
    for one, other in zip(got, _predictive(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_without_ridges_the_marginal_likelihood_never_falls(training):
    log = training.interactions
    steps = [1, 2, 3, 5, 8, 13]
    values = [
        _log_likelihood(log, fit_factors(log, rank=2, steps=n, item_ridge=0, bias_ridge=0))
        for n in steps
    ]
    assert np.diff(values).min() > -1e-4
    assert values[-1] > values[0] + 1


def test_a_step_for_some_users_at_a_time_is_one_for_all(training, monkeypatch):
    log = training.interactions
    whole = fit_factors(log, rank=2, steps=3)
    monkeypatch.setattr(factors, "_USERS", 7)
    for one, other in zip(fit_factors(log, rank=2, steps=3), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def test_the_prior_of_the_factors_is_standard_normal(training):
    fitted = fit_factors(training.interactions, rank=2)
    np.testing.assert_allclose(fitted.prior_covariance[1:, 1:], np.eye(2), atol=1e-6)
    np.testing.assert_array_equal(fitted.prior_mean[1:], 0)
    np.testing.assert_allclose(
        fitted.prior_covariance, np.transpose(fitted.prior_covariance), atol=1e-7
    )


def test_unrated_items_have_no_bias_and_no_vector(training):
    fitted = fit_factors(training.interactions, rank=2)
    assert fitted.item_bias[6] == 0
    np.testing.assert_array_equal(fitted.item_factors[6], 0)


def test_a_known_model_is_recovered():
    generator = np.random.default_rng(1)
    users, items = 1500, 10
    vectors, bias = generator.standard_normal(items), generator.standard_normal(items)
    latent = generator.multivariate_normal([0.5, 0], [[0.5, 0.3], [0.3, 1]], users)
    ratings = 3 + bias + latent[:, :1] + latent[:, 1:] * vectors
    ratings += 0.7 * generator.standard_normal(ratings.shape)
    seen = generator.random(ratings.shape) < 0.7
    user, item = np.nonzero(seen)
    log = from_columns(
        user, item, ratings[seen], user_ids=np.arange(users), item_ids=np.arange(items)
    )
    fitted = fit_factors(log, rank=1, steps=40, item_ridge=0, bias_ridge=0)
    truth = (3, bias, vectors[:, None], [0.5, 0], [[0.5, 0.3], [0.3, 1]], 0.49)
    mean, covariance, noise = _predictive(fitted)
    expected_mean, expected_covariance, expected_noise = _predictive(truth)
    # Standard errors over 1,500 users: sqrt(v / 1500) of a mean, .026 for the least variance v, and
    # sqrt((v v' + c^2) / 1500) of a covariance c; three of them. The noise has the rows less two
    # latents a user, about 7,500: sqrt(2 / 7500) = .016.
    variance = np.diag(expected_covariance) + expected_noise
    mean_error = np.sqrt(variance / users)
    error = np.sqrt((np.outer(variance, variance) + expected_covariance**2) / users)
    assert mean_error.min() < 0.026
    assert np.max(np.abs(mean - expected_mean) / mean_error) < 3
    assert np.max(np.abs(covariance - expected_covariance) / error) < 3
    assert noise == pytest.approx(expected_noise, rel=0.048)


def test_the_same_seed_gives_the_same_factors_and_another_another(training):
    log = training.interactions
    one, same, other = (fit_factors(log, rank=2, steps=1, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.item_factors, same.item_factors)
    assert not np.allclose(one.item_factors, other.item_factors)


def test_bad_settings_and_empty_logs_are_named(training):
    log = training.interactions
    refused: list[tuple[dict[str, Any], str]] = [
        ({"rank": 0}, "rank must be >= 1, got 0"),
        ({"steps": 0}, "steps must be >= 1, got 0"),
        ({"item_ridge": -1.0}, "item_ridge must be >= 0, got -1.0"),
        ({"bias_ridge": float("nan")}, "bias_ridge must be >= 0, got nan"),
    ]
    for settings, message in refused:
        with pytest.raises(ValueError, match=message):
            fit_factors(log, **settings)
    with pytest.raises(ValueError, match="at least one rating"):
        fit_factors(select_users(log, np.array([13])))

import numpy as np
import pytest

from metajax.baselines import eb_fold_in, fit_factors


def test_the_adapted_state_is_the_posterior(training, make_support, candidates):
    params = eb_fold_in.fit(training, rank=2, item_ridge=2.0, noise_scale=1.5)
    fitted = fit_factors(training.interactions, rank=2, item_ridge=2.0)
    mean, bias, vectors, prior_mean, prior, noise = (
        np.asarray(leaf, np.float64) for leaf in fitted
    )
    item, rating = [1, 4, 2], np.array([5.0, 2.0, 4.0])
    x = np.insert(vectors[item], 0, 1, axis=1)
    # The normal equations: precision times posterior mean = information.
    precision = np.linalg.inv(prior) + x.T @ x / (1.5 * noise)
    information = np.linalg.inv(prior) @ prior_mean
    information += x.T @ (rating - mean - bias[item]) / (1.5 * noise)
    expected, covariance = np.linalg.solve(precision, information), np.linalg.inv(precision)

    posterior = eb_fold_in.adaptation.adapt(params, make_support(item, rating, padding=2))
    # The state is in coordinates in which the prior is standard normal.
    root = np.linalg.cholesky(prior)
    latents, spread = prior_mean + root @ posterior.mean, root @ posterior.covariance @ root.T
    np.testing.assert_allclose(latents, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(spread, covariance, rtol=1e-4, atol=1e-5)
    every = np.insert(vectors, 0, 1, axis=1)
    scores = eb_fold_in.adaptation.predict(params, posterior, candidates)
    np.testing.assert_allclose(scores, mean + bias + every @ expected, rtol=1e-5)
    # What a rating is off by: the user's uncertainty seen through the item, and the noise.
    assert eb_fold_in.adaptation.predict_variance is not None
    variance = eb_fold_in.adaptation.predict_variance(params, posterior, candidates)
    by_hand = np.array([row @ covariance @ row + noise for row in every])
    np.testing.assert_allclose(variance, by_hand, rtol=1e-4)


def test_an_empty_support_gives_the_prior(training, make_support):
    params = eb_fold_in.fit(training, rank=2)
    posterior = eb_fold_in.adaptation.adapt(params, make_support([], [], padding=1))
    np.testing.assert_array_equal(posterior.mean, 0)
    np.testing.assert_array_equal(posterior.covariance, np.eye(3))


def test_a_noise_scale_of_zero_is_refused(training):
    with pytest.raises(ValueError, match=r"noise_scale must be > 0, got 0"):
        eb_fold_in.fit(training, noise_scale=0.0)

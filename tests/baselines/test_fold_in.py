import numpy as np
import pytest

from metajax.baselines import eb_fold_in, fit_factors


def test_the_adapted_state_is_the_posterior_mean(training, make_support, candidates):
    params = eb_fold_in.fit(training, rank=2, item_ridge=2.0, noise_scale=1.5)
    mean, bias, vectors, prior_mean, prior, noise = (np.asarray(p, np.float64) for p in params)
    assert noise == pytest.approx(
        1.5 * fit_factors(training.interactions, rank=2, item_ridge=2.0).noise
    )
    item, rating = [1, 4, 2], np.array([5.0, 2.0, 4.0])
    x = np.insert(vectors[item], 0, 1, axis=1)
    # The normal equations: precision times posterior mean = information.
    precision = np.linalg.inv(prior) + x.T @ x / noise
    information = np.linalg.inv(prior) @ prior_mean + x.T @ (rating - mean - bias[item]) / noise
    expected = np.linalg.solve(precision, information)

    latent = eb_fold_in.adapt(params, make_support(item, rating, padding=2))
    np.testing.assert_allclose(latent, expected, rtol=1e-4, atol=1e-5)
    scores = eb_fold_in.predict(params, latent, candidates)
    np.testing.assert_allclose(
        scores, mean + bias + np.insert(vectors, 0, 1, axis=1) @ expected, rtol=1e-5
    )


def test_without_support_the_prior_speaks(training, make_support):
    params = eb_fold_in.fit(training, rank=2)
    latent = eb_fold_in.adapt(params, make_support([], [], padding=1))
    np.testing.assert_array_equal(latent, params.prior_mean)


def test_a_noise_scale_of_zero_is_refused(training):
    with pytest.raises(ValueError, match=r"noise_scale must be > 0, got 0"):
        eb_fold_in.fit(training, noise_scale=0.0)

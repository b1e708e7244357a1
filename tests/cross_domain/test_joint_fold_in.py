from typing import Any

import jax
import numpy as np
import pytest

from metajax.cross_domain.joint_fold_in import fit_joint_factors, joint_fold_in, joint_fold_in_of
from metajax.data.dataset import TrainingSet
from metajax.data.interactions import from_columns, select_users

USERS, ITEMS = 60, 14
DOMAIN = np.arange(ITEMS) % 2


@pytest.fixture(scope="module")
def both() -> TrainingSet:
    """Users who are, but for some noise, as generous here as there; a third is in one domain."""
    rng = np.random.default_rng(0)
    generous, taste = rng.normal(size=(2, USERS, 1))
    liked = rng.normal(size=ITEMS)
    rating = 3 + generous + taste * liked + 0.5 * rng.normal(size=(USERS, ITEMS))
    seen = rng.random((USERS, ITEMS)) < 0.7
    seen[:10, DOMAIN == 0] = seen[10:20, DOMAIN == 1] = False
    user, item = np.nonzero(seen)
    log = from_columns(
        user, item, rating[seen],
        user_ids=np.array([f"u{u:02}" for u in range(USERS)]),
        item_ids=np.array([f"i{i:02}" for i in range(ITEMS)]),
    )  # fmt: skip
    features = np.concatenate([generous + rng.normal(size=(USERS, 1)), taste], axis=1)
    table = np.zeros((ITEMS, 1), np.float32)
    return TrainingSet(log, features.astype(np.float32), table, (-3.0, 9.0), item_domain=DOMAIN)


def dense(params, training, user):
    """Mean and covariance of a user's ratings before any is seen, from the definition."""
    expected, design, noise, mean, weights, covariance = (
        np.asarray(leaf, np.float64) for leaf in params
    )
    prior = mean + training.user_features[user] @ weights
    return expected + design @ prior, design @ covariance @ design.T + np.diag(noise)


def log_likelihood(params, training):
    log, total = training.interactions, 0.0
    for user, (begin, end) in enumerate(zip(log.offsets[:-1], log.offsets[1:], strict=True)):
        item = log.item[begin:end]
        mean, covariance = dense(params, training, user)
        error, covariance = log.rating[begin:end] - mean[item], covariance[np.ix_(item, item)]
        total -= error @ np.linalg.solve(covariance, error) + np.linalg.slogdet(covariance)[1]
    return total / 2


def test_the_fold_in_is_the_gaussian_conditional(both, make_support, candidates):
    factors = fit_joint_factors(both, rank=2)
    params = joint_fold_in_of(factors)
    items, ratings, user = [4, 1, 8, 9], [5.0, 1.0, 2.5, 4.0], 7
    features = tuple(both.user_features[user].tolist())
    posterior = joint_fold_in.adaptation.adapt(
        params, make_support(items, ratings, padding=2, features=features)
    )
    mean, covariance = dense(factors, both, user)
    others = candidates.item
    candidates = candidates._replace(user_features=np.tile(both.user_features[user], (7, 1)))
    signal = covariance - np.diag(np.asarray(params.noise))
    gain = np.linalg.solve(covariance[np.ix_(items, items)], signal[items][:, others]).T
    expected = mean[others] + gain @ (np.array(ratings) - mean[items])
    spread = np.diag(signal[np.ix_(others, others)] - gain @ signal[items][:, others])
    got = joint_fold_in.adaptation.predict(params, posterior, candidates)
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    assert joint_fold_in.adaptation.predict_variance is not None
    got = joint_fold_in.adaptation.predict_variance(params, posterior, candidates)
    np.testing.assert_allclose(got, spread + np.asarray(params.noise)[others], rtol=1e-4)


def test_without_ridges_the_marginal_likelihood_never_falls(both):
    free: dict[str, Any] = {
        "item_ridge": 0.0,
        "bias_ridge": 0.0,
        "attribute_ridge": 1e-6,
        "rank": 1,
    }
    found = [log_likelihood(fit_joint_factors(both, steps=n, **free), both) for n in range(5)]
    assert np.diff(found).min() > 0


def generosity(params):
    """How what users give on average in the domains is correlated, given their attributes."""
    x = np.stack([np.asarray(params.design)[side == DOMAIN].mean(0) for side in (0, 1)])
    between = x @ np.asarray(params.prior_covariance) @ x.T
    return between[0, 1] / np.sqrt(between[0, 0] * between[1, 1])


def test_common_users_determine_the_correlation_and_the_prior_without_any(both):
    # For any prior correlation, common users determine the correlation.
    for prior in (0.0, 0.9):
        assert generosity(fit_joint_factors(both, rank=1, correlation=prior)) > 0.8
    log = both.interactions
    apart = from_columns(
        log.user + USERS * DOMAIN[log.item], log.item, log.rating,
        user_ids=np.array([f"u{u:03}" for u in range(2 * USERS)]), item_ids=log.item_ids,
    )  # fmt: skip
    features = np.tile(both.user_features, (2, 1))
    new_users = both._replace(interactions=apart, user_features=features)
    for prior in (0.0, 0.5):
        found = fit_joint_factors(new_users, rank=1, correlation=prior, attribute_ridge=1e6)
        # Nearly: items move, and with them what an average rating is.
        assert abs(generosity(found) - prior) < 0.15


def test_the_same_for_the_same_arguments_and_in_float32(both):
    one, other = (fit_joint_factors(both, rank=2) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert {leaf.dtype.name for leaf in one} == {"float32"}


def test_invalid_settings_are_refused(both):
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"correlation": 1.0}, r"correlation must be in \[0, 1\), got 1.0"),
        ({"attribute_ridge": 0.0}, "attribute_ridge must be > 0"),
        ({"steps": -1}, "steps must be >= 0"),
        ({"rank": 0}, "rank must be >= 1"),
    )
    for options, message in wrong:
        with pytest.raises(ValueError, match=message):
            fit_joint_factors(both, **options)
    with pytest.raises(ValueError, match="must have two domains"):
        fit_joint_factors(both._replace(item_domain=None))
    empty = both._replace(interactions=select_users(both.interactions, np.array([0])))
    with pytest.raises(ValueError, match="must hold at least one rating"):
        fit_joint_factors(empty)

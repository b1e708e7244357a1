import jax.numpy as jnp
import numpy as np
import pytest

from metajax.cross_domain.domain_factors import canonical_factors
from metajax.cross_domain.joint_fold_in import fit_joint_factors
from metajax.data import TrainingSet, from_columns

USERS, ITEMS = 300, 40


def latents(correlation) -> tuple[np.ndarray, np.ndarray]:
    """Generosity and taste of each user in the source and in the target."""
    rng = np.random.default_rng(0)
    source, other = rng.normal(size=(2, USERS, 2))
    return source, correlation * source + np.sqrt(1 - correlation**2) * other


def sample_correlations(correlation) -> np.ndarray:
    """Canonical correlations of the users that were drawn, without their means."""
    source, target = (np.linalg.qr(x)[0] for x in latents(correlation))
    return np.linalg.svd(source.T @ target)[1]


def training(correlation, *, matched=True) -> TrainingSet:
    """Users whose generosity and taste in the target go with those in the source."""
    rng = np.random.default_rng(1)
    taste = rng.normal(size=ITEMS)
    rating = [
        3 + 0.6 * p[:, :1] + 0.8 * p[:, 1:] * taste[None] + 0.5 * rng.normal(size=(USERS, ITEMS))
        for p in latents(correlation)
    ]
    user, item = (index.ravel() for index in np.indices((USERS, 2 * ITEMS)))
    if not matched:
        user = np.where(item < ITEMS, user, user + USERS)
    ids = [np.char.zfill(np.arange(n).astype(str), 3) for n in (2 * USERS, 2 * ITEMS)]
    ratings = np.concatenate(rating, axis=1).ravel()
    log = from_columns(user, item, ratings, user_ids=ids[0], item_ids=ids[1])
    domain = np.repeat([0, 1], ITEMS).astype(np.int32)
    blank = np.zeros((2 * USERS, 0), np.float32), np.zeros((2 * ITEMS, 0), np.float32)
    return TrainingSet(log, *blank, (-5.0, 11.0), item_domain=domain)


def test_correlations_of_users_are_found():
    """Against those of the sample: 40 ratings determine a user to about .5 / sqrt(40) = .08."""
    found = canonical_factors(training(0.7), rank=1, correlation=0.0)
    np.testing.assert_allclose(found.correlation, sample_correlations(0.7), atol=0.01)


def test_canonical_factors_predict_like_joint_factors():
    """Ratings have the same mean and covariance, within a domain and across."""
    data = training(0.7)
    joint = fit_joint_factors(data, rank=2, attribute_ridge=1e9)
    found = canonical_factors(data, rank=2)
    design, prior = (np.asarray(leaf, float) for leaf in (joint.design, joint.prior_covariance))
    x = np.asarray(found.factors.embedding, float)
    domain = np.asarray(data.item_domain)
    same = domain[:, None] == domain[None]
    covariance = np.where(same, x @ x.T, x @ np.diag(found.correlation) @ x.T)
    np.testing.assert_allclose(covariance, design @ prior @ design.T, rtol=1e-4, atol=1e-5)
    mean = joint.expected + joint.design @ joint.prior_mean
    np.testing.assert_allclose(found.factors.bias, mean, rtol=1e-5)
    np.testing.assert_allclose(found.factors.noise, 1.5 * joint.noise[jnp.array([0, -1])])


def test_correlations_are_found_from_few_ratings():
    full = training(0.7)
    keep = np.random.default_rng(1).random(len(full.interactions.item)) < 0.3
    log = full.interactions
    user = log.user
    kept = (column[keep] for column in (user, log.item, log.rating))
    few = from_columns(*kept, user_ids=log.user_ids, item_ids=log.item_ids)
    found = canonical_factors(full._replace(interactions=few), rank=1, correlation=0.0)
    # 12 ratings determine a user to about .15, and an item's factors are off as well.
    np.testing.assert_allclose(found.correlation, sample_correlations(0.7), atol=0.1)


def test_without_common_users_the_prior_correlation_stands():
    found = canonical_factors(training(0.7, matched=False), rank=1, correlation=0.6)
    np.testing.assert_allclose(found.correlation, [0.6, 0.0], atol=0.01)


def test_correlations_stay_below_one():
    """Else ratings of the target would be without effect."""
    found = canonical_factors(training(0.7, matched=False), rank=1, correlation=0.99999)
    np.testing.assert_allclose(found.correlation[0], 0.999, rtol=1e-6)
    assert np.isfinite(found.log_spread()).all()


def test_one_domain_alone_is_refused():
    alone = training(0.5)._replace(item_domain=None)
    with pytest.raises(ValueError, match="training must have two domains"):
        canonical_factors(alone)
    with pytest.raises(ValueError, match="rank must be >= 1"):
        canonical_factors(training(0.5), rank=0)
    with pytest.raises(ValueError, match="noise_scale must be > 0, got 0"):
        canonical_factors(training(0.5), noise_scale=0)

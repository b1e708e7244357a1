import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax.baselines import fit_factors
from metajax.baselines.factors import user_posteriors
from metajax.cross_domain.domains import Domains, join_domains
from metajax.cross_domain.linear_map import linear_map
from metajax.cross_domain.users import PANEL, cross_users
from metajax.data import TrainingSet, from_columns
from metajax.data.dataset import Dataset, Table
from metajax.data.interactions import select_rows
from metajax.evaluation.evaluate import evaluate
from metajax.evaluation.intervals import summarise
from metajax.types import Examples, Inputs

USERS, ITEMS = 40, 12


def two_domains(carries_over: bool) -> Domains:
    """Users who are as generous in the target as they are strict in the source."""
    rng = np.random.default_rng(0)
    taste = rng.normal(size=USERS)
    own = -taste if carries_over else rng.normal(size=USERS)
    parts = []
    for name, latent in (("s", taste), ("t", own)):
        rating = 3 + latent[:, None] + 0.1 * rng.normal(size=(USERS, ITEMS))
        user, item = (index.ravel() for index in np.indices((USERS, ITEMS)))
        ids = [np.array([f"{i:02d}" for i in range(n)]) for n in (USERS, ITEMS)]
        log = from_columns(user, item, rating.ravel(), user_ids=ids[0], item_ids=ids[1])
        users, items = (Table(i, {}, {}) for i in ids)
        parts.append(Dataset(name, log, users, items, (-2.0, 8.0)))
    return join_domains(*parts)


def rmse(domains: Domains) -> np.ndarray:
    split = cross_users(domains)
    params = linear_map.fit(split.final, rank=1, steps=5, item_ridge=10.0)
    judged = evaluate(
        linear_map.adaptation,
        params,
        split.test[PANEL],
        split.final.user_features,
        split.final.item_features,
        scale=split.final.scale,
        labels=split.labels,
        ks=split.ks[PANEL],
        ranking=False,
    )
    return summarise(judged)["rmse"]


def test_the_source_predicts_the_target_without_target_ratings():
    """The noise alone is .1; a user's own mean is worth 1. The map even turns the sign."""
    none, some = rmse(two_domains(True))[[0, -1]]
    assert none < 0.22
    assert some < 0.12
    # Without anything in common only the target's ratings help.
    none, some = rmse(two_domains(False))[[0, -1]]
    assert none > 0.9
    assert some < 0.14


def test_the_posterior_of_a_training_user_is_that_of_a_new_one():
    domains = two_domains(True)
    log = select_rows(
        domains.dataset.interactions, domains.item_domain[domains.dataset.interactions.item] == 0
    )
    factors = fit_factors(log, rank=2, steps=3)
    users, (mean, covariance) = user_posteriors(factors, log)
    x = np.insert(np.asarray(factors.item_factors, float), 0, 1, axis=1)
    for user in (0, 7):
        rows = slice(*log.offsets[user : user + 2])
        rows_x = x[log.item[rows]]
        y = log.rating[rows] - float(factors.mean) - np.asarray(factors.item_bias)[log.item[rows]]
        precision = np.linalg.inv(factors.prior_covariance) + rows_x.T @ rows_x / float(
            factors.noise
        )
        inverse = np.linalg.inv(precision)
        found = np.linalg.solve(factors.prior_covariance, factors.prior_mean)
        expected = inverse @ (found + rows_x.T @ y / float(factors.noise))
        assert users[user] == user
        np.testing.assert_allclose(mean[user], expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(covariance[user], inverse, rtol=1e-3, atol=1e-5)


def test_without_common_users_the_source_has_no_effect():
    split = cross_users(two_domains(True), overlap=0.0)
    params = linear_map.fit(split.training, rank=1, steps=2)
    for rating in (-1.0, 7.0):
        support = Examples(
            Inputs(jnp.zeros((1, 0)), jnp.zeros((1, 0)), jnp.array([0])),
            jnp.array([rating]),
            jnp.array([True]),
        )
        adapted = jax.jit(linear_map.adaptation.adapt)(params, support)
        np.testing.assert_array_equal(adapted.mean, 0)


def test_one_domain_alone_is_refused():
    training: TrainingSet = cross_users(two_domains(True)).training._replace(item_domain=None)
    with pytest.raises(ValueError, match="training must have two domains, got no item_domain"):
        linear_map.fit(training)

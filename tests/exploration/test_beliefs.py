import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import gaussian
from metajax.baselines import eb_fold_in, item_mean
from metajax.data import cold_users, synthetic
from metajax.exploration import (
    Beliefs,
    BetaCounts,
    beta_beliefs,
    beta_from_moments,
    content_prior,
    linear_beliefs,
    linear_thompson,
    model_beliefs,
    update_counts,
    update_items,
    update_linear,
)
from metajax.types import Examples, Inputs, Posterior

F, ROWS, NOISE = 6, 200, 0.3


def prior_of(rng, scale=1.0):
    root = rng.normal(size=(F, F)) / 2
    mean, covariance = rng.normal(size=F), root @ root.T + 0.1 * np.eye(F)
    mean, covariance = (jnp.asarray(a, jnp.float32) for a in (mean, covariance))
    return Posterior(scale * mean, scale**2 * covariance)


def test_updates_one_by_one_equal_a_fit_of_all_rewards():
    rng = np.random.default_rng(0)
    prior = prior_of(rng)
    x = rng.normal(size=(ROWS, F))
    y = x @ rng.normal(size=F) + np.sqrt(NOISE) * rng.normal(size=ROWS)
    after = jax.jit(update_linear)(prior, *(jnp.asarray(a, jnp.float32) for a in (x, y)), NOISE)
    wide = (np.asarray(a, np.float64) for a in prior)
    expected = gaussian.posterior(*gaussian.weighted_statistics(x, y, NOISE), *wide)
    np.testing.assert_allclose(after.mean, expected.mean, atol=1e-5)
    np.testing.assert_allclose(after.covariance, expected.covariance, atol=1e-5)
    np.testing.assert_allclose(after.covariance, after.covariance.T, atol=1e-7)


def test_rewards_of_positions_that_were_not_shown_count_for_nothing():
    prior = prior_of(np.random.default_rng(1))
    x, y = jnp.ones((3, F)).at[1].set(jnp.nan), jnp.array([1.0, jnp.nan, 2.0])
    where = jnp.array([True, False, True])
    got = update_linear(prior, x, y, NOISE, where)
    jax.tree.map(np.testing.assert_array_equal, got, update_linear(prior, x[::2], y[::2], NOISE))


def test_a_reward_in_another_unit_scales_what_is_believed():
    rng = np.random.default_rng(2)
    x, y = jnp.asarray(rng.normal(size=(20, F))), jnp.asarray(rng.normal(size=20))
    seed = lambda: np.random.default_rng(3)  # noqa: E731
    ones = update_linear(prior_of(seed()), x, y, NOISE)
    cents = update_linear(prior_of(seed(), 100.0), x, 100 * y, 100**2 * NOISE)
    one, cent = (linear_beliefs(p, x) for p in (ones, cents))
    np.testing.assert_allclose(cent.mean, 100 * one.mean, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(cent.variance, 1e4 * one.variance, rtol=1e-3)


def test_linear_beliefs_are_moments_of_the_coefficients():
    rng = np.random.default_rng(4)
    posterior, x = prior_of(rng), jnp.asarray(rng.normal(size=(5, F)), jnp.float32)
    found = linear_beliefs(posterior, x, jnp.arange(5.0))
    np.testing.assert_allclose(found.mean, np.arange(5) + x @ posterior.mean, rtol=1e-4, atol=1e-5)
    covariance = x @ posterior.covariance @ x.T
    np.testing.assert_allclose(found.root @ found.root.T, covariance, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.variance, np.diag(covariance), rtol=1e-4)
    # All but known, up to rounding.
    known = linear_beliefs(Posterior(jnp.zeros(2), jnp.diag(jnp.array([1.0, -1e-9]))), x[:, :2])
    assert np.isfinite(known.root).all()


def test_counts_are_conjugate():
    counts = BetaCounts(jnp.array([1.0, 1, 1]), jnp.array([1.0, 2, 3]))
    after = update_counts(counts, jnp.array([2, 0, -1]), jnp.array([1.0, 0.25, jnp.nan]))
    np.testing.assert_allclose(after.successes, [1.25, 1, 2])
    np.testing.assert_allclose(after.failures, [1.75, 2, 3])
    found = beta_beliefs(after)
    np.testing.assert_allclose(found.mean, [1.25 / 3, 1 / 3, 0.4], rtol=1e-6)
    np.testing.assert_allclose(found.variance[2], 0.4 * 0.6 / 6, rtol=1e-6)
    again = beta_from_moments(found.mean, found.variance)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), again, after)
    # Wider than a distribution on [0, 1] with a mode can be.
    wide = beta_from_moments(jnp.array([0.2, 0.5]), jnp.array([5.0, 5.0]))
    np.testing.assert_allclose(wide.successes, [1, 1], rtol=1e-6)
    np.testing.assert_allclose(wide.failures, [4, 1], rtol=1e-6)


def test_gaussian_items_are_conjugate():
    start = Beliefs(jnp.array([0.0, 2.0]), jnp.array([1.0, 4.0]), count=jnp.array([0.0, 5.0]))
    rewards = [3.0, 1.0, 2.0]
    after = start
    for reward in rewards:
        after = update_items(after, jnp.array([1, -1]), jnp.array([reward, jnp.nan]), 0.5)
    precision = 1 / 4 + 3 / 0.5
    assert after.mean[0] == 0
    np.testing.assert_allclose(after.mean[1], (2 / 4 + sum(rewards) / 0.5) / precision, rtol=1e-6)
    np.testing.assert_allclose(after.variance, [1, 1 / precision], rtol=1e-6)
    assert after.count.tolist() == [0, 8]


def world(seed, items=60, new=40, f=4):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(items + new, f))
    truth = 3 + x @ rng.normal(size=f) * 0.5 + 0.3 * rng.normal(size=items + new)
    count = rng.integers(1, 20, items)
    mean = truth[:items] + rng.normal(size=items) / np.sqrt(count)
    return x[:items], mean, count, x[items:], truth[items:]


def test_the_prior_of_new_items_is_a_gaussian_process_of_the_best_likelihood():
    x, y, n, new, _ = world(0)
    found = content_prior(x, y, n, new, noise=1.0)
    # The same in the space of items, with dense matrices.
    centre, middle = np.average(y, weights=n), x.mean(0)
    between = max(y.var() - np.mean(1 / n), 0.01 * (y.var() + 1 / n.max()))
    size = np.mean(np.sum((x - middle) ** 2, 1))
    a, b, best = x - middle, new - middle, (np.inf, x, x)
    for share in (0.0, 0.01, 0.03, 0.1, 0.3, 1.0):
        for own in (0.0, 0.01, 0.03, 0.1, 0.3, 1.0):
            slope = max(share, 1e-6) * between / size
            kernel = lambda p, q, s=slope: 100 * between + s * p @ q.T  # noqa: E731
            matrix = kernel(a, a) + np.diag(own * between + 1 / n)
            alpha = np.linalg.solve(matrix, y - centre)
            loss = np.linalg.slogdet(matrix)[1] + (y - centre) @ alpha
            if loss < best[0]:
                cross = kernel(b, a)
                spread = kernel(b, b) - cross @ np.linalg.solve(matrix, cross.T)
                best = loss, centre + cross @ alpha, np.diag(spread) + own * between
    np.testing.assert_allclose(found.mean, best[1], rtol=1e-5)
    np.testing.assert_allclose(found.variance, best[2], rtol=1e-4)


def test_a_new_item_starts_better_than_as_a_copy_of_the_nearest_and_knows_how_well():
    squares, copies, covered = [], [], []
    for seed in range(5):
        x, y, n, new, truth = world(seed)
        found = content_prior(x, y, n, new, noise=1.0)
        nearest = np.argmin(((new[:, None] - x) ** 2).sum(-1), axis=1)
        squares.append((found.mean - truth) ** 2)
        copies.append((y[nearest] - truth) ** 2)
        covered.append(np.abs(found.mean - truth) < 1.96 * np.sqrt(found.variance))
    assert np.mean(squares) < 0.5 * np.mean(copies)
    assert 0.9 < np.mean(covered) < 0.99


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: update_counts(
                BetaCounts(jnp.ones(2), jnp.ones(2)), jnp.array([0]), jnp.array([5.0])
            ),
            r"rewards must be in \[0, 1\], got 5.0 at 0",
        ),
        (
            lambda: update_counts(
                BetaCounts(jnp.ones(2), jnp.ones(2)), jnp.array([0]), jnp.ones(2)
            ),
            "rewards must have the shape of items",
        ),
        (lambda: beta_beliefs(BetaCounts(jnp.ones(2), jnp.ones(3))), "failures must have the sh"),
        (
            lambda: update_linear(
                Posterior(jnp.zeros(2), jnp.eye(2)), jnp.ones((1, 3)), jnp.ones(1), 1.0
            ),
            r"vectors must be \[K, F\]",
        ),
        (
            lambda: linear_beliefs(Posterior(jnp.zeros(2), jnp.eye(2)), jnp.ones((4, 3))),
            r"vectors must be \[N, F\]",
        ),
        (
            lambda: update_items(Beliefs(jnp.zeros(2)), jnp.array([0]), jnp.ones(1), 1.0),
            "beliefs must have a variance and no root",
        ),
        (
            lambda: gaussian.rank_one_update(
                Posterior(np.zeros(2), np.eye(2)), np.ones(2), np.ones(2), 1.0
            ),
            r"label must be a number, got the shape \(2,\)",
        ),
        (
            lambda: gaussian.rank_one_update(
                Posterior(np.zeros(2), np.eye(2)), np.ones(3), 1.0, 1.0
            ),
            r"design and mean must be \[F\]",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": np.ones(3)}, r"features must be \[I, F\], mean and count \[I\]"),
        ({"count": np.zeros(60)}, "count must be > 0, got 0.0 at item 0"),
        ({"noise": 0.0}, "noise must be > 0 and finite, got 0.0"),
        ({"new_features": np.ones((2, 3))}, r"new_features must be \[M, 4\], got \[2, 3\]"),
        ({"features": np.full((60, 4), np.nan)}, "features must be finite"),
    ],
)
def test_a_prior_of_what_does_not_fit_is_refused(change, message):
    names = ("features", "mean", "count", "new_features")
    given: dict[str, Any] = dict(zip(names, world(0), strict=False))
    with pytest.raises(ValueError, match=message):
        content_prior(**({"noise": 1.0} | given | change))


def rated_world():
    made = synthetic.world(users=30, items=12, interactions=9, domains=1)
    training = cold_users(made.dataset).training
    items = np.arange(12)
    rows = np.zeros(12, int)
    everything = Inputs(
        *(jnp.asarray(a) for a in (training.user_features[rows], training.item_features, items))
    )
    few = jax.tree.map(lambda leaf: leaf[:3], everything)
    return training, everything, Examples(few, jnp.array([5.0, 2.0, 4.0]), jnp.ones(3, bool))


def test_beliefs_of_a_fold_in_are_its_posterior_without_the_noise():
    training, everything, support = rated_world()
    adaptation, params = eb_fold_in.adaptation, eb_fold_in.fit(training, rank=2, noise_scale=2.0)
    found = jax.jit(lambda s: model_beliefs(adaptation, params, adapt(s), everything))
    adapt = lambda s: adaptation.adapt(params, s)  # noqa: E731
    beliefs = found(support)
    # The closed form in NumPy, with the support tempered.
    x, expected = (np.asarray(a, np.float64) for a in (params.design, params.expected))
    noise = float(params.noise[0])
    covariance = np.linalg.inv(np.eye(3) + x[:3].T @ x[:3] / (2 * noise))
    mean = covariance @ x[:3].T @ (np.array([5.0, 2.0, 4.0]) - expected[:3]) / (2 * noise)
    np.testing.assert_allclose(beliefs.mean, expected + x @ mean, rtol=1e-5)
    spread = x @ covariance @ x.T
    np.testing.assert_allclose(beliefs.root @ beliefs.root.T, spread, atol=1e-5)
    np.testing.assert_allclose(beliefs.variance, np.diag(spread), rtol=1e-4)
    same = linear_beliefs(adapt(support), params.design, params.expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), beliefs[:3], same[:3])


def test_a_method_without_a_posterior_has_no_beliefs():
    with pytest.raises(ValueError, match="adaptation must have an expectation"):
        model_beliefs(item_mean.adaptation, None, None, None)


def test_a_joint_draw_has_the_variance_of_user_and_item():
    rng = np.random.default_rng(0)
    root = jnp.asarray(rng.normal(size=(3, 2)) / 10, jnp.float32)
    own = jnp.array([0.0, 4.0, 0.0])
    beliefs = Beliefs(jnp.array([0.0, -2.0, -9.0]), jnp.sum(root**2, axis=1) + own, root, own)
    policy = linear_thompson(k=1, draws=4000)
    slate = jax.jit(policy.show)(beliefs, jnp.ones(3, bool), jax.random.key(0))
    # The first is above the second where a normal number of this variance is below 2.
    spread = np.sqrt(4 + float(jnp.sum((root[0] - root[1]) ** 2)))
    first = 0.5 * (1 + math.erf(2 / spread / math.sqrt(2)))
    share = float(slate.propensity[0])
    share = share if int(slate.items[0]) == 0 else 1 - share
    assert abs(share - first) < 4 * np.sqrt(first * (1 - first) / 4000)

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import gaussian
from metajax.gaussian import Population, Statistics
from metajax.types import Posterior


def _problem(seed=0, rows=5, width=3):
    generator = np.random.default_rng(seed)
    root = generator.standard_normal((width, width))
    return (
        generator.standard_normal((rows, width)),
        generator.standard_normal(rows),
        generator.uniform(0.5, 2.0, rows),
        generator.standard_normal(width),
        root @ root.T + 0.1 * np.eye(width),
    )


def _conditioned(x, y, noise, mean, covariance):
    """Conditions the joint Gaussian of coefficients and labels on the labels."""
    joint = x @ covariance @ x.T + np.diag(np.broadcast_to(noise, len(y)))
    gain = np.linalg.solve(joint, x @ covariance).T
    return mean + gain @ (y - x @ mean), covariance - gain @ x @ covariance


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("scalar", [False, True])
def test_the_posterior_conditions_the_joint_gaussian(xp, scalar):
    x, y, noise, mean, covariance = _problem()
    noise = noise[0] if scalar else noise
    arrays = [xp.asarray(leaf) for leaf in (x, y, noise, mean, covariance)]
    found = gaussian.posterior(*gaussian.weighted_statistics(*arrays[:3]), *arrays[3:])
    expected = _conditioned(x, y, noise, mean, covariance)
    tolerance = 1e-12 if xp is np else 1e-5
    for one, other in zip(found, expected, strict=True):
        assert isinstance(one, np.ndarray if xp is np else jax.Array)
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def test_a_prior_left_out_is_standard_normal():
    x, y, noise, *_ = _problem()
    found = gaussian.posterior(*gaussian.weighted_statistics(x, y, noise))
    expected = _conditioned(x, y, noise, np.zeros(3), np.eye(3))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_without_rows_the_posterior_is_the_prior():
    *_, mean, covariance = _problem()
    rows = gaussian.weighted_statistics(np.ones((2, 3)), np.ones(2), 1.0, np.zeros(2, bool))
    found = gaussian.posterior(*rows, mean, covariance)
    np.testing.assert_array_equal(found.mean, mean)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-12)


@pytest.mark.parametrize("xp", [np, jnp])
def test_masked_rows_are_ignored(xp):
    x, y, noise, *_ = _problem()
    kept = np.array([True, False, True, True, False])
    expected = gaussian.weighted_statistics(x[kept], y[kept], noise[kept])
    x[~kept], y[~kept], noise[~kept] = np.nan, np.inf, 0
    found = gaussian.weighted_statistics(*(xp.asarray(leaf) for leaf in (x, y, noise, kept)))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_many_users_at_once_equal_one_by_one():
    x, y, noise, mean, covariance = _problem(rows=8)
    halves = (slice(0, 4), slice(4, 8))
    rows = [gaussian.weighted_statistics(x[half], y[half], noise[half]) for half in halves]
    gram, cross = (np.stack(leaves) for leaves in zip(*rows, strict=True))
    for means, covariances in (
        (mean, covariance),
        (np.stack([mean, -mean]), np.stack([covariance, 2 * covariance])),
    ):
        both = gaussian.posterior(gram, cross, means, covariances)
        for n, (one_gram, one_cross) in enumerate(rows):
            own = gaussian.posterior(
                one_gram,
                one_cross,
                np.broadcast_to(means, (2, 3))[n],
                np.broadcast_to(covariances, (2, 3, 3))[n],
            )
            np.testing.assert_allclose(both.mean[n], own.mean, rtol=1e-12)
            np.testing.assert_allclose(both.covariance[n], own.covariance, rtol=1e-12)


def test_vmap_jit_and_a_batch_agree():
    x, y, noise, mean, covariance = (jnp.asarray(leaf) for leaf in _problem())

    def one(labels):
        return gaussian.posterior(*gaussian.weighted_statistics(x, labels, noise), mean, covariance)

    labels = jnp.stack([y, 2 * y])
    batch = jax.jit(jax.vmap(one))(labels)
    loop = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(one(row) for row in labels))
    chex.assert_trees_all_close(batch, loop, rtol=1e-5, atol=1e-6)
    gram, cross = jax.vmap(lambda row: gaussian.weighted_statistics(x, row, noise))(labels)
    chex.assert_trees_all_close(
        gaussian.posterior(gram, cross, mean, covariance), loop, rtol=1e-5, atol=1e-6
    )


def test_derivatives_equal_finite_differences():
    x, y, noise, mean, covariance = _problem()

    def total(scale, xp):
        rows = gaussian.weighted_statistics(xp.asarray(x) * scale, xp.asarray(y), xp.asarray(noise))
        found = gaussian.posterior(*rows, xp.asarray(mean), xp.asarray(covariance))
        return (found.mean**2).sum() + found.covariance.sum()

    slope = (total(1 + 1e-5, np) - total(1 - 1e-5, np)) / 2e-5
    assert jax.grad(total)(1.0, jnp) == pytest.approx(slope, rel=1e-4)
    assert jax.jvp(lambda s: total(s, jnp), (1.0,), (1.0,))[1] == pytest.approx(slope, rel=1e-4)


def test_predictive_variance_is_that_of_a_label():
    x, _, noise, _, covariance = _problem()
    expected = [row @ covariance @ row + n for row, n in zip(x, noise, strict=True)]
    np.testing.assert_allclose(gaussian.predictive_variance(covariance, x, noise), expected)
    np.testing.assert_allclose(
        gaussian.predictive_variance(covariance, x, noise[0]), expected - noise + noise[0]
    )


def test_shapes_that_do_not_match_are_refused():
    x, y, noise, mean, covariance = _problem()
    with pytest.raises(ValueError, match=r"labels, noise and where \[N\], got .*\(5, 1\)"):
        gaussian.weighted_statistics(x, y[:, None], noise)
    with pytest.raises(ValueError, match=r"labels, noise and where \[N\]"):
        gaussian.weighted_statistics(x, y, noise[:1])
    gram, cross = gaussian.weighted_statistics(x, y, noise)
    for wrong in (
        (gram[:2], cross),
        (gram, cross, mean[:1]),
        (gram, cross, mean, np.diag(covariance)),
    ):
        with pytest.raises(ValueError, match=r"gram and covariance must be \[\.\.\., F, F\]"):
            gaussian.posterior(*wrong)


def _users(seed=0, users=12, width=2):
    generator = np.random.default_rng(seed)
    counts = generator.integers(1, 5, users)
    designs = [generator.standard_normal((n, width)) for n in counts]
    labels = [
        x @ generator.standard_normal(width) + generator.standard_normal(len(x)) for x in designs
    ]
    statistics = Statistics(
        np.stack([x.T @ x for x in designs]),
        np.stack([x.T @ y for x, y in zip(designs, labels, strict=True)]),
        float(sum(y @ y for y in labels)),
        int(counts.sum()),
    )
    return designs, labels, statistics


def _log_likelihood(designs, labels, prior):
    total = 0.0
    means = np.broadcast_to(prior.mean, (len(designs), len(prior.covariance)))
    for x, y, mean in zip(designs, labels, means, strict=True):
        rest = y - x @ mean
        covariance = x @ prior.covariance @ x.T + prior.noise * np.eye(len(y))
        total -= rest @ np.linalg.solve(covariance, rest) + np.linalg.slogdet(covariance)[1]
    return total / 2


def test_a_step_is_the_moments_written_out_user_by_user():
    designs, labels, statistics = _users()
    before = Population(np.array([0.5, -0.2]), np.array([[1.0, 0.3], [0.3, 0.5]]), 0.8)
    found, after = gaussian.em_step(statistics, before)
    own = [
        _conditioned(x, y, before.noise, before.mean, before.covariance)
        for x, y in zip(designs, labels, strict=True)
    ]
    mean = np.mean([m for m, _ in own], axis=0)
    spread = np.mean([c + np.outer(m - mean, m - mean) for m, c in own], axis=0)
    error = sum(
        np.sum((y - x @ m) ** 2) + np.trace(x @ c @ x.T)
        for x, y, (m, c) in zip(designs, labels, own, strict=True)
    )
    np.testing.assert_allclose(found.mean, [m for m, _ in own], rtol=1e-10)
    np.testing.assert_allclose(found.covariance, [c for _, c in own], rtol=1e-10)
    np.testing.assert_allclose(after.mean, mean, rtol=1e-10)
    np.testing.assert_allclose(after.covariance, spread, rtol=1e-10)
    assert after.noise == pytest.approx(error / statistics.count, rel=1e-10)


@pytest.mark.parametrize("regressed", [False, True])
def test_the_marginal_likelihood_never_falls(regressed):
    designs, labels, statistics = _users()
    features = np.random.default_rng(1).standard_normal((len(designs), 2))
    hat = features @ np.linalg.pinv(features)
    project = (lambda means: hat @ means) if regressed else None
    prior = Population(np.zeros((len(designs), 2)) if regressed else np.zeros(2), np.eye(2), 1.0)
    values = []
    for _ in range(20):
        values.append(_log_likelihood(designs, labels, prior))
        _, prior = gaussian.em_step(statistics, prior, project)
    assert np.diff(values).min() > -1e-9
    assert values[-1] > values[0] + 1


def test_em_finds_the_maximum_likelihood_of_a_balanced_random_effects_model():
    generator = np.random.default_rng(0)
    users, rows = 30, 4
    y = 2 + generator.standard_normal((users, 1)) + 0.7 * generator.standard_normal((users, rows))
    statistics = Statistics(
        np.full((users, 1, 1), float(rows)), y.sum(1)[:, None], float(np.sum(y**2)), y.size
    )
    prior = Population(np.zeros(1), np.eye(1), 1.0)
    for _ in range(300):
        _, prior = gaussian.em_step(statistics, prior)
    # Searle, Casella and McCulloch, Variance Components, Wiley 1992, section 3.7.
    noise = np.sum((y - y.mean(1, keepdims=True)) ** 2) / (users * (rows - 1))
    np.testing.assert_allclose(prior.mean, [y.mean()], rtol=1e-8)
    assert prior.noise == pytest.approx(noise, rel=1e-8)
    np.testing.assert_allclose(prior.covariance, [[np.var(y.mean(1)) - noise / rows]], rtol=1e-8)


def test_the_noise_has_a_floor():
    exact = Statistics(np.ones((1, 1, 1)), np.ones((1, 1)), 1.0, 1)
    assert (
        gaussian.residual_variance(exact, Posterior(jnp.ones((1, 1)), jnp.zeros((1, 1, 1)))) == 1e-6
    )

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import cross_domain
from metajax.types import Examples, Inputs

ITEMS, WIDTH = 6, 2
RNG = np.random.default_rng(0)
DOMAIN = np.array([0, 1, 0, 1, 1, 0])
FACTORS = cross_domain.DomainFactors(
    jnp.asarray(DOMAIN),
    jnp.asarray(RNG.normal(size=(ITEMS, WIDTH))),
    jnp.asarray(RNG.normal(size=ITEMS)),
    jnp.array([0.5, 2.0]),
)
WEIGHTS, SPREAD = jnp.asarray(RNG.normal(size=(WIDTH, WIDTH))), jnp.array([0.3, 1.5])
MODEL = cross_domain.two_domain_network(ITEMS, WIDTH, cross_domain.PosteriorMeanMap(3))


def started():
    params = cross_domain.initial_factors(MODEL.init(jax.random.key(0), None), FACTORS)
    linear = {"kernel": WEIGHTS.T, "bias": jnp.zeros(WIDTH)}
    bridge = {"map": {**params["bridge"]["map"], "linear": linear}}
    return {**params, "bridge": bridge, "log_spread": jnp.log(SPREAD)}


def rows(items, labels, mask=None) -> Examples:
    n = len(items)
    inputs = Inputs(jnp.zeros((n, 0)), jnp.zeros((n, 0)), jnp.asarray(items))
    return Examples(inputs, jnp.asarray(labels), jnp.ones(n, bool) if mask is None else mask)


def posterior(mean, covariance, items, labels, noise):
    """The textbook's, of `[n]` ratings of items under a normal prior."""
    x, y = FACTORS.embedding[items], labels - FACTORS.bias[items]
    found = np.linalg.inv(covariance)
    inverse = np.linalg.inv(found + x.T @ x / noise)
    return inverse @ (found @ mean + x.T @ y / noise), inverse


def test_rows_of_either_domain_update_the_posterior_of_the_other():
    items, labels = np.array([0, 3, 2, 4]), np.array([1.0, -0.5, 2.0, 0.3])
    source, _ = posterior(np.zeros(WIDTH), np.eye(WIDTH), items[[0, 2]], labels[[0, 2]], 0.5)
    spread = np.diag(SPREAD**2)
    target, covariance = posterior(WEIGHTS @ source, spread, items[[1, 3]], labels[[1, 3]], 2.0)

    state = jax.jit(MODEL.encode)(started(), rows(items, labels))
    np.testing.assert_allclose(state.source, source, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state.target.mean, target, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state.target.covariance, covariance, rtol=1e-4, atol=1e-5)
    queried = np.arange(ITEMS)
    scores = MODEL.decode(started(), state, rows(queried, np.zeros(ITEMS)).inputs)
    place = np.where(DOMAIN[:, None] == 1, target, source)
    expected = FACTORS.bias + np.sum(FACTORS.embedding * place, axis=1)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_without_a_support_a_user_is_where_the_prior_is():
    state = MODEL.encode(started(), rows([0, 1], [9.0, 9.0], jnp.zeros(2, bool)))
    np.testing.assert_allclose(state.target.mean, np.zeros(WIDTH), atol=1e-7)
    np.testing.assert_allclose(state.target.covariance, np.diag(SPREAD**2), rtol=1e-5)


def test_no_gradient_reaches_the_factors():
    support = rows([0, 3], [1.0, 2.0])

    def score(params):
        return MODEL.decode(params, MODEL.encode(params, support), support.inputs).sum()

    gradient = jax.jit(jax.grad(score))(started())
    assert all(not np.any(leaf) for leaf in gradient["factors"])
    assert np.any(gradient["bridge"]["map"]["linear"]["kernel"])
    assert np.any(gradient["log_spread"])


def test_sizes_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="width must be >= 1, got 0"):
        cross_domain.two_domain_network(3, 0, cross_domain.PosteriorMeanMap())
    with pytest.raises(ValueError, match=r"bias must have the shape \(6,\), got \(5,\)"):
        cross_domain.initial_factors(started(), FACTORS._replace(bias=jnp.zeros(5)))

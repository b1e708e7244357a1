import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metajax import cross_domain
from metajax.types import Examples, Inputs

ITEMS, WIDTH = 5, 2
RNG = np.random.default_rng(0)
NOISE = np.array([0.5, 2.0])
FACTORS = cross_domain.DomainFactors(
    jnp.array([0.0, 1.0, 0.0, 1.0, 1.0]),
    jnp.asarray(RNG.normal(size=(ITEMS, WIDTH))),
    jnp.asarray(RNG.normal(size=ITEMS)),
    jnp.asarray(NOISE),
)
MODEL = cross_domain.shared_user_mlp(ITEMS, WIDTH, (3,))
PARAMS = cross_domain.initial_factors(MODEL.init(jax.random.key(0), None), FACTORS)


def rows(items, labels) -> Examples:
    n = len(items)
    inputs = Inputs(jnp.zeros((n, 0)), jnp.zeros((n, 0)), jnp.asarray(items))
    return Examples(inputs, jnp.asarray(labels), jnp.ones(n, bool))


def test_the_posterior_is_given_the_rows_of_both_domains():
    items, labels = np.array([0, 3, 2, 4]), np.array([1.0, -0.5, 2.0, 0.3])
    x, noise = np.asarray(FACTORS.embedding)[items], NOISE[[0, 1, 0, 1]]
    covariance = np.linalg.inv(np.eye(WIDTH) + x.T @ (x / noise[:, None]))
    place = covariance @ (x.T @ ((labels - np.asarray(FACTORS.bias)[items]) / noise))

    state = jax.jit(MODEL.encode)(PARAMS, rows(items, labels))
    np.testing.assert_allclose(state.mean, place, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state.covariance, covariance, rtol=1e-4, atol=1e-5)
    queried = rows(np.arange(ITEMS), np.zeros(ITEMS)).inputs
    expected = FACTORS.bias + FACTORS.embedding @ state.mean
    np.testing.assert_allclose(MODEL.decode(PARAMS, state, queried), expected, rtol=1e-5, atol=1e-6)


def test_scores_add_the_output_of_the_mlp():
    state = MODEL.encode(PARAMS, rows([0, 1], [1.0, 2.0]))
    queried = rows(np.arange(ITEMS), np.zeros(ITEMS)).inputs
    kernels = {name: leaf["kernel"] for name, leaf in PARAMS["predictor"]["hidden"].items()}
    user = np.tile(state.mean, (ITEMS, 1))
    item = np.asarray(FACTORS.embedding)
    pair = np.concatenate([user, item, user * item], axis=1)
    expected = np.maximum(pair @ np.asarray(kernels["layer_0"]), 0).sum(axis=1)
    out = {"kernel": jnp.ones((3, 1))}
    learned = {**PARAMS, "predictor": {**PARAMS["predictor"], "out": out}}
    added = MODEL.decode(learned, state, queried) - MODEL.decode(PARAMS, state, queried)
    np.testing.assert_allclose(added, expected, rtol=1e-4, atol=1e-5)


def test_sizes_below_one_are_refused():
    with pytest.raises(ValueError, match="width must be >= 1, got 0"):
        cross_domain.shared_user_mlp(3, 0)
